"""Targets against closed forms and independent implementations: models, data, minima, training, loading."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from pydantic import TypeAdapter

from lambda_hat_cli.artifacts.target import TargetFolder
from lambda_hat_cli.errors import UserError
from lambda_hat_cli.experiment.rows import TargetRow
from lambda_hat_cli.experiment.schema import Inputs, MlpModel, Noise, Training
from lambda_hat_cli.targets.build import build_target, build_targets
from lambda_hat_cli.targets.data import draw_inputs, draw_noise, manifold_map
from lambda_hat_cli.targets.load import LoadedTarget, load_artifacts, load_target
from lambda_hat_cli.targets.models import mlp
from lambda_hat_cli.targets.randomness import frame, stream
from lambda_hat_cli.targets.starts import check_ranks
from lambda_hat_cli.targets.training import train

ROWS = 20_000
Build = Callable[..., TargetFolder]

NOISELESS = {"kind": "teacher", "n": 60, "noise": {"kind": "none"}}
SMALL_MLP = {"kind": "mlp", "widths": [3, 4, 2]}


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Builds a spec in this process and opens the folder."""

    def make(spec: dict[str, Any], seed: int = 7) -> TargetFolder:
        out = tmp_path / f"target-{len(list(tmp_path.iterdir()))}"
        build_target(target_row(spec, seed), out, None)
        return TargetFolder(out)

    return make


def target_row(spec: dict[str, Any], seed: int) -> TargetRow:
    fields = {
        "id": "0" * 16,
        "name": "t",
        "entry": "t",
        "folder": "t-0",
        "spec": spec,
        "seed": seed,
        "d": None,
        "n": None,
        "code": {},
        "pack": "0" * 16,
    }
    return TargetRow.model_validate_json(json.dumps(fields))


def keyed(number: int) -> jax.Array:
    return stream(number, "test")


def five_sigma(measured: Any, expected: Any, se: Any) -> None:
    np.testing.assert_array_less(np.abs(np.asarray(measured) - expected), 5 * np.asarray(se) + 1e-6)


# Models -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rotation", [False, True])
def test_quadratic_is_half_w_h_w_with_the_given_eigenvalues(build: Build, rotation: bool) -> None:
    curvatures = [0.0, 0.01, 1.0, 3.0, 100.0]
    target = load_target(
        build({"model": {"kind": "quadratic", "curvatures": curvatures, "rotation": rotation}}), "float64"
    )
    hessian = jax.hessian(lambda w: target.losses(w, target.data)[0])(target.w_star)
    np.testing.assert_allclose(np.linalg.eigvalsh(hessian), curvatures, rtol=1e-6, atol=1e-5)
    assert (np.count_nonzero(np.abs(hessian - np.diag(np.diag(hessian))) > 1e-3) > 0) == rotation
    w = np.random.default_rng(0).standard_normal(5)
    np.testing.assert_allclose(target.losses(jnp.asarray(w), {}), [0.5 * w @ hessian @ w], rtol=1e-12)
    assert (target.rows, target.n, target.d) == (1, 1000, 5)


def test_normal_crossing_is_the_product_of_even_powers(build: Build) -> None:
    folder = build({"model": {"kind": "normal_crossing", "exponents": [1, 0, 3]}, "data": {"kind": "none", "n": 50}})
    target = load_target(folder, "float64")
    w = jnp.array([0.5, -7.0, -1.2])
    np.testing.assert_allclose(target.losses(w, {}), [0.5**2 * 1.2**6], rtol=1e-14)
    gradient = jax.grad(lambda w: target.losses(w, {})[0])
    np.testing.assert_allclose(gradient(w), [2 * 0.5 * 1.2**6, 0, -6 * 0.5**2 * 1.2**5], rtol=1e-14)
    np.testing.assert_array_equal(gradient(target.w_star), 0)
    assert (folder.record.loss_at_w_star, folder.record.gradient_norm, folder.record.n) == (0, 0, 50)


