"""Unadjusted microcanonical Langevin dynamics: leaves w* by HMC, fills flat directions, records at two steps."""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from lambda_hat_cli.experiment.schema import HmcSettings, MclmcSettings
from lambda_hat_cli.posterior.local import LocalPosterior
from lambda_hat_cli.samplers.base import AbstractMarkovSampler, GradientLedger, SamplerDiverged, Say, Stats, WarmedUp
from lambda_hat_cli.samplers.driver import BLOCK_DRAWS, advance, chain_keys, host_stats, split_stats
from lambda_hat_cli.samplers.hmc import HmcSampler, adapt, start_states, warmup_stages

# Filling tolerates a coarser energy error than recording: its step is longer and its draws are not used.
FILL_ENERGY_ERROR = 5e-4
FILL_BLOCK_STEPS = 500
LEAST_FILL_BLOCKS = 3
MOST_FILL_BLOCKS = 24
TUNE_BLOCKS = 2
EXTRAPOLATION = 1 / 3
"""Leapfrog errs by O(ε²): K(0) = K(ε/2) + (K(ε/2) − K(ε))/3."""
MOST_RESTORES = 12
# Filling and tuning may take this share of what the budget holds when they begin.
WARMUP_SHARE = 0.4


class Point(NamedTuple):
    """One level of one chain: w, the unit direction of motion, ∇U(w), U(w) and tK(w)."""

    w: Float[Array, " d"]
    direction: Float[Array, " d"]
    potential: Float[Array, ""]
    llc: Float[Array, ""]
    gradient: Float[Array, " d"]


class MclmcState(NamedTuple):
    """One chain: the level of steps ε, and the level of steps ε/2 or None while flat directions fill."""

    whole: Point
    half: Point | None


class Seen(NamedTuple):
    """What one leapfrog step showed: tK and the virial where it ended, and its energy error."""

    llc: Float[Array, ""]
    virial: Float[Array, ""]
    error: Float[Array, ""]


class MclmcParameters(NamedTuple):
    """What the chains share: the step ε and the decoherence length L, both distances in parameter space."""

    step_size: Float[Array, ""]
    length: Float[Array, ""]


