"""The pipeline's estimate from Python, without files: a model, its data and its loss in, λ̂ with its verdict out."""

import base64
import hashlib
import html
import inspect
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
from jaxtyping import PyTree
from pydantic import Field, ValidationError

from lambda_hat_cli.artifacts.analysis import AnalysisRecord, Check, FiniteT, VerdictLabel
from lambda_hat_cli.artifacts.progress import RunningEstimate
from lambda_hat_cli.artifacts.run import Trace
from lambda_hat_cli.artifacts.target import Truth
from lambda_hat_cli.errors import UserError, nearest
from lambda_hat_cli.estimate.analysis import conclude
from lambda_hat_cli.estimate.convergence import convergence
from lambda_hat_cli.experiment.identity import digest, pack_id, run_id
from lambda_hat_cli.experiment.problems import join_path, problems_of, refuse
from lambda_hat_cli.experiment.rows import RunRow
from lambda_hat_cli.experiment.schema import (
    Budget,
    PosteriorSettings,
    Precision,
    RunSettings,
    SamplerSettings,
)
from lambda_hat_cli.report import numbers
from lambda_hat_cli.samplers.driver import Stopwatch
from lambda_hat_cli.samplers.run import sample_loaded, seen_precision
from lambda_hat_cli.targets.load import LoadedTarget, assembled
from lambda_hat_cli.targets.skeleton import take_apart
from lambda_hat_cli.targets.user import UserCode, UserTarget, built_from, check_model, checked_return, loss_of

_CALL = "estimate_llc"
_BUDGET = Budget()
# Nothing lies there, so that messages name no line: a notebook's own traceback does.
_NO_FOLDER = Path("<memory>")
_NO_TRUTH = Truth(
    coefficient=None, multiplicity=None, kind="none", source="no exact value is known for a user's own model"
)
_NO_FINITE_T = FiniteT(
    value=None, se=None, kind="none", source="neither an exact value nor a reference is known for a user's own model"
)


@dataclass(frozen=True)
class LLCEstimate:
    """λ̂ and everything that the pipeline says about it.

    Attributes:
        analysis: what analysis.json holds of a run of the pipeline, with the run's record as `analysis.run`.
        trace: the draws. `trace.posterior["llc"]` is tK in nats, (chains, draws).
    """

    analysis: AnalysisRecord
    trace: Trace

    @property
    def llc(self) -> float | None:
        """λ̂, nats; None where there is no number to use."""
        return self.analysis.llc

    @property
    def se(self) -> float | None:
        """Its standard error."""
        return self.analysis.llc_se

    @property
    def interval(self) -> tuple[float, float] | None:
        """Its 95 % interval, bias included."""
        low, high = self.analysis.llc_low, self.analysis.llc_high
        return None if low is None or high is None else (low, high)

    @property
    def verdict(self) -> VerdictLabel:
        """Whether the sampling is to be trusted: reliable, uncertain or invalid."""
        return self.analysis.verdict

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the verdict is not `reliable`, worst first."""
        return self.analysis.reasons

    @property
    def checks(self) -> tuple[Check, ...]:
        """The verdict's checks with value and thresholds."""
        return self.analysis.checks

    @property
    def minimum(self) -> Literal["at_minimum", "above_minimum"] | None:
        """Whether w* is a minimum of the local potential; above one λ̂ is no estimate of a learning coefficient."""
        return self.analysis.minimum

    @property
    def delta(self) -> float | None:
        """δ = U(w*) − min U near it, nats."""
        return self.analysis.delta

    def __repr__(self) -> str:
        return "\n".join(_words(self.analysis))

    def _repr_html_(self) -> str:
        """The same with the run's pictures, where matplotlib is installed."""
        return f"<pre>{html.escape(repr(self))}</pre>{self._pictures}"

    @cached_property
    def _pictures(self) -> str:
        try:
            from lambda_hat_cli.figures.convergence import draw_convergence
            from lambda_hat_cli.figures.trace import draw_trace
        except ModuleNotFoundError:
            return ""
        with tempfile.TemporaryDirectory() as folder:
            curve, draws = Path(folder) / "convergence.png", Path(folder) / "trace.png"
            draw_convergence(convergence(self.trace, self.analysis.run), self.analysis, curve)
            draw_trace(self.trace, self.analysis, draws)
            encoded = [base64.b64encode(file.read_bytes()).decode() for file in (curve, draws)]
        return "".join(f'<p><img src="data:image/png;base64,{image}"></p>' for image in encoded)


