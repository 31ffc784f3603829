"""The validation's experiments are valid, and every broken run is of a kind that the page explains."""

from pathlib import Path

import pytest
from claims import BROKEN
from kinds import MEANING, kind_of
from outcomes import missing
from page import ORDER

from lambda_hat_cli.experiment.expand import Rows, expand
from lambda_hat_cli.experiment.load import load_experiment
from lambda_hat_cli.experiment.user_files import experiment_files

EXPERIMENTS = Path(__file__).resolve().parents[2] / "validation" / "experiments"


def planned(name: str) -> Rows:
    file = EXPERIMENTS / f"{name}.yml"
    experiment = load_experiment(file)
    return expand(experiment, where=name, files=experiment_files(file, experiment), build_code={}, sample_code={})


@pytest.mark.parametrize("name", [name for name in ORDER if name != "faults"])
def test_every_experiment_of_the_page_can_be_planned(name: str) -> None:
    assert planned(name).runs


def test_broken_runs_are_many_and_of_known_kinds() -> None:
    runs = [run for name in BROKEN if name != "faults" for run in planned(name).runs]
    kinds = {kind_of(missing(run.target, run.sampler)) for run in runs}
    assert len(kinds) >= 12
    assert kinds <= MEANING.keys()