class MclmcSampler(AbstractMarkovSampler):
    """MCLMC (Robnik et al. 2023, "Microcanonical Hamiltonian Monte Carlo") by leapfrog, one gradient a step.

    No Metropolis test removes the error of the step, and the energy error does not bound it where λ̂ is far below d/2.
    It is measured: beside a level of steps ε runs one of steps ε/2 with the same noise, ξ = (ξ₁+ξ₂)/√2. A draw is
    `draw_steps` steps ε. With K₀ and K₁ the levels' means of tK over the draw and D = K₁ − K₀:
        llc_half_step  K₁
        llc            K₁ + D/3, Richardson's extrapolation of an O(ε²) error
    `virial`, `energy` and `distance_squared` are the ε/2 level's. The mean of llc is that of the chain, its variance
    is smaller than Var[tK]. `energy` is U at the draw's end: the Hamiltonian itself is constant. `energy_error` is the
    mean squared energy error of a step ε over d, which the step is tuned by.

    Attributes:
        coupled: whether the ε/2 level runs; while flat directions fill it does not, and llc is K₀.
    """

    settings: MclmcSettings = eqx.field(static=True)
    coupled: bool = eqx.field(static=True, default=True)

    def warm_up(
        self, posterior: LocalPosterior, key: PRNGKeyArray, chains: int, ledger: GradientLedger, say: Say
    ) -> WarmedUp:
        """Leave w* by short HMC, fill flat directions with a long decoherence length, tune the step, freeze.

        A step tuned just after w* is too long once the flat directions are filled, so it is tuned all along.

        Raises:
            SamplerDiverged: for d = 1, where there is no direction to turn to, and when every step tried is unstable.
            BudgetUsedUp: when `ledger` has nothing left.
        """
        if posterior.d < 2:
            raise SamplerDiverged("MCLMC needs at least two parameters; use hmc")
        hmc = HmcSampler(HmcSettings(kind="hmc", precision=self.settings.precision, warmup=self.settings.warmup))
        states, hmc_step, _ = adapt(
            hmc,
            posterior,
            start_states(posterior, chains, ledger),
            key,
            warmup_stages(self.settings.warmup, settle=0.0),
            ledger,
        )
        if not hmc_step > 0:
            raise SamplerDiverged(f"HMC found no stable step to leave w* with, the last was {hmc_step:.3g}")
        filling = _Filling(
            self, posterior, key, chains, ledger, _turned(states, key), 0.5 * math.sqrt(posterior.d) * hmc_step
        )
        filled = filling.fill()
        energy_error = filling.tune()
        filling.couple()
        say(
            f"warm-up done: step size {filling.step_size:.3g}, energy error {energy_error:.2g}, "
            f"{'filled' if filled else 'flat directions not filled'}, {ledger.total:,.0f} gradients so far"
        )
        recorded, rest = split_stats(filling.joined(), posterior)
        return WarmedUp(
            states=filling.states,
            parameters=filling.parameters(self.settings.decoherence_steps * filling.step_size),
            tuned={
                "step_size": filling.step_size,
                "decoherence_length": self.settings.decoherence_steps * filling.step_size,
                "warmup_energy_error": energy_error,
                "warmup_hmc_step_size": hmc_step,
                "flat_directions_filled": float(filled),
                "draw_average_steps": float(self.settings.draw_steps),
                "extrapolation": EXTRAPOLATION,
            },
            biased=None,
            posterior=recorded,
            stats=rest,
        )

    def step(
        self, posterior: LocalPosterior, parameters: MclmcParameters, state: MclmcState, key: PRNGKeyArray
    ) -> tuple[MclmcState, Stats]:
        """`draw_steps` leapfrog steps of each level, each followed by a partial refreshment of the direction."""
        steps, dtype = self.settings.draw_steps, state.whole.w.dtype
        size, length = parameters.step_size, parameters.length
        noise = jax.random.normal(key, (steps, 2, posterior.d), dtype)

        def one(state: MclmcState, noise: Float[Array, "2 d"]) -> tuple[MclmcState, tuple[Seen, Seen | None]]:
            whole, seen = leapfrog(posterior, state.whole, size, length, (noise[0] + noise[1]) / math.sqrt(2.0))
            if state.half is None:
                return MclmcState(whole, None), (seen, None)
            half, first = leapfrog(posterior, state.half, 0.5 * size, length, noise[0])
            half, second = leapfrog(posterior, half, 0.5 * size, length, noise[1])
            return MclmcState(whole, half), (seen, jax.tree.map(lambda a, b: 0.5 * (a + b), first, second))

        state, (seen, seen_half) = lax.scan(one, state, noise)
        llc, virial, finest = jnp.mean(seen.llc), jnp.mean(seen.virial), state.whole
        measured: Stats = {}
        if state.half is not None and seen_half is not None:
            half_llc, virial, finest = jnp.mean(seen_half.llc), jnp.mean(seen_half.virial), state.half
            measured["llc_half_step"] = half_llc
            llc = half_llc + EXTRAPOLATION * (half_llc - llc)
        away = finest.w - posterior.w_star
        gradients = jnp.asarray(float(steps * (3 if self.coupled else 1)), dtype)
        return state, measured | {
            "llc": llc,
            "energy": finest.potential,
            "energy_error": jnp.mean(seen.error**2) / posterior.d,
            "step_size": size,
            "diverging": ~jnp.all(jnp.isfinite(seen.error)),
            "gradients": gradients,
            "evaluations": gradients,
            "virial": virial,
            "distance_squared": jnp.vdot(away, away),
        }

    def position(self, state: MclmcState) -> Float[Array, " d"]:
        """The chain's w, of the finest level."""
        return (state.half or state.whole).w


