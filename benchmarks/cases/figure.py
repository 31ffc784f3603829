"""One measured number."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A quantity's median over the rounds, with its extremes.

    Attributes:
        goal: what is to be reached, in words; empty where nothing is.
    """

    name: str
    value: float
    least: float
    most: float
    unit: str
    goal: str = ""

    def line(self) -> str:
        """The figure as a line of text."""
        goal = f"   (goal: {self.goal})" if self.goal else ""
        return f"{self.name}: {self.value:.3g} {self.unit} [{self.least:.3g}, {self.most:.3g}]{goal}"


def figure(name: str, values: Sequence[float], unit: str, goal: str = "") -> Figure:
    """The figure of what each round measured."""
    return Figure(name, statistics.median(values), min(values), max(values), unit, goal)
