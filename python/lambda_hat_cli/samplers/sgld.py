"""Stochastic-gradient Langevin dynamics with an automatic step and a measurement of its own discretisation bias."""

import math
from dataclasses import replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from lambda_hat_cli.experiment.schema import SgldSettings
from lambda_hat_cli.posterior.local import LocalPosterior
from lambda_hat_cli.samplers.base import (
    AbstractMarkovSampler,
    GradientLedger,
    Review,
    SamplerDiverged,
    Say,
    SoFar,
    Stats,
    WarmedUp,
)
from lambda_hat_cli.samplers.chains import divided, over_chains
from lambda_hat_cli.samplers.driver import split_stats
from lambda_hat_cli.samplers.sgld_curvature import EQUIVALENTS, largest_curvature
from lambda_hat_cli.samplers.sgld_noise import BATCHES, variance_cut
from lambda_hat_cli.samplers.sgld_steps import (
    Batches,
    LangevinState,
    Measured,
    MovingRule,
    MovingState,
    StepParameters,
    coupled_draw,
    moving_draw,
    moving_scale,
    single_draw,
)

COURANT = 0.5
"""Step size times largest curvature: the largest at which every measured problem kept its bias under .5 %."""
STALE = 1.2
"""In warm-up a step is made smaller when ε·a is above .5 by this factor, so that it stays at most .6."""
GROWTH = 1.1
"""A recording is given to warm-up when the curvature grew by more than this factor since it began."""
FAR = 50.0
"""A chain with tK > 50·d has left: at equilibrium tK is at most about d/2."""
RESTARTS = 12
"""Each divides the step by four; 4^12 spans more than the range of curvatures met on any path from w*."""
STAGES = (1, 1, 2, 4, 8, 16)
"""Warm-up stages, in units; the curvature is estimated anew after each."""
WARMUP_SHARE = 0.25
"""The draws of one attempt at warm-up take at most this part of the run's gradient budget."""

BIASED = (
    "the {kind} preconditioner keeps moving while recording{momentum}: the stationary law is not the posterior, "
    "however small the step; leave out `moving` to freeze it after warm-up"
)


