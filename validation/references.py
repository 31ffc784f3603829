"""Makes the reference E[tK] of a deep linear target: last layer integrated out, the others by tempered SMC.

    export JAX_ENABLE_X64=1 PYTHONPATH=python
    python validation/references.py validation/experiments/oracles.yml rrr-3-2-3-rank-1

Writes an entry of python/lambda_hat_cli/truth/references/references.json, which `analyze` looks up.
"""

import math
import shlex
import sys
import time
from pathlib import Path

import click
import jax
import jax.numpy as jnp
import numpy as np
from integrated_layer import Layers, Marginal, gradient, inner, marginal
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from tempered_smc import Density, Outcome, Settings, combine, pilot, run

from lambda_hat_cli.errors import UserError
from lambda_hat_cli.experiment.expand import expand
from lambda_hat_cli.experiment.load import load_experiment
from lambda_hat_cli.experiment.rows import TargetRow
from lambda_hat_cli.experiment.schema import DeepLinearModel, TeacherData
from lambda_hat_cli.targets.build import constructed_minimum
from lambda_hat_cli.targets.data import make_data
from lambda_hat_cli.truth.references import Reference, add_reference

METHOD = "last layer integrated out exactly, the others by SMC from their Gaussian up to t with HMC moves"


def target_row(experiment_file: Path, name: str) -> TargetRow:
    """The planned row of one target of the file.

    Raises:
        UserError: when there is none of that name, or it is not deep linear.
    """
    rows = expand(
        load_experiment(experiment_file), where=str(experiment_file), files={}, build_code={}, sample_code={}
    ).targets
    found = next((row for row in rows if row.name == name), None)
    if found is None:
        raise UserError(f'{experiment_file}: no target "{name}"; it has {", ".join(row.name for row in rows)}')
    if not isinstance(found.spec.model, DeepLinearModel):
        raise UserError(
            f'{experiment_file}: target "{name}" is of kind {found.spec.model.kind}; give a deep_linear one'
        )
    if found.spec.at == "trained":
        raise UserError(f'{experiment_file}: w* of target "{name}" is trained; give one that is constructed')
    return found


def arrays(row: TargetRow) -> tuple[dict[str, np.ndarray], list[Float[np.ndarray, "outputs inputs"]]]:
    """The data and w*'s layers as `build-target` stores them."""
    data = make_data(row.spec, row.seed)
    model = constructed_minimum(row.spec, row.seed, data)
    return data, [np.asarray(leaf) for leaf in jax.tree.leaves(model)]


def density(others: Layers) -> Density:
    """The law of the other layers' displacement z from w*; observes E[tK | b] and E[‖w − w*‖² | b].

    Args:
        others: for the shapes only; the density's functions take the problem's own.
    """
    flat, unravel = ravel_pytree(others)

    def place(problem: Marginal, z: Float[Array, " dim"]) -> Layers:
        return jax.tree.map(jnp.add, problem.others, unravel(z))

    # The path is one in t: at small t the neighbourhood of singular points is wide, so that particles find it.
    def at_share_of_t(problem: Marginal, power: Float[Array, ""]) -> Marginal:
        return problem._replace(scale=power * problem.scale)

    def log_weight(problem: Marginal, power: Float[Array, ""], z: Float[Array, " dim"]) -> Float[Array, ""]:
        return inner(at_share_of_t(problem, power), place(problem, z)).log_weight

    def slope(problem: Marginal, power: Float[Array, ""], z: Float[Array, " dim"]) -> Float[Array, " dim"]:
        return ravel_pytree(gradient(at_share_of_t(problem, power), place(problem, z)))[0]

    def observe(problem: Marginal, z: Float[Array, " dim"]) -> Float[Array, " 2"]:
        at = inner(problem, place(problem, z))
        return jnp.stack([at.mean, at.distance_squared + jnp.sum(z**2)])

    return Density(flat.size, log_weight, slope, observe)


