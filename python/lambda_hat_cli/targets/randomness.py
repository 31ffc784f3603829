"""Independent random streams: a key for each purpose, from the row's seed and what the purpose depends on."""

import math

import jax
import numpy as np
from jaxtyping import Float32, PRNGKeyArray

from lambda_hat_cli.experiment.identity import digest


def stream(seed: int, purpose: str, *sections: object) -> PRNGKeyArray:
    """The key of a purpose: equal seed, purpose and sections give an equal key, anything else an unrelated one.

    Args:
        seed: 63-bit integer; both 32-bit words enter.
        purpose: name of the stream.
        sections: canonical content (of JSON types) that the stream depends on.
    """
    words_of_content = np.frombuffer(bytes.fromhex(digest([purpose, *sections])), "<u4")
    words = [seed & 0xFFFFFFFF, seed >> 32, *words_of_content]
    key = jax.random.key(0, impl="threefry2x32")
    for word in words:
        key = jax.random.fold_in(key, np.uint32(word))
    return key


def normal(key: PRNGKeyArray, shape: tuple[int, ...]) -> Float32[np.ndarray, "..."]:
    """Standard normal draws, the same whether or not the process has float64."""
    size = math.prod(shape)
    # Each length is compiled anew, at more cost than the draws; a few lengths serve all small arrays.
    drawn = jax.random.normal(key, (max(256, 1 << (size - 1).bit_length()),), np.float32)
    return np.asarray(drawn)[:size].reshape(shape)


def frame(key: PRNGKeyArray, size: int, columns: int) -> np.ndarray:
    """Orthonormal columns, (size, columns) float64, uniformly distributed: the first of an orthogonal matrix.

    By the QR decomposition of a Gaussian with the signs of Mezzadri (2007), "How to generate random matrices from the
    classical compact groups", section 5.
    """
    q, r = np.linalg.qr(normal(key, (size, columns)).astype(np.float64))
    return q * np.where(np.diag(r) < 0, -1.0, 1.0)