@pytest.mark.parametrize("n", [7, 300])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_linear_network_needs_one_row_more_than_inputs(build: Build, n: int, precision: str) -> None:
    spec = {
        "model": {"kind": "deep_linear", "widths": [6, 3, 4]},
        "data": {"kind": "teacher", "n": n, "rank": 2, "inputs": {"kind": "anisotropic"}},
        "at": "truth",
    }
    target = load_target(build(spec), precision)
    assert target.rows == len(target.data["x"]) == n
    assert len(target.full_data["x"]) == min(n, 7)
    gradient = jax.grad(lambda w, data: jnp.sum(target.losses(w, data)))
    for seed in range(3):
        w = target.w_star + jnp.asarray(np.random.default_rng(seed).standard_normal(target.d), precision)
        tolerance = 1e-12 if precision == "float64" else 3e-5
        few, all_rows = (jnp.sum(target.losses(w, data)) for data in (target.full_data, target.data))
        np.testing.assert_allclose(few, all_rows, rtol=tolerance)
        few, all_rows = (gradient(w, data) for data in (target.full_data, target.data))
        np.testing.assert_allclose(few, all_rows, rtol=tolerance, atol=tolerance * float(jnp.max(jnp.abs(all_rows))))


NUMPY_ACTIVATIONS = {
    "tanh": np.tanh,
    "relu": lambda h: np.maximum(h, 0),
    "gelu": lambda h: h * scipy.special.ndtr(h),
    "identity": lambda h: h,
}


@pytest.mark.parametrize("activation", NUMPY_ACTIVATIONS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_mlp_equals_a_plain_numpy_network(activation: str, bias: bool, layer_norm: bool) -> None:
    random = np.random.default_rng(1)
    weights = [random.standard_normal(shape).astype(np.float32) for shape in [(5, 3), (4, 5), (2, 4)]]
    biases = [random.standard_normal(len(weight)).astype(np.float32) for weight in weights]
    x = random.standard_normal((6, 3)).astype(np.float32)
    spec = MlpModel(kind="mlp", widths=(3, 5, 4, 2), activation=activation, bias=bias, layer_norm=layer_norm)
    h = x.astype(np.float64)
    for weight, offset in zip(weights[:-1], biases[:-1], strict=True):
        h = h @ weight.T + bias * offset
        if layer_norm:
            h = (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-5)
        h = NUMPY_ACTIVATIONS[activation](h)
    np.testing.assert_allclose(
        mlp(spec, weights, biases)(jnp.asarray(x).T).T, h @ weights[-1].T + bias * biases[-1], rtol=2e-5, atol=2e-5
    )


# Constructed minima and teachers ----------------------------------------------------------------


@pytest.mark.parametrize(("widths", "rank"), [([5, 4, 6, 5], 2), ([4, 2, 4], 2), ([3, 2, 3], 0), ([6, 1, 6], 1)])
def test_deep_linear_truth_is_the_most_singular_point(build: Build, widths: list[int], rank: int) -> None:
    spec = {"model": {"kind": "deep_linear", "widths": widths}, "data": {**NOISELESS, "rank": rank}, "at": "truth"}
    folder = build(spec)
    layers = [leaf.astype(np.float64) for leaf in folder.parameter_leaves()]
    assert [layer.shape for layer in layers] == list(zip(widths[1:], widths[:-1], strict=True))
    for layer in layers:
        singular = np.linalg.svd(layer, compute_uv=False)
        np.testing.assert_allclose(singular, [1.0] * rank + [0.0] * (len(singular) - rank), atol=1e-6)
    product = np.linalg.multi_dot(layers[::-1])
    np.testing.assert_allclose(np.linalg.svd(product, compute_uv=False)[:rank], 1, atol=1e-6)
    data = folder.data()
    np.testing.assert_allclose(data["y"], data["x"] @ product.T, atol=1e-5)
    assert 0 <= folder.record.loss_at_w_star < 1e-10
    assert folder.record.gradient_norm < 1e-4
    assert folder.record.training is None


@pytest.mark.parametrize(
    ("widths", "rank", "ranks"),
    [([4, 5, 3], 1, (3, 2)), ([3, 2, 3], 0, (2, 0)), ([3, 4, 5], 2, (2, 2)), ([2, 6, 2], 1, (1, 2))],
)
def test_deep_linear_at_given_ranks(build: Build, widths: list[int], rank: int, ranks: tuple[int, int]) -> None:
    spec = {
        "model": {"kind": "deep_linear", "widths": widths},
        "data": {**NOISELESS, "rank": rank},
        "at": {"ranks": ranks},
    }
    folder = build(spec)
    layers = [leaf.astype(np.float64) for leaf in folder.parameter_leaves()]
    for layer, of_layer in zip(layers, ranks, strict=True):
        singular = np.linalg.svd(layer, compute_uv=False)
        np.testing.assert_allclose(singular, [1.0] * of_layer + [0.0] * (len(singular) - of_layer), atol=1e-6)
    np.testing.assert_allclose(folder.data()["y"], folder.data()["x"] @ (layers[1] @ layers[0]).T, atol=1e-5)
    assert folder.record.loss_at_w_star < 1e-10
    assert folder.record.truth.kind == "exact_local"
    assert np.linalg.matrix_rank(layers[1] @ layers[0], tol=0.5) == rank


def test_layers_of_other_ranks_are_no_minimum_with_a_known_coefficient() -> None:
    layers = [np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)]
    check_ranks(layers, (3, 3), 3)
    with pytest.raises(ArithmeticError, match="ranks"):
        check_ranks(layers, (3, 2), 2)


