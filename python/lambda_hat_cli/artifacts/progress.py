"""The progress file of a sampling process: a JSON line for everything it tells, for whoever watches it.

Nothing but `lambda-hat watch` reads it: no result depends on it.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from lambda_hat_cli.artifacts.run import RunStatus
from lambda_hat_cli.artifacts.target import ArtifactRecord


class RunningEstimate(ArtifactRecord):
    """What the draws say so far.

    Attributes:
        chains, draws: chains, and recorded draws of each.
        llc, half_width: λ̂ and the half width of its 95 % interval, nats.
        ess, rhat: effective sample size for the mean over all chains, and R-hat; None where undefined.
        gradients_per_second: full-data gradient equivalents a second while recording.
        seconds_left: until the tolerance is met, at most until the budget ends.
    """

    chains: int
    draws: int
    llc: float
    half_width: float | None
    ess: float | None
    rhat: float | None
    gradients_per_second: float | None
    seconds_left: float | None


class Progress(ArtifactRecord):
    """One line of the file.

    Attributes:
        run_id, folder: the run's id and its folder's name in the results.
        time: seconds since 1970 on the machine that samples.
        state: `running`, or how the run ended.
        line: the same in words, as it stands on stderr.
        estimate: None on lines that tell of something else than the estimate.
    """

    run_id: str
    folder: str
    time: float
    state: Literal["running"] | RunStatus
    line: str
    estimate: RunningEstimate | None


class ProgressLog:
    """One run's end of a progress file; without a file it writes nothing."""

    def __init__(self, file: Path | None, run_id: str, folder: str):
        self._file, self._run_id, self._folder = file, run_id, folder

    @contextlib.contextmanager
    def ends(self) -> Iterator[None]:
        """Within, an error is written as the run's end and goes its way."""
        try:
            yield
        except Exception as error:
            self.write("failed", str(error))
            raise

    def write(self, state: Literal["running"] | RunStatus, line: str, estimate: RunningEstimate | None = None) -> None:
        """Append one line and close the file, so that other machines of a shared file system see it."""
        if self._file is None:
            return
        record = Progress(
            run_id=self._run_id, folder=self._folder, time=time.time(), state=state, line=line, estimate=estimate
        )
        # A full disk must not end a run for what no result depends on.
        with contextlib.suppress(OSError), self._file.open("a", encoding="utf-8") as stream:
            stream.write(record.model_dump_json() + "\n")


def latest_progress(file: Path) -> dict[str, Progress]:
    """The last line of each run in a progress file, by run id, with the last estimate before it where it has none.

    A line that is no record, such as one being written just now, is passed over; a file that is not there holds none.
    """
    latest: dict[str, Progress] = {}
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return latest
    for line in lines:
        try:
            told = Progress.model_validate_json(line)
        except ValidationError:
            continue
        if told.estimate is None and told.run_id in latest:
            told = told.model_copy(update={"estimate": latest[told.run_id].estimate})
        latest[told.run_id] = told
    return latest
