"""What does the pipeline itself cost at 100, 1,000 and 10,000 runs?

Runs the pipeline on so many runs of one quadratic, with PLAN, BUILD_TARGET and REPORT as they are, sampling as its
stub, and an analysis that is a copy of one made beforehand. Prints a line for each number of runs: wall seconds,
Nextflow's peak memory, seconds and peak memory of PLAN and REPORT, and what lies in the work and results folders.

    python benchmarks/stub_runs.py [--pack N] [--environments DIR] RUNS ...
"""

import argparse
import csv
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from project_copy import PROJECT, copy_of_the_project
from stages import environment, prepare, run

EXPERIMENT = """
name: stub-runs
targets: [{name: quadratic, model: {kind: quadratic, curvatures: [1, 3]}}]
samplers: [{kind: hmc, warmup: 50}]
runs: {chains: 4, tolerance: 0.2, budget: {gradients: 20000, seconds: 600}}
"""
# A process from its script on: the script, and the stub up to the closing brace.
BODIES = re.compile(r"    script:\n(.*?)\n    stub:\n(.*)\n}\n", re.DOTALL)
COPIED = '''\
    """
    for run in ${{pack.rows*.id.join(' ')}}; do
        mkdir -p analyses/\\$run
        sed "s/{identity}/\\$run/g" '{analysis}/analysis.json' > analyses/\\$run/analysis.json
        cp '{analysis}/convergence.csv' analyses/\\$run/
    done
    ln -s analyses published
    """'''


@dataclass(frozen=True)
class Cost:
    """What a run of the pipeline took, in seconds, bytes and files; of PLAN and REPORT what Nextflow measured."""

    runs: int
    pack: int
    wall: float
    nextflow_bytes: int
    plan: tuple[str, str]
    report: tuple[str, str]
    work_files: int
    work_bytes: int
    results_files: int
    results_bytes: int

    def line(self) -> str:
        """One line of the table."""
        return (
            f"{self.runs} runs, pack {self.pack}: {self.wall:.0f} s, Nextflow {self.nextflow_bytes / 2**20:.0f} MiB, "
            f"PLAN {' '.join(self.plan)}, REPORT {' '.join(self.report)}, "
            f"work {self.work_files} files {self.work_bytes / 2**20:.0f} MiB, "
            f"results {self.results_files} files {self.results_bytes / 2**20:.0f} MiB"
        )


def stubbed_pipeline(folder: Path, analysis: Path, identity: str) -> Path:
    """A copy of the pipeline whose stubs are the scripts, but for SAMPLE's, and ANALYZE's, which copies `analysis`."""
    copy_of_the_project(folder)
    for stage in ("plan", "build_target", "report", "analyze"):
        module = folder / "modules" / "local" / stage / "main.nf"
        text = module.read_text(encoding="utf-8")
        found = BODIES.search(text)
        assert found is not None, stage
        stub = COPIED.format(analysis=analysis, identity=identity) if stage == "analyze" else found[1]
        module.write_text(text[: found.start(2)] + stub + "\n}\n", encoding="utf-8")
    return folder


def one_analysis(folder: Path) -> tuple[Path, str]:
    """The folder of a real analysis, and the id of its run."""
    planned = prepare(EXPERIMENT, folder)
    run(planned.sample_command(folder / "runs"), planned.lane(cpus=1))
    run(planned.analyze_command(folder / "runs", folder / "analyses"), environment(MPLBACKEND="Agg"))
    return folder / "analyses" / planned.run_id, planned.run_id


def peak_memory(pid: int) -> int:
    """Peak resident bytes of a running process; 0 where it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return 1024 * int(found[1]) if found else 0


def contents(folder: Path) -> tuple[int, int]:
    """(files and links, bytes) below a folder."""
    files = [Path(place) / name for place, _, names in os.walk(folder) for name in names]
    return len(files), sum(file.lstat().st_size for file in files)


def measure(pipeline: Path, folder: Path, runs: int, pack: int, environments: Path) -> Cost:
    """Run the pipeline with so many runs, in `folder`."""
    folder.mkdir()
    (folder / "experiment.yml").write_text(EXPERIMENT, encoding="utf-8")
    command = [str(PROJECT / "scripts" / "nextflow"), "run", str(pipeline / "main.nf"), "-stub", "-profile", "local"]
    command += ["--experiment", "experiment.yml", "--env_dir", str(environments), "--diagnostics", "none"]
    command += ["--set", f"runs.replicates={runs}; runs.pack={pack}"]
    start = time.monotonic()
    with (folder / "output").open("wb") as said:
        process = subprocess.Popen(command, cwd=folder, env={**os.environ, "NXF_ANSI_LOG": "false"}, stdout=said)
    peak = 0
    while process.poll() is None:
        peak = max(peak, peak_memory(process.pid))
        time.sleep(0.2)
    wall = time.monotonic() - start
    if process.returncode != 0:
        raise SystemExit((folder / "output").read_text(encoding="utf-8"))
    counts = json.loads((folder / "results" / "summary" / "counts.json").read_text(encoding="utf-8"))
    assert counts["completed"] == runs, counts
    with (folder / "results" / "pipeline_info" / "trace.txt").open(encoding="utf-8") as table:
        tasks = {row["name"].split()[0].split(":")[-1]: row for row in csv.DictReader(table, delimiter="\t")}
    plan, report = ((tasks[name]["realtime"], tasks[name]["peak_rss"]) for name in ("PLAN", "REPORT"))
    return Cost(runs, pack, wall, peak, plan, report, *contents(folder / "work"), *contents(folder / "results"))


def main() -> None:
    parser = argparse.ArgumentParser(description="The pipeline's own cost at many runs.")
    parser.add_argument("runs", type=int, nargs="+", metavar="RUNS", help="how many runs, at most 10000")
    parser.add_argument("--pack", type=int, default=1, help="runs that share a process")
    parser.add_argument("--environments", type=Path, default=PROJECT / ".environments", help="the stages' environments")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "one").mkdir()
        pipeline = stubbed_pipeline(folder / "pipeline", *one_analysis(folder / "one"))
        for runs in asked.runs:
            cost = measure(pipeline, folder / f"runs-{runs}", runs, asked.pack, asked.environments.resolve())
            print(cost.line(), flush=True)
            shutil.rmtree(folder / f"runs-{runs}")


if __name__ == "__main__":
    main()