def test_frames_are_orthonormal() -> None:
    columns = frame(keyed(0), 7, 3)
    np.testing.assert_allclose(columns.T @ columns, np.eye(3), atol=1e-14)


@pytest.mark.parametrize("activation", NUMPY_ACTIVATIONS)
def test_mlp_truth_reproduces_a_teacher_of_unit_size(build: Build, activation: str) -> None:
    folder = build({"model": {**SMALL_MLP, "activation": activation}, "data": NOISELESS, "at": "truth"})
    assert 0 <= folder.record.loss_at_w_star < 1e-10
    assert np.sqrt(np.mean(folder.data()["y"].astype(np.float64) ** 2)) == pytest.approx(1, rel=1e-5)


def test_gaussian_noise_costs_half_a_nat_per_output(build: Build) -> None:
    n, outputs = 4000, 2
    folder = build(
        {
            "model": SMALL_MLP,
            "data": {"kind": "teacher", "n": n, "noise": {"kind": "gaussian", "scale": 0.3}},
            "at": "truth",
        }
    )
    five_sigma(folder.record.loss_at_w_star, outputs / 2, np.sqrt(outputs / 2 / n))
    assert (folder.record.likelihood, folder.record.scale) == ("gaussian", 0.3)


def test_equal_data_sections_share_data_and_nothing_else(build: Build) -> None:
    minimum = build({"model": SMALL_MLP, "data": NOISELESS, "at": "truth"})
    trained = build({"model": SMALL_MLP, "data": NOISELESS, "train": {"steps": 0}})
    narrow = build({"model": {"kind": "mlp", "widths": [3, 2, 2]}, "data": {**NOISELESS, "widths": [3, 4, 2]}})
    other = build({"model": SMALL_MLP, "data": NOISELESS, "at": "truth"}, seed=7 + 2**40)
    digest = minimum.record.checksums["data.npz"]
    assert trained.record.checksums["data.npz"] == narrow.record.checksums["data.npz"] == digest
    assert other.record.checksums["data.npz"] != digest
    assert trained.record.checksums["params.eqx"] != minimum.record.checksums["params.eqx"]


# Inputs -----------------------------------------------------------------------------------------


def inputs(number: int, width: int, rows: int = ROWS, **spec: Any) -> np.ndarray:
    x = draw_inputs(keyed(number), TypeAdapter(Inputs).validate_python(spec), rows, width)
    assert x.shape == (rows, width)
    assert x.dtype == np.float32
    return x.astype(np.float64)


def covariance_se(covariance: np.ndarray, rows: int = ROWS) -> np.ndarray:
    """Of a Gaussian's sample covariance."""
    variances = np.diag(covariance)
    return np.sqrt((np.outer(variances, variances) + covariance**2) / rows)


