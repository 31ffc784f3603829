"""What runs of the pipeline need: Nextflow and the stages' environments, made where they are missing."""

import os
import shutil
import subprocess

import pytest

from pipeline.nextflow_run import PROJECT


@pytest.fixture(scope="session", autouse=True)
def ready() -> None:
    """Java, Nextflow and the environments; without Java the tests are skipped, in CI they fail."""
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ and "CI" not in os.environ:
        pytest.skip("needs Java 17 or newer")
    subprocess.run([PROJECT / "scripts" / "environments"], stdout=subprocess.DEVNULL, check=True)
