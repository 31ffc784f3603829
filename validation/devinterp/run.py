"""Runs devinterp's SGLD on built target folders and writes a CSV line for every target, learning rate and seed.

For an environment of its own, made from requirements.txt beside this file:

    python=$(scripts/environments validation/devinterp/requirements.txt)/bin/python3
    $python validation/devinterp/run.py FOLDER_OF_TARGETS --out FILE.csv --only quadratic-20 rrr-3-2-3-rank-1

The posterior is the pipeline's: full batch, so that devinterp's default nβ is n/log n, the loss mean‖y − f(x)‖²/(2σ²),
localization γ. Half of the steps are burn-in, as devinterp asks for at least as many burn-in steps as draws.
"""

import argparse
import csv
import dataclasses
import itertools
import math
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from devinterp.optim import SGLD
from devinterp.slt.sampler import estimate_learning_coeff_with_summary
from devinterp.utils import default_nbeta
from target_folder import Target, name_of, read_target
from torch.utils.data import DataLoader, Dataset

DEFAULT_LEARNING_RATE = 0.01
HAND_TUNED = (1e-4, 1e-5)
AGREEMENT = 1e-6

Batch = tuple[torch.Tensor, ...]


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of the CSV; None is an empty cell.

    Attributes:
        budget: the full-data gradients that the run was given, all chains and burn-in.
        llc, llc_std: mean and standard deviation over the chains, as devinterp gives them; None where it failed.
        gradients: those used, None where it failed on the way.
        seconds: wall time, failed runs included.
        reason: why it failed, empty where it did not.
    """

    target: str
    target_id: str
    seed: int
    lr: float
    chains: int
    budget: float
    localization: float
    nbeta: float
    llc: float | None
    llc_std: float | None
    gradients: int | None
    seconds: float
    failed: bool
    reason: str


class Loss(torch.nn.Module):
    """L_n in nats per datum of a full batch: (x, y) for a network, () for a quadratic."""

    def __init__(self, target: Target, dtype: torch.dtype):
        super().__init__()
        self.scale = target.scale
        self.weights = torch.nn.ParameterList([torch.from_numpy(weight).to(dtype) for weight in target.weights])
        self.constants = [torch.from_numpy(constant).to(dtype) for constant in target.constants]

    def forward(self, batch: Sequence[torch.Tensor]) -> torch.Tensor:
        """The scalar loss."""
        if self.scale is None:
            curvatures, *rotation = self.constants
            u = torch.linalg.multi_dot([self.weights[0], *rotation]) if rotation else self.weights[0]
            return 0.5 * torch.sum(curvatures * u**2)
        x, y = batch
        for weight in self.weights:
            x = x @ weight.T
        return torch.mean(torch.sum((x - y) ** 2, dim=1)) / (2 * self.scale**2)


class FullBatches(Dataset[Batch]):
    """The same batch for every step: collating its rows anew each time would take most of the time."""

    def __init__(self, batch: Batch, steps: int):
        self.batch = batch
        self.steps = steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> Batch:
        return self.batch


def full_batch(target: Target, dtype: torch.dtype) -> Batch:
    """The rows as one batch."""
    return tuple(torch.from_numpy(target.data[name]).to(dtype) for name in ("x", "y") if name in target.data)


def check_rebuilt(target: Target) -> None:
    """Compare the rebuilt loss, in float64, with the folder's at w* and with NumPy's near it.

    Raises:
        ValueError: where they differ by more than 1e-6: of the loss, or at w*, where it is about 0, of a nat of tK.
    """
    batch, nbeta = full_batch(target, torch.float64), nbeta_of(target)
    rng = np.random.default_rng(0)
    displaced = [weight + 0.1 * rng.standard_normal(weight.shape).astype(np.float32) for weight in target.weights]
    with torch.no_grad():
        at_w_star = Loss(target, torch.float64)(batch).item()
        near = Loss(dataclasses.replace(target, weights=displaced), torch.float64)(batch).item()
    if abs(at_w_star - target.loss_at_w_star) > AGREEMENT * max(abs(target.loss_at_w_star), 1 / nbeta):
        raise ValueError(f"{target.name}: rebuilt, L_n(w*) is {at_w_star}, the folder says {target.loss_at_w_star}")
    if not math.isclose(near, target.loss(displaced), rel_tol=AGREEMENT):
        raise ValueError(f"{target.name}: rebuilt, L_n is {near} where NumPy gives {target.loss(displaced)}")


def nbeta_of(target: Target) -> float:
    """devinterp's default nβ for the full batch, n/log n."""
    return float(default_nbeta(target.n))


