"""Runs the benchmark cases, prints what each measured, and stores it with the date, the machine and the versions.

    python benchmarks/bench.py [--environments DIR] [--rounds N] [CASE ...]

The cases are in benchmarks/cases, and each says what it measures. What is compared is measured in turn within one
start, --rounds times, and the median counts. The figures go to benchmarks/results/CASE.json. Run it on an idle machine.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from cases import beside, blackjax, command, devinterp, growth, million, packs, peak, profile, rounding
from cases.figure import Figure
from stages import PROJECT

CASES: dict[str, Callable[[int], list[Figure]]] = {
    "peak": peak.measure,
    "command": command.measure,
    "beside": beside.measure,
    "blackjax": blackjax.measure,
    "devinterp": devinterp.measure,
    "growth": growth.measure,
    "packs": packs.measure,
    "million": million.measure,
    "rounding": rounding.measure,
    "profile": profile.measure,
}
RESULTS = PROJECT / "benchmarks" / "results"
PACKAGES = ("jax", "jaxlib", "equinox", "numpy")


def machine() -> dict[str, str | int]:
    """What a figure depends on besides the code."""
    about: dict[str, str | int] = {"processor": processor(), "cpus": len(os.sched_getaffinity(0))}
    return about | {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def processor() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description="What the estimates cost, beside what they are compared with.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all by default")
    parser.add_argument("--rounds", type=int, default=3, help="how often each thing is measured")
    asked = parser.parse_args()
    unknown = [name for name in asked.cases if name not in CASES]
    if unknown:
        sys.exit(f"bench: there is no case {', '.join(unknown)}: the cases are {', '.join(CASES)}")
    RESULTS.mkdir(exist_ok=True)
    for name in asked.cases or CASES:
        figures = CASES[name](asked.rounds)
        print(f"{name}")
        for figure in figures:
            print(f"  {figure.line()}", flush=True)
        record = {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"), "machine": machine(), "rounds": asked.rounds}
        record["figures"] = [asdict(figure) for figure in figures]
        (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
