"""The Langevin steps that SGLD is made of: pure functions of one chain, jittable, no chain axis."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from lambda_hat_cli.posterior.local import Anchor, LocalPosterior
from lambda_hat_cli.samplers.normals import standard_normal

NOISE_IN_CACHE = 2**16
"""Numbers of noise made at once, but for anchors: 256 KiB in float32, still in the processor's cache when read."""


class Measured(NamedTuple):
    """What one point of a chain shows: tK and U in nats, (tK)², (w−w*)·∇U/d, ‖w−w*‖²."""

    llc: Float[Array, ""]
    llc_square: Float[Array, ""]
    energy: Float[Array, ""]
    virial: Float[Array, ""]
    distance_squared: Float[Array, ""]


class LangevinState(eqx.Module):
    """One chain at two coupled levels: `w` takes steps ε, `w_half` twice as many steps ε/2 with the same noise."""

    w: Float[Array, " d"]
    w_half: Float[Array, " d"]


class MovingState(eqx.Module):
    """One chain whose preconditioner follows its gradients."""

    w: Float[Array, " d"]
    second_moment: Float[Array, " d"]
    momentum: Float[Array, " d"]
    count: Float[Array, ""]


class Batches(NamedTuple):
    """How gradients are estimated.

    Attributes:
        size: rows in a mini-batch, None for the full batch.
        control_variate: where the full gradient that corrects a mini-batch is taken; not read for the full batch.
        anchor_every: steps for which an anchor serves, a divisor of a draw's steps; read for `anchor` alone.
    """

    size: int | None
    control_variate: Literal["none", "w_star", "anchor"]
    anchor_every: int


class StepParameters(eqx.Module):
    """Step size ε, the diagonal preconditioner M, ones where there is none, and how gradients are estimated."""

    step_size: Float[Array, ""]
    scale: Float[Array, " d"]
    batches: Batches = eqx.field(static=True)


class MovingRule(eqx.Module):
    """How a moving preconditioner averages: decay rates of momentum and squared gradient, and its floor."""

    kind: Literal["rmsprop", "adam"] = eqx.field(static=True)
    beta1: float = eqx.field(static=True)
    beta2: float = eqx.field(static=True)
    epsilon: float = eqx.field(static=True)


def measure(posterior: LocalPosterior, w: Float[Array, " d"]) -> tuple[Float[Array, " d"], Measured]:
    """∇U(w) and what w shows; one full gradient."""
    energy, llc, gradient = posterior.value_and_grad(w)
    distance_squared = jnp.sum((w - posterior.w_star) ** 2)
    return gradient, Measured(llc, llc**2, energy, posterior.virial(w, gradient), distance_squared)


class Randomness(NamedTuple):
    """The randomness of some steps, made at once, which is faster than step by step.

    Attributes:
        noise: standard normal, (steps, levels, d), one noise for each step of the finest level.
        indices: rows drawn with replacement, (steps, levels, batch), None for all rows.
    """

    noise: Float[Array, "steps levels d"]
    indices: Int[Array, "steps levels batch"] | None

    def of_level(self, level: int) -> tuple[Float[Array, " d"], Int[Array, " batch"] | None]:
        """Noise and rows of one level, for the randomness of one step."""
        return self.noise[level], None if self.indices is None else self.indices[level]


def randomness(
    posterior: LocalPosterior, key: PRNGKeyArray, steps: int, levels: int, batch_size: int | None
) -> Randomness:
    """The randomness of `steps` steps ε, `levels` for each."""
    noise_key, batch_key = jax.random.split(key)
    noise = standard_normal(noise_key, (steps, levels, posterior.d), posterior.w_star.dtype)
    if batch_size is None:
        return Randomness(noise, None)
    return Randomness(noise, jax.random.randint(batch_key, (steps, levels, batch_size), 0, posterior.rows))


def langevin_point(
    w: Float[Array, " d"], step_size: Float[Array, ""], scale: Float[Array, " d"], noise: Float[Array, " d"]
) -> Float[Array, " d"]:
    """The point w + ½√(εM)·ξ, where the gradient is taken and tK recorded.

    The chain of these points is that of Leimkuhler and Matthews 2013, "Rational construction of stochastic numerical
    methods for molecular sampling": one gradient a step, exact on quadratics at any stable step, else O(ε²).
    """
    return w + 0.5 * jnp.sqrt(step_size * scale) * noise


