"""What every sampler offers to the driver, and how gradients are counted."""

import math
import time
from abc import abstractmethod
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from lambda_hat_cli.artifacts.progress import RunningEstimate
from lambda_hat_cli.experiment.schema import SamplerSettings
from lambda_hat_cli.posterior.local import LocalPosterior

Stats = dict[str, Float[Array, ""]]


class Place(NamedTuple):
    """A point and what one gradient evaluation tells there: w, U(w), tK(w) and ∇U(w)."""

    w: Float[Array, " d"]
    potential: Float[Array, ""]
    llc: Float[Array, ""]
    gradient: Float[Array, " d"]


# A task is ended up to this long before its limit: a scheduler's clock is coarse, and Nextflow asks it for an early
# signal, which ends the task at once. The last block of draws, the trace and the record take their time as well.
RESERVE = 90.0
LARGEST_RESERVE = 0.5


def leave_by(time_limit: float | None) -> float:
    """When a process that is ended in `time_limit` seconds must have its results saved: a value of time.monotonic()."""
    if time_limit is None:
        return math.inf
    return time.monotonic() + time_limit - min(RESERVE, LARGEST_RESERVE * time_limit)


@dataclass(frozen=True)
class Deadline:
    """When a run's time is up.

    Attributes:
        at: a value of time.monotonic(). limit: which limit it is. remedy: what gives more time; both for the reason.
    """

    at: float = math.inf
    limit: str = "the budget of seconds"
    remedy: str = "give runs.budget.seconds more"

    @property
    def passed(self) -> bool:
        """Whether no time is left."""
        return time.monotonic() >= self.at


@dataclass
class GradientLedger:
    """True counts of gradient work by phase, summed over chains.

    Attributes:
        equivalents: full-data gradient equivalents (a Hessian-vector product counts two, a mini-batch its share).
        evaluations: plain number of gradient evaluations, whatever their batch.
        limit: the run's budget in full-data equivalents.
        deadline: the end of the run's time.
    """

    limit: float
    equivalents: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    evaluations: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    deadline: Deadline = Deadline()

    def add(self, phase: str, evaluations: int, share: float = 1.0) -> None:
        """Book `evaluations` gradients, each worth `share` of a full-data gradient."""
        self.evaluations[phase] += evaluations
        self.equivalents[phase] += evaluations * share

    @property
    def total(self) -> float:
        """Full-data gradient equivalents over all phases."""
        return sum(self.equivalents.values())

    @property
    def left(self) -> float:
        """What remains of the budget, at least 0."""
        return max(0.0, self.limit - self.total)

    def share(self, fraction: float) -> "Share":
        """A bound at `fraction` of the gradients and of the seconds that are left."""
        now = time.monotonic()
        return Share(self, self.total + fraction * self.left, now + fraction * (self.deadline.at - now))

    def require(self, phase: str) -> None:
        """Go on with `phase` only while gradients and time are left.

        Raises:
            BudgetUsedUp: with the reason in words.
        """
        if self.total >= self.limit:
            raise BudgetUsedUp(
                f"the budget of {self.limit:,.0f} gradients was used up during {phase}: give runs.budget.gradients more"
            )
        if self.deadline.passed:
            raise BudgetUsedUp(f"{self.deadline.limit} was used up during {phase}: {self.deadline.remedy}")


@dataclass(frozen=True)
class Share:
    """A part of what `ledger` had left: full-data gradient equivalents up to `limit`, time up to `deadline`."""

    ledger: GradientLedger
    limit: float
    deadline: float

    def holds(self, gradients: float) -> bool:
        """Whether `gradients` more stay within the share."""
        return self.ledger.total + gradients <= self.limit and time.monotonic() < self.deadline


class Say(Protocol):
    """How a run tells of itself."""

    def __call__(self, line: str, estimate: RunningEstimate | None = None, /) -> None:
        """Take one plain progress line, and the estimate that it tells of, if it does."""


def say_warmed_up(say: Say, step_size: float, measured: str, filled: bool, ledger: GradientLedger) -> None:
    """The line that ends a warm-up with filling; `measured` is what was tuned to, with its value."""
    say(
        f"warm-up done: step size {step_size:.3g}, {measured}, "
        f"{'filled' if filled else 'flat directions not filled'}, {ledger.total:,.0f} gradients so far"
    )


