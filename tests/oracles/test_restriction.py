"""Restricted coefficients by HMC: the exact value of each block of a quadratic; of a network, all at once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lambda_hat_cli.artifacts.target import TargetFolder
from lambda_hat_cli.estimate.interval import Estimate
from lambda_hat_cli.experiment.rows import TargetRow
from lambda_hat_cli.experiment.schema import TargetSpec
from lambda_hat_cli.targets.build import build_target
from lambda_hat_cli.targets.load import load_target
from lambda_hat_cli.truth.finite_t import finite_t_for
from oracles.hmc_estimates import BEYOND_CHANCE, hmc_estimate

NET = {
    "model": {"kind": "mlp", "widths": [2, 3, 1]},
    "data": {"kind": "teacher", "n": 100, "noise": {"kind": "none"}},
    "at": "truth",
}


def estimate(spec: Mapping[str, Any], folder: Path, localization: float, seed: int) -> tuple[Estimate, float | None]:
    """HMC's estimate on a target built in `folder`, and the exact value where there is one; n·β = 100."""
    row = TargetRow(
        id="0" * 16, name="t", entry="t", folder="t-0", spec=TargetSpec.model_validate(spec), seed=7, d=None, n=None,
        code={}, pack="0" * 16,
    )  # fmt: skip
    build_target(row, folder, None)
    found = hmc_estimate(load_target(TargetFolder(folder), "float64"), 100.0, localization, seed)
    return found, finite_t_for(row.spec, row.seed, 100.0, localization).value


@pytest.mark.parametrize("part", ["w[0:5]", "w[5:20]", "w"])
def test_each_block_of_the_quadratic_has_its_exact_value(part: str, tmp_path: Path) -> None:
    curvatures = [float(h) for h in np.geomspace(0.01, 100.0, 20)]
    spec = {"model": {"kind": "quadratic", "curvatures": curvatures}, "restrict": [part]}
    found, exact = estimate(spec, tmp_path / "t", 1.0, 0)
    assert exact is not None
    assert abs(found.llc - exact) < BEYOND_CHANCE * found.se


def test_restricted_to_all_parameters_it_is_the_coefficient(tmp_path: Path) -> None:
    whole, _ = estimate(NET, tmp_path / "whole", 100.0, 0)
    part, _ = estimate({**NET, "restrict": ["layers/0/*", "layers/1/*"]}, tmp_path / "part", 100.0, 1)
    assert abs(whole.llc - part.llc) < BEYOND_CHANCE * float(np.hypot(whole.se, part.se))
