"""lambda-hat watch: a real sampling process in a faked work folder, and every state that a run can be in."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lambda_hat_cli.artifacts.progress import Progress, ProgressLog, RunningEstimate, latest_progress
from lambda_hat_cli.experiment.rows import RunRow, TargetRow
from lambda_hat_cli.experiment.schema import Budget, HmcSettings, PosteriorSettings, RunSettings, TargetSpec
from lambda_hat_cli.provenance import stage_code
from lambda_hat_cli.report.plain import columns_of
from lambda_hat_cli.report.watch import Watch, table
from lambda_hat_cli.targets.build import build_target

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "JAX_ENABLE_X64": "1"}
ESTIMATE = RunningEstimate(
    chains=4, draws=250, llc=2.5, half_width=0.25, ess=812.0, rhat=1.0031, gradients_per_second=9.0, seconds_left=40.0
)
NOW = 1_000_000.0


def command(name: str, *arguments: str | Path) -> list[str]:
    return [str(part) for part in (ROOT / "bin" / name, *arguments)]


def watch(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    done = command("lambda-hat", "watch", *arguments)
    return subprocess.run(done, env=ENVIRONMENT, capture_output=True, text=True, check=False)


Task = Callable[..., Path]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A results folder of a pipeline that began at NOW − 100, with the runs a to f planned."""
    info = tmp_path / "results" / "pipeline_info"
    (info / "plan").mkdir(parents=True)
    rows = [{"id": letter * 16, "folder": f"net-hmc-{letter * 8}", "seed": 1} for letter in "abcdef"]
    (info / "plan" / "runs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (info / "folders.json").write_text(json.dumps({"work": str(tmp_path / "work")}))
    (tmp_path / "work").mkdir()
    os.utime(info / "folders.json", (NOW - 100, NOW - 100))
    return info.parent


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """A task's folder with the progress of some runs, last written at NOW − `ago`."""

    def make(
        name: str, *told: tuple[str, str, str, RunningEstimate | None], ago: float, status: int | None = None
    ) -> Path:
        folder = tmp_path / "work" / name[:2] / name[2:]
        folder.mkdir(parents=True)
        file = folder / "progress.jsonl"
        for run, state, line, estimate in told:
            ProgressLog(file, run * 16, f"net-hmc-{run * 8}").write(state, line, estimate)  # type: ignore[arg-type]
        os.utime(file, (NOW - ago, NOW - ago))
        if status is not None:
            (folder / ".exitcode").write_text(str(status))
        return file

    return make


def lines(results: Path, limit: int = 50) -> list[str]:
    return table(Watch(results).look(), limit, NOW).splitlines()


def publish(results: Path, run: str, **numbers: Any) -> None:
    folder = results / "runs" / f"net-hmc-{run * 8}"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    known = {"llc": 3.0, "llc_low": 2.5, "llc_high": 3.5, "ess_mean": 400.0, "rhat": 1.01, "verdict": "reliable"}
    (folder / "analysis.json").write_text(json.dumps({**known, "reasons": [], "n": 10, **numbers}))


def test_every_state_of_a_run(results: Path, task: Task) -> None:
    running = ("a", "running", "250 draws × 4 chains: …", ESTIMATE)
    task("aa01", ("a", "running", "started", None), running, ("a", "running", "draws become warm-up", None), ago=7)
    task("ab02", ("b", "running", "warm-up done: step size 0.1", None), ago=30, status=137)
    task("ac03", ("c", "completed", "done", ESTIMATE), ("d", "failed", "no such\ntarget", None), ago=20, status=0)
    publish(results, "c")
    publish(results, "e", llc=None, llc_low=None, llc_high=None, verdict="invalid", reasons=["chains disagree"])
    shown = lines(results)
    assert shown[0] == "6 runs: 1 running, 1 lost, 1 failed, 1 completed, 1 finished, 1 waiting"
    assert shown[2].split("  ")[0] == "run"
    words = [" ".join(line.split()) for line in shown[3:]]
    assert words == [
        "net-hmc-aaaaaaaa running 2.50 ± 0.25 1.003 812 4 × 250 ≤ 40 s 7 s ago",
        "net-hmc-bbbbbbbb lost its task ended with status 137; 30 s ago: warm-up done: step size 0.1",
        "net-hmc-dddddddd failed 20 s ago: no such target",
        "net-hmc-cccccccc completed, reliable 3.00 ± 0.50 1.010 400",
        "net-hmc-eeeeeeee finished, invalid chains disagree",
    ]
    assert lines(results, limit=2)[-1] == "and 3 more"


def test_of_several_tasks_the_last_of_this_pipeline_counts(results: Path, task: Task) -> None:
    task("aa01", ("a", "running", "of an earlier pipeline", ESTIMATE), ago=5000)
    task("ab02", ("b", "running", "killed", ESTIMATE), ago=60, status=137)
    task("ac03", ("b", "running", "tried again", None), ago=3)
    assert lines(results)[0] == "6 runs: 1 running, 5 waiting"
    assert "3 s ago: tried again" in lines(results)[3]


def test_a_task_that_ended_is_not_read_again_and_one_in_flight_is(results: Path, task: Task) -> None:
    watched = Watch(results)
    file = task("aa01", ("a", "running", "started", None), ago=9)
    assert watched.look().runs[0].state == "running"
    file.write_text(file.read_text() + '{"run_id": "half a li')
    assert watched.look().runs[0].state == "running"
    (file.parent / ".exitcode").write_text("1")
    assert watched.look().runs[0].state == "lost"
    file.unlink()
    assert watched.look().runs[0].state == "lost"


def test_lines_are_as_wide_as_the_terminal(results: Path, task: Task) -> None:
    """Whole where there is none; of a name as much as a wide one has room for."""
    told = "words " * 60
    task("aa01", ("a", "running", told.strip(), None), ("b", "running", "250 draws", ESTIMATE), ago=7)
    plan = results / "pipeline_info" / "plan" / "runs.jsonl"
    long = "net-" + "x" * 90
    plan.write_text(plan.read_text().replace("net-hmc-bbbbbbbb", long))
    survey = Watch(results).look()
    whole = table(survey, 9, NOW)
    assert told.strip() in whole
    assert long in whole
    for width in (80, 120, 200):
        lines = table(survey, 9, NOW, width).splitlines()
        assert max(map(columns_of, lines)) == width
        assert all(line.endswith("…") for line in lines if columns_of(line) == width)
    assert long in table(survey, 9, NOW, 200)
    assert "7 s ago" in next(line for line in table(survey, 9, NOW, 120).splitlines() if line.startswith("net-xx"))
    assert told.strip() in watch(results, "--once").stdout


def test_before_the_plan_and_after_the_end(results: Path, task: Task) -> None:
    plan = results / "pipeline_info" / "plan" / "runs.jsonl"
    rows = plan.read_text()
    plan.unlink()
    assert lines(results) == ["nothing is planned yet"]
    plan.write_text(rows[: len(rows) // 2 - 9])
    assert lines(results) == ["2 runs: 2 waiting"]
    plan.write_text(rows)
    publish(results, "a")
    (results / "summary").mkdir()
    (results / "summary" / "counts.json").write_text("{}")
    assert lines(results)[0] == "6 runs: 1 finished, 5 missing; the pipeline has ended"


def test_a_folder_that_is_none(tmp_path: Path, results: Path) -> None:
    for arguments, words in (
        ((tmp_path / "nowhere",), "nowhere: no such folder; give the pipeline's --outdir"),
        ((tmp_path,), "folders.json: missing, so "),
    ):
        done = watch(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("watch: ")
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1
    done = watch(results, "--work", tmp_path / "elsewhere")
    assert done.returncode == 0
    assert "elsewhere: the tasks' work folder is not here; give it with --work" in done.stdout


def test_a_real_run_in_flight_and_its_end(tmp_path: Path) -> None:
    spec = TargetSpec.model_validate({"model": {"kind": "quadratic", "curvatures": (1.0, 10.0)}})
    target = TargetRow(
        id="a" * 16, name="quad", entry="quad", folder="quad-a", spec=spec, seed=1, d=2, n=1000, code={}, pack="0" * 16
    )
    build_target(target, tmp_path / "target", None)
    short = RunRow(
        id="b" * 16,
        folder="quad-hmc-bbbbbbbb",
        target="quad",
        target_id=target.id,
        target_kind="quadratic",
        sampler="hmc",
        settings=HmcSettings(kind="hmc", warmup=40, leapfrog_steps=6),
        posterior=PosteriorSettings(),
        runs=RunSettings(chains=4, tolerance=0.5, budget=Budget(gradients=12_000)),
        replicate=0,
        seed=1,
        precision="float64",
        d=2,
        n=1000,
        code=stage_code("sample"),
        pack="d" * 16,
    )
    runs = RunSettings(chains=4, tolerance=1e-4, budget=Budget(gradients=10**9, seconds=100.0))
    long = short.model_copy(update={"id": "c" * 16, "folder": "quad-hmc-cccccccc", "runs": runs})
    info, task = tmp_path / "results" / "pipeline_info", tmp_path / "work" / "12" / "3456"
    (info / "plan").mkdir(parents=True)
    task.mkdir(parents=True)
    rows = "".join(row.model_dump_json() + "\n" for row in (short, long))
    for file in (info / "plan" / "runs.jsonl", task / "rows.jsonl"):
        file.write_text(rows)
    (info / "folders.json").write_text(json.dumps({"work": str(tmp_path / "work")}))
    rows_and_target = ("--rows", "rows.jsonl", "--target", tmp_path / "target")
    sample = command("sample", *rows_and_target, "--out", "runs", "--progress", "progress.jsonl")
    with subprocess.Popen(sample, cwd=task, env=ENVIRONMENT, stderr=subprocess.DEVNULL) as process:
        try:
            while not (seen := in_flight(task / "progress.jsonl", long.id)) and process.poll() is None:
                time.sleep(0.2)
            shown = watch(tmp_path / "results").stdout.splitlines()
        finally:
            process.kill()
    assert seen
    assert shown[0] == "2 runs: 1 running, 1 completed"
    assert re.fullmatch(rf"{long.folder} +running +[\d.]+ ± [\d.]+ .* 4 × [\d,]+ +≤ .* s ago", shown[3])
    assert re.match(rf"{short.folder} +completed ", shown[4])
    assert sorted(path.name for path in (task / "runs" / short.id).iterdir()) == ["run.json", "trace.nc"]
    (task / ".exitcode").write_text("137")
    assert "its task ended with status 137" in watch(tmp_path / "results", "--once").stdout


def in_flight(file: Path, run: str) -> Progress | None:
    """The run's progress once it tells of an estimate."""
    told = latest_progress(file).get(run)
    return told if told is not None and told.state == "running" and told.estimate is not None else None
