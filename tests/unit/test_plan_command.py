"""The plan command as a process."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lambda_hat_cli.experiment.rows import PlanRecord, RunRow, TargetRow
from lambda_hat_cli.provenance import stage_code

ROOT = Path(__file__).parents[2]
GOOD = """
name: x
targets:
  - {name: q, model: {kind: quadratic, curvatures: [1, 2]}}
  - {name: dln, model: {kind: deep_linear, widths: [9, 4, 9]}, data: {kind: teacher, rank: 2}}
samplers: [{kind: hmc}, {kind: vi}]
"""


def plan(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [ROOT / "bin/plan", *arguments], env=os.environ | {"PATH": path} | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def refused(done: subprocess.CompletedProcess[str], folder: Path) -> str:
    """The message of a refusal that left nothing behind."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("plan: ")
    assert "Traceback" not in done.stderr
    assert not [entry for entry in folder.iterdir() if "out" in entry.name]
    return done.stderr


def test_the_plan_has_every_file_that_its_targets_are_made_of(tmp_path: Path) -> None:
    """Also of targets that a grid or a pattern of weights made."""
    (tmp_path / "ck").mkdir()
    for step in (1, 20):
        (tmp_path / f"ck/{step}.npz").write_bytes(f"weights {step}".encode())
    (tmp_path / "data.csv").write_text("a,y\n1,2\n3,4\n")
    (tmp_path / "x.yml").write_text(
        """
name: x
targets:
  - name: net
    model: {kind: mlp, widths: [1, 3, 1]}
    data: {kind: file, path: data.csv, inputs: [a], outputs: [y], noise: {scale: 0.1}}
    weights: {files: "ck/*.npz"}
    grid: {seed: [0, 1]}
"""
    )
    done = plan(tmp_path / "x.yml", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "out/targets.jsonl").read_text().splitlines()
    digests = {digest for line in lines for digest in TargetRow.model_validate_json(line).files.values()}
    assert len(lines) == 4
    assert {file.name for file in (tmp_path / "out/files").iterdir()} == digests
    assert len(digests) == 3


def test_plan_writes_rows_that_read_back(tmp_path: Path) -> None:
    file = tmp_path / "x.yml"
    file.write_text(GOOD)
    text = "runs.tolerance=0.02; targets.dln.data.n=500"
    done = plan(file, "--out", tmp_path / "out", "--set", text)
    assert (done.returncode, done.stderr) == (0, "")
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "experiment.json",
        "runs.jsonl",
        "stages.json",
        "targets.jsonl",
    ]
    targets = [TargetRow.model_validate_json(line) for line in (out / "targets.jsonl").read_text().splitlines()]
    runs = [RunRow.model_validate_json(line) for line in (out / "runs.jsonl").read_text().splitlines()]
    record = PlanRecord.model_validate_json((out / "experiment.json").read_text())
    assert [(row.name, row.d, row.n) for row in targets] == [("q", 2, 1000), ("dln", 72, 500)]
    assert [(row.target, row.sampler, row.runs.tolerance) for row in runs] == [
        (target, sampler, 0.02) for target in ("q", "dln") for sampler in ("hmc", "vi")
    ]
    assert {row.target_id for row in runs} == {row.id for row in targets}
    assert all(row.code == stage_code("build_target") for row in targets)
    assert all(row.code == stage_code("sample") for row in runs)
    assert (record.source, record.set, record.experiment.runs.tolerance) == ("x.yml", text, 0.02)
    stages = json.loads((out / "stages.json").read_text())
    assert stages == {stage: stage_code(stage) for stage in ("analyze", "report")}