class SgldSampler(AbstractMarkovSampler):
    """Langevin dynamics in Leimkuhler and Matthews' form, two coupled levels ε and ε/2.

    A recorded draw is `draw_steps` steps ε and twice as many ε/2 with the same noise. With the full batch its numbers
    are means over these steps; with mini-batches tK is measured once a draw, by one full gradient for each level, and
    the gradients between are of mini-batches, corrected around w* or an anchor or, where that costs more than it is
    worth, not at all. With K₀, K₁ the levels' tK, D = K₁ − K₀:
        llc_half_step  K₁
        llc            K₁ + D/3 (full batch, bias O(ε²)) or K₁ + D (mini-batch, bias O(ε)): Richardson's extrapolation
    so mean(llc) − mean(llc_half_step) is the correction made and, in size, the statement of what bias may be left.
    It is not to be believed where |D| exceeds a tenth of λ̂. `tuned["extrapolation"]` is the factor before D. `virial`,
    `energy`, `distance_squared` and `llc_square` = (tK)² are the ε/2 level's.

    Preconditioners run in their papers' moving form for the first half of warm-up; then the scale, averaged over the
    chains, is frozen and momentum dropped. `moving: true` records the papers' form itself, one level, no
    llc_half_step, and says that it is biased.

    Attributes:
        settings: the run's settings.
    """

    settings: SgldSettings = eqx.field(static=True)
    settling_share: ClassVar[float] = 1 / 3

    def warm_up(
        self, posterior: LocalPosterior, key: PRNGKeyArray, chains: int, ledger: GradientLedger, say: Say
    ) -> WarmedUp:
        """Leave w* in stages of growing length; after each the step follows the largest curvature found.

        `settings.warmup` counts draws, single-level; fewer where a quarter of the gradient budget holds fewer.

        Raises:
            SamplerDiverged: when no step keeps the chains finite and tK ≤ 50·d, or a step given by hand does not.
        """
        return _WarmUp(self, posterior, chains, ledger, say).run(key)

    def step(self, posterior: LocalPosterior, parameters: PyTree, state: Any, key: PRNGKeyArray) -> tuple[Any, Stats]:
        """One recorded draw: `draw_steps` steps of both levels, or of the moving form."""
        steps = self.settings.draw_steps
        if self.settings.moving:
            state, seen = moving_draw(posterior, parameters, moving_rule(self.settings), state, key, steps)
            return state, {**self._stats(posterior, parameters, seen, levels=1), "llc": seen.llc}
        state, seen, seen_half = coupled_draw(posterior, parameters, state, key, steps)
        llc = seen_half.llc + extrapolation(parameters.batches.size) * (seen_half.llc - seen.llc)
        return state, {
            **self._stats(posterior, parameters, seen_half, levels=3),
            "llc": llc,
            "llc_half_step": seen_half.llc,
        }

    def review(
        self, posterior: LocalPosterior, warmed: WarmedUp, states: PyTree, key: PRNGKeyArray, found: SoFar
    ) -> Review | None:
        """Estimate the curvature where the chains are now; start again with a smaller step where it grew.

        The curvature is the largest ever seen: a step must fit every place that the chains visit. A step whose
        measured effect is coarse is halved in the same way. Without the budget to start again, or with a step given by
        hand, or where no smaller one follows from the curvature, the growth is only told. Nothing is done for moving
        forms.
        """
        if self.settings.moving or found.ledger.left < states.w.shape[0] * EQUIVALENTS:
            return None
        parameters, step_size = warmed.parameters, float(warmed.parameters.step_size)
        tuned = warmed.tuned | self._fit_now(posterior, warmed, states, key, found.ledger)
        largest, growth = tuned["curvature"] or 0.0, tuned["curvature_growth"]
        if self.settings.step_size == "auto" and found.may_restart:
            grew = growth is None or growth > GROWTH
            fitting = COURANT / largest if grew and largest > 0 else math.inf
            smaller = min(fitting, 0.5 * step_size if found.coarse else step_size)
            if smaller < step_size:
                parameters = replace(parameters, step_size=jnp.asarray(smaller, posterior.w_star.dtype))
                return Review(parameters, tuned | _fit(smaller, largest, 1.0), restart=True)
        return Review(parameters, tuned, restart=False)

    def conclude(
        self,
        posterior: LocalPosterior,
        warmed: WarmedUp,
        states: PyTree,
        stats: dict[str, np.ndarray],
        ledger: GradientLedger,
    ) -> dict[str, float | None]:
        """How the step fits the curvature where the chains ended: up to half of the draws came after the last review.

        It is measured also where the budget has ended, which it exceeds by the EQUIVALENTS gradients of every chain.
        """
        del stats
        return {} if self.settings.moving else self._fit_now(posterior, warmed, states, jax.random.key(0), ledger)

    def position(self, state: Any) -> Float[Array, " d"]:
        """The w of the level ε/2 (of the only level for moving forms)."""
        return state.w if isinstance(state, MovingState) else state.w_half

    def batches(self, posterior: LocalPosterior) -> Batches:
        """How gradients are estimated in warm-up; a batch of all rows is the full batch."""
        asked, chosen = self.settings.batch_size, self.settings.control_variate
        size = None if asked == "full" or asked >= posterior.rows else asked
        return Batches(size, "w_star" if chosen == "auto" else chosen, self.settings.anchor_every)

    def cost(self, posterior: LocalPosterior, levels: int, batches: Batches) -> tuple[float, int]:
        """(full-data gradient equivalents, gradient evaluations) of one draw of one chain.

        `levels` counts steps for each step ε: 3 for both levels, 1 for one. The levels share their anchors.
        """
        steps = self.settings.draw_steps
        if batches.size is None:
            return float(levels * steps), levels * steps
        small, full = steps * mini_batch_gradients(levels, batches.control_variate), 1 if levels == 1 else 2
        if batches.control_variate == "anchor":
            full += steps // batches.anchor_every
        return small * batches.size / posterior.rows + full, small + full

    def _fit_now(
        self,
        posterior: LocalPosterior,
        warmed: WarmedUp,
        states: LangevinState,
        key: PRNGKeyArray,
        ledger: GradientLedger,
    ) -> dict[str, float | None]:
        """`_fit` with the curvature where the chains are; one that is not finite leaves only the largest seen before.

        The key starts the power iteration and need not differ from others.
        """
        ledger.add("curvature", states.w.shape[0] * EQUIVALENTS)
        here = float(largest_curvature(posterior, states.w_half, warmed.parameters.scale, key))
        step_size, before = float(warmed.parameters.step_size), warmed.tuned["curvature"] or 0.0
        earlier_growth = warmed.tuned["curvature_growth"] or 1.0
        if not math.isfinite(here):
            return _fit(step_size, before, earlier_growth) | {"step_times_curvature": None}
        largest = max(before, here)
        return _fit(step_size, largest, earlier_growth * largest / before if before > 0 else math.inf)

    def _stats(self, posterior: LocalPosterior, parameters: StepParameters, seen: Measured, levels: int) -> Stats:
        equivalents, evaluations = self.cost(posterior, levels, parameters.batches)
        return {
            "llc_square": seen.llc_square,
            "energy": seen.energy,
            "virial": seen.virial,
            "distance_squared": seen.distance_squared,
            "step_size": parameters.step_size,
            "diverging": ~(seen.llc <= FAR * posterior.d),
            "gradients": jnp.asarray(equivalents, seen.llc.dtype),
            "evaluations": jnp.asarray(evaluations, seen.llc.dtype),
        }


