"""Targets of which some parameters, or some rows, are studied: the same loss, exact values on the quadratic."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from lambda_hat_cli.artifacts.target import TargetFolder
from lambda_hat_cli.errors import UserError
from lambda_hat_cli.experiment.restriction import free_parts
from lambda_hat_cli.experiment.rows import TargetRow
from lambda_hat_cli.experiment.schema import TargetSpec
from lambda_hat_cli.targets.build import build_target, build_targets, chosen_rows
from lambda_hat_cli.targets.load import LoadedTarget, load_target
from lambda_hat_cli.truth.finite_t import finite_t_for

Build = Callable[[dict[str, Any]], TargetFolder]
NET = {
    "model": {"kind": "mlp", "widths": [3, 4, 2]},
    "data": {"kind": "teacher", "n": 60},
    "train": {"steps": 20, "batch_size": "full"},
}
QUADRATIC = {"model": {"kind": "quadratic", "curvatures": [1, 0, 4, 9, 16]}}


def row(spec: dict[str, Any], identity: str = "0" * 16) -> TargetRow:
    return TargetRow(
        id=identity, name="t", entry="t", folder="t-0", spec=TargetSpec.model_validate(spec), seed=7, d=None, n=None,
        code={}, pack="0" * 16,
    )  # fmt: skip


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def make(spec: dict[str, Any]) -> TargetFolder:
        out = tmp_path / f"target-{len(list(tmp_path.iterdir()))}"
        build_target(row(spec), out, None)
        return TargetFolder(out)

    return make


def loaded(folder: TargetFolder) -> LoadedTarget:
    return load_target(folder, "float64")


@pytest.mark.parametrize(
    ("patterns", "positions"),
    [
        (["layers/0/*"], range(16)),
        (["*/weight"], [*range(12), *range(16, 24)]),
        (["layers/0/weight[2:5]", "layers/1/bias"], [2, 3, 4, 24, 25]),
        (["*"], range(26)),
    ],
)
def test_the_rest_stays_at_w_star(build: Build, patterns: list[str], positions: list[int]) -> None:
    """A restricted target has the loss of the whole one with the other parameters held, at any w."""
    whole, part = loaded(build(NET)), loaded(build({**NET, "restrict": patterns}))
    free = np.array(positions)
    assert part.d == len(free)
    np.testing.assert_array_equal(part.w_star, whole.w_star[free])
    moved = np.random.default_rng(0).normal(size=part.d)
    np.testing.assert_array_equal(
        part.losses(jnp.asarray(moved), part.data),
        whole.losses(whole.w_star.at[free].set(moved), whole.data),
    )


def test_rows_are_those_of_the_whole_data_at_the_same_w_star(build: Build) -> None:
    whole, part = loaded(build(NET)), loaded(build({**NET, "rows": [10, 25]}))
    assert (part.n, part.rows) == (15, 15)
    np.testing.assert_array_equal(part.w_star, whole.w_star)
    np.testing.assert_array_equal(part.losses(part.w_star, part.data), whole.losses(whole.w_star, whole.data)[10:25])


@pytest.mark.parametrize(
    ("patterns", "free"), [(["w[0:2]"], [1, 0]), (["w[2:]"], [4, 9, 16]), (["w"], [1, 0, 4, 9, 16])]
)
def test_the_blocks_of_a_quadratic_have_exact_values(build: Build, patterns: list[str], free: list[float]) -> None:
    folder = build({**QUADRATIC, "restrict": patterns})
    assert Fraction(folder.record.truth.coefficient or "nan") == Fraction(sum(h > 0 for h in free), 2)
    assert folder.record.d == len(free)
    t, gamma = 50.0, 2.0
    exact = finite_t_for(folder.record.spec, 7, t, gamma)
    assert exact.value == pytest.approx(sum(0.5 * t * h / (t * h + gamma) for h in free))


def test_a_part_of_a_rotated_quadratic_has_no_value(build: Build) -> None:
    spec = {"model": {**QUADRATIC["model"], "rotation": True}, "restrict": ["w[0:2]"]}
    record = build(spec).record
    assert record.truth.kind == "none"
    assert finite_t_for(record.spec, 7, 50.0, 2.0).kind == "none"


def test_one_training_serves_every_part_of_a_network(tmp_path: Path) -> None:
    specs = [NET, {**NET, "restrict": ["layers/0/*"]}, {**NET, "rows": [0, 30]}]
    rows = [row(spec, f"{number:016d}") for number, spec in enumerate(specs)]
    build_targets(rows, tmp_path / "together", None, lambda _, work: work())
    for each in rows:
        build_target(each, tmp_path / each.id, None)
        for name in ("params.eqx", "static.eqx", "data.npz", "target.json"):
            alone, together = (folder / each.id / name for folder in (tmp_path, tmp_path / "together"))
            assert alone.read_bytes() == together.read_bytes()


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["layer/0"], 'restrict: "layer/0" fits no parameter; did you mean "layers/0"?; they are layers/0, layers/1'),
        (["layers/0[3:9]"], '"layers/0[3:9]" is no part of layers/0, which has 6 numbers; give [a:b] with 0 ≤ a < b'),
        (["layers/0[0:2]", "layers/*"], "two patterns free different parts of layers/0, [0:2] and [0:6]; give one"),
    ],
)
def test_patterns_that_do_not_fit(patterns: list[str], message: str) -> None:
    with pytest.raises(UserError) as told:
        free_parts({"layers/0": 6, "layers/1": 4}, patterns)
    assert message in str(told.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"restrict": ["w[1,2]"]}, '"w[1,2]" is no pattern of parameters'),
        ({"restrict": []}, "restrict"),
        ({"rows": [5, 5]}, "rows: [5, 5] hold no row"),
        ({"rows": [50, 61]}, "rows: [50, 61] go beyond the 60 rows of the data; give [start, stop] within them"),
    ],
)
def test_sections_that_make_no_sense(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"restrict|rows") as told:
        TargetSpec.model_validate({**NET, **change})
    assert message in str(told.value)


def test_rows_beyond_data_that_only_the_build_knows() -> None:
    with pytest.raises(UserError, match=r"rows: \[50, 70\] go beyond the 60 rows of the data"):
        chosen_rows({"x": np.ones((60, 3))}, (50, 70))


def test_a_pattern_that_fits_nothing_costs_no_training(build: Build) -> None:
    """So many steps would not end while anybody waits."""
    endless = {**NET, "train": {"steps": 10**9, "batch_size": "full"}}
    with pytest.raises(UserError, match='"layer/0/weight" fits no parameter'):
        build({**endless, "restrict": ["layer/0/weight"]})
