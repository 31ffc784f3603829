"""The metric of HMC's momenta: the identity, but slower along the stiffest directions, which gradients show."""

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float
from numpy.typing import DTypeLike

LEAST_SHARE = 1e-3
"""A direction that a few wild gradients made look stiffer than any is slowed no further."""
GRADIENTS_A_DIRECTION = 4
"""With fewer gradients than so many for each direction their own noise would choose the directions."""


class Metric(NamedTuple):
    """The inverse mass matrix M⁻¹ = I − U·(I − diag(shares))·Uᵀ.

    Attributes:
        directions: U, orthonormal columns. shares: what M⁻¹ has along each of them, in (0, 1].
    """

    directions: Float[np.ndarray | Array, "d rank"]
    shares: Float[np.ndarray | Array, " rank"]

    def velocity(self, momentum: Float[Array, " d"]) -> Float[Array, " d"]:
        """M⁻¹p."""
        return self._along(momentum, jnp.asarray(self.shares) - 1.0)

    def momentum(self, normal: Float[Array, " d"]) -> Float[Array, " d"]:
        """M^½ξ, which is distributed as momenta are where ξ is standard normal."""
        return self._along(normal, 1.0 / jnp.sqrt(self.shares) - 1.0)

    def _along(self, vector: Float[Array, " d"], added: Float[Array, " rank"]) -> Float[Array, " d"]:
        """(I + U·diag(added)·Uᵀ)·vector; a coarse product, as GPUs have them, would leave nothing of a small share."""
        if self.shares.shape[0] == 0:
            return vector
        multiply = partial(jnp.matmul, precision=lax.Precision.HIGHEST)
        return vector + multiply(self.directions, added * multiply(self.directions.T, vector))


def identity(d: int, rank: int, dtype: DTypeLike) -> Metric:
    """M = I in d dimensions, of the same shape as a metric of this rank, so that programs fit both."""
    return Metric(np.zeros((d, rank), dtype), np.ones(rank, dtype))


def stiffest(gradients: Float[np.ndarray, "draws d"], rank: int) -> Metric:
    """Slow the `rank` stiffest directions down, to LEAST_SHARE at most, until none is stiffer than the next one.

    At equilibrium E[∇U·∇Uᵀ] = E[∇²U], by parts: the mean Hessian's stiffest directions are the first principal ones of
    gradients ∇U at draws, and cost nothing more. Where fewer than GRADIENTS_A_DIRECTION·rank of them are finite and
    independent, as where chains stand still, the identity stays.

    Args:
        gradients: ∇U at draws of all chains.
    """
    dtype, (_, d) = gradients.dtype, gradients.shape
    seen = gradients[np.isfinite(gradients).all(axis=1)].astype(np.float64)
    if rank == 0 or rank >= d or len(seen) == 0:
        return identity(d, rank, dtype)
    # The nonzero eigenvalues of GᵀG are those of GGᵀ; the smaller of the two is taken apart.
    tall = len(seen) > d
    curvatures, vectors = np.linalg.eigh((seen.T @ seen if tall else seen @ seen.T) / len(seen))
    curvatures, vectors = curvatures[::-1], vectors[:, ::-1]
    rounding = len(curvatures) * np.finfo(np.float64).eps * curvatures[0]
    if np.count_nonzero(curvatures > rounding) < min(d, GRADIENTS_A_DIRECTION * rank):
        return identity(d, rank, dtype)
    leading = vectors[:, :rank] if tall else seen.T @ vectors[:, :rank]
    # Orthonormal also where curvatures are so far apart that their directions are known to a few digits.
    directions = np.linalg.qr(leading / np.linalg.norm(leading, axis=0))[0]
    shares = np.maximum(curvatures[rank] / curvatures[:rank], LEAST_SHARE)
    return Metric(directions.astype(dtype), shares.astype(dtype))
