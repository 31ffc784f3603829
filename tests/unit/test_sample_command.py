"""The sample command as a process: a run folder or one clear message, and the same numbers each time."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lambda_hat_cli.artifacts.failure import FailureNote
from lambda_hat_cli.artifacts.run import RunFolder
from lambda_hat_cli.estimate.interval import estimate_markov, estimate_weighted
from lambda_hat_cli.experiment.rows import RunRow, TargetRow
from lambda_hat_cli.experiment.schema import (
    Budget,
    HmcSettings,
    PosteriorSettings,
    RunSettings,
    SamplerSettings,
    SgldSettings,
    TargetSpec,
    ViSettings,
)
from lambda_hat_cli.provenance import stage_code
from lambda_hat_cli.targets.build import build_target
from lambda_hat_cli.truth.finite_t import quadratic_mean

ROOT = Path(__file__).resolve().parents[2]
Sample = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built quadratic of two parameters."""
    folder = tmp_path_factory.mktemp("targets") / "quad"
    spec = TargetSpec.model_validate({"model": {"kind": "quadratic", "curvatures": (1.0, 10.0)}})
    row = TargetRow(id="a" * 16, name="quad", folder="quad-aaaaaaaa", spec=spec, seed=1, d=2, n=1000, code={})
    build_target(row, folder, None)
    return folder


def row(**changes: Any) -> RunRow:
    content: dict[str, Any] = {
        "id": "b" * 16,
        "folder": "quad-hmc-bbbbbbbb",
        "target": "quad",
        "target_id": "a" * 16,
        "target_kind": "quadratic",
        "sampler": "hmc",
        "settings": HmcSettings(kind="hmc", warmup=40, leapfrog_steps=6),
        "posterior": PosteriorSettings(),
        "runs": RunSettings(chains=4, tolerance=0.2, budget=Budget(gradients=12_000)),
        "replicate": 0,
        "seed": 2**62 + 7,
        "precision": "float64",
        "d": 2,
        "n": 1000,
        "code": stage_code("sample"),
    }
    return RunRow.model_validate({**content, **changes})


@pytest.fixture
def sample(tmp_path: Path, target: Path) -> Sample:
    """Run the command on `run`; its outputs are in `tmp_path / out`."""

    def start(
        run: RunRow, *more: str, out: str = "run", folder: Path = target, x64: bool = True
    ) -> subprocess.CompletedProcess[str]:
        (tmp_path / "row.json").write_text(run.model_dump_json())
        command = [ROOT / "bin" / "sample", "--row", tmp_path / "row.json", "--target", folder, "--out", tmp_path / out]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "JAX_ENABLE_X64": str(int(x64))}
        return subprocess.run([*map(str, command), *more], capture_output=True, text=True, env=environment, check=False)

    return start


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in ("sample: ", *words):
        assert word in done.stderr


def test_the_same_row_gives_the_same_draws(sample: Sample, tmp_path: Path) -> None:
    for out in ("one", "two"):
        done = sample(row(), out=out)
        assert done.returncode == 0, done.stderr
    one, two = RunFolder(tmp_path / "one"), RunFolder(tmp_path / "two")
    first, second = one.trace(), two.trace()
    assert first is not None
    assert second is not None
    for name, values in {**first.posterior, **first.sample_stats}.items():
        np.testing.assert_array_equal(values, {**second.posterior, **second.sample_stats}[name])
    assert one.record.gradients == two.record.gradients
    assert one.record.environment.precision == "float64"
    assert one.record.environment.prng_implementation == "threefry2x32"
    assert one.record.descent is not None
    assert one.record.descent.delta == 0.0
    chains, draws = first.posterior["llc"].shape
    assert one.record.gradients["sampling"] == chains * draws * 6
    assert one.record.gradients["warmup"] == 1 + chains * 40 * 6


@pytest.mark.parametrize(
    "settings",
    [
        SgldSettings(kind="sgld", preconditioner="rmsprop"),
        ViSettings(kind="vi", components=2, rank=1, steps=300, draws=2000),
    ],
    ids=["sgld", "vi"],
)
def test_the_float32_lane_meets_the_exact_value(sample: Sample, tmp_path: Path, settings: SamplerSettings) -> None:
    runs = RunSettings(chains=8, tolerance=0.05, budget=Budget(gradients=300_000))
    done = sample(row(sampler=settings.kind, settings=settings, runs=runs, precision="float32"), x64=False)
    assert done.returncode == 0, done.stderr
    folder = RunFolder(tmp_path / "run")
    trace = folder.trace()
    assert trace is not None
    assert (folder.record.status, folder.record.environment.precision) == ("completed", "float32")
    estimate = (
        estimate_markov(trace.posterior["llc"])
        if trace.draw_kind == "markov"
        else estimate_weighted(trace.posterior["llc"], trace.sample_stats["log_weight"])
    )
    assert abs(estimate.llc - quadratic_mean([1.0, 10.0], folder.record.nbeta, 1.0)) < 3.5 * estimate.se
    assert estimate.se < 0.03


def test_a_spent_budget_is_a_result(sample: Sample, tmp_path: Path) -> None:
    done = sample(row(runs=RunSettings(chains=4, budget=Budget(gradients=500))))
    assert done.returncode == 0, done.stderr
    record = RunFolder(tmp_path / "run").record
    assert (record.status, record.draws) == ("budget_exhausted", 0)
    assert "500 gradients" in str(record.reason)


def test_another_lane_is_refused(sample: Sample, tmp_path: Path) -> None:
    refused(sample(row(precision="float32")), "b" * 16, "float32", "float64", "lane")
    assert not (tmp_path / "run").exists()


def test_an_existing_folder_is_kept(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    refused(sample(row()), "exists already")
    assert not list((tmp_path / "run").iterdir())


def test_another_target_is_refused(sample: Sample) -> None:
    refused(sample(row(target_id="c" * 16)), "c" * 16)


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_damaged_target_is_refused(sample: Sample, target: Path, tmp_path: Path, damage: str) -> None:
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(target), str(copy)], check=True)
    file = copy / "params.eqx"
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        content[-1] ^= 1
        file.write_bytes(content)
    else:
        file.unlink()
    refused(sample(row(), folder=copy), "params.eqx", "build the target again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "row.json"]


def test_bad_input_can_be_noted_instead(sample: Sample, tmp_path: Path) -> None:
    done = sample(row(precision="float32"), "--failure", str(tmp_path / "failure.json"))
    assert done.returncode == 0
    note = FailureNote.model_validate_json((tmp_path / "failure.json").read_bytes())
    assert (note.stage, note.id) == ("sample", "b" * 16)
