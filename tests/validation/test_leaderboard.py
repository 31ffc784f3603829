"""The leaderboard's figures against values worked out by hand; what devinterp's program reads of a target folder."""

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import leaderboard
import numpy as np
import pytest
from devinterp.target_folder import read_target
from leaderboard import Entry, devinterp_entry, entry_of, ordering, read_entries, score, section, short
from summary import Provenance

from lambda_hat_cli.artifacts.target import TargetFolder
from lambda_hat_cli.experiment.rows import TargetRow
from lambda_hat_cli.targets.build import build_target
from lambda_hat_cli.targets.load import load_target

NBETA = 1000 / math.log(1000)
ROW = {
    "target": "net",
    "target_id": "1" * 16,
    "status": "budget_exhausted",
    "stated_error": "1",
    "target_kind": "deep_linear",
    "sampler": "hmc-1e5",
    "run_id": "0",
    "verdict": "uncertain",
    "minimum": "at_minimum",
    "llc": "11",
    "llc_low": "9",
    "llc_high": "13",
    "finite_t_value": "10",
    "finite_t_se": "",
    "truth": "10.5",
    "gradients": "99000",
    "seconds_total": "3",
    "nbeta": repr(NBETA),
    "gamma": "1.0",
}
SILENT = {"verdict": "invalid", "llc": "", "llc_low": "", "llc_high": ""}
LINE = {
    "target": "net",
    "target_id": "1" * 16,
    "lr": "1e-05",
    "chains": "4",
    "budget": "100000.0",
    "localization": "1.0",
    "nbeta": repr(NBETA),
    "llc": "8",
    "llc_std": "2",
    "gradients": "100000",
    "seconds": "50",
}
RUNS = {"budget": {"gradients": 1e5}, "tolerance": 0.001}
QUADRATIC = {"model": {"kind": "quadratic", "curvatures": [0.5, 2.0, 8.0], "rotation": True}}
NET = {
    "model": {"kind": "deep_linear", "widths": [3, 2, 4]},
    "data": {"kind": "teacher", "n": 50, "rank": 1, "noise": {"kind": "none", "scale": 0.2}},
    "at": "truth",
}


def entry(**cells: str) -> Entry:
    return entry_of({**ROW, **cells}, RUNS)


def test_score_of_runs_with_and_without_a_number() -> None:
    found = score("hmc", [entry(), entry(llc="9.8", llc_low="9.7", llc_high="9.9"), entry(**SILENT)])
    assert (found.runs, found.silent, found.held, found.intervals) == (3, 1, 1, 2)
    assert found.error == pytest.approx((0.1 - 0.02) / 2)
    assert found.error_se == pytest.approx(0.06)  # two values .12 apart: s.d. .12/√2, over √2
    assert found.rms == pytest.approx(math.sqrt((0.1**2 + 0.02**2) / 2))
    assert found.width == pytest.approx((2 / 11 + 0.1 / 9.8) / 2)
    assert found.verdicts == {"uncertain": 2, "invalid": 1}
    assert (found.gradients, found.seconds, found.stopped) == (99000, 3, 0)
    nothing = score("hmc", [entry(**SILENT)])
    assert (nothing.error, nothing.rms, nothing.width) == (None, None, None)


def test_pairs_are_runs_on_nets_of_different_limits() -> None:
    runs = [
        entry(truth="1", llc="1.1", llc_low="1", llc_high="1.2"),
        entry(truth="1", llc="3", llc_low="2.9", llc_high="3.1"),
        entry(truth="2", llc="2", llc_low="1.1", llc_high="2.9"),
        entry(truth="4", **SILENT),
        entry(truth="9", llc="0", llc_low="0", llc_high="0", target_kind="quadratic"),
    ]
    found = ordering(runs)
    # Of the pairs (1.1, 2) and (3, 2) the first is in order; both touch. The net of λ = 4 gave no number, thrice.
    assert (found.right, found.judged, found.silent) == (1, 2, 3)
    assert (found.preserved, found.disjoint) == (0, 0)
    apart = ordering([*runs[:1], entry(truth="2", llc="2", llc_low="1.9", llc_high="2.1")])
    assert (apart.preserved, apart.disjoint) == (1, 1)


