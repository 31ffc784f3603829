"""The makers of references on problems that quadrature solves, and how their data are looked up."""

import json
import math
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from integrated_layer import Marginal, gradient, inner, marginal
from references import density, target_row
from tempered_smc import Settings, combine, pilot, run

from lambda_hat_cli import provenance
from lambda_hat_cli.errors import UserError
from lambda_hat_cli.experiment.expand import expand
from lambda_hat_cli.experiment.load import load_experiment
from lambda_hat_cli.experiment.schema import DeepLinearModel, TargetSpec, TeacherData
from lambda_hat_cli.provenance import stage_code
from lambda_hat_cli.targets.data import make_data
from lambda_hat_cli.truth import references
from lambda_hat_cli.truth.finite_t import finite_t_for, normal_crossing_mean, quadratic_mean
from lambda_hat_cli.truth.references import Reference, References, add_reference, find_reference

T = 1000 / math.log(1000)
ORACLES = Path(__file__).parents[2] / "validation/experiments/oracles.yml"


def problem(widths: list[int], noise: float, localization: float = 1.0) -> tuple[Marginal, tuple[np.ndarray, ...]]:
    """A deep linear problem of 40 rows at a random w*; also its data and layers."""
    random = np.random.default_rng(3)
    x = random.standard_normal((40, widths[0]))
    layers = [random.standard_normal((a, b)) for b, a in pairwise(widths)]
    f = x @ (np.linalg.multi_dot(layers[::-1]) if len(layers) > 1 else layers[0]).T
    y = f + noise * random.standard_normal(f.shape)
    return marginal(x, y, layers, 0.7, 9.0, localization), (x, y, *layers)


def test_integral_over_the_last_layer_against_quadrature() -> None:
    # Two parameters, noisy labels: E[tK], Z and E‖w − w*‖² on a fine grid of both.
    gamma = 0.6
    marginal_problem, (x, y, first, last) = problem([1, 1, 1], noise=0.3, localization=gamma)
    a = np.linspace(-8, 8, 4001)[:, None]
    for b in (0.4, -1.3):
        loss = 9.0 * np.mean((y - x * b * a.T) ** 2, axis=0) / (2 * 0.49)
        at_w_star = 9.0 * np.mean((y - x * first * last) ** 2) / (2 * 0.49)
        change = loss - at_w_star
        weight = np.exp(-change - 0.5 * gamma * (a[:, 0] - last[0, 0]) ** 2)
        found = inner(marginal_problem, (jnp.full((1, 1), b),))
        np.testing.assert_allclose(found.mean, change @ weight / weight.sum(), rtol=1e-9)
        normalizer = weight.sum() * (a[1, 0] - a[0, 0]) * math.sqrt(gamma / (2 * math.pi))
        np.testing.assert_allclose(found.log_weight, math.log(normalizer), rtol=1e-9)
        distance = (a[:, 0] - last[0, 0]) ** 2 @ weight / weight.sum()
        np.testing.assert_allclose(found.distance_squared, distance, rtol=1e-9)


def test_gradient_is_that_of_the_log_weight() -> None:
    marginal_problem, _ = problem([3, 4, 2, 3], noise=0.5)
    others = tuple(layer + 0.3 for layer in marginal_problem.others)
    expected = jax.grad(lambda layers: inner(marginal_problem, layers).log_weight)(others)
    for found, layer in zip(gradient(marginal_problem, others), expected, strict=True):
        np.testing.assert_allclose(found, layer, rtol=1e-9)


def test_fixed_features_leave_a_quadratic() -> None:
    # At b = b* the last layer's own posterior is Gaussian: its E[tK] is the closed form over the curvatures of ΦᵀΦ.
    marginal_problem, (x, _, first, _) = problem([3, 4, 2], noise=0.0)
    curvatures = np.linalg.eigvalsh(first @ x.T @ x @ first.T) / (40 * 0.49)
    expected = 2 * quadratic_mean([h for h in curvatures if h > 1e-9], 9.0, 1.0)
    np.testing.assert_allclose(inner(marginal_problem, marginal_problem.others).mean, expected, rtol=1e-9)


@pytest.mark.parametrize(("layers", "localization"), [(1, 1.0), (2, 0.0)])
def test_a_problem_without_a_marginal_is_refused(layers: int, localization: float) -> None:
    with pytest.raises(ValueError, match="two layers"):
        problem([2] * (layers + 1), 0.0, localization)


