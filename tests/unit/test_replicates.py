"""Many replicates: the first few one by one, and what all of them say together."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lambda_hat_cli.report.replicates import SHOWN, shown, together


def run(sampler: str, replicate: int, llc: float | None, outcome: str = "reliable", reason: str = "") -> Any:
    analysis = SimpleNamespace(record=SimpleNamespace(llc=llc)) if outcome not in ("failed", "missing") else None
    row = SimpleNamespace(sampler=sampler, replicate=replicate)
    return SimpleNamespace(row=row, analysis=analysis, outcome=outcome, reasons=(reason,) if reason else ())


def test_few_replicates_are_shown_as_they_are() -> None:
    runs = [run(name, replicate, 1.0) for name in ("hmc", "vi") for replicate in range(SHOWN)]
    assert shown(runs) == tuple(runs)
    assert together(runs) == ()


def test_many_are_told_together() -> None:
    values = np.random.default_rng(0).normal(10.0, 0.3, 30)
    runs = [run("hmc", number, value) for number, value in enumerate(values)]
    runs += [run("hmc", 30, None, "invalid"), run("hmc", 31, None, "failed", "no memory"), run("vi", 0, 9.0)]
    assert shown(runs) == (*runs[:SHOWN], runs[-2], runs[-1])
    (found,) = together(runs)
    assert (found.label, found.outcomes) == ("hmc, all 32", "30 reliable, 1 invalid, 1 failed")
    assert found.trouble == "no memory"
    assert found.llc == pytest.approx(values.mean())
    half = 2.1 * values.std(ddof=1) / np.sqrt(30)
    assert found.high == pytest.approx(values.mean() + half)
    assert found.low == pytest.approx(values.mean() - half)


def test_no_number_is_made_up() -> None:
    runs = [run("hmc", number, None, "invalid") for number in range(SHOWN)] + [run("hmc", SHOWN, 3.0)]
    (found,) = together(runs)
    assert (found.llc, found.low, found.high, found.trouble) == (None, None, None, None)
