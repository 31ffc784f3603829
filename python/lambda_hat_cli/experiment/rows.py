"""The plan's rows: one for every target and one for every run, as they travel between the stages."""

from typing import Any

from lambda_hat_cli.experiment.schema import (
    Count,
    Device,
    Experiment,
    PosteriorSettings,
    Precision,
    RunSettings,
    SamplerSettings,
    Strict,
    TargetSpec,
)


class TargetRow(Strict):
    """One target to build.

    Attributes:
        id: 16 hexadecimal digits, a digest of the spec, the seed and a user's files.
        name: the user's name for it, with the steps where it is one of several checkpoints; in no identity.
        entry: the entry's name in the experiment file, which its checkpoints and combinations share; in no identity.
        step: optimizer steps up to this checkpoint, None where it is not one of several; in no identity.
        varied: its values by key where it is one combination of a grid; in no identity.
        folder: `<name>-<first 8 digits of id>`, the folder's name under results/targets.
        spec: what to build.
        seed: 63-bit integer derived from the experiment's seed.
        files: sha256 by relative path of the user's files that it is made of: code, data, weights.
        d: number of parameters where the plan can know it.
        n: number of data points where the plan can know it.
        code: sha256 by module of the sources that the stage imports.
        pack: the id of the pack, 16 hexadecimal digits: the targets that have it share a process, because one training
            makes them. No result depends on it.
    """

    id: str
    name: str
    entry: str
    step: int | None = None
    varied: dict[str, Any] = {}
    folder: str
    spec: TargetSpec
    seed: int
    files: dict[str, str] = {}
    d: Count | None
    n: Count | None
    code: dict[str, str]
    pack: str


class RunRow(Strict):
    """One sampler run.

    Attributes:
        id: 16 hexadecimal digits, a digest of target id, sampler settings, posterior, run settings, replicate and seed.
        folder: `<target>-<sampler>-<first 8 digits of id>`, the folder's name under results/runs.
        target, target_id, target_kind: the target's name, identity and model kind.
        sampler: the user's name for the sampler; `settings` is what it does.
        seed: 63-bit integer derived from the experiment's seed and the run's identity.
        device: what the sampler must run on; `auto` is what the pipeline's profile says. In no identity, as the machine
            is in none.
        pack: the id of the pack, 16 hexadecimal digits: the runs that have it share a process. No result depends on it.
    """

    id: str
    folder: str
    target: str
    target_id: str
    target_kind: str
    sampler: str
    settings: SamplerSettings
    posterior: PosteriorSettings
    runs: RunSettings
    replicate: int
    seed: int
    precision: Precision
    device: Device = "auto"
    d: Count | None
    n: Count | None
    code: dict[str, str]
    pack: str


class PlanRecord(Strict):
    """experiment.json: what was asked for.

    Attributes:
        source: the experiment file's name.
        set: the text of `--set`, empty where there was none.
        experiment: the whole experiment with `--set` applied and every default spelled out.
    """

    source: str
    set: str
    experiment: Experiment