def test_gaussian_inputs() -> None:
    x = inputs(1, 4, kind="gaussian")
    five_sigma(np.cov(x.T), np.eye(4), covariance_se(np.eye(4)))
    five_sigma(x.mean(0), 0, ROWS**-0.5)


@pytest.mark.parametrize(("width", "variances"), [(1, [1.0]), (3, [1.0, 0.1, 0.01])])
def test_anisotropic_inputs(width: int, variances: list[float]) -> None:
    x = inputs(2, width, kind="anisotropic", condition=100.0)
    five_sigma(np.cov(x.T).reshape(width, width), np.diag(variances), covariance_se(np.diag(variances)))


def test_mixture_inputs() -> None:
    width, components, separation, rows = 100, 3, 20.0, 6000
    x = inputs(3, width, rows, kind="mixture", components=components, separation=separation)
    groups, left = [], x
    while len(left):  # centres are about 280 apart, rows of one component about 14
        near = np.linalg.norm(left - left[0], axis=1) < 60
        groups.append(left[near])
        left = left[~near]
    assert len(groups) == components
    five_sigma([len(group) / rows for group in groups], 1 / 3, np.sqrt(2 / 9 / rows))
    centres = np.array([group.mean(0) for group in groups])
    five_sigma(np.mean(centres**2) / separation**2, 1, np.sqrt(2 / (components * width)))
    within = np.concatenate([group - group.mean(0) for group in groups])
    five_sigma(np.mean(within**2) * rows / (rows - components), 1, np.sqrt(2 / within.size))


def test_manifold_inputs() -> None:
    width = 5
    x = inputs(4, width, kind="manifold", dimension=2)
    frequencies, phases = (
        np.asarray(part, np.float64) for part in manifold_map(jax.random.split(keyed(4))[0], 2, width)
    )

    def damped(a: np.ndarray, phase: np.ndarray) -> np.ndarray:
        """E cos(a·z + phase) for z ~ N(0, I)."""
        return np.exp(-np.sum(a**2, -1) / 2) * np.cos(phase)

    mean = np.sqrt(2) * damped(frequencies, phases)
    second = damped(frequencies[:, None] - frequencies, phases[:, None] - phases) + damped(
        frequencies[:, None] + frequencies, phases[:, None] + phases
    )
    five_sigma(x.mean(0), mean, x.std(0) / np.sqrt(ROWS))
    products = x[:, :, None] * x[:, None, :]
    five_sigma(products.mean(0), second, products.std(0) / np.sqrt(ROWS))


def test_heavy_tailed_inputs() -> None:
    x = inputs(5, 2, kind="heavy_tailed", degrees_of_freedom=4.0).ravel()
    assert scipy.stats.kstest(x, scipy.stats.t(4).cdf).pvalue > 1e-3
    assert scipy.stats.kstest(x, scipy.stats.norm.cdf).pvalue < 1e-9


# Noise ------------------------------------------------------------------------------------------


def noise(number: int, outputs: int = 2, width: int = 3, **spec: Any) -> tuple[np.ndarray, np.ndarray]:
    x = inputs(number + 100, width, kind="gaussian")
    drawn = draw_noise(keyed(number), TypeAdapter(Noise).validate_python(spec), x.astype(np.float32), outputs)
    assert drawn.shape == (ROWS, outputs)
    assert drawn.dtype == np.float32
    return x, drawn.astype(np.float64)


def test_no_noise() -> None:
    assert not np.any(noise(1, kind="none", scale=0.5)[1])


def test_gaussian_noise() -> None:
    drawn = noise(2, kind="gaussian", scale=0.5)[1]
    five_sigma(drawn.std(0), 0.5, 0.5 / np.sqrt(2 * ROWS))


def test_heteroscedastic_noise_grows_with_the_input() -> None:
    x, drawn = noise(3, kind="heteroscedastic", scale=0.5, strength=2.0)
    length = np.linalg.norm(x, axis=1) / np.sqrt(3)
    unit = drawn / (0.5 * (1 + 2 * length) / 3)[:, None]
    for part in np.array_split(np.argsort(length), 4):
        five_sigma(unit[part].std(), 1, 1 / np.sqrt(2 * unit[part].size))


