"""What part of a target a number is of, in words: λ̂ over some parameters or some rows is another coefficient."""

from lambda_hat_cli.experiment.schema import TargetSpec
from lambda_hat_cli.figures.style import shortened

_LONGEST = 60


def part_of(spec: TargetSpec) -> str | None:
    """Which parameters are sampled and which rows are summed over; None where it is all of them."""
    found = []
    if spec.restrict is not None:
        names = shortened(", ".join(spec.restrict), _LONGEST)
        found.append(f"restricted coefficient (rLLC), only {names} sampled")
    if spec.rows is not None:
        start, stop = spec.rows
        found.append(f"of the data only rows {start} to {stop - 1}")
    return "; ".join(found) or None
