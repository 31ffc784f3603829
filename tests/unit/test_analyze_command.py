"""The analyze command as a process: every kind of run in, a complete analysis folder or one clear message out."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lambda_hat_cli.artifacts.analysis import AnalysisFolder
from lambda_hat_cli.artifacts.failure import FailureNote
from lambda_hat_cli.artifacts.run import Trace
from lambda_hat_cli.artifacts.store import file_digest, write_record
from lambda_hat_cli.commands.cli import noted, stage_command
from lambda_hat_cli.provenance import import_closure
from synthetic_runs import (
    Case,
    autoregressive,
    markov_trace,
    run_record,
    run_row,
    weighted_trace,
    write_case,
)

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ("trace.png", "rank_energy.png", "llc_convergence.png")
RUN = "0123456789abcdef"
GOOD = autoregressive(4, 400, 0.4, 9.93, 3.1, 0)

Analyze = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def code() -> dict[str, str]:
    return import_closure("lambda_hat_cli.commands.analyze")


@pytest.fixture(scope="session")
def matplotlib_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One font cache for all processes."""
    return tmp_path_factory.mktemp("matplotlib")


@pytest.fixture
def analyze(tmp_path: Path, code: dict[str, str], matplotlib_folder: Path) -> Analyze:
    """Write a case under `name` and analyse it into `<name>/out`; the environment can be polluted."""

    def run(
        case: Case,
        name: str = "case",
        *more: str,
        ambient: dict[str, str] | None = None,
        cwd: Path | None = None,
        before: Callable[[], object] = lambda: None,
    ) -> subprocess.CompletedProcess[str]:
        arguments = write_case(tmp_path / name, case, code)
        before()
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "MPLCONFIGDIR": str(matplotlib_folder),
            "OPENBLAS_NUM_THREADS": "1",
            **(ambient or {}),
        }
        command = [str(ROOT / "bin" / "analyze"), *arguments, "--out", str(tmp_path / name / "out"), *more]
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=cwd or tmp_path, check=False
        )

    return run


def output(tmp_path: Path, name: str = "case") -> AnalysisFolder:
    return AnalysisFolder(tmp_path / name / "out" / RUN)


def check_pictures(folder: Path) -> None:
    for name in PICTURES:
        content = (folder / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert 3_000 < len(content) < 100_000


def test_good_run(tmp_path: Path, analyze: Analyze) -> None:
    done = analyze(Case(trace=markov_trace(GOOD)), "case", "--diagnostics", "full")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    folder = output(tmp_path)
    check_pictures(folder.path)
    assert (folder.path / "autocorrelation.png").exists()
    assert (folder.path / "running_rhat.png").exists()
    record = folder.record
    assert record.verdict == "reliable"
    assert record.llc == pytest.approx(GOOD.mean())
    with (folder.path / "convergence.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["gradients", "seconds", "draws", "llc", "low", "high"]
    assert 20 <= len(rows) <= 30
    last = rows[-1]
    # 20 descent + 4000 warm-up + 10 a draw and chain.
    assert float(last["gradients"]) == 4020 + 10 * GOOD.size
    assert float(last["seconds"]) == 6.0
    assert int(last["draws"]) == GOOD.shape[1]
    assert float(last["llc"]) == record.llc
    assert float(last["low"]) == record.llc_low
    assert float(rows[0]["gradients"]) < float(last["gradients"])


def broken(value: float) -> np.ndarray:
    llc = GOOD.copy()
    llc[2, 200:] = value
    return llc


@pytest.mark.parametrize(
    ("case", "verdict"),
    [
        (Case(trace=markov_trace(broken(0.0))), "invalid"),
        (Case(trace=markov_trace(broken(np.nan)), run={"status": "diverged", "reason": "not finite"}), "invalid"),
        (Case(trace=markov_trace(np.full((4, 100), 2.0)), run={"status": "budget_exhausted"}), "invalid"),
        (Case(trace=Trace("markov", {"llc": np.zeros((4, 0))}, {}), run={"status": "budget_exhausted"}), "invalid"),
        (Case(run={"status": "failed", "reason": "killed by the system"}), "invalid"),
        (Case(sampler="vi", d=5, trace=weighted_trace(1.05)), "reliable"),
        (Case(sampler="vi", d=50, trace=weighted_trace(1.5, d=50)), "invalid"),
    ],
    ids=["stuck", "non-finite", "constant", "empty", "failed", "good-fit", "bad-fit"],
)  # fmt: skip
def test_every_run_gets_an_analysis(case: Case, verdict: str, tmp_path: Path, analyze: Analyze) -> None:
    done = analyze(case)
    assert (done.returncode, done.stderr) == (0, "")
    folder = output(tmp_path)
    check_pictures(folder.path)
    assert folder.record.verdict == verdict
    assert (folder.record.llc is None) == (verdict == "invalid")
    assert bool(folder.record.reasons) == (verdict == "invalid")
    assert (folder.path / "convergence.csv").read_text().startswith("gradients,")
    text = (folder.path / "analysis.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text)["truth"]["lambda"] == "10"


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (Case(trace=markov_trace(GOOD), run={"target_id": "0" * 16}), ["target", "0" * 16, "fedcba9876543210"]),
        (Case(trace=markov_trace(GOOD), row={"id": "f" * 16}), ["run", "f" * 16, "0123456789abcdef"]),
        (Case(trace=markov_trace(GOOD), row={"precision": "float32"}), ["float64", "float32"]),
    ],
    ids=["other-target", "other-run", "other-precision"],
)  # fmt: skip
def test_folders_of_another_run_are_refused(case: Case, words: list[str], tmp_path: Path, analyze: Analyze) -> None:
    done = analyze(case)
    assert done.returncode == 2
    assert done.stderr.startswith("analyze: ")
    assert done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in words)
    assert not (tmp_path / "case" / "out").exists()


