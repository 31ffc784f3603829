"""build-target as a process, and what it says about mistakes in a user's own file."""

import hashlib
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lambda_hat_cli.artifacts.failure import FailureNote
from lambda_hat_cli.artifacts.store import read_record
from lambda_hat_cli.artifacts.target import TargetFolder
from lambda_hat_cli.errors import UserError
from lambda_hat_cli.experiment.rows import TargetRow
from lambda_hat_cli.provenance import stage_code
from lambda_hat_cli.targets.build import build_target
from lambda_hat_cli.targets.load import load_target

ROOT = Path(__file__).resolve().parents[2]
ID = "0123456789abcdef"
PYTHON = {"kind": "python", "file": "mine/model.py", "arguments": {"d": 3}}
REDUCED_RANK = {
    "model": {"kind": "deep_linear", "widths": [3, 2, 3]},
    "data": {"kind": "teacher", "n": 40, "rank": 1, "noise": {"kind": "none"}},
    "at": "truth",
}

GOOD = """
import jax.numpy as jnp, numpy as np
from scale_{tag} import SCALE

def loss(model, data):
    return 0.5 * SCALE * (data["y"] - data["x"] @ model["w"] - model["offset"]) ** 2

def target(d):
    x = np.random.default_rng(0).standard_normal((20, d))
    w = jnp.arange(1.0, d + 1)
    model = dict(w=w, offset=np.array([2.5]))
    return dict(model=model, data=dict(x=x, y=x @ np.asarray(w) + 2.5, group=np.arange(20)), loss=loss)
"""


def row(spec: dict[str, Any], **changes: Any) -> dict[str, Any]:
    fields = {"id": ID, "name": "mine", "entry": "mine", "folder": "mine-01234567", "spec": spec, "seed": 2**62 + 3}
    rest = {"files": {}, "d": None, "n": None, "code": stage_code("build_target"), "pack": "0" * 16}
    return {**fields, **rest, **changes}


def user_row(code: Path, source: str, **model: Any) -> dict[str, Any]:
    """The row of a python target whose file is `source`, written below `code`."""
    (code / "mine").mkdir(parents=True)
    (code / "mine/model.py").write_text(textwrap.dedent(source))
    return row({"model": {**PYTHON, **model}}, files=hashes(code))


def hashes(code: Path) -> dict[str, str]:
    """What a row says of the files below `code`, which are copied as the plan does: named by what they hold."""
    files = {str(file.relative_to(code)): file.read_bytes() for file in sorted(code.rglob("*.py"))}
    found = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    for name, content in files.items():
        (code / found[name]).write_bytes(content)
    return found


def build_in_process(fields: dict[str, Any], out: Path, code: Path | None) -> TargetFolder:
    build_target(TargetRow.model_validate_json(json.dumps(fields)), out, code)
    return TargetFolder(out)


def command(folder: Path, fields: dict[str, Any], *options: str, x64: str = "0") -> subprocess.CompletedProcess[str]:
    (folder / "rows.jsonl").write_text(json.dumps(fields) + "\n")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "JAX_ENABLE_X64": x64}
    return subprocess.run(
        [ROOT / "bin/build-target", "--rows", folder / "rows.jsonl", *options],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


# The command ------------------------------------------------------------------------------------


def test_both_precisions_build_the_same_artefacts(tmp_path: Path) -> None:
    folders = []
    for x64 in ("0", "1"):
        done = command(tmp_path, row(REDUCED_RANK), "--out", f"t{x64}", x64=x64)
        assert (done.returncode, done.stderr) == (0, "")
        folders.append(TargetFolder(tmp_path / f"t{x64}" / ID))
    narrow, wide = (folder.record for folder in folders)
    assert narrow.checksums == wide.checksums
    assert (narrow.n, narrow.d, narrow.truth.coefficient) == (
        40,
        12,
        "7/2",
    )  # reduced-rank regression, 3 → 2 → 3, rank 1
    assert 0 <= narrow.loss_at_w_star < 1e-10
    assert 0 <= wide.loss_at_w_star < 1e-10
    assert {"jax", "equinox", "numpy", "python"} <= set(narrow.versions)
    assert narrow.code == stage_code("build_target")


def test_bad_input_leaves_one_message_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "there" / ID).mkdir(parents=True)
    for fields, options, message in [
        (row(REDUCED_RANK), ["--out", "there"], f"there/{ID}: exists already"),
        ({**row(REDUCED_RANK), "seed": "x"}, ["--out", "t"], "rows.jsonl: line 1: seed"),
        (row(REDUCED_RANK, code={}), ["--out", "t"], "start the pipeline again"),
        (
            row({"model": PYTHON}, files={"mine/model.py": "0"}),
            ["--out", "t"],
            "mine: is made of mine/model.py; give with",
        ),
    ]:
        done = command(tmp_path, fields, *options)
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("build-target: ")
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.rglob("*") if path.name != "t") == [ID, "rows.jsonl", "there"]


def test_a_failing_user_file_becomes_a_note(tmp_path: Path) -> None:
    fields = user_row(tmp_path / "code", "def target(d):\n    return 1 / 0\n")
    done = command(tmp_path, fields, "--out", "t", "--files", "code", "--failures", "notes")
    assert done.returncode == 0
    note = read_record(tmp_path / f"notes/build_target-{ID}.json", FailureNote)
    assert (note.stage, note.id) == ("build_target", ID)
    assert "mine/model.py, line 2: target() failed: ZeroDivisionError: division by zero" in note.message
    assert not list((tmp_path / "t").glob("*"))


# Users' own files -------------------------------------------------------------------------------