def test_student_noise() -> None:
    drawn = noise(4, kind="student_t", scale=0.5, degrees_of_freedom=3.0)[1].ravel()
    assert scipy.stats.kstest(drawn / 0.5, scipy.stats.t(3).cdf).pvalue > 1e-3


def test_outliers_are_whole_rows() -> None:
    drawn = noise(5, outputs=8, kind="outliers", scale=0.5, fraction=0.1, factor=1000.0)[1]
    outlying = np.linalg.norm(drawn, axis=1) > 20  # 14 standard deviations of an ordinary row
    five_sigma(outlying.mean(), 0.1, np.sqrt(0.09 / ROWS))
    for rows, scale in [(~outlying, 0.5), (outlying, 500.0)]:
        five_sigma(drawn[rows].std() / scale, 1, 1 / np.sqrt(2 * drawn[rows].size))


# Training ---------------------------------------------------------------------------------------


def test_digits_are_learnt(build: Build) -> None:
    train = {"steps": 300, "learning_rate": 3e-3, "batch_size": 256}
    folder = build(
        {"model": {"kind": "mlp", "widths": [64, 32, 10]}, "data": {"kind": "digits", "n": 1500}, "train": train}
    )
    data, target = folder.data(), load_target(folder, "float64")
    assert (data["x"].shape, data["y"].shape) == ((1500, 64), (1500,))
    assert (data["x"].dtype, data["y"].dtype) == (np.float32, np.int32)
    assert (data["x"].min(), data["x"].max(), set(data["y"])) == (0, 1, set(range(10)))
    logits = np.asarray(target.model(target.w_star)(target.data["x"].T))
    assert np.mean(logits.argmax(0) == data["y"]) > 0.9
    probabilities = np.exp(logits) / np.exp(logits).sum(0)
    by_hand = -np.log(probabilities[data["y"], np.arange(1500)])
    np.testing.assert_allclose(target.losses(target.w_star, target.data), by_hand, rtol=1e-8, atol=1e-10)
    assert folder.record.loss_at_w_star == pytest.approx(by_hand.mean(), rel=1e-8)
    assert folder.record.likelihood == "categorical"


def test_training_record(build: Build) -> None:
    spec = {"model": SMALL_MLP, "data": NOISELESS, "train": {"steps": 1000, "batch_size": 16}}
    folder = build(spec)
    start = build({**spec, "train": {"steps": 0, "batch_size": 16}})
    record = folder.record.training
    assert record is not None
    assert record.steps == 1000
    assert record.recorded_steps[:4] == (0, 1, 2, 3)
    assert record.recorded_steps[-1] == 1000
    assert np.ptp(np.diff(np.log(record.recorded_steps[-40:]))) < 0.1
    assert record.losses[0] == pytest.approx(start.record.loss_at_w_star, rel=1e-5)
    assert record.losses[-1] == pytest.approx(folder.record.loss_at_w_star, rel=1e-5)
    assert record.losses[-1] < 0.5 * record.losses[0]


def test_a_checkpoint_is_what_training_that_ends_there_gives(tmp_path: Path) -> None:
    """Whatever the other checkpoints of the pass are, every file is the same; 24 is a step where the loss is told."""
    spec = {"model": SMALL_MLP, "data": NOISELESS, "train": {"batch_size": 16}}
    rows = [
        target_row({**spec, "train": {**spec["train"], "steps": steps}}, 7).model_copy(update={"id": f"{steps:016d}"})
        for steps in (50, 0, 24)
    ]
    build_targets(rows, tmp_path / "together", None, lambda _, work: work())
    for row in rows:
        build_target(row, tmp_path / row.id, None)
        files = [path.relative_to(tmp_path / row.id) for path in (tmp_path / row.id).rglob("*")]
        assert len(files) == 4
        for name in files:
            alone, together = (folder / row.id / name for folder in (tmp_path, tmp_path / "together"))
            assert alone.read_bytes() == together.read_bytes(), name


