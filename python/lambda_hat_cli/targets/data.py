"""Data sets: inputs of five shapes, a random teacher's labels under five kinds of noise, and the bundled digits."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, PRNGKeyArray

from lambda_hat_cli.experiment.schema import (
    AnisotropicInputs,
    DeepLinearModel,
    DigitsData,
    FileData,
    GaussianInputs,
    GaussianNoise,
    HeavyTailedInputs,
    HeteroscedasticNoise,
    Inputs,
    ManifoldInputs,
    MixtureInputs,
    MlpModel,
    NoData,
    Noise,
    NoNoise,
    OutlierNoise,
    StudentTNoise,
    TargetSpec,
    TeacherData,
)
from lambda_hat_cli.targets.models import DeepLinear, Mlp, deep_linear, mlp
from lambda_hat_cli.targets.randomness import normal, stream
from lambda_hat_cli.targets.starts import mlp_weights, teacher_matrix

Rows = Float32[np.ndarray, "rows features"]


class DataKeys(NamedTuple):
    """One key for each part of a teacher data set."""

    inputs: PRNGKeyArray
    teacher: PRNGKeyArray
    noise: PRNGKeyArray


def data_keys(seed: int, data: TeacherData, inputs: int, outputs: int) -> DataKeys:
    """The keys of a teacher data set: targets with the same data section and widths share them."""
    section = data.model_dump(mode="json")
    return DataKeys(*jax.random.split(stream(seed, "data", section, inputs, outputs), 3))


def make_data(spec: TargetSpec, seed: int) -> dict[str, np.ndarray]:
    """The arrays that are drawn or bundled: x (rows, inputs) float32, y (rows, outputs) float32 or (rows,) int32.

    Empty for models that are their own loss.
    """
    match spec.data:
        case NoData() | None:
            return {}
        case FileData(path=path):
            raise TypeError(f"{path} is read by data_files")
        case DigitsData(n=n):
            return digits(n)
        case TeacherData() as data:
            if not isinstance(spec.model, MlpModel | DeepLinearModel):
                raise TypeError(f"a {spec.model.kind} model has no teacher")
            keys = data_keys(seed, data, spec.model.widths[0], spec.model.widths[-1])
            x = draw_inputs(keys.inputs, data.inputs, data.n, spec.model.widths[0])
            f = outputs(teacher(spec.model, data, keys, x), x)
            return {"x": x, "y": f + draw_noise(keys.noise, data.noise, x, f.shape[1])}


def digits(n: int) -> dict[str, np.ndarray]:
    """The first n of scikit-learn's 1797 images: x (n, 64) in [0, 1], y (n,) classes 0 to 9."""
    from sklearn.datasets import load_digits  # the sampling environment, which loads targets, has no scikit-learn

    images = load_digits()
    return {"x": (images.data[:n] / 16.0).astype(np.float32), "y": images.target[:n].astype(np.int32)}


def teacher(model: MlpModel | DeepLinearModel, data: TeacherData, keys: DataKeys, x: Rows) -> Mlp | DeepLinear:
    """The network that labels the data.

    A deep linear teacher is one matrix of rank `data.rank` with unit singular values. A network has `data.widths`, the
    student's activation, normalisation and biases, and a last layer scaled so that the outputs over `x` have root mean
    square 1.
    """
    if isinstance(model, DeepLinearModel):
        if data.rank is None:
            raise TypeError("a deep linear teacher has a rank")
        return deep_linear([teacher_matrix(keys.teacher, model.widths[-1], model.widths[0], data.rank)])
    if data.widths is None:
        raise TypeError("a teacher has widths")
    weights, biases = mlp_weights(keys.teacher, model.model_copy(update={"widths": data.widths}), bias_scale=0.5)
    size = np.sqrt(np.mean(outputs(mlp(model, weights, biases), x).astype(np.float64) ** 2))
    if size > 0:
        weights[-1] = (weights[-1] / size).astype(np.float32)
        biases[-1] = (biases[-1] / size).astype(np.float32)
    return mlp(model, weights, biases)


def outputs(network: Mlp | DeepLinear, x: Rows) -> Rows:
    """What a network answers to each row of x."""
    return np.asarray(eqx.filter_jit(network)(jnp.asarray(x).T)).T


def draw_inputs(key: PRNGKeyArray, inputs: Inputs, n: int, width: int) -> Rows:
    """Rows of inputs of the given kind, (n, width)."""
    match inputs:
        case GaussianInputs():
            return normal(key, (n, width))
        case AnisotropicInputs(condition=condition):
            return normal(key, (n, width)) * np.sqrt(falling_variances(condition, width)).astype(np.float32)
        case MixtureInputs(components=components, separation=separation):
            of_centres, of_labels, of_rows = jax.random.split(key, 3)
            centres = np.float32(separation) * normal(of_centres, (components, width))
            labels = np.asarray(jax.random.randint(of_labels, (n,), 0, components, np.int32))
            return centres[labels] + normal(of_rows, (n, width))
        case ManifoldInputs(dimension=dimension):
            of_map, of_rows = jax.random.split(key)
            frequencies, phases = manifold_map(of_map, dimension, width)
            return np.float32(np.sqrt(2)) * np.cos(normal(of_rows, (n, dimension)) @ frequencies.T + phases)
        case HeavyTailedInputs(degrees_of_freedom=nu):
            return np.asarray(jax.random.t(key, np.float32(nu), (n, width), np.float32))


def falling_variances(condition: float, width: int) -> np.ndarray:
    """Variances that fall geometrically from 1 to 1/condition, float64; a single coordinate has variance 1."""
    return np.geomspace(1.0, 1.0 / condition, width) if width > 1 else np.ones(1)


def manifold_map(
    key: PRNGKeyArray, dimension: int, width: int
) -> tuple[Float32[np.ndarray, "width dimension"], Float32[np.ndarray, " width"]]:
    """Frequencies Ω and phases φ of x = √2·cos(Ωz + φ), the random features of Rahimi and Recht (2007)."""
    of_frequencies, of_phases = jax.random.split(key)
    phases = jax.random.uniform(of_phases, (width,), np.float32, 0.0, np.float32(2 * np.pi))
    return normal(of_frequencies, (width, dimension)), np.asarray(phases)


def draw_noise(key: PRNGKeyArray, noise: Noise, x: Rows, width: int) -> Rows:
    """What is added to the teacher's outputs, (rows, width)."""
    shape = (len(x), width)
    match noise:
        case NoNoise():
            return np.zeros(shape, np.float32)
        case GaussianNoise(scale=scale):
            return np.float32(scale) * normal(key, shape)
        case HeteroscedasticNoise(scale=scale, strength=strength):
            length = np.linalg.norm(x, axis=1, keepdims=True) / np.sqrt(x.shape[1])
            deviation = scale * (1 + strength * length) / (1 + strength)
            return deviation.astype(np.float32) * normal(key, shape)
        case StudentTNoise(scale=scale, degrees_of_freedom=nu):
            return np.float32(scale) * np.asarray(jax.random.t(key, np.float32(nu), shape, np.float32))
        case OutlierNoise(scale=scale, fraction=fraction, factor=factor):
            of_rows, of_values = jax.random.split(key)
            outlying = np.asarray(jax.random.uniform(of_rows, (len(x), 1), np.float32)) < fraction
            return np.where(outlying, np.float32(scale * factor), np.float32(scale)) * normal(of_values, shape)