def mini_batch_gradients(levels: int, control_variate: str) -> int:
    """Gradients of mini-batches for each step ε, at `levels` points and, where one corrects them, at its anchor.

    The anchor's serve a step ε and the first step ε/2 together, for these have their rows in common.
    """
    return levels + (0 if control_variate == "none" else math.ceil(levels / 2))


def extrapolation(batch_size: int | None) -> float:
    """The factor before D = K₁ − K₀: the leading error is O(ε²) with the full batch, O(ε) with mini-batches."""
    return 1 / 3 if batch_size is None else 1.0


def _fit(step_size: float, curvature: float, growth: float | None) -> dict[str, float | None]:
    """How the step fits the curvature, for run.json: ε, the largest a seen, ε·a, a's growth since recording began."""
    return {
        "step_size": step_size,
        "curvature": curvature if math.isfinite(curvature) else None,
        "step_times_curvature": step_size * curvature if math.isfinite(curvature) else None,
        "curvature_growth": growth if growth is not None and math.isfinite(growth) else None,
    }


def moving_rule(settings: SgldSettings) -> MovingRule:
    """The averaging rule of a preconditioned sampler.

    Raises:
        ValueError: for preconditioner none.
    """
    if settings.preconditioner == "none":
        raise ValueError("preconditioner none has no averaging rule")
    return MovingRule(settings.preconditioner, settings.beta1, settings.beta2, settings.epsilon)


@eqx.filter_jit
def _advance(
    sampler: SgldSampler,
    posterior: LocalPosterior,
    parameters: StepParameters,
    states: PyTree,
    key: PRNGKeyArray,
    draws: int,
) -> tuple[PyTree, Measured]:
    """`draws` single-level draws of every chain; moving states move their preconditioner."""
    steps = sampler.settings.draw_steps

    def one(state: Any, key: PRNGKeyArray) -> tuple[Any, Measured]:
        if isinstance(state, MovingState):
            return moving_draw(posterior, parameters, moving_rule(sampler.settings), state, key, steps)
        return single_draw(posterior, parameters, state, key, steps)

    def chain(state: Any, key: PRNGKeyArray) -> tuple[Any, Measured]:
        return jax.lax.scan(one, state, jax.random.split(key, draws))

    chains = jax.tree.leaves(states)[0].shape[0]
    return over_chains(posterior)(chain)(states, jax.random.split(key, chains))