def test_a_training_that_diverges_keeps_the_checkpoints_before(tmp_path: Path) -> None:
    training = {"optimizer": "sgd", "learning_rate": 50.0, "batch_size": "full"}
    rows = [
        target_row({"model": SMALL_MLP, "data": NOISELESS, "train": {**training, "steps": steps}}, 7).model_copy(
            update={"id": f"{steps:016d}"}
        )
        for steps in (0, 1000, 2000)
    ]
    told = []

    def attempt(row: TargetRow, work: Callable[[], None]) -> None:
        try:
            work()
        except UserError as error:
            told.append((row.id, str(error)))

    build_targets(rows, tmp_path, None, attempt)
    assert [path.name for path in tmp_path.iterdir()] == [rows[0].id]
    assert [row for row, _ in told] == [rows[1].id, rows[2].id]
    assert all("training diverged" in message for _, message in told)


def test_a_full_batch_sgd_step_is_a_gradient_step(build: Build) -> None:
    spec = {"model": SMALL_MLP, "data": NOISELESS}
    settings = {"optimizer": "sgd", "learning_rate": 0.01}
    start = load_target(build({**spec, "train": {**settings, "steps": 0}}), "float64")
    full = build({**spec, "train": {**settings, "steps": 1, "batch_size": "full"}})
    beyond = build({**spec, "train": {**settings, "steps": 1, "batch_size": 1000}})
    gradient = jax.grad(lambda w: jnp.mean(start.losses(w, start.data)))(start.w_star)
    np.testing.assert_allclose(
        load_target(full, "float64").w_star, start.w_star - 0.01 * gradient, rtol=1e-4, atol=1e-6
    )
    assert beyond.record.checksums["params.eqx"] == full.record.checksums["params.eqx"]


def test_every_epoch_visits_every_row_once() -> None:
    rows = 12
    data = {"row": jnp.arange(rows, dtype=np.int32)}
    settings = Training(optimizer="sgd", learning_rate=1.0, steps=6, batch_size=4)
    ((trained, _),) = train(
        jnp.zeros(rows, np.float32), data, lambda w, data: w[data["row"]], settings, keyed(6), [settings.steps]
    )
    np.testing.assert_allclose(trained, -2 / 4, rtol=1e-6)  # two epochs, each a step of 1/4 per row
    ((once, _),) = train(jnp.zeros(rows, np.float32), data, lambda w, data: w[data["row"]], settings, keyed(6), [1])
    assert np.count_nonzero(once) == 4


def test_diverging_training_is_refused(build: Build) -> None:
    settings = {"optimizer": "sgd", "learning_rate": 1e6, "steps": 100, "batch_size": "full"}
    with pytest.raises(UserError, match=r"training diverged: .* smaller train\.learning_rate than 1e\+06"):
        build({"model": SMALL_MLP, "data": NOISELESS, "train": settings})


# Artefacts and loading --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    [
        {"model": SMALL_MLP, "data": NOISELESS, "train": {"steps": 20, "batch_size": 16}},
        {"model": {"kind": "quadratic", "curvatures": [1.0, 2.0], "rotation": True}},
    ],
)
def test_the_same_row_gives_the_same_bytes(build: Build, spec: dict[str, Any]) -> None:
    first, second = build(spec), build(spec)
    assert first.record.checksums == second.record.checksums
    assert set(first.record.checksums) == {"data.npz", "params.eqx", "static.eqx"}


def test_loading_casts_the_stored_float32_exactly(build: Build) -> None:
    folder = build({"model": {"kind": "quadratic", "curvatures": [0.1, 2.0], "rotation": True}})
    mlp_folder = build({"model": SMALL_MLP, "data": NOISELESS, "at": "truth"})
    wide, narrow = load_target(mlp_folder, "float64"), load_target(mlp_folder, "float32")
    stored = np.concatenate([leaf.ravel() for leaf in mlp_folder.parameter_leaves()])
    assert stored.dtype == np.float32
    for target, dtype in [(wide, np.float64), (narrow, np.float32)]:
        assert {target.w_star.dtype, target.data["x"].dtype, target.data["y"].dtype} == {np.dtype(dtype)}
        np.testing.assert_array_equal(np.asarray(target.w_star), stored.astype(dtype))
        np.testing.assert_array_equal(np.asarray(target.data["y"]), mlp_folder.data()["y"].astype(dtype))
        assert target.losses(target.w_star, target.data).dtype == dtype
    for dtype in (np.float64, np.float32):
        curvatures, rotation = load_target(folder, dtype).constants
        assert (curvatures.dtype, rotation.dtype) == (dtype, dtype)
        np.testing.assert_array_equal(np.asarray(curvatures), np.array([0.1, 2.0], np.float32).astype(dtype))