def estimate_llc(
    model: PyTree,
    data: Mapping[str, Any],
    loss: Literal["gaussian", "categorical"] | Callable[[Any, Any], Any],
    *,
    sigma: float | None = None,
    sampler: str | Mapping[str, Any] | SamplerSettings = "hmc",
    inverse_temperature: float | Literal["auto"] = "auto",
    localization: float = 1.0,
    chains: int = 8,
    tolerance: float = 0.05,
    budget: Mapping[str, float] | Budget = _BUDGET,
    save_positions: bool = False,
    seed: int = 0,
    progress: bool = True,
    **settings: Any,
) -> LLCEstimate:
    """Estimate the local learning coefficient of a model at its parameters w*, as a run of the pipeline does.

    λ̂ = E[tK] under p(w) ∝ exp(−nβ·L_n(w) − (γ/2)‖w−w*‖²) with t = nβ and K(w) = L_n(w) − L_n(w*) (Lau et al. 2023,
    "The local learning coefficient"). Parameters and data are rounded to float32, as a target's files are, and sampled
    in the precision that this interpreter's JAX has.

    Args:
        model, data, loss, sigma: as of a python target's UserTarget. The model's floating JAX arrays are w*; the arrays
            of `data` have the rows first, n in number; the loss is per row, in nats.
        sampler: "hmc", "mclmc", "sgld" or "vi", or settings with a `kind`; `settings` are more of its settings.
        inverse_temperature: β, or "auto" for 1/log n. localization: γ.
        chains, tolerance, budget, save_positions: as in an experiment's `runs`.
        seed: the run's own seed, `seed` in run.json, which a run's estimate can be repeated with.
        progress: whether to tell on stderr how far it is.

    Raises:
        UserError: for every mistake in what is given, in one message.
    """
    began = time.monotonic()
    _check_arguments(settings)
    request = _request(
        sampler=_sampler_section(sampler, settings),
        inverse_temperature=inverse_temperature,
        localization=localization,
        chains=chains,
        tolerance=tolerance,
        budget=dict(budget) if isinstance(budget, Mapping) else budget,
        save_positions=save_positions,
        seed=seed,
    )
    stopwatch = Stopwatch()
    with stopwatch.phase("load"):
        loaded, target_id = _target(UserTarget(model, data, loss, sigma), request.sampler.precision)
    row = _row(request, type(model).__name__, target_id, loaded)
    run, trace = sample_loaded(row, loaded, began, stopwatch, _tell if progress else _keep_quiet)
    return LLCEstimate(conclude(row, run, trace, _NO_TRUTH, _NO_FINITE_T), trace)


class _Request(PosteriorSettings, RunSettings):
    """The call's settings, validated as an experiment file's are."""

    sampler: SamplerSettings
    seed: Annotated[int, Field(ge=0, lt=2**63)]


def _check_arguments(settings: Mapping[str, Any]) -> None:
    """Refuse a misspelt argument of the call's own, which otherwise reads as a setting of the sampler."""
    union, _ = get_args(SamplerSettings)
    known = {name for sampler in get_args(union) for name in sampler.model_fields}
    own = [name for name, it in inspect.signature(estimate_llc).parameters.items() if it.kind is not it.VAR_KEYWORD]
    lines = [
        f'unknown argument "{name}"{hint}'
        for name in settings
        if name not in known and not nearest(name, known) and (hint := nearest(name, own))
    ]
    if lines:
        raise refuse(_CALL, lines)


def _request(**raw: Any) -> _Request:
    raw = {name: value.item() if isinstance(value, np.generic) else value for name, value in raw.items()}
    try:
        return _Request.model_validate(raw)
    except ValidationError as error:
        lines = [f"{join_path(problem.path)}: {problem.text}" for problem in problems_of(error, _Request, raw)]
        raise refuse(_CALL, lines) from None


