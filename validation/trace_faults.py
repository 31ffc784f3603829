"""Finished runs with a fault put into their traces, judged by the analyze command itself.

    python validation/trace_faults.py RESULTS OUT

takes runs of the experiment in RESULTS, writes each with every fault of kinds.FAULTS under OUT and analyses them; what
was analysed already, with the same sources, runs and faults, is left as it is. The summary goes to
validation/summaries/faults.json.
"""

import datetime
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from judge import Outcome
from kinds import FAULTS
from outcomes import missing, outcome_of, read_families, read_table
from summary import SUMMARIES, here_and_now, summarise

from lambda_hat_cli.artifacts.analysis import AnalysisFolder
from lambda_hat_cli.artifacts.run import RunFolder, Trace, write_trace
from lambda_hat_cli.artifacts.store import new_folder, read_records, write_record, write_text
from lambda_hat_cli.experiment.rows import RunRow

Draws = Shaped[np.ndarray, "chains draws"]
RUNS_A_TARGET = 8


def stand_still(values: Draws, chains: slice, since: int) -> Draws:
    """Chains that repeat their draw `since` from there on."""
    changed = values.copy()
    changed[chains, since:] = changed[chains, since : since + 1]
    return changed


def scaled(values: Draws, factors: Draws) -> Draws:
    """Every draw times its factor, for statistics that grow with the distance from w*."""
    return (values * factors).astype(values.dtype)


def leading_chain(values: Draws, factor: float) -> Draws:
    """Factors that change the first chain alone."""
    factors = np.ones(values.shape)
    factors[0] = factor
    return factors


def _rising(values: Draws) -> Draws:
    return np.broadcast_to(np.linspace(0.75, 1.0, values.shape[1]), values.shape)


def _not_finite(values: Draws) -> Draws:
    changed = values.copy()
    changed[0, values.shape[1] // 2 : values.shape[1] // 2 + 5] = np.nan
    return changed


# Of every statistic of the run, or (SCALED) of those alone that a wrong place changes.
EVERY: dict[str, Callable[[Draws], Draws]] = {
    "stuck-chain": lambda values: stand_still(values, slice(0, 1), 0),
    "stuck-chains": lambda values: stand_still(values, slice(0, 4), 0),
    "half-stuck-chain": lambda values: stand_still(values, slice(0, 1), values.shape[1] // 2),
    "copied-chain": lambda values: np.broadcast_to(values[:1], values.shape),
}
SCALED: dict[str, Callable[[Draws], Draws]] = {
    "chain-at-w-star": lambda values: scaled(values, leading_chain(values, 1e-3)),
    "shifted-chain": lambda values: scaled(values, leading_chain(values, 1.5)),
    "drift": lambda values: scaled(values, _rising(values)),
    "not-finite": _not_finite,
}
PLACES = ("llc", "loss", "virial", "distance_squared")
CPU_SECONDS = "cpu_seconds.txt"


def with_fault(trace: Trace, fault: str) -> Trace:
    """The trace as it would have been recorded with the fault."""
    change = {**EVERY, **SCALED}[fault]

    def changed(values: Mapping[str, Draws]) -> dict[str, Draws]:
        return {name: change(v) if fault in EVERY or name in PLACES else v for name, v in values.items()}

    return replace(trace, posterior=changed(trace.posterior), sample_stats=changed(trace.sample_stats))


def chosen(rows: Sequence[RunRow], reliable: Collection[str]) -> dict[str, list[RunRow]]:
    """The first runs of every target, by its folder, that `reliable` names: what breaks them is the fault alone."""
    found: dict[str, list[RunRow]] = {}
    for row in rows:
        if row.id in reliable:
            found.setdefault(f"{row.target}-{row.target_id[:8]}", []).append(row)
    return {target: runs[:RUNS_A_TARGET] for target, runs in found.items()}


def digest(stages: Path, rows: Sequence[RunRow]) -> str:
    """Changes with the sources of the stages, the runs, and the faults that are put into them."""
    parts = [stages.read_bytes(), Path(__file__).read_bytes(), *(row.id.encode() for row in rows)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def analyse_with_fault(results: Path, target: str, rows: list[RunRow], fault: str, out: Path) -> None:
    """Write the runs of one target with the fault, call analyze, and leave in `out` the analyses and what they took."""
    plan, began = results / "pipeline_info" / "plan", cpu_seconds()
    with new_folder(out) as draft:
        for row in rows:
            source, copy = results / "runs" / row.folder, draft / "runs" / row.id
            copy.mkdir(parents=True)
            shutil.copy2(source / "run.json", copy / "run.json")
            trace = RunFolder(source).trace()
            if trace is None:
                raise RuntimeError(f"{source}: the run has no trace")
            write_trace(copy / "trace.nc", with_fault(trace, fault), {"fault": fault})
        write_text(draft / "rows.jsonl", "".join(f"{row.model_dump_json()}\n" for row in rows))
        command = [sys.executable, "-m", "lambda_hat_cli.commands.analyze", "--rows", str(draft / "rows.jsonl")]
        command += ["--runs", str(draft / "runs"), "--target", str(results / "targets" / target)]
        command += ["--out", str(draft / "analyses"), "--stages", str(plan / "stages.json"), "--diagnostics", "none"]
        command += ["--failures", str(draft / "failures")]
        subprocess.run(command, check=True)
        write_text(draft / CPU_SECONDS, f"{cpu_seconds() - began}\n")


def cpu_seconds() -> float:
    """CPU time of this process and of the children that have ended, user's and system's."""
    return sum(os.times()[:4])


def read_faulty(folder: Path, rows: Sequence[RunRow], fault: str) -> Iterator[Outcome]:
    """The runs of one target with one fault; one without an analysis is missing."""
    for row in rows:
        analysis = folder / "analyses" / row.id
        if analysis.is_dir():
            yield replace(outcome_of(AnalysisFolder(analysis).record), sampler=fault)
        else:
            yield missing(row.target, fault)


def main(results: Path, out: Path) -> None:
    """Every fault in the chosen runs of every target, and the summary."""
    plan = results / "pipeline_info" / "plan"
    if not (plan / "runs.jsonl").is_file() or not (results / "summary" / "results.csv").is_file():
        sys.exit(f"validate: faults are put into finished runs, and {results} holds none: run {results.name} first")
    reliable = {row["run_id"] for row in read_table(results) if row["verdict"] == "reliable"}
    out.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    seconds = 0.0
    for target, runs in chosen(read_records(plan / "runs.jsonl", RunRow), reliable).items():
        for fault in FAULTS:
            folder = out / f"{target}-{fault}-{digest(plan / 'stages.json', runs)}"
            if not folder.is_dir():
                analyse_with_fault(results, target, runs, fault, folder)
            outcomes += read_faulty(folder, runs, fault)
            seconds += float((folder / CPU_SECONDS).read_text(encoding="utf-8"))
    if not outcomes:
        sys.exit(f"validate: faults are put into reliable runs, and {results} holds none")
    where = here_and_now(datetime.date.today(), len(outcomes), seconds / 3600)
    SUMMARIES.mkdir(exist_ok=True)
    write_record(SUMMARIES / "faults.json", summarise("faults", outcomes, read_families(results), where))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