@pytest.mark.parametrize("name", ["data.npz", "target.json"])
@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_damaged_target_is_refused(name: str, damage: str, tmp_path: Path, analyze: Analyze) -> None:
    case = Case(trace=markov_trace(GOOD))
    assert analyze(case, "whole").returncode == 0
    file = tmp_path / "case" / "target" / name
    content = (tmp_path / "whole" / "target" / name).read_bytes()
    # The last digit of target.json's `"d": 20`, or the archive's last byte: both leave a file that can be read.
    place = content.index(b'"d": ') + 5 if name == "target.json" else len(content) - 1
    flipped = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]

    def harm() -> None:
        file.write_bytes(flipped) if damage == "flipped" else file.unlink()

    done = analyze(case, "case", before=harm)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"analyze: {file}: ")
    assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in (tmp_path / "case").iterdir()) == [
        "rows.jsonl",
        "runs",
        "stages.json",
        "target",
    ]


def test_a_failed_run_does_not_cost_the_others(tmp_path: Path, analyze: Analyze) -> None:
    """A run without a trace, and one whose trace has no draws' statistics to read, between two good ones."""
    ids = [RUN, "1" * 16, "2" * 16]
    notes = tmp_path / "case" / "notes"

    def add_runs() -> None:
        folder, rows = tmp_path / "case", [run_row(Case(row={"id": identity})) for identity in ids]
        (folder / "rows.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in rows))
        for identity in ids[1:]:
            shutil.copytree(folder / "runs" / RUN, folder / "runs" / identity)
            record = run_record(Case(run={"id": identity}))
            write_record(folder / "runs" / identity / "run.json", record)
        (folder / "runs" / ids[1] / "trace.nc").unlink()

    done = analyze(Case(trace=markov_trace(GOOD)), "case", "--failures", str(notes), before=add_runs)
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    (note,) = notes.iterdir()
    assert note.name == f"analyze-{ids[1]}.json"
    failure = FailureNote.model_validate_json(note.read_bytes())
    assert (failure.stage, failure.id) == ("analyze", ids[1])
    assert "trace.nc" in failure.message
    assert sorted(path.name for path in (tmp_path / "case" / "out").iterdir()) == [ids[0], ids[2]]


def test_an_internal_error_is_noted_as_one(tmp_path: Path, analyze: Analyze) -> None:
    """A trace whose chains and draws are not where every version of this program puts them."""
    case = Case(trace=Trace("markov", {"llc": GOOD, "loss": GOOD}, {"gradients": GOOD[:, :3]}))
    done = analyze(case, "case", "--failures", str(tmp_path / "notes"))
    assert done.returncode == 0, done.stderr
    (note,) = (tmp_path / "notes").iterdir()
    assert FailureNote.model_validate_json(note.read_bytes()).message.startswith("internal error: ")


def test_want_of_memory_is_no_failure_of_the_run(tmp_path: Path) -> None:
    """The pipeline tries the task again with more memory, which a note with status 0 would prevent."""

    @stage_command("analyze")
    def starved() -> None:
        with noted("analyze", "a" * 16, tmp_path / "note.json"):
            raise MemoryError("cannot allocate 99 GiB")

    with pytest.raises(SystemExit) as left:
        starved()
    assert left.value.code == 137
    assert not (tmp_path / "note.json").exists()


def test_no_pictures_when_none_are_asked_for(tmp_path: Path, analyze: Analyze) -> None:
    assert analyze(Case(trace=markov_trace(GOOD)), "case", "--diagnostics", "none").returncode == 0
    assert {path.name for path in output(tmp_path).path.iterdir()} == {"analysis.json", "convergence.csv"}


def test_a_note_that_cannot_be_written_is_told(tmp_path: Path, analyze: Analyze) -> None:
    (tmp_path / "file").touch()
    done = analyze(Case(trace=None), "case", "--failures", str(tmp_path / "file"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "trace.nc" in done.stderr
    assert ".json be written: " in done.stderr


def test_the_persons_environment_changes_nothing(tmp_path: Path, analyze: Analyze) -> None:
    case = Case(trace=markov_trace(GOOD))
    assert analyze(case, "clean").returncode == 0
    own = tmp_path / "own"
    own.mkdir()
    rc = "text.usetex: True\nfont.size: 30\nbackend: TkAgg\naxes.grid: True\nmathtext.default: bf\nsavefig.dpi: 30\n"
    (own / "matplotlibrc").write_text(rc)
    (own / "numpy.py").write_text("raise RuntimeError('not ours')")
    ambient = {
        "JAX_ENABLE_X64": "1",
        "MPLBACKEND": "TkAgg",
        "MPLCONFIGDIR": str(own),
        "MATPLOTLIBRC": str(own),
        "PYTHONPATH": str(own),
        "LANG": "C",
    }
    polluted = analyze(case, "polluted", ambient=ambient, cwd=own)
    assert (polluted.returncode, polluted.stderr) == (0, "")
    clean, dirty = output(tmp_path, "clean").path, output(tmp_path, "polluted").path
    for name in ("analysis.json", "convergence.csv", *PICTURES):
        assert file_digest(clean / name) == file_digest(dirty / name), name


def test_changed_sources_are_refused(tmp_path: Path, analyze: Analyze, code: dict[str, str]) -> None:
    arguments = write_case(
        tmp_path / "other", Case(trace=markov_trace(GOOD)), {**code, "lambda_hat_cli.errors": "0" * 64}
    )
    done = subprocess.run(
        [str(ROOT / "bin" / "analyze"), *arguments, "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 2
    assert "errors.py" in done.stderr