def langevin_move(
    w: Float[Array, " d"],
    gradient: Float[Array, " d"],
    step_size: Float[Array, ""],
    scale: Float[Array, " d"],
    noise: Float[Array, " d"],
) -> Float[Array, " d"]:
    """One step: w − (ε/2)·M·∇U + √(εM)·ξ."""
    return w - 0.5 * step_size * scale * gradient + jnp.sqrt(step_size * scale) * noise


def single_draw(
    posterior: LocalPosterior,
    parameters: StepParameters,
    w: Float[Array, " d"],
    key: PRNGKeyArray,
    steps: int,
) -> tuple[Float[Array, " d"], Measured]:
    """`steps` steps of one level, for warm-up; measured as in `coupled_draw`."""

    def one(
        anchor: Anchor | None, w: Float[Array, " d"], drawn: Randomness
    ) -> tuple[Float[Array, " d"], Float[Array, " d"], Measured | None]:
        noise, rows = drawn.of_level(0)
        y = langevin_point(w, parameters.step_size, parameters.scale, noise)
        gradient, seen = _gradient(posterior, anchor, y, rows)
        return langevin_move(w, gradient, parameters.step_size, parameters.scale, noise), y, seen

    w, last, seen = _steps(posterior, one, lambda w: w, w, w, key, steps, 1, parameters.batches)
    return w, _summary(posterior, last, seen)


def coupled_draw(
    posterior: LocalPosterior,
    parameters: StepParameters,
    state: LangevinState,
    key: PRNGKeyArray,
    steps: int,
) -> tuple[LangevinState, Measured, Measured]:
    """`steps` steps ε of one level beside 2·`steps` steps ε/2 of the other, their noise coupled by ξ = (ξ₁+ξ₂)/√2.

    With the full batch the measurements are means over the steps; with mini-batches, where tK needs data that the
    steps did not read, they are taken once, at the last point of each level.

    Returns:
        The new state, what the level ε and what the level ε/2 showed.
    """
    half = 0.5 * parameters.step_size

    def one(
        anchor: Anchor | None, state: LangevinState, drawn: Randomness
    ) -> tuple[LangevinState, LangevinState, tuple[Measured | None, Measured | None]]:
        (first, rows), (second, later_rows) = drawn.of_level(0), drawn.of_level(1)
        noise = (first + second) / math.sqrt(2.0)
        y = langevin_point(state.w, parameters.step_size, parameters.scale, noise)
        y_first = langevin_point(state.w_half, half, parameters.scale, first)
        # Both levels at once: half as many small kernels as one after the other.
        gradients, seen = jax.vmap(lambda point: _gradient(posterior, anchor, point, rows))(jnp.stack([y, y_first]))
        w = langevin_move(state.w, gradients[0], parameters.step_size, parameters.scale, noise)
        middle = langevin_move(state.w_half, gradients[1], half, parameters.scale, first)
        y_second = langevin_point(middle, half, parameters.scale, second)
        gradient, seen_second = _gradient(posterior, anchor, y_second, later_rows)
        w_half = langevin_move(middle, gradient, half, parameters.scale, second)
        seen_whole = jax.tree.map(lambda both: both[0], seen)
        seen_half = jax.tree.map(lambda both, later: 0.5 * (both[1] + later), seen, seen_second)
        return LangevinState(w, w_half), LangevinState(y, y_second), (seen_whole, seen_half)

    state, last, (seen, seen_half) = _steps(
        posterior, one, lambda state: state.w_half, state, state, key, steps, 2, parameters.batches
    )
    return state, _summary(posterior, last.w, seen), _summary(posterior, last.w_half, seen_half)