class _WarmUp:
    """One warm-up under way: what changes from stage to stage."""

    def __init__(self, sampler: SgldSampler, posterior: LocalPosterior, chains: int, ledger: GradientLedger, say: Say):
        self.sampler, self.settings = sampler, sampler.settings
        self.posterior, self.chains, self.ledger, self.say = posterior, chains, ledger, say
        self.dtype = posterior.w_star.dtype
        self.curvature = math.nan
        self.step_limit = math.inf
        self.restarts = 0
        self.batches = sampler.batches(posterior)
        equivalents, self.evaluations = sampler.cost(posterior, levels=1, batches=self.batches)
        self.equivalents = equivalents
        affordable = int(WARMUP_SHARE * ledger.limit / (chains * equivalents))
        self.unit = max(1, min(self.settings.warmup, affordable) // sum(STAGES))

    def run(self, key: PRNGKeyArray) -> WarmedUp:
        """Try until the stages pass; see SgldSampler.warm_up."""
        while True:
            key, attempt_key = jax.random.split(key)
            warmed = self._attempt(attempt_key)
            if warmed is not None:
                return warmed
            if self.settings.step_size != "auto":
                raise SamplerDiverged(
                    f"step_size {self.settings.step_size:g} let tK grow beyond {FAR:g}·d in warm-up; "
                    "give a smaller step_size or `auto`"
                )
            self.restarts += 1
            if self.restarts > RESTARTS:
                raise SamplerDiverged(
                    f"no step size from {self.step_limit * 4**RESTARTS:.3g} down to {self.step_limit * 4:.3g} kept tK "
                    f"below {FAR:g}·d in warm-up; a larger localization or precision float64 may help"
                )
            self.say(f"sgld warm-up: chains diverged, back to w* with step size {self.step_limit:.3g}")

    def _attempt(self, key: PRNGKeyArray) -> WarmedUp | None:
        """All stages from w*; None when a chain left, with the step's limit lowered."""
        w = jnp.broadcast_to(self.posterior.w_star, (self.chains, self.posterior.d))
        scale = jnp.ones_like(self.posterior.w_star)
        states: PyTree = w
        if self.settings.preconditioner != "none":
            states = MovingState(w, jnp.zeros_like(w), jnp.zeros_like(w), jnp.zeros(self.chains, self.dtype))
            scale = self._scale(states)
        states = divided(states)
        key, curvature_key = jax.random.split(key)
        self.curvature = self._largest_curvature(w[:1], scale, curvature_key)
        step_size = self._step_size(self.curvature)
        shown: list[dict[str, np.ndarray]] = []
        steps_taken: list[float] = []
        for stage, units in enumerate(STAGES):
            freezes = stage == len(STAGES) - 1 and isinstance(states, MovingState) and not self.settings.moving
            if freezes:
                states, scale = states.w, self._scale(states)
                key, curvature_key = jax.random.split(key)
                self.curvature = self._largest_curvature(states, scale, curvature_key)
                step_size = self._step_size(self.curvature)
            for _ in range(units):
                self.ledger.require("warm-up")
                key, unit_key = jax.random.split(key)
                parameters = StepParameters(jnp.asarray(step_size, self.dtype), scale, self.batches)
                states, seen = _advance(self.sampler, self.posterior, parameters, states, unit_key, self.unit)
                draws = self.chains * self.unit
                self.ledger.add("warmup", draws * self.evaluations, self.equivalents / self.evaluations)
                if not bool(jnp.all(seen.llc <= FAR * self.posterior.d)):
                    self.step_limit = step_size / 4
                    return None
                shown.append({name: np.asarray(values, np.float64) for name, values in seen._asdict().items()})
                steps_taken += [step_size] * self.unit
            key, curvature_key = jax.random.split(key)
            if isinstance(states, MovingState):
                scale = self._scale(states)
            step_size = self._follow(states, scale, step_size, curvature_key)
            self.say(
                f"sgld warm-up {sum(STAGES[: stage + 1]) * self.unit}/{sum(STAGES) * self.unit} draws: "
                f"tK {float(np.mean(shown[-1]['llc'])):.4g}, step size {step_size:.3g}, curvature {self.curvature:.3g}"
            )
        key, cut_key = jax.random.split(key)
        cut = self._variance_cut(states, scale, cut_key)
        batches = self.batches
        if cut is not None:
            levels = 1 if self.settings.moving else 3
            # A batch larger by the ratio of their costs costs the same and cuts the variance as much.
            worth = cut > mini_batch_gradients(levels, "w_star") / mini_batch_gradients(levels, "none")
            batches = batches._replace(control_variate="w_star" if worth else "none")
            if math.isfinite(cut):
                self.say(
                    f"sgld warm-up: a mini-batch gradient's variance without the control variate over with it is "
                    f"{cut:.3g}, {'' if worth else 'not '}worth its cost: recording {'with' if worth else 'without'} it"
                )
        parameters = StepParameters(jnp.asarray(step_size, self.dtype), scale, batches)
        return self._finish(states, parameters, cut, shown, steps_taken)

    def _finish(
        self,
        states: PyTree,
        parameters: StepParameters,
        cut: float | None,
        shown: list[dict[str, np.ndarray]],
        steps_taken: list[float],
    ) -> WarmedUp:
        settings, batches = self.settings, parameters.batches
        measured = {name: np.concatenate([part[name] for part in shown], axis=1) for name in shown[0]}
        measured["step_size"] = np.broadcast_to(np.asarray(steps_taken), measured["llc"].shape).copy()
        recorded, rest = split_stats(measured, self.posterior)
        momentum = " and so does its momentum" if settings.preconditioner == "adam" else ""
        return WarmedUp(
            states=states if settings.moving else LangevinState(states, states),
            parameters=parameters,
            tuned={
                **_fit(float(parameters.step_size), self.curvature, None),
                "extrapolation": None if settings.moving else extrapolation(batches.size),
                "mini_batches_corrected": None if batches.size is None else float(batches.control_variate != "none"),
                "variance_cut": cut if cut is not None and math.isfinite(cut) else None,
                "scale_least": float(jnp.min(parameters.scale)),
                "scale_largest": float(jnp.max(parameters.scale)),
                "warmup_draws": float(len(steps_taken)),
                "warmup_restarts": float(self.restarts),
            },
            biased=BIASED.format(kind=settings.preconditioner, momentum=momentum) if settings.moving else None,
            posterior=recorded,
            stats=rest,
        )

    def _largest_curvature(
        self, points: Float[Array, "points d"], scale: Float[Array, " d"], key: PRNGKeyArray
    ) -> float:
        self.ledger.require("the curvature estimates of warm-up")
        self.ledger.add("curvature", points.shape[0] * EQUIVALENTS)
        return float(largest_curvature(self.posterior, points, scale, key))

    def _follow(self, states: PyTree, scale: Float[Array, " d"], step_size: float, key: PRNGKeyArray) -> float:
        """The next stage's step size: the curvature only grows while the scale stays, and follows a moving scale."""
        moving = isinstance(states, MovingState)
        found = self._largest_curvature(states.w if moving else states, scale, key)
        self.curvature = found if moving else max(self.curvature, found)
        wanted = self._step_size(self.curvature)
        return wanted if moving or step_size > STALE * wanted else step_size

    def _variance_cut(self, states: PyTree, scale: Float[Array, " d"], key: PRNGKeyArray) -> float | None:
        """What the control variate at w* would cut, where `control_variate: auto` has to know; else None."""
        size = self.batches.size
        if size is None or self.settings.control_variate != "auto":
            return None
        self.ledger.require("the noise estimate of warm-up")
        self.ledger.add("warmup", self.chains)
        self.ledger.add("warmup", 2 * BATCHES * self.chains, size / self.posterior.rows)
        points = states.w if isinstance(states, MovingState) else states
        return float(variance_cut(self.posterior, points, scale, size, key))

    def _scale(self, states: MovingState) -> Float[Array, " d"]:
        """One scale for all chains: the preconditioner of their mean squared gradient."""
        pooled = MovingState(states.w[0], jnp.mean(states.second_moment, axis=0), states.momentum[0], states.count[0])
        return moving_scale(moving_rule(self.settings), pooled)

    def _step_size(self, curvature: float) -> float:
        """c/a, at most what earlier attempts left; t stands in for a curvature that vanishes at w*."""
        if self.settings.step_size != "auto":
            return self.settings.step_size
        usable = curvature if math.isfinite(curvature) and curvature > 0 else float(self.posterior.nbeta)
        return min(COURANT / usable, self.step_limit)
