"""Ids change when and only when an input that the result depends on changes."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lambda_hat_cli.experiment.expand import Rows, expand
from lambda_hat_cli.experiment.identity import canonical_json, derive_seed, digest
from lambda_hat_cli.experiment.load import load_experiment
from lambda_hat_cli.experiment.user_files import OwnFiles

TERSE = """
name: x
targets:
  - name: net
    model: {kind: mlp, widths: [3, 4, 1]}
  - name: quadratic
    model: {kind: quadratic, curvatures: [1, 2.5]}
samplers: [{kind: hmc}, {kind: sgld}]
"""
# The same experiment with other names, keys in another order, defaults spelled out, other number formats, comments.
SPELLED_OUT = """
samplers:
  - {warmup: auto, target_acceptance: auto, name: other, kind: hmc, leapfrog_steps: auto, precision: float64}
  - kind: sgld
    batch_size: full      # a comment
    beta2: 9.9e-1
overrides: []
runs:
    replicates: 1
    budget: {seconds: 6e2, gradients: 2e6}
    save_positions: false
    tolerance: .05
targets:
  - train: {steps: 5000, learning_rate: 0.001}
    data:
      noise: {kind: gaussian}
      kind: teacher
      widths: [3, 4, 1]
    model: {layer_norm: false, widths: [3, 4, 1], kind: mlp, activation: "tanh"}
    at: trained
    name: renamed
  - {name: q, at: truth, data: {kind: none}, model: {rotation: false, curvatures: [1.0, 25e-1], kind: quadratic}}
