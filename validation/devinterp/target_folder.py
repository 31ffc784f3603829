"""Reads a built target folder with NumPy alone, for programs whose environment has neither JAX nor this package."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

SCHEMA_VERSION = 3


@dataclass(frozen=True)
class Target:
    """A deep linear network or a quadratic at w*.

    Attributes:
        kind: the model's kind, `deep_linear` or `quadratic`.
        n: number of data points, which sets t = nβ.
        scale: σ of the loss ‖y − f(x)‖²/(2σ²) per datum; None for a quadratic, which is its own loss.
        weights: the parameters at w*, float32; a deep linear network's layers (outputs, inputs), the first one first.
        data: x (n, inputs) and y (n, outputs), float32; empty for a quadratic.
        constants: a quadratic's eigenvalues (d,) and, where it is rotated, its eigenvectors as columns (d, d), float32.
    """

    id: str
    name: str
    kind: str
    n: int
    scale: float | None
    weights: list[np.ndarray]
    data: dict[str, np.ndarray]
    constants: list[np.ndarray]
    loss_at_w_star: float

    def loss(self, weights: list[np.ndarray]) -> float:
        """L_n in nats per datum at `weights`, in float64: what a rebuilt model is compared with."""
        if self.kind == "quadratic":
            curvatures, *rotation = (constant.astype(np.float64) for constant in self.constants)
            u = weights[0].astype(np.float64)
            for matrix in rotation:
                u = u @ matrix
            return float(0.5 * np.sum(curvatures * u**2))
        h = self.data["x"].astype(np.float64)
        for weight in weights:
            h = h @ weight.astype(np.float64).T
        assert self.scale is not None
        return float(np.mean(np.sum((h - self.data["y"]) ** 2, axis=1)) / (2 * self.scale**2))


def name_of(folder: Path) -> str:
    """The name of the target in `folder`, which may be one that cannot be rebuilt."""
    return str(json.loads((folder / "target.json").read_text(encoding="utf-8"))["name"])


def read_target(folder: Path) -> Target:
    """The target in `folder`.

    Raises:
        ValueError: where the folder is of another version or its model is neither of the two kinds.
    """
    record = json.loads((folder / "target.json").read_text(encoding="utf-8"))
    model = record["spec"]["model"]
    if record["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"{folder}: schema_version is {record['schema_version']}, this program reads {SCHEMA_VERSION}")
    if model["kind"] not in ("deep_linear", "quadratic"):
        raise ValueError(f"{folder}: the model is {model['kind']!r}; this program rebuilds deep_linear and quadratic")
    with np.load(folder / "data.npz", allow_pickle=False) as arrays:
        data = {name: arrays[name] for name in arrays.files}
    return Target(
        id=record["id"],
        name=record["name"],
        kind=model["kind"],
        n=record["n"],
        scale=record["scale"],
        weights=leaves(folder / "params.eqx"),
        data=data,
        constants=leaves(folder / "static.eqx"),
        loss_at_w_star=record["loss_at_w_star"],
    )


def leaves(file: Path) -> list[np.ndarray]:
    """The arrays of an Equinox file, which are consecutive .npy arrays."""
    with file.open("rb") as stream:
        return list(_consecutive(stream))


def _consecutive(stream: IO[bytes]) -> Iterator[np.ndarray]:
    end = stream.seek(0, 2)
    stream.seek(0)
    while stream.tell() < end:
        yield np.load(stream, allow_pickle=False)