def moving_draw(
    posterior: LocalPosterior,
    parameters: StepParameters,
    rule: MovingRule,
    state: MovingState,
    key: PRNGKeyArray,
    steps: int,
) -> tuple[MovingState, Measured]:
    """`steps` steps w − (ε/2)·M·g + √(εM)·ξ, M from the running mean square of the gradients, not `parameters.scale`.

    With rmsprop g is ∇U(w), with adam its running mean. As in the first source below M averages squares of the mean
    gradient per datum, here ∇U/t, so that its floor `epsilon` means the same for every n and β.

    Sources: Li, Chen, Carlson and Carin 2016, "Preconditioned stochastic gradient Langevin dynamics", algorithm 1,
    without its Γ term; Kingma and Ba 2015, "Adam", algorithm 1, for momentum and its correction.
    """

    def one(
        anchor: Anchor | None, state: MovingState, drawn: Randomness
    ) -> tuple[MovingState, Float[Array, " d"], Measured | None]:
        noise, rows = drawn.of_level(0)
        gradient, seen = _gradient(posterior, anchor, state.w, rows)
        moved = MovingState(
            w=state.w,
            second_moment=rule.beta2 * state.second_moment + (1 - rule.beta2) * (gradient / posterior.nbeta) ** 2,
            momentum=rule.beta1 * state.momentum + (1 - rule.beta1) * gradient,
            count=state.count + 1,
        )
        drift = moved.momentum / (1 - rule.beta1**moved.count) if rule.kind == "adam" else gradient
        w = langevin_move(state.w, drift, parameters.step_size, moving_scale(rule, moved), noise)
        return eqx.tree_at(lambda s: s.w, moved, w), state.w, seen

    state, last, seen = _steps(posterior, one, lambda state: state.w, state, state.w, key, steps, 1, parameters.batches)
    return state, _summary(posterior, last, seen)


def moving_scale(rule: MovingRule, state: MovingState) -> Float[Array, " d"]:
    """M = 1/(epsilon + √V); adam corrects V for its start at zero (at least one step taken), rmsprop does not."""
    correction = 1 - rule.beta2 ** jnp.maximum(state.count, 1) if rule.kind == "adam" else 1.0
    return 1 / (rule.epsilon + jnp.sqrt(state.second_moment / correction))


def _steps(
    posterior: LocalPosterior,
    one: Callable[[Anchor | None, Any, Randomness], tuple[Any, Any, Any]],
    position: Callable[[Any], Float[Array, " d"]],
    state: Any,
    last: Any,
    key: PRNGKeyArray,
    steps: int,
    levels: int,
    batches: Batches,
) -> tuple[Any, Any, Any]:
    """`steps` times `one`, in stretches with an anchor and randomness of their own.

    `one` makes of an anchor, a state and its randomness the next state, the points where it took gradients (`last` has
    their shape) and what they showed. Anchors are renewed at `position`; w* and no anchor at all serve throughout.

    Returns:
        The last state, the last points, and what all showed, with a leading axis of steps.
    """
    renewed = batches.size is not None and batches.control_variate == "anchor"
    fitting = max(1, NOISE_IN_CACHE // (levels * posterior.d))
    cached = max(k for k in range(1, steps + 1) if steps % k == 0 and k <= fitting)
    stretch = batches.anchor_every if renewed else cached
    at_rest = None if batches.control_variate == "none" else posterior.anchor_at_w_star

    def step(anchor: Anchor | None, carried: tuple[Any, Any], drawn: Randomness) -> tuple[tuple[Any, Any], Any]:
        state, points, seen = one(anchor, carried[0], drawn)
        return (state, points), seen

    def several(carried: tuple[Any, Any], stretch_key: PRNGKeyArray) -> tuple[tuple[Any, Any], Any]:
        anchor = posterior.anchor(position(carried[0])) if renewed else at_rest
        drawn = randomness(posterior, stretch_key, stretch, levels, batches.size)
        return jax.lax.scan(partial(step, anchor), carried, drawn)

    (state, last), shown = jax.lax.scan(several, (state, last), jax.random.split(key, steps // stretch))
    return state, last, jax.tree.map(lambda values: values.reshape(steps, *values.shape[2:]), shown)


def _gradient(
    posterior: LocalPosterior, anchor: Anchor | None, w: Float[Array, " d"], indices: Int[Array, " batch"] | None
) -> tuple[Float[Array, " d"], Measured | None]:
    if indices is None:
        return measure(posterior, w)
    if anchor is None:
        return posterior.mini_batch_gradient(w, indices), None
    return posterior.control_variate_gradient(w, indices, anchor), None


def _summary(posterior: LocalPosterior, last: Float[Array, " d"], seen: Measured | None) -> Measured:
    if seen is None:
        return measure(posterior, last)[1]
    return jax.tree.map(jnp.mean, seen)
