"""The sample command as a process: a run folder or one clear message, and the same numbers each time."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from lambda_hat_cli.artifacts.failure import FailureNote
from lambda_hat_cli.artifacts.run import RunFolder
from lambda_hat_cli.estimate.interval import estimate_markov, estimate_weighted
from lambda_hat_cli.experiment.rows import RunRow, TargetRow
from lambda_hat_cli.experiment.schema import (
    Budget,
    HmcSettings,
    MclmcSettings,
    PosteriorSettings,
    RunSettings,
    SamplerSettings,
    SgldSettings,
    TargetSpec,
    ViSettings,
)
from lambda_hat_cli.provenance import stage_code
from lambda_hat_cli.samplers import run
from lambda_hat_cli.targets.build import build_target
from lambda_hat_cli.truth.finite_t import quadratic_mean

ROOT = Path(__file__).resolve().parents[2]
Sample = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built quadratic of two parameters."""
    folder = tmp_path_factory.mktemp("targets") / "quad"
    spec = TargetSpec.model_validate({"model": {"kind": "quadratic", "curvatures": (1.0, 10.0)}})
    row = TargetRow(
        id="a" * 16,
        name="quad",
        entry="quad",
        folder="quad-aaaaaaaa",
        spec=spec,
        seed=1,
        d=2,
        n=1000,
        code={},
        pack="0" * 16,
    )
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
        "pack": "d" * 16,
    }
    return RunRow.model_validate({**content, **changes})


@pytest.fixture
def sample(tmp_path: Path, target: Path) -> Sample:
    """Run the command on some runs; the folder of each is in `tmp_path / out`, named by its id."""

    def start(
        *runs: RunRow,
        more: tuple[str, ...] = (),
        out: str = "runs",
        folder: Path = target,
        x64: bool = True,
        devices: int = 1,
    ) -> subprocess.CompletedProcess[str]:
        rows = tmp_path / f"{out}.jsonl"
        rows.write_text("".join(run.model_dump_json() + "\n" for run in runs))
        command = [ROOT / "bin" / "sample", "--rows", rows, "--target", folder, "--out", tmp_path / out]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "JAX_ENABLE_X64": str(int(x64))}
        environment["JAX_NUM_CPU_DEVICES"] = str(devices)
        return subprocess.run([*map(str, command), *more], capture_output=True, text=True, env=environment, check=False)

    return start


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in ("sample: ", *words):
        assert word in done.stderr


def draws(folder: RunFolder) -> dict[str, np.ndarray]:
    """All arrays of a run's trace by group and name."""
    trace = folder.trace()
    assert trace is not None
    groups = ("posterior", "sample_stats", "warmup_posterior", "warmup_sample_stats")
    return {f"{group} {name}": values for group in groups for name, values in getattr(trace, group).items()}


def same_result(one: RunFolder, other: RunFolder) -> None:
    assert draws(one).keys() == draws(other).keys()
    for name, values in draws(one).items():
        np.testing.assert_array_equal(values, draws(other)[name], err_msg=name)
    for field in ("id", "status", "reason", "descent", "tuned", "biased", "gradients", "gradient_evaluations"):
        assert getattr(one.record, field) == getattr(other.record, field), field


def test_the_same_row_gives_the_same_draws_alone_and_in_a_pack(sample: Sample, tmp_path: Path) -> None:
    done = sample(row(), out="alone")
    assert done.returncode == 0, done.stderr
    before = row(id="c" * 16, folder="quad-hmc-cccccccc", posterior=PosteriorSettings(localization=3.0), seed=5)
    done = sample(before, row(), out="together")
    assert done.returncode == 0, done.stderr
    alone, together = (RunFolder(tmp_path / out / ("b" * 16)) for out in ("alone", "together"))
    same_result(alone, together)
    assert RunFolder(tmp_path / "together" / ("c" * 16)).record.localization == 3.0
    record = together.record
    assert record.environment.precision == "float64"
    assert record.environment.prng_implementation == "threefry2x32"
    assert record.descent is not None
    assert record.descent.delta == 0.0
    chains, recorded = draws(together)["posterior llc"].shape
    assert record.gradients["sampling"] == chains * recorded * 6
    filling = (record.gradients["warmup"] - 1) / chains - 40 * 6
    # Blocks of 100 steps; those of a step that was too long were made, but led nowhere.
    assert filling % 100 == 0
    assert filling >= (record.tuned["filling_steps"] or 0.0) >= 600