def repeated(problem: Marginal, settings: Settings, repeats: int, seed: int) -> tuple[list[Outcome], int]:
    """Independent runs after one pilot, with a line for each; also the number of rises of the power."""
    law, gamma, key = density(problem.others), float(problem.localization), jax.random.key(seed)
    schedule = pilot(jax.random.fold_in(key, 0), law, problem, gamma, settings)
    click.echo(f"{len(schedule.powers)} powers, last step size {schedule.step_sizes[-1]:.3g}")
    outcomes = []
    for number in range(1, repeats + 1):
        began = time.perf_counter()
        outcomes.append(run(jax.random.fold_in(key, number), law, problem, gamma, settings, schedule))
        log_z, (mean, distance), acceptance = outcomes[-1]
        click.echo(
            f"{number}: E[tK] {mean:.4f}, ‖w−w*‖² {distance:.3f}, log Z {log_z:.3f}, acceptance {acceptance:.2f}, "
            f"{time.perf_counter() - began:.0f} s"
        )
    return outcomes, len(schedule.powers)


@click.command()
@click.argument("experiment_file", metavar="EXPERIMENT", type=click.Path(path_type=Path))
@click.argument("target")
@click.option("--inverse-temperature", type=float, help="β; without it 1/log n.")
@click.option("--localization", type=float, default=1.0, show_default=True, help="γ > 0.")
@click.option("--repeats", type=click.IntRange(min=4), default=10, show_default=True, help="Independent runs.")
@click.option("--particles", type=int, default=2000, show_default=True)
@click.option("--moves", type=int, default=3, show_default=True, help="HMC moves at each power.")
@click.option("--trajectory", type=float, default=2.0, show_default=True, help="Longest trajectory, units of 1/√γ.")
@click.option("--leapfrog-steps", type=int, default=64, show_default=True, help="Most steps of a trajectory.")
@click.option("--final-moves", type=int, default=30, show_default=True, help="Moves that are averaged over.")
@click.option("--ess", type=click.FloatRange(0.1, 0.99), default=0.9, show_default=True, help="Sets the powers.")
@click.option(
    "--shortest-step", type=click.FloatRange(0, 1.4), default=0.6, show_default=True, help="Least step factor."
)
@click.option("--seed", type=int, default=0, show_default=True)
def main(
    experiment_file: Path,
    target: str,
    inverse_temperature: float | None,
    localization: float,
    repeats: int,
    particles: int,
    moves: int,
    trajectory: float,
    leapfrog_steps: int,
    final_moves: int,
    ess: float,
    shortest_step: float,
    seed: int,
) -> None:
    """Make the reference E[tK] of a deep linear TARGET of the EXPERIMENT file and write it into the package's data."""
    if not jax.config.read("jax_enable_x64"):
        raise UserError("JAX has no float64 here; set JAX_ENABLE_X64=1")
    row = target_row(experiment_file, target)
    if not isinstance(row.spec.data, TeacherData):
        raise TypeError("a deep linear target has a teacher")
    n = row.spec.data.n
    nbeta = n / math.log(n) if inverse_temperature is None else n * inverse_temperature
    data, layers = arrays(row)
    problem = marginal(data["x"], data["y"], layers, row.spec.data.noise.scale, nbeta, localization)
    settings = Settings(particles, moves, trajectory, leapfrog_steps, final_moves, ess, shortest_step)
    outcomes, powers = repeated(problem, settings, repeats, seed)
    value, se = combine(outcomes)
    log_z = [outcome.log_normalizer for outcome in outcomes]
    means = [outcome.averages[0] for outcome in outcomes]
    add_reference(
        Reference(
            target=target,
            spec=row.spec,
            seed=row.seed,
            nbeta=nbeta,
            localization=localization,
            value=float(value[0]),
            se=float(se[0]),
            method=METHOD,
            settings={**settings._asdict(), "repeats": repeats, "powers": powers, "seed": seed},
            checks={
                "plain_mean": float(np.mean(means)),
                "spread": float(np.std(means, ddof=1)),
                "log_evidence": float(np.logaddexp.reduce(log_z) - math.log(repeats)),
                "log_evidence_spread": float(np.std(log_z, ddof=1)),
                "distance_squared": float(value[1]),
                "distance_squared_se": float(se[1]),
            },
            input_square=float(np.mean(np.sum(data["x"].astype(np.float64) ** 2, axis=1))),
            command=f"python validation/references.py {shlex.join(sys.argv[1:])}",
        )
    )
    click.echo(f"E[tK] = {value[0]:.4f} ± {se[0]:.4f}, ‖w−w*‖² = {value[1]:.2f} ± {se[1]:.2f}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"references: {error}")
