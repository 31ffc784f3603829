"""How numbers are written for people: an estimate to the digit of its error, everything else to few digits."""

import math

from lambda_hat_cli.estimate.interval import WIDTH

UNKNOWN = "–"


def _decimals(error: float) -> int:
    """Decimals that show two significant digits of an error; negative for tens and more."""
    return 1 - math.floor(math.log10(error))


def _fixed(value: float, decimals: int) -> str:
    """The value rounded to `decimals`, which may be negative."""
    return f"{round(value, decimals) + 0.0:.{max(decimals, 0)}f}"


def estimate(value: float | None, low: float | None, high: float | None) -> str:
    """`9.92 ± 0.31` from a value and its interval; the half width is the larger side's."""
    if value is None:
        return UNKNOWN
    if low is None or high is None:
        return significant(value)
    half = max(high - value, value - low)
    if half <= 0:
        return significant(value)
    decimals = min(_decimals(half), 6)
    return f"{_fixed(value, decimals)} ± {_fixed(half, decimals)}"


def interval(low: float | None, high: float | None) -> str:
    """`9.61 to 10.23`, both ends to the digit of the half width."""
    if low is None or high is None:
        return UNKNOWN
    if high <= low:
        return f"{significant(low)} to {significant(high)}"
    decimals = min(_decimals((high - low) / 2), 6)
    return f"{_fixed(low, decimals)} to {_fixed(high, decimals)}"


def with_error(value: float | None, error: float | None) -> str:
    """A value with its standard error, `9.92 (s.e. 0.012)`, or an exact one to five digits."""
    if value is None:
        return UNKNOWN
    if error is None or error <= 0:
        return significant(value, 5)
    decimals = min(_decimals(error), 6)
    return f"{_fixed(value, decimals)} (s.e. {_fixed(error, decimals)})"


def with_width(value: float | None, error: float | None) -> str:
    """A value and 2.1 of its standard errors, as an interval's half width is made."""
    if value is None or error is None:
        return significant(value)
    return estimate(value, value - WIDTH * error, value + WIDTH * error)


def significant(value: float | None, digits: int = 4) -> str:
    """A number to `digits` significant digits, without trailing zeros."""
    if value is None:
        return UNKNOWN
    if value != 0 and not 1e-4 <= abs(value) < 1e7:
        return f"{value:.{digits - 1}e}"
    rounded = value if value == 0 else round(value, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{rounded:.10f}".rstrip("0").rstrip(".") if not float(rounded).is_integer() else f"{rounded:.0f}"


def percent(value: float | None) -> str:
    """A signed share, `+1.2 %`."""
    if value is None:
        return UNKNOWN
    size = abs(100 * value)
    decimals = 0 if size >= 100 else 1 if size >= 1 else 2
    return f"{100 * value:+.{decimals}f} %" if round(size, decimals) else "0 %"


def count(value: float | None) -> str:
    """A whole number with its thousands apart, `1 234 567` (narrow no-break spaces)."""
    return UNKNOWN if value is None else f"{round(value):,}".replace(",", "\u202f")


def share(value: float | None) -> str:
    """A part of a whole, `25 %`; what is less than one percent, but not nothing, as such."""
    if value is None:
        return UNKNOWN
    return "< 1 %" if 0 < value < 0.005 else f"{100 * value:.0f} %"


def mebibytes(value: float | None) -> str:
    """Bytes as whole MiB."""
    return UNKNOWN if value is None else f"{count(value / 2**20)} MiB"


def seconds(value: float | None) -> str:
    """Seconds: two digits below ten, whole ones above."""
    if value is None:
        return UNKNOWN
    return f"{value:.2g}" if value < 10 else count(value)
