"""Data and weights of the user's own: they travel whatever they are called, and decide what a resumed run computes."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pipeline.nextflow_run import run_pipeline

pytestmark = pytest.mark.nextflow

SETTINGS = {"chains": 4, "tolerance": 0.5, "budget": {"gradients": 8000}}


def test_data_and_weights_are_built_and_resumed(tmp_path: Path) -> None:
    """In one test because the second run starts where the first one ended."""
    folder = tmp_path / "somebody's work"
    table = folder / "data $(touch it)" / "it's.csv"
    table.parent.mkdir(parents=True)
    inputs = np.random.default_rng(0).standard_normal((200, 2)).astype(np.float32)
    lines = [f"{a},{b},{2 * a - b}" for a, b in inputs.tolist()]
    table.write_text("\n".join(["a,b,y", *lines]) + "\n")
    save_file({"0.weight": np.array([[2.0, -1.0]], np.float32)}, folder / "net.safetensors")
    line = {
        "name": "line",
        "model": {"kind": "mlp", "widths": [2, 1], "bias": False},
        "data": {"kind": "file", "path": str(table.relative_to(folder)), "outputs": "y", "noise": {"scale": 0.1}},
        "weights": {"file": "net.safetensors", "names": {"layers/*/weight": "*.weight"}},
    }
    samplers = [{"kind": "hmc", "warmup": 20}]
    experiment = {"name": "own", "targets": [line], "samplers": samplers, "runs": SETTINGS}
    (folder / "experiment.yml").write_text(json.dumps(experiment))

    first = run_pipeline(folder, "--experiment", "experiment.yml")
    assert first.status == 0, first.output
    (row,) = first.results()
    assert (row["n"], row["d"], row["truth_kind"]) == ("200", "2", "none")
    assert float(row["llc"]) > 0
    (record,) = first.records("targets/*/target.json")
    assert record["loss_at_w_star"] < 1e-10

    text = table.read_text()
    table.write_text(text.replace("a,b,y", "a,b,z"))
    renamed = run_pipeline(folder, "--experiment", "experiment.yml", "-resume")
    assert renamed.status != 0
    assert renamed.tasks("Submitted") == ["PLAN"], renamed.output
    assert 'it\'s.csv: has no column "y" (columns: a, b, z)' in renamed.output

    table.write_text(text + "0.5,0.5,0.5\n")
    longer = run_pipeline(folder, "--experiment", "experiment.yml", "-resume")
    assert longer.status == 0, longer.output
    assert longer.tasks("Submitted") == ["ANALYZE", "BUILD_TARGET", "PLAN", "REPORT", "SAMPLE_FLOAT64"]