@pytest.mark.parametrize(
    "settings",
    [
        HmcSettings(kind="hmc", warmup=40),
        MclmcSettings(kind="mclmc", warmup=40),
        SgldSettings(kind="sgld", warmup=40, precision="float64"),
        ViSettings(kind="vi", components=2, rank=1, steps=100, draws=500, precision="float64"),
    ],
    ids=["hmc", "mclmc", "sgld", "vi"],
)
def test_runs_of_one_process_compile_once_and_do_not_touch_each_other(
    settings: SamplerSettings, target: Path, tmp_path: Path
) -> None:
    """A second run with another seed, β and γ: compiles nothing, and is bit for bit what it is alone."""
    runs = RunSettings(chains=4, tolerance=0.5, budget=Budget(gradients=12_000))
    first = row(sampler=settings.kind, settings=settings, runs=runs)
    posterior = PosteriorSettings(inverse_temperature=0.3, localization=2.0)
    second = first.model_copy(update={"id": "c" * 16, "seed": 11, "posterior": posterior})
    compiled: list[str] = []

    def listen(event: str, seconds: float, **facts: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(str(facts.get("fun_name", event)))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        run.sample(first, target, tmp_path / "first", lambda *_: None)
        assert compiled
        compiled.clear()
        run.sample(second, target, tmp_path / "second", lambda *_: None)
        assert compiled == []
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    jax.clear_caches()
    run._loaded.cache_clear()
    run.sample(second, target, tmp_path / "alone", lambda *_: None)
    same_result(RunFolder(tmp_path / "second"), RunFolder(tmp_path / "alone"))


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
    folder = RunFolder(tmp_path / "runs" / ("b" * 16))
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
    record = RunFolder(tmp_path / "runs" / ("b" * 16)).record
    assert (record.status, record.draws) == ("budget_exhausted", 0)
    assert "500 gradients" in str(record.reason)


def test_a_process_that_is_to_be_ended_saves_what_it_has(sample: Sample, tmp_path: Path) -> None:
    endless = RunSettings(chains=4, tolerance=1e-4, budget=Budget(gradients=10**9))
    runs = (row(runs=endless), row(runs=endless, id="c" * 16))
    began = time.monotonic()
    done = sample(*runs, more=("--time-limit", "24", "--failures", str(tmp_path / "failures")))
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 24
    folder = RunFolder(tmp_path / "runs" / ("b" * 16))
    assert folder.record.status == "budget_exhausted"
    assert "time limit" in str(folder.record.reason)
    assert "--max_time" in str(folder.record.reason)
    trace = folder.trace()
    assert trace is not None
    assert trace.posterior["llc"].shape == (4, folder.record.draws)
    note = FailureNote.model_validate_json((tmp_path / "failures" / f"sample-{'c' * 16}.json").read_text())
    assert "was not begun" in note.message


def test_another_lane_is_refused(sample: Sample, tmp_path: Path) -> None:
    refused(sample(row(precision="float32")), "b" * 16, "float32", "float64", "lane")
    assert not (tmp_path / "runs").exists()


def test_an_existing_folder_is_kept(sample: Sample, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / ("b" * 16)
    folder.mkdir(parents=True)
    refused(sample(row()), "exists already")
    assert not list(folder.iterdir())


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
    assert not list((tmp_path / "runs").iterdir())


def test_a_failed_run_does_not_cost_the_others(sample: Sample, tmp_path: Path) -> None:
    """One asks for another lane; the folder of one is a link to nowhere, which no command expects."""
    runs = RunSettings(chains=4, budget=Budget(gradients=500))
    members = [row(runs=runs).model_copy(update={"id": letter * 16}) for letter in "abc"]
    members[0] = members[0].model_copy(update={"precision": "float32"})
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / ("b" * 16)).symlink_to(tmp_path / "nowhere")
    done = sample(*members, more=("--failures", str(tmp_path / "notes")))
    assert done.returncode == 0, done.stderr
    notes = {file.name: FailureNote.model_validate_json(file.read_bytes()) for file in (tmp_path / "notes").iterdir()}
    assert {name: (note.stage, note.id) for name, note in notes.items()} == {
        f"sample-{letter * 16}.json": ("sample", letter * 16) for letter in "ab"
    }
    assert "lane" in notes[f"sample-{'a' * 16}.json"].message
    assert notes[f"sample-{'b' * 16}.json"].message.startswith("internal error: ")
    assert RunFolder(tmp_path / "runs" / ("c" * 16)).record.status == "budget_exhausted"


def programs(folder: Path) -> dict[str, int]:
    """What lies in a folder of compiled programs: when each file, by name, was written."""
    (machine,) = folder.iterdir()
    return {entry.name: entry.stat().st_mtime_ns for entry in machine.iterdir()}


@pytest.fixture
def compiled_anew(sample: Sample, tmp_path: Path) -> RunFolder:
    done = sample(row(), out="anew")
    assert done.returncode == 0, done.stderr
    return RunFolder(tmp_path / "anew" / ("b" * 16))


def test_shared_programs_are_compiled_once_and_change_no_digit(
    sample: Sample, compiled_anew: RunFolder, tmp_path: Path
) -> None:
    shared, planned = tmp_path / "compiled", row()

    def shares(out: str) -> int:
        done = sample(planned, more=("--compiled", str(shared)), out=out)
        assert "cache" not in done.stderr
        return done.returncode

    # Two tasks beside each other: both compile what neither found.
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(shares, ("left", "right"))) == [0, 0]
    left_behind = programs(shared)
    assert left_behind
    assert all(name.endswith("-cache") and not name.startswith(".") for name in left_behind)
    assert shares("third") == 0
    assert programs(shared) == left_behind
    for out in ("left", "right", "third"):
        same_result(compiled_anew, RunFolder(tmp_path / out / ("b" * 16)))


