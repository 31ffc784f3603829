"""HMC on a deep linear network of 990,000 parameters for ten minutes with two CPUs, from its most singular w*.

A gradient takes 32 products of 300 × 300 matrices: 11 forward, the last of them with the rows that stand for all data,
and 21 backward. Their time is what the peak of `peak` allows. It is measured once, however many rounds are asked for.
"""

import json
import os
import tempfile
from fractions import Fraction
from pathlib import Path

import netCDF4
import numpy as np
from stages import PROJECT, prepare, run

from cases.figure import Figure, figure
from cases.peak import peak

PRODUCTS = 32
WIDTH = 300


def draws_of(trace: Path) -> np.ndarray:
    """tK of the recorded draws, (chains, draws)."""
    with netCDF4.Dataset(trace) as file:
        return np.asarray(file["posterior/llc"][:])


def measure(rounds: int) -> list[Figure]:
    """The cost of a gradient beside its products, the peak memory, and how near the draws come, with their verdict."""
    del rounds
    cpus = min(2, len(os.sched_getaffinity(0)))
    text = (PROJECT / "conf" / "experiments" / "million.yml").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        planned = prepare(text, folder)
        run(planned.sample_command(folder / "runs"), planned.lane(cpus))
        run(planned.analyze_command(folder / "runs", folder / "analyses"), planned.lane(cpus=1))
        record = json.loads((folder / "runs" / planned.run_id / "run.json").read_text(encoding="utf-8"))
        analysis = json.loads((folder / "analyses" / planned.run_id / "analysis.json").read_text(encoding="utf-8"))
        products = PRODUCTS * 2 * WIDTH**3 / peak("float32", cpus)
        average = float(draws_of(folder / "runs" / planned.run_id / "trace.nc").mean())
    cost = record["seconds"]["sampling"] / record["gradients"]["sampling"]
    exact = float(Fraction(analysis["truth"]["lambda"]))
    print(f"  verdict: {analysis['verdict']}", *analysis["reasons"], sep="\n    ", flush=True)
    return [
        figure("a gradient over its products at the peak", [cost / products], "×", "≤ 2"),
        figure("a gradient", [1e3 * cost], "ms"),
        figure("peak memory", [record["peak_memory_bytes"] / 2**30], "GiB", "≤ 2"),
        figure("average tK of the recorded draws", [average], "nats"),
        figure("its distance from the exact coefficient", [100 * (average / exact - 1)], "%"),
        figure("whole command", [record["seconds"]["total"]], "s"),
    ]