def _sampler_section(sampler: str | Mapping[str, Any] | SamplerSettings, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The sampler's settings as a section of an experiment file, in the precision that JAX has here.

    Raises:
        UserError: when they ask for the other precision.
    """
    if isinstance(sampler, str):
        given: dict[str, Any] = {"kind": sampler}
    else:
        given = dict(sampler) if isinstance(sampler, Mapping) else sampler.model_dump(exclude_unset=True)
    section = {**given, **settings}
    seen = seen_precision()
    if section.setdefault("precision", seen) != seen and section["precision"] in ("float64", "float32"):
        raise UserError(
            f"{_CALL}: precision {section['precision']} is asked for, but JAX has {seen} here; leave it out, or set "
            f"JAX_ENABLE_X64={int(section['precision'] == 'float64')} before Python starts"
        )
    return section


def _target(user: UserTarget, precision: Precision) -> tuple[LoadedTarget, str]:
    """The target in memory, checked like a python target's, and a digest of its arrays."""
    code = UserCode(_NO_FOLDER, _CALL)
    user = checked_return(user, _CALL)
    check_model(user.model, code)
    loss = loss_of(user)
    model, data, _ = built_from(user, loss, code.root, code.file)
    skeleton, parameters, constants = take_apart(model)
    arrays = [*parameters, *constants, *data.values()]
    identity = digest([list(data), [[str(a.dtype), a.shape, hashlib.sha256(a.tobytes()).hexdigest()] for a in arrays]])
    return assembled(skeleton, parameters, constants, data, loss, precision), identity[:16]


def _row(request: _Request, model: str, target_id: str, loaded: LoadedTarget) -> RunRow:
    """The row that a plan would hold of this run, but for its sources, which nothing has planned."""
    posterior = PosteriorSettings.model_validate(request.model_dump(include=set(PosteriorSettings.model_fields)))
    runs = RunSettings.model_validate(request.model_dump(include=set(RunSettings.model_fields)))
    identity = run_id(target_id, request.sampler, posterior, runs, 0, request.seed)
    return RunRow(
        id=identity,
        folder=f"{model}-{request.sampler.kind}-{identity[:8]}",
        target=model,
        target_id=target_id,
        target_kind="python",
        sampler=request.sampler.kind,
        settings=request.sampler,
        posterior=posterior,
        runs=runs,
        replicate=0,
        seed=request.seed,
        precision=request.sampler.precision,
        d=loaded.d,
        n=loaded.n,
        code={},
        pack=pack_id([identity]),
    )


def _tell(line: str, estimate: RunningEstimate | None = None, /) -> None:
    del estimate
    print(line, file=sys.stderr, flush=True)


def _keep_quiet(line: str, estimate: RunningEstimate | None = None, /) -> None:
    del line, estimate


def _words(record: AnalysisRecord) -> list[str]:
    """A few lines: the estimate and its verdict, how it was drawn, what it is a function of, and the reservations."""
    run = record.run
    estimate = numbers.estimate(record.llc, record.llc_low, record.llc_high)
    delta = f" (δ = {numbers.significant(record.delta, 2)})" if record.delta is not None else ""
    minimum = f"; w* {record.minimum.replace('_', ' a ')}{delta}" if record.minimum is not None else ""
    rhat = "" if record.rhat is None else f", R-hat {record.rhat:.3f}"
    ess = "" if record.ess_mean is None else f", ESS {record.ess_mean:.0f}"
    return [
        f"λ̂ = {estimate}, {record.verdict}{minimum}",
        f"n = {record.n}, d = {record.d}, β = {record.beta:.4g}, γ = {record.gamma:.4g}",
        f"{record.sampler} in {run.precision}: {run.chains} × {run.draws} draws{rhat}{ess}, "
        f"{sum(run.gradients.values()):,.0f} gradients, {run.seconds['total']:.1f} s, seed {run.seed}",
        *record.reasons,
        *([record.minimum_reason] if record.minimum_reason else []),
    ]