def test_python_targets_are_copied_and_hashed(tmp_path: Path) -> None:
    for name in ("code/mine.py", "code/near.py", "code/part/__init__.py", "code/part/deep.py",
                 "code/loose/other.py", "code/.hidden/__init__.py", "code/notes.txt", "above.py"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    file = tmp_path / "x.yml"
    file.write_text("name: x\ntargets: [{name: mine, model: {kind: python, file: code/mine.py}}]\n")
    link = tmp_path / "elsewhere" / "staged.yml"
    link.parent.mkdir()
    link.symlink_to(file)
    assert plan(link, "--out", tmp_path / "one").returncode == 0
    row = TargetRow.model_validate_json((tmp_path / "one/targets.jsonl").read_text())
    names = ["code/mine.py", "code/near.py", "code/part/__init__.py", "code/part/deep.py"]
    assert list(row.files) == names
    assert [(tmp_path / "one/files" / row.files[name]).read_text() for name in names] == names
    (tmp_path / "code/near.py").write_text("changed")
    assert plan(file, "--out", tmp_path / "two").returncode == 0
    assert TargetRow.model_validate_json((tmp_path / "two/targets.jsonl").read_text()).id != row.id


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("../a.py", 'must lie in the folder of the experiment file or below, without ".."'),
        ("/etc/a.py", "must lie in the folder"),
        ("absent.py", "is no file"),
        ("x.yml", 'does not end in ".py"'),
        ("many/a.py", "more than 200 Python files"),
    ],
)
def test_python_files_that_cannot_be_used_are_refused(tmp_path: Path, file: str, words: str) -> None:
    (tmp_path / "many").mkdir()
    for name in ["a", *map(str, range(200))]:
        (tmp_path / "many" / f"{name}.py").touch()
    (tmp_path / "x.yml").write_text(f"name: x\ntargets: [{{name: mine, model: {{kind: python, file: {file}}}}}]\n")
    message = refused(plan(tmp_path / "x.yml", "--out", tmp_path / "out"), tmp_path)
    assert f'targets[0] "mine" model.file "{file}" ' in message
    assert words in message


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("curvatures", "curvature", 'targets[0] "q" model: unknown key "curvature"; did you mean "curvatures"?'),
        ("[1, 2]", "[1, two]", 'targets[0] "q" model.curvatures[1]: "two" is not allowed'),
        ("name: x", "name: x\nposterior: {localization: -1}", "posterior.localization: -1 is not allowed"),
        ("rank: 2", "rank: 5", 'targets[1] "dln": data.rank is 5, but the smallest width is 4'),
        ("[{kind: hmc}, {kind: vi}]", "[]", "samplers: [] is not allowed"),
        ("name: dln", "name: q", 'targets[1]: the name "q" is that of targets[0] already'),
        (GOOD, "", "is empty"),
        (GOOD, "- 1", "holds a list"),
        (GOOD, "a: [", "not valid YAML"),
    ],
)
def test_bad_content_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    file = tmp_path / "x.yml"
    file.write_text(GOOD.replace(old, new))
    message = refused(plan(file, "--out", tmp_path / "out"), tmp_path)
    assert str(file) in message
    assert words in message


def test_bad_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    with (tmp_path / "large").open("wb") as stream:
        stream.truncate(50_000_000)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, words in {"absent": "no such file", "binary": "is a binary file", "large": "is 50.0 MB",
                        "folder": "is a folder", "pipe": "is not a regular file"}.items():  # fmt: skip
        message = refused(plan(tmp_path / name, "--out", tmp_path / "out"), tmp_path)
        assert f"{tmp_path / name}: {words}" in message
        assert message.count("\n") == 1


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text(GOOD)
    (tmp_path / "there").mkdir()
    message = refused(plan(tmp_path / "x.yml", "--out", tmp_path / "there"), tmp_path)
    assert "there: exists already" in message
    assert list((tmp_path / "there").iterdir()) == []


def test_the_callers_environment_does_not_leak_in(tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text(GOOD)
    fake = tmp_path / "fake"
    for name in ("lambda_hat_cli", "yaml", "click"):
        (fake / name).mkdir(parents=True)
        (fake / name / "__init__.py").write_text("raise SystemExit('leaked')")
    (tmp_path / "linked").symlink_to(ROOT / "bin/plan")
    done = plan(
        tmp_path / "x.yml", "--out", tmp_path / "o", PYTHONPATH=str(fake), PYTHONSTARTUP="x", PYTHONHOME="/none"
    )
    assert (done.returncode, done.stderr) == (0, "")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    linked = subprocess.run(
        [tmp_path / "linked", "x.yml", "--out", "linked-plan"], cwd=shutil.copytree(fake, tmp_path / "cwd").parent,
        env={"PATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (linked.returncode, linked.stderr) == (0, "")


def test_bad_usage_is_refused(tmp_path: Path) -> None:
    done = plan(tmp_path / "x.yml")
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: plan [OPTIONS] EXPERIMENT\n")
    assert "Missing option '--out'" in done.stderr
