#!/usr/bin/env python3
"""A SLURM cluster of three pretended nodes on this host, for as long as a command or a test needs it.

`throwaway_slurm.py COMMAND …` runs a command with it. It needs root and Debian's slurm-wlm and munge. Configuration,
keys, sockets, state and logs are in one temporary folder, every port is a free one and no node's name is used twice, so
that no other SLURM or munge of the host is touched. `SLURM_CONF` in the environment chooses the cluster.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

NODES = 3
CPUS_PER_NODE = 4
GPUS_PER_NODE = 1
MEBIBYTES_PER_NODE = 8000
PATIENCE = 60.0  # seconds for all nodes to report; a second is usual

# Fake nodes claim more than the host has. A dead node is noticed after 30 s; a scheduler that looks every second keeps
# short jobs short.
SETTINGS = """\
ClusterName=throwaway
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
SlurmdParameters=config_overrides
SlurmdTimeout=30
KillWait=5
ReturnToService=2
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=512
GresTypes=gpu
EnforcePartLimits={refusal}
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=2,batch_sched_delay=0,sched_min_interval=0
"""

# Memory limits by the kernel where the first version of control groups is writable, else by polling.
BY_CGROUP = """\
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
"""
BY_POLLING = """\
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
"""
CGROUP_SETTINGS = """\
CgroupPlugin=cgroup/v1
CgroupAutomount=yes
ConstrainRAMSpace=yes
ConstrainSwapSpace=yes
AllowedSwapSpace=0
ConstrainCores=no
"""


class ClusterError(RuntimeError):
    """The cluster did not come up; the message ends with what its logs say."""


def free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]


def limits_by_cgroup() -> bool:
    controllers = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup/freezer"))
    return all(controller.is_dir() and os.access(controller, os.W_OK) for controller in controllers)


def configuration(folder: Path, nodes: list[str], refuses: bool) -> str:
    """The text of slurm.conf for a cluster whose state is in `folder`; `refuses` as in throwaway_slurm."""
    host = socket.gethostname().split(".")[0]
    controller_port, *node_ports = free_ports(1 + len(nodes))
    refusal = "ALL" if refuses else "NO"
    lines = [SETTINGS.format(host=host, folder=folder, controller_port=controller_port, refusal=refusal)]
    lines.append(BY_CGROUP if limits_by_cgroup() else BY_POLLING)
    size = f"CPUs={CPUS_PER_NODE} RealMemory={MEBIBYTES_PER_NODE} Gres=gpu:{GPUS_PER_NODE} State=UNKNOWN"
    for node, port in zip(nodes, node_ports, strict=True):
        lines.append(f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} {size}\n")
    lines.append("PartitionName=main Nodes=ALL Default=YES MaxTime=2-00:00:00 State=UP\n")
    return "".join(lines)


def lay_out(folder: Path, nodes: list[str], refuses: bool) -> None:
    """Create every folder and file that the daemons expect to find."""
    for name in ("munge", "state", "run", "log", *(f"spool/{node}" for node in nodes)):
        (folder / name).mkdir(parents=True)
    # munged refuses a socket that others cannot reach, and a key that others can read.
    for path in (folder, folder / "munge"):
        path.chmod(0o755)
    key = folder / "munge" / "key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    (folder / "slurm.conf").write_text(configuration(folder, nodes, refuses), encoding="utf-8")
    # GPUs that are counted and handed out: any device will do for that.
    gpus = "".join(f"NodeName={node} Name=gpu Count={GPUS_PER_NODE} File=/dev/null\n" for node in nodes)
    (folder / "gres.conf").write_text(gpus, encoding="utf-8")
    (folder / "cgroup.conf").write_text(CGROUP_SETTINGS, encoding="utf-8")


def munged(folder: Path) -> list[str]:
    place = folder / "munge"
    files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    return ["munged", "--foreground", *(f"--{option}={place / name}" for option, name in files.items())]


@contextmanager
def daemon(command: list[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon in the foreground of a process that ends with the block."""
    with log.open("wb") as said:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def nodes_up(environment: Mapping[str, str]) -> int:
    told = subprocess.run(
        ["sinfo", "--noheader", "--Node", "--format=%T"], env=environment, capture_output=True, text=True, check=False
    )
    return sum(state in ("idle", "mixed", "allocated", "completing") for state in told.stdout.split())