def leapfrog(
    posterior: LocalPosterior,
    point: Point,
    size: Float[Array, ""],
    length: Float[Array, ""],
    noise: Float[Array, " d"],
) -> tuple[Point, Seen]:
    """One step of size `size`, then a partial refreshment of the direction that forgets it over the length `length`."""
    direction, first_kick = _kick(point.direction, point.gradient, 0.5 * size)
    w = point.w + size * direction
    potential, llc, gradient = posterior.value_and_grad(w)
    direction, second_kick = _kick(direction, gradient, 0.5 * size)
    error = potential - point.potential + first_kick + second_kick
    turn = jnp.sqrt(jnp.expm1(2.0 * size / length) / posterior.d)
    moved = Point(w, _unit(direction + turn * noise), potential, llc, gradient)
    return moved, Seen(llc, posterior.virial(w, gradient), error)


def _unit(vector: Float[Array, " d"]) -> Float[Array, " d"]:
    return vector / jnp.linalg.norm(vector)


def _kick(
    direction: Float[Array, " d"], gradient: Float[Array, " d"], time: Float[Array, ""]
) -> tuple[Float[Array, " d"], Float[Array, ""]]:
    """Turn the unit direction along −∇U for `time`: the new direction and the kinetic energy gained.

    Source: Robnik and Seljak 2023, "Fluctuation without dissipation: microcanonical Langevin Monte Carlo", section 3;
    written with exp(−2δ) instead of cosh δ so that large gradients do not overflow.
    """
    d = direction.shape[0]
    norm = jnp.linalg.norm(gradient)
    downhill = -gradient / jnp.where(norm > 0, norm, 1.0)
    delta = time * norm / (d - 1)
    along = jnp.vdot(direction, downhill)
    decay = jnp.exp(-delta)
    turned = downhill * (1.0 - decay) * (1.0 + decay + along * (1.0 - decay)) + 2.0 * decay * direction
    gained = (d - 1) * (delta - np.log(2.0) + jnp.log(1.0 + along + (1.0 - along) * decay**2))
    return _unit(turned), gained


def _turned(states: NamedTuple, key: PRNGKeyArray) -> MclmcState:
    """HMC's states with a random direction for each chain."""
    w, potential, llc, gradient = states
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    direction = random.standard_normal(w.shape)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return MclmcState(Point(w, jnp.asarray(direction, w.dtype), potential, llc, gradient), None)


