"""The draws of a run under way, and which of them count."""

import numpy as np
from jaxtyping import Float


class Recording:
    """Blocks of draws in order; those before number `first` no longer count.

    Attributes:
        draws: drawn so far, a chain. first: number of the first draw that counts.
    """

    def __init__(self) -> None:
        self.draws, self.first = 0, 0
        self._stats: list[dict[str, np.ndarray]] = []
        self._positions: list[np.ndarray] = []

    def add(self, stats: dict[str, np.ndarray], positions: Float[np.ndarray, "chains draws d"] | None) -> None:
        """Append a block; each statistic is (chains, draws)."""
        self._stats.append(stats)
        if positions is not None:
            self._positions.append(positions)
        self.draws += stats["llc"].shape[1]

    def leave_out(self, first: int) -> None:
        """Count only draws from number `first` on; what was left out before stays out."""
        self.first = max(self.first, first)

    def kept(self) -> dict[str, np.ndarray]:
        """The statistics of the draws that count, each (chains, draws); empty before the first block."""
        return {name: values[:, self.first :] for name, values in self._joined().items()}

    def left_out(self) -> dict[str, np.ndarray]:
        """The statistics of the draws that do not count."""
        return {name: values[:, : self.first] for name, values in self._joined().items()}

    def positions(self) -> Float[np.ndarray, "chains draws d"] | None:
        """The positions of the draws that count, where they were saved."""
        return np.concatenate(self._positions, axis=1)[:, self.first :] if self._positions else None

    def _joined(self) -> dict[str, np.ndarray]:
        if len(self._stats) > 1:
            self._stats = [{name: np.concatenate([b[name] for b in self._stats], axis=1) for name in self._stats[0]}]
        return self._stats[0] if self._stats else {}