posterior: {localization: 1, inverse_temperature: auto}
seed: 0
name: another
"""
# Committed so that a change of schema or serialisation that moves ids is seen; a changed default needs a new version.
TARGET_IDS = ["022ec758143e84d2", "9fbfd3f8ba182259"]
RUN_ID = "6e48da7867bb8b7d"


def rows(folder: Path, text: str, assignments: str = "", files: dict[str, dict[str, str]] | None = None) -> Rows:
    file = folder / "x.yml"
    file.write_text(text)
    experiment = load_experiment(file, assignments)
    own = {name: OwnFiles(paths={}, digests=digests, n=None) for name, digests in (files or {}).items()}
    return expand(experiment, where="x", files=own, build_code={"a": "1"}, sample_code={"b": "2"})


def ids(plan: Rows) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    return [(row.id, row.seed) for row in plan.targets], [(row.id, row.seed) for row in plan.runs]


def test_names_comments_order_and_spelled_defaults_change_nothing(tmp_path: Path) -> None:
    assert ids(rows(tmp_path, TERSE)) == ids(rows(tmp_path, SPELLED_OUT))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.randoms(use_true_random=False), flow=st.booleans())
def test_key_order_and_layout_change_nothing(tmp_path: Path, order: Any, flow: bool) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            items = list(value.items())
            order.shuffle(items)
            return {key: shuffled(item) for key, item in items}
        return [shuffled(item) for item in value] if isinstance(value, list) else value

    text = yaml.safe_dump(shuffled(yaml.safe_load(TERSE)), sort_keys=False, default_flow_style=flow)
    assert ids(rows(tmp_path, text)) == ids(rows(tmp_path, TERSE))


@pytest.mark.parametrize(
    "assignment",
    [
        "seed=1",
        "targets.net.model.widths=[3, 5, 1]",
        "targets.net.model.activation=relu",
        "targets.net.model.bias=false",
        "targets.net.model.layer_norm=true",
        "targets.net.data={kind: teacher, n: 999}",
        "targets.net.data={kind: teacher, widths: [3, 1]}",
        "targets.net.data={kind: teacher, inputs: {kind: manifold}}",
        "targets.net.data={kind: teacher, noise: {kind: gaussian, scale: 0.2}}",
        "targets.net.train={steps: 4999}",
        "targets.net.train={batch_size: full}",
        "targets.net.at=truth",
    ],
)
def test_what_a_target_depends_on_changes_its_id_and_its_runs(tmp_path: Path, assignment: str) -> None:
    before, after = rows(tmp_path, TERSE), rows(tmp_path, TERSE, assignment)
    assert before.targets[0].id != after.targets[0].id
    assert not {row.id for row in before.runs if row.target == "net"} & {row.id for row in after.runs}
    if assignment != "seed=1":
        assert before.targets[1] == after.targets[1]
        assert before.runs[2:] == after.runs[2:]


@pytest.mark.parametrize(
    ("assignment", "changed"),
    [
        ("samplers.hmc.target_acceptance=0.8", {"hmc"}),
        ("samplers.hmc.precision=float32", {"hmc"}),
        ("samplers.sgld.step_size=0.5", {"sgld"}),
        ("posterior.localization=2", {"hmc", "sgld"}),
        ("posterior.inverse_temperature=0.1", {"hmc", "sgld"}),
        ("runs.tolerance=0.02", {"hmc", "sgld"}),
        ("runs.chains=4", {"hmc", "sgld"}),
        ("runs.budget.gradients=5", {"hmc", "sgld"}),
    ],
)
def test_what_a_run_depends_on_changes_its_id_only(tmp_path: Path, assignment: str, changed: set[str]) -> None:
    before, after = rows(tmp_path, TERSE), rows(tmp_path, TERSE, assignment)
    assert before.targets == after.targets
    pairs = list(zip(before.runs, after.runs, strict=True))
    assert {old.sampler for old, new in pairs if old.id != new.id} == changed
    assert all((old.id == new.id) == (old.seed == new.seed) for old, new in pairs)


def test_more_replicates_keep_the_first(tmp_path: Path) -> None:
    before, after = rows(tmp_path, TERSE), rows(tmp_path, TERSE, "runs.replicates=3")
    assert {row.id for row in before.runs} < {row.id for row in after.runs}
    assert len(after.runs) == 3 * len(before.runs)


def test_set_equals_an_edit_and_an_override_equals_a_setting(tmp_path: Path) -> None:
    edited = rows(tmp_path, TERSE.replace("{kind: sgld}", "{kind: sgld, warmup: 600}"))
    assert rows(tmp_path, TERSE, "samplers.sgld.warmup=600") == edited
    overridden = TERSE + "overrides: [{match: {sampler: sgld}, set: {warmup: 600}}]\n"
    assert rows(tmp_path, overridden) == edited


def test_a_users_file_is_in_the_identity(tmp_path: Path) -> None:
    text = "name: x\ntargets: [{name: mine, model: {kind: python, file: a.py}}]\nsamplers: [{kind: hmc}]\n"
    found = {rows(tmp_path, text, files={"mine": files}).targets[0].id for files in ({"a.py": "0"}, {"a.py": "1"}, {})}
    assert len(found) == 3


def test_ids_are_stable_across_machines_and_versions(tmp_path: Path) -> None:
    plan = rows(tmp_path, TERSE)
    assert [row.id for row in plan.targets] == TARGET_IDS
    assert plan.runs[0].id == RUN_ID
    assert all(len(row.id) == 16 and 0 <= row.seed < 2**63 for row in plan.targets + plan.runs)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_values)
def test_canonical_json_reads_back_equal(value: Any) -> None:
    assert json.loads(canonical_json(value)) == value


def test_canonical_json_is_one_text() -> None:
    assert canonical_json({"b": (1, -0.0), "a": 1e-3}) == '{"a":0.001,"b":[1,0.0]}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest(float("nan"))


@given(st.integers(0, 2**63 - 1), st.text(), st.text())
def test_seeds_differ_by_purpose(seed: int, first: str, second: str) -> None:
    assert (derive_seed(seed, first) == derive_seed(seed, second)) == (first == second)
    assert 0 <= derive_seed(seed, first) < 2**63
