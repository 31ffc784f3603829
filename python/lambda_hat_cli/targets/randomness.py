"""Independent random streams: a key for each purpose from the row's seed and the sections that the purpose depends on."""

import hashlib
import json

import jax
import numpy as np
from jaxtyping import Array, Float32, PRNGKeyArray


def stream(seed: int, purpose: str, *sections: object) -> PRNGKeyArray:
    """The key of a purpose: equal seed, purpose and sections give an equal key, anything else an unrelated one.

    Args:
        seed: 63-bit integer; both 32-bit words enter.
        purpose: name of the stream.
        sections: canonical content (of JSON types) that the stream depends on.
    """
    digest = hashlib.sha256(json.dumps([purpose, *sections], sort_keys=True, separators=(",", ":")).encode()).digest()
    words = [seed & 0xFFFFFFFF, seed >> 32, *np.frombuffer(digest, "<u4")]
    key = jax.random.key(0, impl="threefry2x32")
    for word in words:
        key = jax.random.fold_in(key, np.uint32(word))
    return key


def normal(key: PRNGKeyArray, shape: tuple[int, ...]) -> Float32[np.ndarray, "..."]:
    """Standard normal draws, the same whether or not the process has float64."""
    return np.asarray(jax.random.normal(key, shape, np.float32))


def orthogonal(key: PRNGKeyArray, size: int) -> np.ndarray:
    """A uniformly distributed orthogonal matrix, float64, by the QR decomposition of a Gaussian (Mezzadri 2007)."""
    q, r = np.linalg.qr(normal(key, (size, size)).astype(np.float64))
    signs: Array | np.ndarray = np.where(np.diag(r) < 0, -1.0, 1.0)
    return q * signs


def frame(key: PRNGKeyArray, size: int, columns: int) -> np.ndarray:
    """The first columns of a uniformly distributed orthogonal matrix, float64."""
    return orthogonal(key, size)[:, :columns]
