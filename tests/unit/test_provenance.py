"""Which sources a stage uses, and that no others run."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lambda_hat_cli import provenance
from lambda_hat_cli.errors import UserError
from lambda_hat_cli.provenance import import_closure, stage_code, verify_imported

PYTHON = Path(__file__).parents[2] / "python"


@pytest.mark.parametrize("stage", ["plan", "build_target", "sample", "analyze", "report"])
def test_closure_holds_every_module_that_the_stage_imports(stage: str) -> None:
    code = stage_code(stage)
    program = (
        f"import sys, lambda_hat_cli.commands.{stage}; "
        "print(*[m for m in sys.modules if m.split('.')[0] == 'lambda_hat_cli'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(PYTHON)}, capture_output=True, text=True, check=True
    )
    imported = done.stdout.split()
    assert f"lambda_hat_cli.commands.{stage}" in imported
    assert set(imported) <= set(code)


@pytest.mark.parametrize("stage", ["plan", "analyze", "report"])
def test_stages_without_jax_reach_no_module_that_needs_it(stage: str) -> None:
    parts = {name.split(".")[1] for name in stage_code(stage) if "." in name}
    assert not parts & {"targets", "posterior", "samplers"}


def package(folder: Path, sources: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of that name in `folder` for the analysis to look at; it is never imported."""
    for name, source in sources.items():
        file = folder / "lambda_hat_cli" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    monkeypatch.setattr(provenance, "_ROOT", folder / "lambda_hat_cli")


def test_closure_follows_every_form_of_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {
        "__init__.py": "",
        "py.typed": "",
        "unused.py": "",
        "top/__init__.py": "from . import through_init",
        "top/through_init.py": "",
        "top/start.py": "import os, lambda_hat_cli.plain\nfrom lambda_hat_cli.other import member, value\n"
        "from ..sibling import inner\nfrom .near import thing\ndef later():\n    from lambda_hat_cli import lazy\n",
        "top/near.py": "thing = 1",
        "plain.py": "",
        "lazy.py": "import lambda_hat_cli.top.start",
        "other/__init__.py": "value = 1",
        "other/member.py": "",
        "other/stranger.py": "",
        "other/pages/page.html": "<p>",
        "other/__pycache__/x.pyc": "",
        "sibling/__init__.py": "",
        "sibling/inner/__init__.py": "from .deep import *",
        "sibling/inner/deep.py": "",
    }
    package(tmp_path, sources, monkeypatch)
    found = import_closure("lambda_hat_cli.top.start")
    names = (
        "top top.start top.through_init top.near plain lazy other other.member sibling sibling.inner sibling.inner.deep"
    )
    resource = "lambda_hat_cli/other/pages/page.html"
    assert set(found) == {"lambda_hat_cli", resource, *(f"lambda_hat_cli.{name}" for name in names.split())}
    assert found[resource] == hashlib.sha256(b"<p>").hexdigest()
    with pytest.raises(ModuleNotFoundError, match=r"top\.absent"):
        import_closure("lambda_hat_cli.top.absent")


PROGRAM = "import json, sys, lambda_hat_cli.provenance as p; {imports}; p.verify_imported(json.loads(sys.argv[1]))"


def verify(code: dict[str, str], imports: str = "pass") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(imports=imports), json.dumps(code)],
        env={"PYTHONPATH": str(PYTHON)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_planned_sources_may_run_and_no_others() -> None:
    code = import_closure("lambda_hat_cli.provenance")
    assert verify(code).returncode == 0
    extra = verify(code, "import lambda_hat_cli.artifacts")
    assert "lambda_hat_cli.artifacts: imported here but not among the sources that were planned" in extra.stderr
    changed = verify(code | {"lambda_hat_cli.errors": "0" * 64})
    assert "errors.py: changed since the run was planned" in changed.stderr
    missing = verify(code | {"lambda_hat_cli.absent": "0" * 64})
    assert "lambda_hat_cli.absent: planned, but its source file is missing" in missing.stderr


def test_a_changed_page_template_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, {"__init__.py": "", "start.py": "", "page.html": "one"}, monkeypatch)
    monkeypatch.setattr(provenance, "_imported_modules", set)
    code = import_closure("lambda_hat_cli.start")
    verify_imported(code)
    (tmp_path / "lambda_hat_cli/page.html").write_text("two")
    with pytest.raises(UserError, match=r"page\.html: changed since the run was planned"):
        verify_imported(code)
