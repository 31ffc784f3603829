"""The pipeline's own files in another folder, to be changed there."""

import shutil
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
PIPELINE = ("main.nf", "nextflow.config", "nextflow_schema.json", "lib", "conf", "modules", "bin", "python", "envs")


def copy_of_the_project(folder: Path) -> Path:
    """The pipeline alone, as a clone would have it, in the new `folder`."""
    folder.mkdir(parents=True)
    for name in PIPELINE:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "tests"))
        else:
            shutil.copy2(source, folder / name)
    return folder