def wait_until_up(environment: Mapping[str, str], daemons: list[subprocess.Popen[bytes]], folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while nodes_up(environment) < NODES:
        if time.monotonic() > deadline or any(process.poll() is not None for process in daemons):
            logs = sorted((folder / "log").iterdir())
            ends = "\n".join(f"{log.name}: {log.read_text(errors='replace')[-600:]}" for log in logs)
            raise ClusterError(f"{nodes_up(environment)} of {NODES} SLURM nodes came up\n{ends}")
        time.sleep(0.1)


def cancel_jobs(environment: Mapping[str, str]) -> None:
    """End what still runs: the processes of a job outlive the daemons."""
    subprocess.run(["scancel", "--user=root", "--full", "--signal=KILL"], env=environment, check=False)
    subprocess.run(["scancel", "--user=root"], env=environment, check=False)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        left = subprocess.run(["squeue", "--noheader"], env=environment, capture_output=True, text=True, check=False)
        if not left.stdout.strip():
            return
        time.sleep(0.2)


def remove_control_groups(nodes: list[str]) -> None:
    """What SLURM leaves of its control groups: folders that are empty but for the kernel's files."""
    for node in nodes:
        for top in Path("/sys/fs/cgroup").glob(f"*/slurm_{node}"):
            for group, _groups, _files in os.walk(top, topdown=False):
                with suppress(OSError):
                    os.rmdir(group)


@contextmanager
def throwaway_slurm(refuses: bool = True) -> Iterator[dict[str, str]]:
    """Bring the cluster up; yield the environment in which SLURM's commands reach it; take it down.

    Args:
        refuses: whether a request that no node can meet is refused at submission; else it is queued for ever.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-"))).resolve()
        # SLURM's control groups are named by node and job alone: clusters that share names kill each other's jobs.
        cluster = secrets.token_hex(3)
        nodes = [f"c{cluster}n{number}" for number in range(1, NODES + 1)]
        lay_out(folder, nodes, refuses)
        stack.callback(remove_control_groups, nodes)
        environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        # -c forgets earlier jobs; -D stays in the foreground, where this process can end it.
        commands = {"munged": munged(folder), "slurmctld": ["slurmctld", "-D", "-c"]}
        commands |= {f"slurmd-{node}": ["slurmd", "-D", "-N", node] for node in nodes}
        daemons = []
        for name, command in commands.items():
            daemons.append(stack.enter_context(daemon(command, environment, folder / "log" / f"{name}.out")))
            while name == "munged" and not (folder / "munge" / "socket").exists() and daemons[-1].poll() is None:
                time.sleep(0.05)
        wait_until_up(environment, daemons, folder)
        stack.callback(cancel_jobs, environment)
        yield environment


def fail_node(environment: Mapping[str, str], node: str) -> None:
    """A node's daemon and everything that its jobs run die at once, as when the machine loses power."""
    pid = int((Path(environment["SLURM_CONF"]).parent / "run" / f"slurmd-{node}.pid").read_text())
    jobs = subprocess.run(
        ["squeue", "--noheader", f"--nodelist={node}", "--format=%A"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    os.kill(pid, signal.SIGKILL)
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            variables = (process / "environ").read_bytes().decode(errors="replace").split("\0")
            if f"SLURM_CONF={environment['SLURM_CONF']}" not in variables:
                continue
            command = (process / "cmdline").read_text()
            if any(f"SLURM_JOB_ID={job}" in variables or f"[{job}." in command for job in jobs):
                os.kill(int(process.name), signal.SIGKILL)


def main(command: list[str]) -> int:
    if not command:
        sys.exit("usage: throwaway_slurm.py COMMAND [ARGUMENT …]")
    with throwaway_slurm() as environment:
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