@pytest.fixture
def good(tmp_path: Path) -> tuple[dict[str, Any], Path]:
    """A working user's file with a module beside it, whose name no other test imports."""
    code = tmp_path / "code"
    fields = user_row(code, GOOD.format(tag=tmp_path.name.replace("-", "_")))
    (code / f"mine/scale_{tmp_path.name.replace('-', '_')}.py").write_text("SCALE = 4.0\n")
    return {**fields, "files": hashes(code)}, code


def test_a_user_target_is_built_and_loaded(good: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    fields, code = good
    folder = build_in_process(fields, tmp_path / "t", code)
    record = folder.record
    assert (record.likelihood, record.scale, record.n, record.d, record.truth.kind) == ("custom", None, 20, 3, "none")
    assert set(record.checksums) == {"data.npz", "params.eqx", "static.eqx", *(f"code/{name}" for name in hashes(code))}
    assert {name: array.dtype for name, array in folder.data().items()} == {"x": "f4", "y": "f4", "group": "i4"}
    np.testing.assert_array_equal(folder.parameter_leaves()[0], [1, 2, 3])
    for dtype in ("float64", "float32"):
        target = load_target(folder, dtype)
        moved = target.w_star.at[0].add(1.0)
        assert (target.w_star.dtype, target.constants[0].dtype, target.data["group"].dtype) == (dtype, dtype, "int32")
        np.testing.assert_allclose(
            target.losses(moved, target.data), 2 * target.data["x"][:, 0] ** 2, rtol=1e-3, atol=1e-4
        )


def test_stored_numbers_win_over_what_the_file_computes(good: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    fields, code = good
    folder = build_in_process(fields, tmp_path / "t", code)
    file = folder.path / "code/mine/model.py"
    file.write_text(file.read_text().replace("jnp.arange(1.0, d + 1)", "jnp.zeros(d)").replace("2.5", "9.5"))
    target = load_target(folder, "float64")
    np.testing.assert_array_equal(target.w_star, [1, 2, 3])
    np.testing.assert_array_equal(target.constants[0], [2.5])


def returning(**changes: str) -> str:
    parts = {
        "model": "jnp.ones(d)",
        "data": "dict(x=np.ones((5, d)))",
        "loss": "lambda w, data: data['x'] @ w",
        **changes,
    }
    pairs = ", ".join(f"{key}={value}" for key, value in parts.items())
    return f"import jax.numpy as jnp, numpy as np\ndef target(d):\n    return dict({pairs})\n"


MISTAKES = {
    "syntax": ("def target(d:\n    pass\n", {}, r"mine/model\.py, line 1: its import failed: SyntaxError"),
    "import": ("import nowhere_to_be_found\n", {}, r"mine/model\.py, line 1: its import failed: ModuleNotFoundError"),
    "function": ("def targets(d): pass\n", {}, r'mine/model\.py: has no function "target"; did you mean "targets"\?'),
    "arguments": (returning(), {"arguments": {"e": 1}}, r"mine/model\.py: target\(\) failed: TypeError: .* 'e'"),
    "nothing": ("def target(d): pass\n", {}, r"target\(\) returned a NoneType; return a UserTarget or a dict"),
    "keys": ("def target(d): return dict(model=1)\n", {}, r"\['model'\]; it needs model, data, loss and may have"),
    "uncallable": (returning(loss="3"), {}, r'loss is 3; give "gaussian", "categorical" or a function'),
    "no data": (returning(data="{}"), {}, r"data must be a dict of at least one array"),
    "unequal rows": (
        returning(data="dict(x=np.ones((5, d)), y=np.ones(4))"),
        {},
        r"the same number of rows, .*; x has 5, y has 4"
    ),
    "scalar data": (returning(data="dict(x=1.0)"), {}, r"x has no axis of rows"),
    "text data": (returning(data="dict(x=np.array(['a']))"), {}, r'data\["x"\] has dtype <U1'),
    "no parameters": (returning(model="np.ones(d)"), {}, r"mine/model\.py: the model has no parameters"),
    "complex": (returning(model="jnp.ones(d) * 1j"), {}, r"mine/model\.py: a parameter has dtype complex"),
    "loss raises": (returning(loss="lambda w, data: data['z']"), {}, r"mine/model\.py, line 3: the loss at w\* failed"),
    "mean loss": (
        returning(loss="lambda w, data: jnp.mean(data['x'])"), {}, r"loss of 5 rows has shape \(\); it must be \(5,\)"
    ),
    "infinite": (returning(loss="lambda w, data: data['x'][:, 0] / 0"), {}, r"the loss at w\* is inf in row 0"),
    "mixed rows": (
        returning(loss="lambda w, data: data['x'][:, 0] * len(data['x'])"), {}, r"changes when other rows are left out"
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_users_file_is_told(tmp_path: Path, mistake: str) -> None:
    source, model, message = MISTAKES[mistake]
    fields = user_row(tmp_path / "code", source, **model)
    with pytest.raises(UserError, match=message) as told:
        build_in_process(fields, tmp_path / "t", tmp_path / "code")
    assert "\n" not in str(told.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["code"]


def test_files_other_than_the_planned_are_refused(good: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    fields, code = good
    main = code / fields["files"]["mine/model.py"]
    main.write_text(main.read_text() + "\n")
    with pytest.raises(UserError, match=r"differs from mine/model\.py as it was planned"):
        build_in_process(fields, tmp_path / "t", code)
    main.unlink()
    with pytest.raises(UserError, match=r"missing, it is mine/model\.py of mine"):
        build_in_process(fields, tmp_path / "t", code)
