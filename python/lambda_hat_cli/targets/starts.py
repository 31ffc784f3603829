"""Where parameters come from: random initialisations, teachers, and the constructed minima of `at`."""

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, PRNGKeyArray

from lambda_hat_cli.experiment.schema import MlpModel, SuperpositionModel
from lambda_hat_cli.targets.models import Superposition, weight_shapes
from lambda_hat_cli.targets.randomness import frame, normal

Matrix = Float32[np.ndarray, "outputs inputs"]
Vector = Float32[np.ndarray, " outputs"]

# Keeps the variance of activations from layer to layer (He et al. 2015, eq. 10; 5/3 for tanh as in common use).
GAINS = {"tanh": 5 / 3, "relu": np.sqrt(2), "gelu": np.sqrt(2), "identity": 1.0}

# Radius of a regular polygon's corners and their bias at its minimum, to two digits; Newton's method finds the others.
POLYGONS = {5: (1.17, -0.28), 6: (1.32, -0.62), 7: (1.45, -0.97), 8: (1.55, -1.29)}
NEWTON_STEPS = 6


def random_weights(key: PRNGKeyArray, widths: tuple[int, ...], gain: float = 1.0) -> list[Matrix]:
    """Weights N(0, gain²/inputs) for every layer but the last, whose gain is 1."""
    shapes = weight_shapes(widths)
    gains = [gain] * (len(shapes) - 1) + [1.0]
    return [
        (normal(of_layer, shape) * (layer_gain / np.sqrt(shape[1]))).astype(np.float32)
        for of_layer, shape, layer_gain in zip(jax.random.split(key, len(shapes)), shapes, gains, strict=True)
    ]


def mlp_weights(key: PRNGKeyArray, spec: MlpModel, bias_scale: float) -> tuple[list[Matrix], list[Vector]]:
    """Weights with the activation's gain and biases N(0, bias_scale²)."""
    of_weights, of_biases = jax.random.split(key)
    weights = random_weights(of_weights, spec.widths, GAINS[spec.activation])
    keys = jax.random.split(of_biases, len(weights))
    biases = [
        np.float32(bias_scale) * normal(of_layer, (len(weight),))
        for of_layer, weight in zip(keys, weights, strict=True)
    ]
    return weights, biases