def test_devinterps_interval_is_students_over_its_chains() -> None:
    found = devinterp_entry(LINE, {"net": ROW}).outcome
    assert found.low is not None
    assert found.low == pytest.approx(8 - 3.1824463 * 2 / 2)  # t(3) at 97.5 %
    assert (found.sampler, found.covered, found.error) == ("devinterp, lr 1e-5", True, pytest.approx(-0.2))
    failed = devinterp_entry({**LINE, "llc": "", "llc_std": "", "gradients": ""}, {"net": ROW}).outcome
    assert (failed.llc, failed.low, failed.gradients) == (None, None, None)


@pytest.mark.parametrize("cells", [{"target": "other"}, {"target_id": "2"}, {"nbeta": "100"}, {"localization": "0"}])
def test_devinterp_on_another_posterior_is_refused(cells: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"devinterp\.csv"):
        devinterp_entry({**LINE, **cells}, {"net": ROW})


def test_short_numbers() -> None:
    assert [short(value) for value in (1e5, 2e4, 1e-5, 0.01)] == ["1e5", "2e4", "1e-5", "1e-2"]


def test_section_of_a_results_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = Provenance(date="2026-01-01", commit="abc", machine="a machine", cores=2, tasks=2, cpu_hours=0.5)
    monkeypatch.setattr(leaderboard, "provenance", lambda results: where)
    rows = [ROW, {**ROW, **SILENT, "run_id": "1", "sampler": "vi-1e5"}]
    write(tmp_path / "summary" / "results.csv", rows)
    write(tmp_path / "devinterp.csv", [LINE])
    plan = tmp_path / "pipeline_info" / "plan" / "runs.jsonl"
    plan.parent.mkdir(parents=True)
    plan.write_text("".join(json.dumps({"id": key, "runs": RUNS}) + "\n" for key in "01"), encoding="utf-8")
    assert [run.outcome.sampler for run in read_entries(tmp_path)] == ["hmc", "vi", "devinterp, lr 1e-5"]
    text = section(tmp_path)
    assert "### 100,000 gradients" in text
    each = text[text.index("| target | E[tK]") :]
    samplers = [line.split("|")[3].strip() for line in each.splitlines()[2:]]
    assert samplers == ["hmc", "devinterp, lr 1e-5", "vi"]  # by rms error; none comes last


def write(file: Path, rows: list[dict[str, str]]) -> None:
    file.parent.mkdir(exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


@pytest.mark.parametrize("spec", [QUADRATIC, NET], ids=["quadratic", "net"])
def test_devinterps_program_reads_the_loss_that_the_samplers_use(spec: Mapping[str, Any], tmp_path: Path) -> None:
    fields = {"id": "0" * 16, "name": "t", "entry": "t", "folder": "t", "spec": spec, "seed": 3}
    rest = {"d": None, "n": None, "code": {}, "pack": "0" * 16}
    build_target(TargetRow.model_validate_json(json.dumps(fields | rest)), tmp_path / "t", None)
    read, loaded = read_target(tmp_path / "t"), load_target(TargetFolder(tmp_path / "t"), jnp.float64)
    rng = np.random.default_rng(0)
    weights = [weight + rng.standard_normal(weight.shape).astype(np.float32) for weight in read.weights]
    w = jnp.asarray(np.concatenate([weight.ravel() for weight in weights]), jnp.float64)
    assert read.loss(weights) == pytest.approx(float(jnp.mean(loaded.losses(w, loaded.data))), rel=1e-6)
    assert read.id == "0" * 16
    assert read.loss(read.weights) == pytest.approx(read.loss_at_w_star, abs=1e-10)
