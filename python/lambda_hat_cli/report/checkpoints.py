"""λ̂ through training: the checkpoints of one training, in order of their steps."""

import csv
import io
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lambda_hat_cli.artifacts.store import write_text
from lambda_hat_cli.figures.checkpoints import CheckpointPanel, CheckpointPoint, CheckpointSeries
from lambda_hat_cli.report import numbers
from lambda_hat_cli.report.collect import Collection, PlannedRun, PlannedTarget
from lambda_hat_cli.report.groups import run_label, setting_of
from lambda_hat_cli.report.replicates import SHOWN
from lambda_hat_cli.report.results import ResultRow, mark_of, result_row

COLUMNS = (
    "name", "steps", "loss", "held_out_loss", "gradient_norm", "target_id", "beta", "gamma", "sampler", "replicate",
    "run_id", "verdict", "minimum", "delta", "llc", "llc_se", "llc_low", "llc_high",
)  # fmt: skip


@dataclass(frozen=True)
class TrainingGroup:
    """The checkpoints of one training and their runs at one β and γ.

    Attributes:
        name: what the targets' names have in common.
        picture: a file name.
        targets: by steps.
        runs: in the order of the targets, within each in plan order.
    """

    name: str
    picture: str
    targets: tuple[PlannedTarget, ...]
    runs: tuple[PlannedRun, ...]


def training_groups(collection: Collection) -> tuple[TrainingGroup, ...]:
    """The groups in plan order; none where no target is a checkpoint."""
    targets: dict[str, list[PlannedTarget]] = {}
    for target in collection.targets:
        if target.row.step is not None:
            targets.setdefault(_name(target), []).append(target)
    runs: dict[tuple[str, str], list[PlannedRun]] = {}
    for run in collection.runs:
        if run.target.row.step is not None:
            runs.setdefault((_name(run.target), setting_of(run.row.posterior)), []).append(run)
    return tuple(
        TrainingGroup(name, f"{name}-{setting}.png", tuple(targets[name]), tuple(members))
        for (name, setting), members in runs.items()
    )


def _name(target: PlannedTarget) -> str:
    """The target's name without its steps. The plan lets no two entries have it in common."""
    return target.row.name.removesuffix(f"-step-{target.row.step}")


def checkpoint_panel(experiment: str, group: TrainingGroup) -> CheckpointPanel:
    """What the group's picture shows: of many replicates the first."""
    results = [(run, result_row(experiment, run)) for run in group.runs if run.row.replicate < SHOWN]
    first = next((result for _, result in results if result.n is not None), results[0][1])
    built = [(target.row.step or 0, target.record) for target in group.targets if target.record is not None]
    longest = built[-1][1].training if built else None
    by_label: dict[str, list[tuple[PlannedRun, ResultRow]]] = defaultdict(list)
    for run, result in results:
        by_label[run_label(run)].append((run, result))
    return CheckpointPanel(
        title=group.name,
        subtitle=", ".join(
            f"{symbol} = {numbers.significant(value)}"
            for symbol, value in (("n", first.n), ("d", first.d), ("β", first.beta), ("γ", first.gamma))
        ),
        series=tuple(
            CheckpointSeries(
                label,
                members[0][0].row.sampler,
                tuple(CheckpointPoint(run.target.row.step or 0, mark_of(result)) for run, result in members),
            )
            for label, members in by_label.items()
        ),
        losses=tuple((step, record.loss_at_w_star) for step, record in built),
        curve=() if longest is None else tuple(zip(longest.recorded_steps, longest.losses, strict=True)),
        held_out_losses=tuple(
            (step, record.held_out_loss) for step, record in built if record.held_out_loss is not None
        ),
        held_out_curve=()
        if longest is None or longest.held_out_losses is None
        else tuple(
            (step, math.nan if loss is None else loss)
            for step, loss in zip(longest.recorded_steps, longest.held_out_losses, strict=True)
        ),
    )


def write_checkpoints(path: Path, experiment: str, training: Sequence[TrainingGroup]) -> None:
    """Write checkpoints.csv, one row a run; unknown cells are empty."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for group in training:
        for run in group.runs:
            result, record = result_row(experiment, run), run.target.record
            table.writerow(
                [
                    *(group.name, run.target.row.step),
                    *((record.loss_at_w_star, record.held_out_loss) if record else (None, None)),
                    record.gradient_norm if record else None,
                    *(result.target_id, result.beta, result.gamma, result.sampler, result.replicate, result.run_id),
                    *(result.verdict, result.minimum, result.delta),
                    *(result.llc, result.llc_se, result.llc_low, result.llc_high),
                ]
            )
    write_text(path, text.getvalue())
