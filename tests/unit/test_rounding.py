"""The rounding of tK, measured without knowing the exact value, against the exact value."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jaxtyping import Array, Float

from lambda_hat_cli.posterior.local import local_posterior
from lambda_hat_cli.samplers.base import GradientLedger
from lambda_hat_cli.samplers.rounding import SMALL, baseline_error
from oracles.exact_targets import AllRows

ENDS = 8


class Rounded(AllRows):
    """‖w‖²/2 + offset kept to float32's digits: its rounding is that of a float32 process, coherent over the rows."""

    w_star: Float[Array, " d"]
    data: dict[str, Array]
    offset: float = eqx.field(static=True)
    n: int = eqx.field(static=True, default=1000)
    rows: int = eqx.field(static=True, default=1)
    d: int = eqx.field(static=True, default=5)

    def losses(self, w: Float[Array, " d"], data: dict[str, Array]) -> Float[Array, " rows"]:
        return lax.reduce_precision(0.5 * jnp.sum(w**2) + self.offset, 8, 23)[None]


class TanhNet(AllRows):
    """One hidden layer; along a line tK is no polynomial."""

    w_star: Float[Array, " d"]
    data: dict[str, Array]
    n: int = eqx.field(static=True, default=50)
    rows: int = eqx.field(static=True, default=50)
    d: int = eqx.field(static=True, default=40)

    def losses(self, w: Float[Array, " d"], data: dict[str, Array]) -> Float[Array, " rows"]:
        return 50.0 * (jnp.tanh(data["x"] @ w[:30].reshape(3, 10)) @ w[30:] - data["y"]) ** 2


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e5, 1e6])
def test_the_error_found_is_the_error_made(offset: float) -> None:
    posterior = local_posterior(Rounded(jnp.zeros(5), {}, offset), 0.145, 1.0)
    ends = np.random.default_rng(0).normal(0.0, 0.1, (ENDS, 5))
    made = np.array([float(posterior.llc(jnp.asarray(w))) - 145.0 * 0.5 * w @ w for w in ends])
    found = baseline_error(posterior, jnp.asarray(ends), GradientLedger(1e9))
    bound = abs(made.mean()) + 2.0 * made.std() / np.sqrt(ENDS)
    assert found is not None
    assert found == pytest.approx(bound, rel=1e-3, abs=2e-5)


def test_a_smooth_network_in_float64_has_none_to_speak_of() -> None:
    random = np.random.default_rng(1)
    data = {"x": jnp.asarray(random.normal(size=(50, 3))), "y": jnp.asarray(random.normal(size=50))}
    posterior = local_posterior(TanhNet(jnp.asarray(random.normal(size=40)), data), 0.25, 1.0)
    ends = posterior.w_star + jnp.asarray(random.normal(0.0, 0.5, (ENDS, 40)))
    size = np.mean([float(posterior.llc(w)) for w in ends])
    found = baseline_error(posterior, ends, ledger := GradientLedger(1e9))
    assert found is not None
    assert found <= SMALL * abs(size)
    assert ledger.total < 8 * 200
