"""Targets that cannot be built."""

import os
import signal


def raising() -> None:
    raise ValueError("the student forgot the data")


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
