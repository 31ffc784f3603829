"""The one error that a person is meant to read: bad input, told in one message, exit status 2."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad usage or bad input. The message says what, where, the value, what is allowed and what to do.

    Commands print it without a traceback and leave with status 2.
    """


def nearest(word: str, allowed: Iterable[str]) -> str:
    """A hint such as `; did you mean "widths"?`, or an empty text when nothing is near."""
    close = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else ""
