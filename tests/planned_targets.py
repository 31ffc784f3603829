"""Targets of an experiment, planned and built by the commands as processes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from lambda_hat_cli.artifacts.target import TargetFolder

ROOT = Path(__file__).resolve().parents[1]


def command(name: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        [ROOT / "bin" / name, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def planned(folder: Path, targets: dict[str, dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    """Plans an experiment of these targets, by name, whose files lie in `folder`."""
    entries = [{"name": name, **spec} for name, spec in targets.items()]
    (folder / "experiment.yml").write_text(json.dumps({"name": "x", "targets": entries, "samplers": [{"kind": "hmc"}]}))
    return command("plan", "experiment.yml", "--out", "plan", cwd=folder)


def refusals(folder: Path, targets: dict[str, dict[str, Any]]) -> str:
    """What the plan says against these targets, all at once."""
    done = planned(folder, targets)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    return done.stderr


def built(folder: Path, targets: dict[str, dict[str, Any]]) -> dict[str, TargetFolder | str]:
    """Each target's folder, or what was said when it failed, from one process in float64."""
    done = planned(folder, targets)
    assert (done.returncode, done.stderr) == (0, "")
    options = ("--rows", "plan/targets.jsonl", "--files", "plan/files", "--out", "targets", "--failures", "notes")
    done = command("build-target", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    found: dict[str, TargetFolder | str] = {}
    for line in (folder / "plan/targets.jsonl").read_text().splitlines():
        row = json.loads(line)
        note = folder / f"notes/build_target-{row['id']}.json"
        failed = note.exists()
        found[row["name"]] = (
            json.loads(note.read_text())["message"] if failed else TargetFolder(folder / "targets" / row["id"])
        )
    return found