class BudgetUsedUp(Exception):
    """Gradients or seconds ran out: the run's status becomes `budget_exhausted`, the message its reason."""


class SamplerDiverged(Exception):
    """Warm-up found no stable step: the run's status becomes `diverged`, the message its reason."""


@dataclass(frozen=True)
class WarmedUp:
    """A Markov sampler that is ready to record.

    Attributes:
        states: the sampler's chain states, every leaf with a leading axis of chains.
        parameters: what the chains share (step size, length, preconditioner), frozen from here on; a PyTree.
        tuned: the same for run.json, as plain numbers; None is unknown.
        biased: why the stationary law is not the posterior even for small steps, or None.
        posterior: warm-up draws of `llc`; stats: warm-up draws of the sampler's statistics; each (chains, draws).
    """

    states: PyTree
    parameters: PyTree
    tuned: dict[str, float | None]
    biased: str | None
    posterior: dict[str, np.ndarray]
    stats: dict[str, np.ndarray]


@dataclass(frozen=True)
class SoFar:
    """What the driver knows of the recording when it asks for a review.

    Attributes:
        may_restart: whether the budget holds as many draws again as were recorded.
        coarse: whether the step's own error is known to take more than half of the tolerance.
        ledger: books what the review spends.
    """

    may_restart: bool
    coarse: bool
    ledger: GradientLedger


@dataclass(frozen=True)
class Review:
    """How to go on recording.

    Attributes:
        parameters, tuned: as in WarmedUp, from here on.
        restart: whether everything recorded so far becomes warm-up, because it was drawn with parameters that did not
            fit.
    """

    parameters: PyTree
    tuned: dict[str, float | None]
    restart: bool


class AbstractMarkovSampler(eqx.Module):
    """A sampler whose draws form Markov chains. Concrete samplers are final.

    Attributes:
        settings: the run's settings of this sampler, static.
        settling_share: the part of all draws, warm-up's included, that is warm-up at least: the longer a run, the
            more of its beginning is left out. 0 for samplers whose warm-up is judged by itself.
    """

    settings: eqx.AbstractVar[SamplerSettings]
    settling_share: ClassVar[float] = 0.0

    @abstractmethod
    def warm_up(
        self, posterior: LocalPosterior, key: PRNGKeyArray, chains: int, ledger: GradientLedger, say: Say
    ) -> WarmedUp:
        """Leave w*, adapt and freeze; every gradient is booked in `ledger` under a phase name.

        Raises:
            SamplerDiverged: when no stable step is found.
            BudgetUsedUp: when `ledger` has nothing left; ledger.require raises it.
        """

    @abstractmethod
    def step(self, posterior: LocalPosterior, parameters: PyTree, state: Any, key: PRNGKeyArray) -> tuple[Any, Stats]:
        """One recorded draw of one chain: pure, jittable, no chain axis.

        The statistics are scalars under fixed names: `llc` (tK, nats), `energy`, `acceptance_rate`, `step_size`,
        `diverging` (bool), `gradients` (full-data equivalents spent in this draw), `evaluations` (gradient
        evaluations in this draw), `virial` ((w−w*)·∇U/d), `distance_squared` (‖w−w*‖²). What a sampler does not
        measure is left out.
        """

    def conclude(
        self,
        posterior: LocalPosterior,
        warmed: WarmedUp,
        states: PyTree,
        stats: dict[str, np.ndarray],
        ledger: GradientLedger,
    ) -> dict[str, float | None]:
        """What only the end of the recording can tell, for run.json's `tuned`; nothing unless a sampler says more.

        `states` are the chains after the last draw, `stats` the recorded statistics, each (chains, draws); gradients
        that it takes are booked in `ledger` as `sampling`.
        """
        del posterior, warmed, states, stats, ledger
        return {}

    def review(
        self, posterior: LocalPosterior, warmed: WarmedUp, states: PyTree, key: PRNGKeyArray, found: SoFar
    ) -> Review | None:
        """A look at the chains while recording: whether the parameters still fit where the chains have come.

        The driver asks each time that the draws have doubled and before it stops; `states` are the chains' now. None
        is nothing to change. What it spends is booked in `found.ledger`.
        """
        del posterior, warmed, states, key, found
        return None

    @abstractmethod
    def position(self, state: Any) -> Float[Array, " d"]:
        """The state's w, for runs that save positions."""
