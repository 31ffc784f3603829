"""The plan folder: rows as JSON lines, the experiment as it was understood, sources by stage, the user's files."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

from lambda_hat_cli.artifacts.store import new_folder, write_record, write_text
from lambda_hat_cli.experiment.expand import Rows
from lambda_hat_cli.experiment.rows import PlanRecord
from lambda_hat_cli.experiment.user_files import OwnFiles


def write_plan(
    path: Path,
    record: PlanRecord,
    rows: Rows,
    stages: Mapping[str, Mapping[str, str]],
    files: Mapping[str, OwnFiles],
) -> None:
    """Write a new plan folder, whole or not at all.

    Args:
        path: the folder to make.
        record: what was asked for.
        rows: one row for every target and run.
        stages: sha256 by module, by stage, of the stages that have no rows.
        files: the user's files that targets are made of, by target name. Each is copied once, as `files/<sha256>`.

    Raises:
        UserError: when `path` exists or cannot be written.
    """
    with new_folder(path) as draft:
        write_text(draft / "targets.jsonl", _lines(rows.targets))
        write_text(draft / "runs.jsonl", _lines(rows.runs))
        write_text(draft / "stages.json", json.dumps(stages, indent=2, sort_keys=True) + "\n")
        write_record(draft / "experiment.json", record)
        for own in files.values():
            for name, source in own.paths.items():
                copy = draft / "files" / own.digests[name]
                copy.parent.mkdir(exist_ok=True)
                if not copy.exists():
                    shutil.copyfile(source, copy)


def _lines(rows: Sequence[BaseModel]) -> str:
    return "".join(f"{row.model_dump_json()}\n" for row in rows)
