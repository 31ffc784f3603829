"""The settings that the profiles add, as Nextflow understands them: what can be tested where their programs are not."""

import os
import subprocess
from pathlib import Path

import pytest

from pipeline.nextflow_run import PROJECT, copy_of_the_project

pytestmark = pytest.mark.nextflow


def settings(project: Path, profile: str) -> str:
    """What `nextflow config` prints for a profile, a setting a line."""
    done = subprocess.run(
        [PROJECT / "scripts" / "nextflow", "config", project, "-flat", "-profile", profile],
        cwd=project.parent,
        env={**os.environ, "NXF_ANSI_LOG": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_the_project(tmp_path_factory.mktemp("profiles") / "the project")


@pytest.mark.parametrize(
    ("engine", "bind", "mode"),
    [
        ("docker", "--volume", ":ro"),
        ("podman", "--volume", ":ro"),
        ("singularity", "--bind", ":ro"),
        ("apptainer", "--bind", ":ro"),
        ("charliecloud", "--bind", ""),
    ],
)
def test_containers_get_the_commands_the_package_and_the_experiment(
    project: Path, engine: str, bind: str, mode: str
) -> None:
    lines = settings(project, f"slurm,{engine}").splitlines()
    assert f"{engine}.enabled = true" in lines
    assert "process.executor = 'slurm'" in lines
    (options,) = [line for line in lines if line.startswith(f"{engine}.runOptions = ")]
    for folder in ("bin", "python"):
        assert f"{bind} '{project / folder}:{project / folder}{mode}'" in options
    (plan,) = [line for line in lines if line.startswith("process.'withName:PLAN'.containerOptions = ")]
    assert f"{bind} '${{new File(experiment).parent}}:${{new File(experiment).parent}}{mode}'" in plan
    # The image brings the environment: no folder of this machine comes before it.
    assert "process.beforeScript = ''" in lines
    assert [line for line in lines if line.startswith("process.container = ") and "${env_id}" in line]


def test_conda_makes_the_stages_environments(project: Path) -> None:
    lines = settings(project, "conda").splitlines()
    assert "conda.enabled = true" in lines
    for stage in ("analyze", "build", "sample"):
        file = project / "envs" / f"{stage}.yml"
        assert f"process.'withLabel:env_{stage}'.conda = '{file}'" in lines
        assert file.is_file()


def test_gpu_reaches_the_samplers_alone(project: Path) -> None:
    lines = settings(project, "gpu").splitlines()
    assert "process.'withLabel:accelerated'.ext.platform = 'cuda'" in lines
    labelled = [
        file.parent.name for file in project.glob("modules/local/*/main.nf") if "'accelerated'" in file.read_text()
    ]
    assert labelled == ["sample"]
