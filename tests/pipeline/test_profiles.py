"""The settings that the profiles add, as Nextflow understands them: what can be tested where their programs are not."""

import os
import subprocess
from pathlib import Path

import pytest
from project_copy import copy_of_the_project

from pipeline.nextflow_run import PROJECT, run_pipeline

pytestmark = pytest.mark.nextflow


def settings(project: Path, profile: str, *options: str) -> str:
    """What `nextflow config` prints for a profile, a setting a line; `options` are Nextflow's own."""
    done = subprocess.run(
        [PROJECT / "scripts" / "nextflow", *options, "config", project, "-flat", "-profile", profile],
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
def test_containers_get_the_package_and_the_experiment(project: Path, engine: str, bind: str, mode: str) -> None:
    lines = settings(project, f"slurm,{engine}").splitlines()
    assert f"{engine}.enabled = true" in lines
    assert "process.executor = 'slurm'" in lines
    (options,) = [line for line in lines if line.startswith(f"{engine}.runOptions = ")]
    assert f"{bind} '{project / 'python'}:{project / 'python'}{mode}'" in options
    (plan,) = [line for line in lines if line.startswith("process.'withName:PLAN'.containerOptions = ")]
    assert f"{bind} '${{new File(experiment).parent}}:${{new File(experiment).parent}}{mode}'" in plan
    # What OpenBLAS takes the processor for decides the last digits.
    assert f"{engine}.envWhitelist = 'OPENBLAS_CORETYPE,OPENBLAS_L2_SIZE'" in lines
    # The image brings the environment: no folder of this machine comes before it.
    before = "'export USER=\"${USER:-$(id -un)}\"'" if engine == "charliecloud" else "''"
    assert f"process.beforeScript = {before}" in lines
    assert [line for line in lines if line.startswith("process.container = ") and "${env_id}" in line]


@pytest.mark.parametrize("profile", ["conda", "mamba"])
def test_conda_makes_the_stages_environments(project: Path, profile: str) -> None:
    lines = settings(project, profile).splitlines()
    assert "conda.enabled = true" in lines
    assert ("conda.useMamba = true" in lines) == (profile == "mamba")
    for stage in ("analyze", "build", "sample"):
        file = project / "envs" / f"{stage}.yml"
        assert f"process.'withLabel:env_{stage}'.conda = '{file}'" in lines
        assert file.is_file()


def test_gpu_reaches_the_samplers_alone(project: Path) -> None:
    text = settings(project, "slurm,gpu")
    # A run that asks for the CPU stays there; a job array is asked for where no run is known.
    assert "ext.platform = { pack.device == 'cpu' ? 'cpu' : 'cuda' }" in text
    assert "accelerator = { pack?.device == 'cpu' ? null : [request: 1, type: params.gpu_type] }" in text
    # One process a GPU, where no scheduler counts them.
    assert "executor.$local.queueSize = 1" in text
    labelled = [
        file.parent.name for file in project.glob("modules/local/*/main.nf") if "'accelerated'" in file.read_text()
    ]
    assert labelled == ["sample"]


def test_gpu_needs_its_own_environment(project: Path, tmp_path: Path) -> None:
    run = run_pipeline(tmp_path, "--env_dir", "nowhere", project=project, profile="gpu")
    assert run.status != 0
    assert "nowhere' analyze build cuda`" in run.output


def test_the_site_template_is_valid_and_takes_effect(project: Path, tmp_path: Path) -> None:
    template = tmp_path / "site.config"
    template.write_text((PROJECT / "conf" / "site.config.example").read_text(encoding="utf-8"), encoding="utf-8")
    lines = settings(project, "slurm", "-c", str(template)).splitlines()
    assert "params.queue = 'normal'" in lines
    assert "process.queue = { params.queue }" in lines
    assert "process.'withName:BUILD_TARGET|SAMPLE_.*|ANALYZE'.array = 50" in lines
    assert "executor.$slurm.exitReadTimeout = '5 min'" in lines
