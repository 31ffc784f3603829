"""The toy model of superposition against integrals of its definition, and its polygons against published losses."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from lambda_hat_cli.artifacts.target import TargetFolder
from lambda_hat_cli.errors import UserError
from lambda_hat_cli.experiment.expand import parameter_count
from lambda_hat_cli.experiment.load import load_experiment
from lambda_hat_cli.experiment.rows import TargetRow
from lambda_hat_cli.experiment.schema import SuperpositionModel
from lambda_hat_cli.targets.build import build_target
from lambda_hat_cli.targets.load import load_target
from lambda_hat_cli.targets.models import Superposition
from lambda_hat_cli.targets.starts import polygon
from oracles.hmc_estimates import BEYOND_CHANCE, hmc_estimate

Target = Callable[..., Any]


@pytest.fixture
def target(tmp_path: Path) -> Target:
    """Builds a polygon and loads it in float64."""

    def make(**model: Any) -> Any:
        fields = {
            "id": "0" * 16, "name": "t", "entry": "t", "folder": "t-0", "seed": 7, "d": None, "n": None, "code": {},
            "pack": "0" * 16,
            "spec": {"model": {"kind": "superposition", **model}, "data": {"kind": "none", "n": 5000}},
        }  # fmt: skip
        out = tmp_path / f"target-{len(list(tmp_path.iterdir()))}"
        build_target(TargetRow.model_validate_json(json.dumps(fields)), out, None)
        return load_target(TargetFolder(out), "float64")

    return make


def by_definition(w: np.ndarray, inputs: int) -> tuple[float, np.ndarray]:
    """The loss and its gradient from the definition: Gauss quadrature over ζ between the places where ReLU bends."""
    weight, bias = w[: 2 * inputs].reshape(2, inputs), w[2 * inputs :]
    nodes, node_weights = np.polynomial.legendre.leggauss(4)
    loss, of_weight, of_bias = 0.0, np.zeros_like(weight), np.zeros_like(bias)
    for i in range(inputs):
        slopes = weight.T @ weight[:, i]
        bends = -bias[slopes != 0] / slopes[slopes != 0]
        ends = np.sort([0.0, *bends[(bends > 0) & (bends < 1)], 1.0])
        for start, length in zip(ends, np.diff(ends), strict=False):
            x = np.outer(np.eye(inputs)[i], start + length * (nodes + 1) / 2)
            share = node_weights * length / 2 / inputs
            before = weight.T @ (weight @ x) + bias[:, None]
            residual = np.maximum(before, 0) - x
            loss += np.sum(share * residual**2)
            back = 2 * share * residual * (before > 0)
            of_bias += back.sum(1)
            of_weight += (weight @ x) @ back.T + (weight @ back) @ x.T
    return loss, np.concatenate([of_weight.ravel(), of_bias])


@pytest.mark.parametrize("inputs", [5, 6, 8])
def test_loss_and_gradient_are_those_of_the_definition(target: Target, inputs: int) -> None:
    built = target(inputs=inputs, polygon=5)
    loss = jax.jit(jax.value_and_grad(lambda w: built.losses(w, {})[0]))
    random = np.random.default_rng(inputs)
    for w in [built.w_star, *random.standard_normal((4, 3 * inputs)), *0.2 * random.standard_normal((2, 3 * inputs))]:
        value, gradient = by_definition(np.asarray(w), inputs)
        found, slope = loss(jnp.asarray(w))
        assert float(found) == pytest.approx(value, rel=1e-12)
        np.testing.assert_allclose(slope, gradient, atol=1e-12 * max(1.0, float(np.abs(gradient).max())))


@pytest.mark.parametrize(
    ("corners", "positive", "loss", "rank"),
    [
        (5, False, 0.06874, 14),
        (5, True, 0.06180, 17),
        (6, False, 0.04819, 17),
    ],  # losses: Chen et al. 2023, arXiv:2310.06301
)
def test_polygons_are_the_published_minima(
    target: Target, corners: int, positive: bool, loss: float, rank: int
) -> None:
    built = target(polygon=corners, positive_bias=positive)
    assert (built.n, built.d, parameter_count(SuperpositionModel(kind="superposition"))) == (5000, 18, 18)
    value = jax.jit(lambda w: built.losses(w, {})[0])
    assert float(value(built.w_star)) == pytest.approx(loss, abs=5e-6)
    curvatures = np.linalg.eigvalsh(jax.hessian(value)(built.w_star))
    assert np.sum(curvatures > 1e-2) == rank  # the others are turns of the plane and what no output answers to
    np.testing.assert_allclose(curvatures[: 18 - rank], 0, atol=1e-6)


@pytest.mark.parametrize("inputs", [5, 6, 7, 8])
def test_every_polygon_is_a_minimum(inputs: int) -> None:
    def value(w: jax.Array) -> jax.Array:
        return Superposition(w[: 2 * inputs].reshape(2, inputs), w[2 * inputs :]).value()

    slope, curvature = jax.jit(jax.grad(value)), jax.jit(jax.hessian(value))
    for corners, positive in [
        *((k, False) for k in range(5, inputs + 1)),
        *([(inputs - 1, True)] if inputs > 5 else []),
    ]:
        found = polygon(
            SuperpositionModel(kind="superposition", inputs=inputs, polygon=corners, positive_bias=positive)
        )
        lengths = np.linalg.norm(found.weight, axis=0)
        np.testing.assert_allclose(lengths[:corners], lengths[0], rtol=1e-6)
        assert not np.any(lengths[corners:])
        np.testing.assert_allclose(found.bias[corners:], 1 / (2 * inputs) if positive else -1, rtol=1e-6)
        w = jnp.concatenate([found.weight.ravel(), found.bias]).astype(np.float64)
        assert float(jnp.linalg.norm(slope(w))) < 1e-6
        assert np.linalg.eigvalsh(curvature(w))[0] > -1e-6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"polygon": 4}}, "model.polygon: 4 is not allowed; give a whole number from 5 to 8"),
        ({"model": {"polygon": 7}}, "polygon: 7 is more than inputs: 6; give at most one corner an input"),
        ({"model": {"positive_bias": True}}, "a minimum only where one input has no corner: give polygon: 5"),
        ({"model": {"dead_bias": 0.5}}, "model.dead_bias: 0.5 is not allowed; give a number less than 0"),
        ({"data": {"kind": "teacher"}}, 'is its own loss: give data {kind: none, n: …}, not "teacher"'),
        ({"train": {"steps": 3}}, "is studied at its known minimum: leave out `train` and `at`"),
    ],
)  # fmt: skip
def test_what_is_no_polygon_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    entry = {"name": "p", **changes, "model": {"kind": "superposition", **changes.get("model", {})}}
    (tmp_path / "x.yml").write_text(yaml.safe_dump({"name": "x", "targets": [entry]}))
    with pytest.raises(UserError) as told:
        load_experiment(tmp_path / "x.yml")
    assert message in str(told.value)


def test_polygons_have_the_published_order(target: Target) -> None:
    """5-gon, 6-gon, 5⁺-gon (Chen et al. 2023, table 1, n = 5000), by HMC at γ = 20: intervals that do not touch."""
    polygons = ({"polygon": 5}, {"polygon": 6}, {"polygon": 5, "positive_bias": True})
    found = [hmc_estimate(target(**each), 5000 / np.log(5000), 20.0, seed) for seed, each in enumerate(polygons)]
    for less, more in itertools.pairwise(found):
        assert more.llc - less.llc > BEYOND_CHANCE * np.hypot(less.se, more.se)
