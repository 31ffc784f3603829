"""Analyses that start at once under one HOME draw what one alone draws."""

from pathlib import Path

from matplotlib_race import race


def test_eight_analyses_at_once(tmp_path: Path) -> None:
    assert race(3, tmp_path) == []
