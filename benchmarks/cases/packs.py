"""What does the pipeline add to 64 short runs? Its wall time × cores over the seconds of sampling, packed and not.

Each run is MLP1k by HMC in float32 on one CPU until its interval is within 4 %, all of the pipeline from the start of
Nextflow with no compiled programs. The seconds of sampling, warm-up included, are 64 times the median run's, so that
what the first run of a process compiles counts as the pipeline's.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stages import PROJECT

from cases.figure import Figure, figure
from cases.networks import network

RUNS = 64
PACK = 16


def overhead(folder: Path, pack: int) -> tuple[float, float, float]:
    """Wall seconds of the pipeline, seconds of sampling of a run, and the first × cores over those of all runs."""
    folder.mkdir()
    text = network("mlp1k", "float32", {}, tolerance=0.04, replicates=RUNS, pack=pack)
    (folder / "experiment.yml").write_text(text, encoding="utf-8")
    environments = os.environ.get("LAMBDA_HAT_ENV_DIR", str(PROJECT / ".environments"))
    command = [str(PROJECT / "scripts" / "nextflow"), "run", str(PROJECT / "main.nf"), "-profile", "local"]
    command += ["--experiment", "experiment.yml", "--env_dir", environments]
    start = time.monotonic()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    wall = time.monotonic() - start
    if done.returncode != 0:
        sys.exit(f"bench: the pipeline failed:\n{done.stdout[-2000:]}{done.stderr}")
    seconds = []
    for file in (folder / "results" / "runs").glob("*/run.json"):
        record = json.loads(file.read_text(encoding="utf-8"))
        seconds.append(record["seconds"]["warmup"] + record["seconds"]["sampling"])
    if len(seconds) != RUNS:
        sys.exit(f"bench: {len(seconds)} of {RUNS} runs ended")
    cores = len(os.sched_getaffinity(0))
    return wall, statistics.median(seconds), wall * cores / (RUNS * statistics.median(seconds))


def measure(rounds: int) -> list[Figure]:
    """The overhead of both, and what it is made of."""
    found: dict[int, list[tuple[float, float, float]]] = {PACK: [], 1: []}
    with tempfile.TemporaryDirectory() as place:
        for number in range(rounds):
            for pack, measured in found.items():
                measured.append(overhead(Path(place) / f"{pack}-{number}", pack))
    figures = []
    for pack, goal in ((PACK, "≤ 1.5"), (1, "")):
        name = f"{RUNS} runs, {f'{pack} a process' if pack > 1 else 'not packed'}"
        walls, seconds, ratios = zip(*found[pack], strict=True)
        figures.append(figure(f"{name}, wall × cores over sampling", ratios, "×", goal))
        figures.append(figure(f"{name}, wall", walls, "s"))
        figures.append(figure(f"{name}, sampling of a run", seconds, "s"))
    return figures
