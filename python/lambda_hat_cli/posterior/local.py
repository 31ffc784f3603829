"""The local posterior of a loaded target: potential, tK, gradients, minibatches, Hessian-vector products.

p(w) ∝ exp(−U(w)) with U(w) = tK(w) + (γ/2)‖w−w*‖², tK(w) = (t/rows)·Σ_i [ℓ_i(w) − ℓ_i(w*)], t = nβ, so that U(w*) = 0
(Watanabe 2013, "A widely applicable Bayesian information criterion"; Lau et al. 2023, "The local learning
coefficient").
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from lambda_hat_cli.errors import UserError
from lambda_hat_cli.posterior.chunks import losses_and_gradient, losses_of
from lambda_hat_cli.targets.load import LoadedTarget


def compensated_sum(terms: Float[Array, " m"]) -> Float[Array, ""]:
    """Sum by a tree of error-free additions; the error is about one rounding of the result.

    The rounding error of each addition is recovered exactly (Knuth's two-sum) and added back at the end (Ogita, Rump
    and Oishi 2005, "Accurate sum and dot product"). The barriers keep a compiler from cancelling the recovery.
    """
    total, error = terms, jnp.zeros_like(terms)
    while total.shape[0] > 1:
        if total.shape[0] % 2:
            total, error = jnp.pad(total, (0, 1)), jnp.pad(error, (0, 1))
        half = total.shape[0] // 2
        left, right = total[:half], total[half:]
        total = lax.optimization_barrier(left + right)
        virtual_right = lax.optimization_barrier(total - left)
        rounding = (left - (total - virtual_right)) + (right - virtual_right)
        error = error[:half] + error[half:] + rounding
    return total[0] + error[0]


class Anchor(NamedTuple):
    """A point v where the full gradient t·∇L_n(v) is known, in nats."""

    point: Float[Array, " d"]
    gradient: Float[Array, " d"]


class LocalPosterior(eqx.Module):
    """The local posterior at w*; every array is a leaf, so that it travels into jitted functions as an argument.

    Attributes:
        target: the loaded target, parameters and data in the lane's dtype.
        loss_at_w_star: ℓ_i(w*), nats, one for each row of the target's full_data, by the same function as ℓ_i(w).
        gradient_at_w_star: t·∇L_n(w*), nats.
        nbeta: t = nβ. localization: γ. Scalars in the lane's dtype.
    """

    target: LoadedTarget
    loss_at_w_star: Float[Array, " full_rows"]
    gradient_at_w_star: Float[Array, " d"]
    nbeta: Float[Array, ""]
    localization: Float[Array, ""]

    @property
    def w_star(self) -> Float[Array, " d"]:
        """The parameter studied."""
        return self.target.w_star

    @property
    def n(self) -> int:
        """Data points; sets t = nβ."""
        return self.target.n

    @property
    def rows(self) -> int:
        """Rows of per-datum losses: n, or 1 for a model that is its own loss."""
        return self.target.rows

    @property
    def work(self) -> int:
        """Multiply-adds of one gradient, up to a factor: rows summed over times parameters."""
        return self.loss_at_w_star.shape[0] * self.d

    @property
    def d(self) -> int:
        """Parameters."""
        return self.target.d

    def llc(self, w: Float[Array, " d"]) -> Float[Array, ""]:
        """tK(w), nats."""
        return self._llc_of_losses(losses_of(self.target, w))

    def potential(self, w: Float[Array, " d"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """(U(w), tK(w)), nats; U(w*) = 0."""
        llc = self.llc(w)
        return llc + self._localizer(w), llc

    def value_and_grad(self, w: Float[Array, " d"]) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, " d"]]:
        """(U(w), tK(w), ∇U(w)) from one gradient evaluation.

        The gradient goes through the plain sum of losses, the value is the compensated sum of their differences.
        """
        losses, gradient = losses_and_gradient(self.target, w)
        llc = self._llc_of_losses(losses)
        return llc + self._localizer(w), llc, self.nbeta / self.rows * gradient + self.localization * (w - self.w_star)

    def gradient(self, w: Float[Array, " d"]) -> Float[Array, " d"]:
        """∇U(w)."""
        return self.value_and_grad(w)[2]

    @property
    def anchor_at_w_star(self) -> Anchor:
        """w* and its gradient, which cost nothing more."""
        return Anchor(self.w_star, self.gradient_at_w_star)

    def anchor(self, w: Float[Array, " d"]) -> Anchor:
        """w as the anchor of mini-batches near it; costs one full gradient."""
        return Anchor(w, self.gradient(w) - self.localization * (w - self.w_star))

    def mini_batch_gradient(self, w: Float[Array, " d"], indices: Int[Array, " batch"]) -> Float[Array, " d"]:
        """∇U(w) as t·∇L_B(w) + γ(w−w*); batch/rows of a full gradient."""
        return self._batch_gradient(w, indices) + self.localization * (w - self.w_star)

    def control_variate_gradient(
        self, w: Float[Array, " d"], indices: Int[Array, " batch"], anchor: Anchor
    ) -> Float[Array, " d"]:
        """∇U(w) as t·(∇L_B(w) − ∇L_B(v) + ∇L_n(v)) + γ(w−w*), v the anchor; twice batch/rows of a full gradient.

        Sources: Baker et al. 2019, "Control variates for stochastic gradient MCMC", eq. 6 (v = w*); Dubey et al. 2016,
        "Variance reduction in stochastic gradient Langevin dynamics", algorithm 1 (v a recent point of the chain).
        """
        difference = self._batch_gradient(w, indices) - self._batch_gradient(anchor.point, indices)
        return difference + anchor.gradient + self.localization * (w - self.w_star)

    def hessian_vector(self, w: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, " d"]:
        """∇²U(w)·v; costs two gradients."""
        return jax.jvp(self.gradient, (w,), (v,))[1]

    def virial(self, w: Float[Array, " d"], gradient: Float[Array, " d"]) -> Float[Array, ""]:
        """(w−w*)·∇U(w)/d, whose expectation under the posterior is 1."""
        return jnp.vdot(w - self.w_star, gradient) / self.d

    def _localizer(self, w: Float[Array, " d"]) -> Float[Array, ""]:
        return 0.5 * self.localization * jnp.sum((w - self.w_star) ** 2)

    def _llc_of_losses(self, losses: Float[Array, " full_rows"]) -> Float[Array, ""]:
        # The barrier has ℓ_i(w) rounded as ℓ_i(w*) was, instead of fusing the difference into its last product.
        differences = lax.optimization_barrier(losses) - self.loss_at_w_star
        return compensated_sum(differences) * (self.nbeta / self.rows)

    def _batch_gradient(self, w: Float[Array, " d"], indices: Int[Array, " batch"]) -> Float[Array, " d"]:
        batch = jax.tree.map(lambda array: array[indices], self.target.data)
        return jax.grad(lambda point: self.nbeta * jnp.mean(self.target.losses(point, batch)))(w)


def resolve_inverse_temperature(inverse_temperature: float | str, n: int) -> float:
    """β as a number; `auto` is 1/log n (Watanabe 2013).

    Raises:
        UserError: for `auto` with a single data point.
    """
    if not isinstance(inverse_temperature, str):
        return inverse_temperature
    if n < 2:
        raise UserError(f"inverse_temperature auto is 1/log n, and there is {n} row of data; give it as a number")
    return 1.0 / math.log(n)


_at_w_star = jax.jit(losses_and_gradient)


def local_posterior(target: LoadedTarget, inverse_temperature: float, localization: float) -> LocalPosterior:
    """The local posterior of `target` with β and γ, in the dtype of target.w_star.

    Costs one full-data gradient, at w*.
    """
    dtype = target.w_star.dtype
    nbeta = jnp.asarray(target.n * inverse_temperature, dtype)
    losses, gradient = _at_w_star(target, target.w_star)
    return LocalPosterior(
        target=target,
        loss_at_w_star=losses,
        gradient_at_w_star=nbeta / target.rows * gradient,
        nbeta=nbeta,
        localization=jnp.asarray(localization, dtype),
    )


evaluate = jax.jit(LocalPosterior.value_and_grad)
"""`evaluate(posterior, w)`: value_and_grad compiled once for every caller outside a compiled block."""
