"""How many SGLD steps of all chains does devinterp take in a second on a built target? For devinterp's own environment.

    python devinterp_rate.py TARGET --batch 100|full --loader default|best --threads N --chains N --steps N

The default loader is PyTorch's over a TensorDataset, which collates row by row; the best takes a batch out of the
tensors at once, or has the full batch ready. What is timed is the difference between two lengths, so that no start-up
counts. Prints the rate.
"""

import argparse
import json
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from devinterp.optim import SGLD
from devinterp.slt.sampler import estimate_learning_coeff_with_summary
from target_folder import leaves
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, TensorDataset

Rows = tuple[torch.Tensor, torch.Tensor]
LEARNING_RATE = 1e-6
AGREEMENT = 1e-5


class Network(torch.nn.Module):
    """The mean of ‖y − f(x)‖²/(2σ²), f a ReLU network with biases or a product of matrices."""

    def __init__(self, folder: Path, record: dict):
        super().__init__()
        self.scale = record["scale"]
        self.linear = record["spec"]["model"]["kind"] == "deep_linear"
        arrays = [torch.from_numpy(array) for array in leaves(folder / "params.eqx")]
        self.weights = torch.nn.ParameterList(arrays if self.linear else arrays[::2])
        self.biases = torch.nn.ParameterList([] if self.linear else arrays[1::2])

    def forward(self, rows: Sequence[torch.Tensor]) -> torch.Tensor:
        h, y = rows
        for number, weight in enumerate(self.weights):
            h = torch.nn.functional.linear(h, weight, None if self.linear else self.biases[number])
            if not self.linear and number < len(self.weights) - 1:
                h = torch.relu(h)
        return torch.mean(torch.sum((h - y) ** 2, dim=1)) / (2 * self.scale**2)


class Batches(Dataset):
    """Rows taken by a list of their numbers; all of them are the same tensors each time."""

    def __init__(self, rows: Rows):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows[0])

    def __getitem__(self, numbers: list[int]) -> Rows:
        if len(numbers) == len(self):
            return self.rows
        index = torch.as_tensor(numbers)
        return self.rows[0][index], self.rows[1][index]


def loader_of(rows: Rows, batch: int, kind: str) -> DataLoader:
    """The loader; both shuffle."""
    if kind == "default":
        return DataLoader(TensorDataset(*rows), batch_size=batch, shuffle=True)
    batches = Batches(rows)
    if batch == len(batches):
        same = [list(range(batch))] * 1000
        return DataLoader(batches, batch_size=1, sampler=same, collate_fn=lambda items: items[0])
    sampler = BatchSampler(RandomSampler(batches), batch, drop_last=True)
    return DataLoader(batches, batch_size=1, sampler=sampler, collate_fn=lambda items: items[0])


def seconds(network: Network, loader: DataLoader, chains: int, steps: int, nbeta: float, init_loss: float) -> float:
    """Wall seconds of an estimate with so many steps a chain."""
    start = time.perf_counter()
    estimate_learning_coeff_with_summary(
        model=network,
        loader=loader,
        evaluate=lambda model, rows: model(rows),
        sampling_method=SGLD,
        optimizer_kwargs={"lr": LEARNING_RATE, "localization": 100.0, "nbeta": nbeta},
        num_draws=steps,
        num_chains=chains,
        init_loss=init_loss,
        verbose=False,
    )
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="devinterp's SGLD steps a second on a built target")
    parser.add_argument("target", type=Path)
    parser.add_argument("--batch", required=True)
    parser.add_argument("--loader", choices=["default", "best"], required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--chains", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True, help="steps a chain in what is timed")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(asked.threads)
    record = json.loads((asked.target / "target.json").read_text(encoding="utf-8"))
    with np.load(asked.target / "data.npz", allow_pickle=False) as stored:
        rows = (torch.from_numpy(stored["x"]), torch.from_numpy(stored["y"]))
    network, n = Network(asked.target, record), record["n"]
    init_loss = network(rows).item()
    if abs(init_loss - record["loss_at_w_star"]) > AGREEMENT * max(1.0, abs(record["loss_at_w_star"])):
        raise SystemExit(f"{asked.target}: L_n(w*) is {init_loss} here and {record['loss_at_w_star']} in target.json")
    loader = loader_of(rows, n if asked.batch == "full" else int(asked.batch), asked.loader)
    short = asked.steps // 4
    lengths = [
        seconds(network, loader, asked.chains, steps, n / np.log(n), init_loss or 1e-9)
        for steps in (short, short, short + asked.steps)
    ]
    print(asked.chains * asked.steps / (lengths[2] - lengths[1]))


if __name__ == "__main__":
    main()