class _Filling:
    """The part of warm-up that moves by MCLMC itself, in blocks of at least FILL_BLOCK_STEPS steps of every chain.

    Attributes:
        states, step_size: the chains and the step as they are now.
        blocks: the statistics of the blocks that were kept.
    """

    def __init__(
        self,
        sampler: MclmcSampler,
        posterior: LocalPosterior,
        key: PRNGKeyArray,
        chains: int,
        ledger: GradientLedger,
        states: MclmcState,
        step_size: float,
    ):
        self.sampler = MclmcSampler(sampler.settings, coupled=False)
        self.posterior, self.ledger = posterior, ledger
        self.keys = chain_keys(key, chains, "warmup")
        self.draw = sampler.settings.warmup
        self.states, self.step_size = states, step_size
        self.blocks: list[dict[str, np.ndarray]] = []
        self.allowance = ledger.total + WARMUP_SHARE * ledger.left
        self.restores = 0

    def parameters(self, length: float) -> MclmcParameters:
        """The step as it is and the decoherence length `length`, as arrays of the lane's dtype."""
        dtype = self.posterior.w_star.dtype
        return MclmcParameters(jnp.asarray(self.step_size, dtype), jnp.asarray(length, dtype))

    def joined(self) -> dict[str, np.ndarray]:
        """The statistics of every kept block, (chains, draws)."""
        return {name: np.concatenate([block[name] for block in self.blocks], axis=1) for name in self.blocks[0]}

    def fill(self) -> bool:
        """Move with L = max(√mean‖w−w*‖², decoherence_steps·ε) until ‖w−w*‖² stands still; whether it does."""
        target = max(FILL_ENERGY_ERROR, self.sampler.settings.energy_error)
        away = np.asarray(self.states.whole.w - self.posterior.w_star, np.float64)
        width = math.sqrt(float(np.mean(np.sum(away**2, axis=1))))
        for count in range(1, MOST_FILL_BLOCKS + 1):
            self._tuned_block(target, width)
            width = math.sqrt(float(np.mean(self.blocks[-1]["distance_squared"])))
            if count >= LEAST_FILL_BLOCKS and stands_still(self.joined()["distance_squared"]):
                return True
            if self.ledger.total >= self.allowance:
                return False
        return False

    def tune(self) -> float:
        """Tune the step to the recording's energy error at its decoherence length; the last block's energy error."""
        target = self.sampler.settings.energy_error
        self.step_size *= (target / max(FILL_ENERGY_ERROR, target)) ** (1.0 / 6.0)
        for _ in range(TUNE_BLOCKS):
            error = self._tuned_block(target, 0.0)
        return error

    def couple(self) -> None:
        """Start the ε/2 level where the chains are and let it relax for a block."""
        self.sampler = MclmcSampler(self.sampler.settings)
        self.states = MclmcState(self.states.whole, self.states.whole)
        self.states, stats = self._block(self.parameters(self.sampler.settings.decoherence_steps * self.step_size))
        if not np.isfinite(stats["llc"]).all():
            raise SamplerDiverged(f"MCLMC became unstable at its tuned step {self.step_size:.3g}")
        self.blocks.append({name: values for name, values in stats.items() if name in self.blocks[0]})

    def _tuned_block(self, target: float, width: float) -> float:
        """One stable block, halving the step before each further try; then the step follows its energy error."""
        while True:
            length = max(width, self.sampler.settings.decoherence_steps * self.step_size)
            states, stats = self._block(self.parameters(length))
            error = float(np.mean(stats["energy_error"]))
            if np.isfinite(error) and error <= 100.0 * target + 1.0:
                break
            self.restores += 1
            if self.restores > MOST_RESTORES:
                raise SamplerDiverged(f"MCLMC found no stable step: unstable at {self.step_size:.3g} and above")
            self.step_size /= 2.0
        self.states = states
        self.blocks.append(stats)
        # The energy error's variance grows as the sixth power of the step.
        self.step_size *= float(np.clip((target / max(error, 1e-30)) ** (1.0 / 6.0), 0.6, 1.6))
        return error

    def _block(self, parameters: MclmcParameters) -> tuple[MclmcState, dict[str, np.ndarray]]:
        states, parts = self.states, []
        for _ in range(math.ceil(FILL_BLOCK_STEPS / (BLOCK_DRAWS * self.sampler.settings.draw_steps))):
            self.ledger.require("warm-up")
            states, stats, _ = advance(
                self.sampler, self.posterior, parameters, states, self.keys, np.asarray(self.draw), BLOCK_DRAWS, False
            )
            self.draw += BLOCK_DRAWS
            parts.append(host_stats(stats))
            self.ledger.add("warmup", int(parts[-1]["evaluations"].sum()))
        return states, {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}


def stands_still(distance_squared: Float[np.ndarray, "chains draws"]) -> bool:
    """Whether ‖w−w*‖² grew by less than 5 % or less than 2 standard errors from the middle to the last third."""
    third = distance_squared.shape[1] // 3
    middle = distance_squared[:, third : 2 * third].mean(axis=1)
    last = distance_squared[:, -third:].mean(axis=1)
    growth = last - middle
    error = float(np.std(growth, ddof=1)) / math.sqrt(growth.size)
    return bool(growth.mean() < 0.05 * last.mean() or growth.mean() < 2.0 * error)
