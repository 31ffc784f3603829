"""Values of E[tK] with an error where no integral gives them: data with the command that made each.

A package of its own, so that its data are sources of the stages that look values up, and of no others.
"""

import math
from pathlib import Path

from lambda_hat_cli.artifacts.store import read_record, write_record
from lambda_hat_cli.artifacts.target import ArtifactRecord
from lambda_hat_cli.experiment.schema import TargetSpec

DATA = Path(__file__).with_name("references.json")
# The same formula for t gives the same number up to its last digits on every machine.
_SAME = 1e-9


class Reference(ArtifactRecord):
    """E[tK] of one target at one (t, γ) by a method other than the samplers that it judges.

    Attributes:
        target: the name in the experiment file that the command took; no look-up depends on it.
        spec, seed: the target: its data and w* follow from them.
        nbeta, localization: t = nβ and γ.
        value, se: E[tK] and its standard error, from independent repeats.
        method: how, in words. settings: the method's settings by name.
        checks: what else the repeats say, by name: their spread, the mean ‖w−w*‖².
        input_square: mean ‖x‖² of the data used, so that a change of the data's generator is seen.
        command: the command line that made it.
    """

    target: str
    spec: TargetSpec
    seed: int
    nbeta: float
    localization: float
    value: float
    se: float
    method: str
    settings: dict[str, float]
    checks: dict[str, float]
    input_square: float
    command: str

    def answers(self, spec: TargetSpec, seed: int, nbeta: float, localization: float) -> bool:
        """Whether this is E[tK] of that target at that t and γ."""
        return (
            self.spec == spec
            and self.seed == seed
            and math.isclose(self.nbeta, nbeta, rel_tol=_SAME)
            and math.isclose(self.localization, localization, rel_tol=_SAME)
        )


class References(ArtifactRecord):
    """references.json."""

    entries: tuple[Reference, ...]


def find_reference(
    spec: TargetSpec, seed: int, nbeta: float, localization: float, file: Path = DATA
) -> Reference | None:
    """The reference for a target at t = nβ and γ, or None where nobody made one.

    Raises:
        UserError: when the file is missing or damaged.
    """
    entries = read_record(file, References).entries
    return next((entry for entry in entries if entry.answers(spec, seed, nbeta, localization)), None)


def add_reference(new: Reference, file: Path = DATA) -> None:
    """Write `new` in the place of the entry for the same question, or after the others."""
    others = [
        entry
        for entry in read_record(file, References).entries
        if not entry.answers(new.spec, new.seed, new.nbeta, new.localization)
    ]
    write_record(file, References(entries=(*others, new)))
