"""How many CPUs does a `sample` task of one CPU use?

Prints the CPU seconds (of the user and the system, all threads) over the wall seconds of a `sample` command whose
environment is that of a task with one CPU. More than 1.1 is a failure: two tasks of one CPU would fight for two cores.
Run it on an idle machine: time spent waiting for a CPU counts as wall time and hides what is looked for.

    python benchmarks/cpu_ratio.py
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stages import prepare

LIMIT = 1.1
# Matrix products large enough for XLA and BLAS to want more threads than one.
EXPERIMENT = """
name: cpu-ratio
posterior: {localization: 100}
targets:
  - name: network
    model: {kind: mlp, widths: [64, 128, 128, 1]}
    data: {kind: teacher, n: 2000}
    train: {steps: 200}
samplers: [{kind: hmc, warmup: 50}]
runs: {chains: 4, tolerance: 0.001, budget: {gradients: 4000, seconds: 60}}
"""


def cpu_over_wall(arguments: list[str], settings: dict[str, str]) -> tuple[float, float]:
    """(CPU seconds, wall seconds) of a command and its children.

    Raises:
        CalledProcessError: when it does not end with 0.
    """
    start = time.monotonic()
    process = subprocess.Popen(arguments, env=settings, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, arguments)
    return usage.ru_utime + usage.ru_stime, wall


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        planned = prepare(EXPERIMENT, Path(place))
        cpu, wall = cpu_over_wall(planned.sample_command(Path(place) / "runs"), planned.lane(cpus=1))
    print(f"CPU {cpu:.1f} s, wall {wall:.1f} s: {cpu / wall:.2f} CPUs in use, at most {LIMIT} allowed")
    sys.exit(cpu / wall > LIMIT)