def teacher_frames(key: PRNGKeyArray, outputs: int, inputs: int, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """U (outputs, rank) and V (inputs, rank) with orthonormal columns, float64."""
    of_outputs, of_inputs = jax.random.split(key)
    return frame(of_outputs, outputs, rank), frame(of_inputs, inputs, rank)


def teacher_matrix(key: PRNGKeyArray, outputs: int, inputs: int, rank: int) -> Matrix:
    """U Vᵀ: a random matrix of this rank whose singular values are 1."""
    left, right = teacher_frames(key, outputs, inputs, rank)
    return (left @ right.T).astype(np.float32)


def most_singular_weights(
    of_teacher: PRNGKeyArray, of_gauge: PRNGKeyArray, widths: tuple[int, ...], rank: int
) -> list[Matrix]:
    """Layers Q_l [I_r 0; 0 0] Q_{l−1}ᵀ with orthogonal Q_l, whose product is the teacher's matrix.

    Every layer has the product's rank, the least possible, so this is the most singular point of the set of true
    parameters and carries the model's learning coefficient (Aoyagi 2024, Neural Networks 172:106132, Theorem 1).
    """
    outer, inner = teacher_frames(of_teacher, widths[-1], widths[0], rank)
    keys = jax.random.split(of_gauge, len(widths))
    between = [frame(key, width, rank) for key, width in zip(keys[1:-1], widths[1:-1], strict=True)]
    frames = [inner, *between, outer]
    layers = [(above @ below.T).astype(np.float32) for below, above in pairwise(frames)]
    check_ranks(layers, [rank] * len(layers), rank)
    return layers


def stratum_weights(
    of_teacher: PRNGKeyArray,
    of_gauge: PRNGKeyArray,
    widths: tuple[int, int, int],
    rank: int,
    ranks: tuple[int, int],
) -> list[Matrix]:
    """Two layers of these ranks with singular values 1, whose product is the teacher's matrix.

    A = Q_A V'ᵀ and B = U'Q_Bᵀ, where V' and U' hold the teacher's frames and more columns, and Q_A and Q_B are columns
    of one orthogonal matrix that have the first `rank` in common: B reads nothing else of what A writes.
    """
    inputs, hidden, outputs = widths
    first, second = ranks
    outer, inner = teacher_frames(of_teacher, outputs, inputs, rank)
    of_hidden, of_outer, of_inner = jax.random.split(of_gauge, 3)
    middle = frame(of_hidden, hidden, first + second - rank)
    read = np.hstack([middle[:, :rank], middle[:, first:]])
    layers = [
        (middle[:, :first] @ extended(of_inner, inner, first).T).astype(np.float32),
        (extended(of_outer, outer, second) @ read.T).astype(np.float32),
    ]
    check_ranks(layers, ranks, rank)
    return layers


def extended(key: PRNGKeyArray, columns: np.ndarray, count: int) -> np.ndarray:
    """Orthonormal columns, (size, count) float64, the first of which are `columns`."""
    size, given = columns.shape
    more = normal(key, (size, count - given)).astype(np.float64)
    more -= columns @ (columns.T @ more)
    return np.hstack([columns, np.linalg.qr(more)[0]])


def check_ranks(layers: list[Matrix], ranks: Sequence[int], rank: int) -> None:
    """Make sure that layers built with singular values 0 and 1 have the ranks that their exact coefficient is for.

    Raises:
        ArithmeticError: when one or their product has another rank.
    """
    product = reduce(lambda below, above: above @ below, layers)
    found = [int(np.linalg.matrix_rank(matrix, tol=0.5)) for matrix in (*layers, product)]
    if found != [*ranks, rank]:
        raise ArithmeticError(f"the constructed layers and their product have ranks {found}, not {[*ranks, rank]}")


def polygon(spec: SuperpositionModel) -> Superposition:
    """The toy model of superposition at the minimum whose corners are those of a regular polygon.

    By the symmetry of the polygon a minimum over its radius and its corners' common bias is critical in all parameters
    (Chen et al. 2023, arXiv:2310.06301). The positive bias of an input without a corner is 1/(2c), where b² over the
    other inputs and (ζ − b)² over its own sum to the least.
    """
    angles = 2.0 * np.pi * np.arange(spec.polygon) / spec.polygon
    corners = np.zeros((2, spec.inputs), np.float32)
    corners[:, : spec.polygon] = np.cos(angles), np.sin(angles)
    others = np.zeros(spec.inputs, np.float32)
    others[spec.polygon :] = 1.0 / (2.0 * spec.inputs) if spec.positive_bias else spec.dead_bias
    place = jnp.asarray(POLYGONS[spec.polygon], jnp.float32)
    for _ in range(NEWTON_STEPS):
        place = newton_step(place, jnp.asarray(corners), jnp.asarray(others))
    return with_polygon(place, jnp.asarray(corners), jnp.asarray(others))


def with_polygon(
    place: Float[Array, "2"], corners: Float[Array, "2 inputs"], others: Float[Array, " inputs"]
) -> Superposition:
    """The model whose polygon has this radius and bias; `others` are the biases of inputs without a corner."""
    radius, bias = place
    return Superposition(radius * corners, jnp.where(jnp.any(corners != 0, axis=0), bias, others))


@jax.jit
def newton_step(
    place: Float[Array, "2"], corners: Float[Array, "2 inputs"], others: Float[Array, " inputs"]
) -> Float[Array, "2"]:
    """A step towards the polygon's radius and bias at the minimum."""

    def loss(place: Float[Array, "2"]) -> Float[Array, ""]:
        return with_polygon(place, corners, others).value()

    return place - jnp.linalg.solve(jax.hessian(loss)(place), jax.grad(loss)(place))