def sample(target: Target, seed: int, lr: float, chains: int, budget: float, localization: float) -> Line:
    """One estimate from `budget` gradients in all."""
    model, batch, nbeta = Loss(target, torch.float32), full_batch(target, torch.float32), nbeta_of(target)
    draws = int(budget) // chains // 2
    loader = DataLoader(FullBatches(batch, 2 * draws), batch_size=1, collate_fn=lambda items: items[0])
    results: dict[str, Any] = {}
    reason, began = "", time.perf_counter()
    try:
        results = estimate_learning_coeff_with_summary(
            model=model,
            loader=loader,
            evaluate=lambda model, batch: model(batch),
            sampling_method=SGLD,
            optimizer_kwargs={"lr": lr, "localization": localization, "nbeta": nbeta},
            num_draws=draws,
            num_burnin_steps=draws,
            num_chains=chains,
            seed=seed,
            verbose=False,
        )
    except RuntimeError as error:
        if "NaN" not in str(error):
            raise
        reason = str(error)
    llc, std = results.get("llc/mean"), results.get("llc/std")
    if llc is not None and std is not None and not (math.isfinite(llc) and math.isfinite(std)):
        llc, std, reason = None, None, f"the estimate is {llc}"
    return Line(
        target=target.name,
        target_id=target.id,
        seed=seed,
        lr=lr,
        chains=chains,
        budget=budget,
        localization=localization,
        nbeta=nbeta,
        llc=llc,
        llc_std=std,
        gradients=2 * draws * chains if results else None,
        seconds=time.perf_counter() - began,
        failed=llc is None,
        reason=reason,
    )


def write_csv(file: Path, lines: Sequence[Line]) -> None:
    """Write the lines under their names."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, [field.name for field in dataclasses.fields(Line)], lineterminator="\n")
        table.writeheader()
        table.writerows(dataclasses.asdict(line) for line in lines)


def main() -> None:
    """Read the targets, check that they are rebuilt right, and sample each by every learning rate and seed."""
    parser = argparse.ArgumentParser(description="devinterp's SGLD on built target folders")
    parser.add_argument("targets", type=Path, help="the folder that holds the target folders")
    parser.add_argument("--out", type=Path, required=True, help="the CSV to write")
    parser.add_argument("--only", nargs="+", help="names of targets; without it, all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lr", type=float, nargs="+", default=[DEFAULT_LEARNING_RATE, *HAND_TUNED])
    parser.add_argument("--chains", type=int, default=8)
    parser.add_argument("--budget", type=float, default=1e5, help="gradients of a run over all chains")
    parser.add_argument("--localization", type=float, default=1.0)
    options = parser.parse_args()
    # devinterp warns of every setting that it was given.
    warnings.filterwarnings("ignore", module="devinterp")
    torch.set_num_threads(1)
    folders = {name_of(file.parent): file.parent for file in sorted(options.targets.glob("*/target.json"))}
    absent = set(options.only or ()) - set(folders)
    chosen = [read_target(folder) for name, folder in folders.items() if not options.only or name in options.only]
    if absent or not chosen:
        parser.error(f"no target folder in {options.targets} is called {', '.join(sorted(absent)) or 'anything'}")
    lines: list[Line] = []
    for target in chosen:
        check_rebuilt(target)
    for seed, target, lr in itertools.product(range(options.seeds), chosen, options.lr):
        line = sample(target, seed, lr, options.chains, options.budget, options.localization)
        found = line.reason if line.llc is None else f"{line.llc:.4g} ± {line.llc_std:.2g}"
        print(f"{target.name}, lr {lr:g}, seed {seed}: {found} ({line.seconds:.0f} s)", flush=True)
        lines.append(line)
        write_csv(options.out, lines)


if __name__ == "__main__":
    main()
