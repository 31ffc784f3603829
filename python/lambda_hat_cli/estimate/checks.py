"""One check of a verdict: a measured value against two thresholds, and the words that go with it."""

import math

from lambda_hat_cli.artifacts.analysis import Check, VerdictLabel

_ORDER: tuple[VerdictLabel, ...] = ("reliable", "uncertain", "invalid")


def at_most(name: str, value: float | None, reliable: float, uncertain: float, advice: str) -> Check:
    """Reliable up to one threshold, uncertain up to the other (∞: never invalid); an unknown value is uncertain."""
    return _threshold(name, value, reliable, uncertain, 1, advice)


def at_least(name: str, value: float | None, reliable: float, uncertain: float, advice: str) -> Check:
    """Reliable from one threshold, uncertain from the other (−∞: never invalid); an unknown value is uncertain."""
    return _threshold(name, value, reliable, uncertain, -1, advice)


def stated(name: str, outcome: VerdictLabel, reliable: str, uncertain: str, reason: str) -> Check:
    """A check of a fact that is no number."""
    return Check(name=name, value=None, reliable=reliable, uncertain=uncertain, outcome=outcome, reason=reason)


def reported(name: str, value: float | None) -> Check:
    """A number that a person should see beside the checks and that no threshold is known for."""
    return Check(name=name, value=known(value), reliable="any", uncertain="any", outcome="reliable", reason="")


def worst(checks: tuple[Check, ...]) -> VerdictLabel:
    """The verdict: the worst outcome; without any check nothing is known to be right."""
    return max((check.outcome for check in checks), key=_ORDER.index, default="invalid")


def reasons(checks: tuple[Check, ...]) -> tuple[str, ...]:
    """The reasons of the checks that lower the verdict, worst first."""
    lowering = [check for check in checks if check.outcome != "reliable"]
    return tuple(check.reason for check in sorted(lowering, key=lambda check: -_ORDER.index(check.outcome)))


def known(value: float | None) -> float | None:
    """The value, or None where it is not a finite number."""
    return value if value is not None and math.isfinite(value) else None


def _grade(value: float | None, reliable: float, uncertain: float, sign: int) -> VerdictLabel:
    """Sign 1: the value must not exceed the thresholds; −1: it must reach them."""
    if value is None or math.isnan(value):
        return "uncertain"
    if sign * value <= sign * reliable:
        return "reliable"
    return "uncertain" if sign * value <= sign * uncertain else "invalid"


def _words(sign: str, threshold: float) -> str:
    return f"{sign} {threshold:.3g}" if math.isfinite(threshold) else "any"


def _threshold(name: str, value: float | None, reliable: float, uncertain: float, sign: int, advice: str) -> Check:
    outcome = _grade(value, reliable, uncertain, sign)
    mark = "≤" if sign == 1 else "≥"
    wanted = _words(mark, reliable)
    reason = ""
    if outcome != "reliable":
        measured = "could not be measured" if value is None or math.isnan(value) else f"is {_apart(value, reliable)}"
        reason = f"{name} {measured}, {wanted} is wanted: {advice}"
    return Check(
        name=name,
        value=known(value),
        reliable=wanted,
        uncertain=_words(mark, uncertain),
        outcome=outcome,
        reason=reason,
    )


def _apart(value: float, threshold: float) -> str:
    """The value to three digits, or to as many more as it takes not to read like the threshold that it misses."""
    texts = (f"{value:.{digits}g}" for digits in range(3, 17))
    return next((text for text in texts if float(text) != float(f"{threshold:.3g}")), repr(value))