def test_losses_of_subsets_are_those_of_the_whole(build: Build) -> None:
    target = load_target(
        build({"model": {**SMALL_MLP, "layer_norm": True}, "data": NOISELESS, "at": "truth"}), "float64"
    )
    w = target.w_star + 0.1
    whole = target.losses(w, target.data)
    assert whole.shape == (60,)
    parts = [
        target.losses(w, {name: array[rows] for name, array in target.data.items()})
        for rows in (slice(0, 1), slice(1, 35), slice(35, 60))
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-12)


def test_a_loaded_target_is_an_argument_of_compiled_functions(build: Build) -> None:
    target = load_target(build({"model": {"kind": "quadratic", "curvatures": [1.0, 3.0]}}), "float64")
    compiled = jax.jit(lambda target, w: jax.vmap(lambda row: target.losses(row, target.data)[0])(w))
    np.testing.assert_allclose(compiled(target, jnp.eye(2)), [0.5, 1.5])
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(target))


def reload(folder: TargetFolder, spec: Any = None) -> LoadedTarget:
    return load_artifacts(folder.path, spec or folder.record.spec, folder.data(), "float64")


def test_arrays_that_do_not_fit_are_refused(build: Build) -> None:
    folder = build({"model": SMALL_MLP, "data": NOISELESS, "at": "truth"})
    other = build({"model": {"kind": "mlp", "widths": [3, 5, 2]}, "data": NOISELESS, "at": "truth"})
    file = folder.path / "params.eqx"
    whole = file.read_bytes()
    with pytest.raises(UserError, match=r"params\.eqx: its arrays do not fit"):
        reload(folder, other.record.spec)
    for damaged, message in [(whole[:-9], "do not fit"), (b"", "do not fit"), (whole * 2, "holds more arrays")]:
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=message):
            reload(folder)
    file.unlink()
    with pytest.raises(UserError, match=r"params\.eqx"):
        reload(folder)


def test_a_record_of_other_sizes_is_refused(build: Build) -> None:
    folder = build({"model": SMALL_MLP, "data": NOISELESS, "at": "truth"})
    other = SimpleNamespace(path=folder.path, data=folder.data, record=folder.record.model_copy(update={"n": 61}))
    with pytest.raises(UserError, match=r"n = 60 and d = 26, but target\.json says n = 61"):
        load_target(other, "float64")


@pytest.mark.parametrize("name", ["data.npz", "params.eqx", "static.eqx"])
def test_a_flipped_byte_or_a_missing_file_is_refused(build: Build, name: str) -> None:
    file = build({"model": {"kind": "quadratic", "curvatures": [1.0, 2.0]}}).path / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}: its bytes differ"):
        TargetFolder(file.parent)
    file.unlink()
    with pytest.raises(UserError, match=rf"{name}: missing"):
        TargetFolder(file.parent)


def test_streams_depend_on_every_part_of_their_name() -> None:
    keys = [
        stream(5, "data", {"n": 3}),
        stream(5 + 2**32, "data", {"n": 3}),
        stream(5 + 2**62, "data", {"n": 3}),
        stream(6, "data", {"n": 3}),
        stream(5, "noise", {"n": 3}),
        stream(5, "data", {"n": 4}),
    ]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == len(keys)
    np.testing.assert_array_equal(
        jax.random.key_data(stream(5, "d", {"a": 1, "b": 2})), jax.random.key_data(stream(5, "d", {"b": 2, "a": 1}))
    )
