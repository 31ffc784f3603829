"""The groups of runs that go through temperatures, localizations, a training or a grid, found together once."""

from dataclasses import dataclass

from lambda_hat_cli.report.checkpoints import TrainingGroup, training_groups
from lambda_hat_cli.report.collect import Collection
from lambda_hat_cli.report.grids import GridGroup, grid_groups
from lambda_hat_cli.report.localizations import LocalizationGroup, localization_groups
from lambda_hat_cli.report.temperatures import TemperatureGroup, temperature_groups


@dataclass(frozen=True)
class Sweeps:
    """Each in plan order, empty where the experiment has none."""

    temperatures: tuple[TemperatureGroup, ...]
    localizations: tuple[LocalizationGroup, ...]
    trainings: tuple[TrainingGroup, ...]
    grids: tuple[GridGroup, ...]


def sweeps_of(collection: Collection) -> Sweeps:
    """The sweeps of an experiment; over temperatures with the fits that its runs say together."""
    return Sweeps(
        temperatures=temperature_groups(collection),
        localizations=localization_groups(collection),
        trainings=training_groups(collection),
        grids=grid_groups(collection),
    )
