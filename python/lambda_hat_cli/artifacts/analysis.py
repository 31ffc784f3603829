"""The analysis folder: analysis.json, convergence.csv and the run's figures."""

from pathlib import Path
from typing import Literal

from lambda_hat_cli.artifacts.run import RunRecord
from lambda_hat_cli.artifacts.store import read_record
from lambda_hat_cli.artifacts.target import ArtifactRecord, Truth
from lambda_hat_cli.errors import UserError

ANALYSIS_SCHEMA_VERSION = 1
VerdictLabel = Literal["reliable", "uncertain", "invalid"]


class Check(ArtifactRecord):
    """One check of a verdict.

    Attributes:
        name: short, unique within the verdict, e.g. "R-hat".
        value: what was measured; None where it could not be.
        reliable, uncertain: the thresholds in words, e.g. "≤ 1.02" and "≤ 1.1".
        outcome: the best label that this check allows.
        reason: one sentence on what that means and what to do; empty when reliable.
    """

    name: str
    value: float | None
    reliable: str
    uncertain: str
    outcome: VerdictLabel
    reason: str


class ErrorTerm(ArtifactRecord):
    """One line of the error budget, in units of λ̂; None where it was not measured."""

    name: str
    value: float | None
    note: str


class FiniteT(ArtifactRecord):
    """The exact E[tK] at this run's (n, β, γ), or a reference with an error, or neither (kind none)."""

    value: float | None
    se: float | None
    kind: Literal["exact", "reference", "none"]
    source: str


class AnalysisRecord(ArtifactRecord):
    """analysis.json.

    Attributes:
        target, sampler, folder: the user's names and the result folder's name.
        llc, llc_se, llc_low, llc_high: λ̂, standard error, 95 % interval; all None where there is no number to use.
        ess_mean, ess_bulk, ess_tail, rhat: None where undefined for this kind of draw.
        verdict: the worst outcome of `checks`; reasons: the reasons of the checks that lower it, worst first.
        llc_variance, llc_variance_se: Var[tK], and its standard error; its limit is λ too, without a baseline.
        llc_slope, llc_slope_se: dλ̂/d log t = λ̂ − Var[tK]; None where the draws do not give it.
        minimum: at_minimum or above_minimum by δ; None where the descent was not made.
        minimum_reason: what a w* above a minimum means and what to do; None where it is none.
        stated_error: the sum of the budget's parts that bear on E[tK], to be compared with |λ̂ − finite-t value|; None
            where one of them is unknown.
        relative_error: (λ̂ − finite-t value)/finite-t value; relative_error_limit: against the truth's λ.
        run: the whole run.json.
    """

    schema_version: int = ANALYSIS_SCHEMA_VERSION
    run_id: str
    target: str
    target_id: str
    target_kind: str
    sampler: str
    folder: str
    replicate: int
    llc: float | None
    llc_se: float | None
    llc_low: float | None
    llc_high: float | None
    ess_mean: float | None
    ess_bulk: float | None
    ess_tail: float | None
    rhat: float | None
    llc_variance: float | None
    llc_variance_se: float | None
    llc_slope: float | None
    llc_slope_se: float | None
    verdict: VerdictLabel
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]
    minimum: Literal["at_minimum", "above_minimum"] | None
    minimum_reason: str | None
    delta: float | None
    error_budget: tuple[ErrorTerm, ...]
    stated_error: float | None
    truth: Truth
    finite_t: FiniteT
    relative_error: float | None
    relative_error_limit: float | None
    n: int
    d: int
    beta: float
    gamma: float
    nbeta: float
    run: RunRecord


class AnalysisFolder:
    """An analysis on disk.

    Attributes:
        path: the folder.
        record: analysis.json.
    """

    def __init__(self, path: Path):
        """Open `path`.

        Raises:
            UserError: when it is no analysis folder or its version is another.
        """
        if not path.is_dir():
            raise UserError(f"{path}: no analysis folder there; give the folder that analyze wrote")
        self.path = path
        self.record = read_record(path / "analysis.json", AnalysisRecord)
        if self.record.schema_version != ANALYSIS_SCHEMA_VERSION:
            raise UserError(
                f"{path / 'analysis.json'}: schema_version is {self.record.schema_version}, "
                f"this program reads {ANALYSIS_SCHEMA_VERSION}; analyse the run again"
            )