def test_estimator_on_a_normal_crossing() -> None:
    """K = c·w1²·w2² at w* = 0: value, spread and normalizer against quadrature; 12 repeats, 4.5 standard errors."""
    x = np.random.default_rng(5).standard_normal((200, 1))
    crossing = marginal(x, np.zeros((200, 1)), [np.zeros((1, 1))] * 2, 0.1, T, 2.0)
    exact = normal_crossing_mean([1, 1], T * float(np.mean(x**2)) / 0.02, 2.0)
    settings = Settings(400, 2, trajectory=2.0, leapfrog_steps=32, final_moves=5, ess=0.8, shortest_step=0.2)
    law, key = density(crossing.others), jax.random.key(0)
    schedule = pilot(jax.random.fold_in(key, 0), law, crossing, 2.0, settings)
    outcomes = [run(jax.random.fold_in(key, n), law, crossing, 2.0, settings, schedule) for n in range(1, 13)]
    value, se = combine(outcomes)
    assert abs(value[0] - exact) < 4.5 * se[0]
    assert se[0] < 0.02 * exact
    z = np.linspace(-6, 6, 20001)
    log_weight = jax.vmap(lambda b: inner(crossing, (b[None, None],)).log_weight)(jnp.asarray(z))
    normalizer = np.sum(np.exp(log_weight - z**2)) * (z[1] - z[0]) / math.sqrt(math.pi)
    found = np.exp([outcome.log_normalizer for outcome in outcomes])
    assert abs(found.mean() - normalizer) < 4.5 * found.std(ddof=1) / math.sqrt(len(found))


@pytest.mark.parametrize(
    ("name", "words"), [("rrr", 'no target "rrr"; it has quadratic-20'), ("crossing-1-1", "of kind normal_crossing")]
)
def test_only_deep_linear_targets_have_references_made(name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        target_row(ORACLES, name)


SPEC = TargetSpec.model_validate(
    {"model": {"kind": "deep_linear", "widths": [3, 2, 3]}, "data": {"kind": "teacher", "rank": 1}, "at": "truth"}
)


def reference(value: float, nbeta: float = T) -> Reference:
    return Reference(
        target="t", spec=SPEC, seed=3, nbeta=nbeta, localization=1.0, value=value, se=0.1, method="dice",
        settings={"throws": 2.0}, checks={}, input_square=3.0, command="roll",
    )  # fmt: skip


def test_a_reference_answers_its_own_question_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "references.json"
    file.write_text('{"entries": []}')
    for entry in (reference(1.0), reference(2.0, nbeta=2 * T), reference(3.0)):
        add_reference(entry, file)
    assert [entry.value for entry in References.model_validate_json(file.read_bytes()).entries] == [2.0, 3.0]
    found = find_reference(SPEC, 3, 1000 * (1 / math.log(1000)), 1.0, file)
    assert found is not None
    assert found.value == 3.0
    other = SPEC.model_copy(update={"at": "trained"})
    for question in ((other, 3, T, 1.0), (SPEC, 4, T, 1.0), (SPEC, 3, 1.001 * T, 1.0), (SPEC, 3, T, 0.0)):
        assert find_reference(*question, file) is None
    monkeypatch.setattr(references.find_reference, "__defaults__", (file,))
    answer = finite_t_for(SPEC, 3, T, 1.0)
    assert (answer.value, answer.se, answer.kind, answer.source) == (3.0, 0.1, "reference", "dice; roll")
    file.write_text(json.dumps({"entries": [{}]}))
    with pytest.raises(UserError, match=r"entries\.0"):
        find_reference(SPEC, 3, T, 1.0, file)


def test_committed_references_are_of_the_data_that_are_built_today() -> None:
    entries = References.model_validate_json(references.DATA.read_bytes()).entries
    for entry in entries:
        data = make_data(entry.spec, entry.seed)
        assert isinstance(entry.spec.data, TeacherData)
        square = np.mean(np.sum(data["x"].astype(np.float64) ** 2, axis=1))
        assert square == pytest.approx(entry.input_square, rel=1e-5), entry.target
        assert 0 < entry.se < 0.003 * entry.value, entry.target


def test_every_oracle_target_has_a_value_at_finite_t() -> None:
    rows = expand(load_experiment(ORACLES), where="", files={}, build_code={}, sample_code={}).targets
    for row in rows:
        assert row.n is not None
        finite_t = finite_t_for(row.spec, row.seed, row.n / math.log(row.n), 1.0)
        linear = isinstance(row.spec.model, DeepLinearModel)
        assert finite_t.kind == ("reference" if linear else "exact"), row.name


def test_changed_references_recompute_the_analyses_and_nothing_before_them() -> None:
    key = references.DATA.relative_to(Path(provenance.__file__).parents[1]).as_posix()
    holders = {stage for stage in ("plan", "build_target", "sample", "analyze", "report") if key in stage_code(stage)}
    assert "analyze" in holders
    assert not holders & {"plan", "build_target", "sample"}