def test_a_damaged_program_is_compiled_again(sample: Sample, compiled_anew: RunFolder, tmp_path: Path) -> None:
    more = ("--compiled", str(tmp_path / "compiled"))
    assert sample(row(), more=more, out="first").returncode == 0
    (machine,) = (tmp_path / "compiled").iterdir()
    for entry in machine.iterdir():
        entry.write_bytes(entry.read_bytes()[:-10])
    done = sample(row(), more=more, out="second")
    assert done.returncode == 0, done.stderr
    same_result(compiled_anew, RunFolder(tmp_path / "second" / ("b" * 16)))


def test_a_folder_that_cannot_hold_programs_costs_no_run(
    sample: Sample, compiled_anew: RunFolder, tmp_path: Path
) -> None:
    (tmp_path / "compiled").write_text("a file")
    done = sample(row(), more=("--compiled", str(tmp_path / "compiled" / "inside")))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("compiled programs cannot be shared (Not a directory)") == 1
    same_result(compiled_anew, RunFolder(tmp_path / "runs" / ("b" * 16)))


@pytest.mark.parametrize("chains", [4, 3])
def test_chains_that_share_devices_draw_what_they_would_on_one(sample: Sample, tmp_path: Path, chains: int) -> None:
    """Programs for two devices may round otherwise, which grows along trajectories; three chains take one device."""
    planned = row(runs=RunSettings(chains=chains, tolerance=0.2, budget=Budget(gradients=6000)))
    for devices in (1, 2):
        done = sample(planned, out=f"on-{devices}", devices=devices)
        assert done.returncode == 0, done.stderr
    one, two = (RunFolder(tmp_path / out / ("b" * 16)) for out in ("on-1", "on-2"))
    if chains == 3:
        same_result(one, two)
    assert one.record.gradients == two.record.gradients
    for name, values in draws(one).items():
        np.testing.assert_allclose(values, draws(two)[name], rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.parametrize(
    ("settings", "programs"),
    [
        (HmcSettings(kind="hmc", warmup=60, leapfrog_steps=6), ("_adapt_block", "_block", "advance")),
        (MclmcSettings(kind="mclmc", warmup=20), ("_adapt_block", "_block", "advance")),
        (SgldSettings(kind="sgld", precision="float64", warmup=64), ("_advance", "advance")),
    ],
)
def test_one_program_serves_first_and_later_blocks_on_two_devices(
    sample: Sample, tmp_path: Path, settings: HmcSettings | MclmcSettings | SgldSettings, programs: tuple[str, ...]
) -> None:
    """One for arguments on one device and another for those on two would take the start-up twice."""
    planned = row(sampler=settings.kind, settings=settings, runs=RunSettings(chains=4, budget=Budget(gradients=30_000)))
    done = sample(planned, devices=2, more=("--compiled", str(tmp_path / "programs")))
    assert done.returncode == 0, done.stderr
    kept = Counter(entry.name.split("-")[0] for entry in (tmp_path / "programs").rglob("jit_*-cache"))
    assert {name: kept[f"jit_{name}"] for name in programs} == dict.fromkeys(programs, 1)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ("--help", 0),
        ("--help >&-", 0),
        ("--help 2>&-", 0),
        ("--help >/dev/full", 1),  # what was asked for could not be written
        ("--rows", 2),
        ("--rows >&-", 2),
        ("--rows >/dev/full", 2),
    ],
)
def test_the_status_is_right_whoever_listens(arguments: str, status: int) -> None:
    command = ["bash", "-c", f'"$0" {arguments}', str(ROOT / "bin" / "sample")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == status
