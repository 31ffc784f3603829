"""Content addresses: an id changes when and only when an input that the result depends on changes."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from lambda_hat_cli.experiment.schema import (
    SCHEMA_VERSION,
    PosteriorSettings,
    RunSettings,
    SamplerSettings,
    TargetSpec,
)


def canonical_json(value: Any) -> str:
    """One text for equal values: keys sorted, no spaces, floats as their shortest exact text, −0.0 as 0.0.

    Raises:
        ValueError: for numbers that are not finite.
        TypeError: for anything that is no JSON.
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """The sha256 of a value's canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def target_id(spec: TargetSpec, seed: int, files: Mapping[str, str]) -> str:
    """The 16 hexadecimal digits that stand for a target.

    Args:
        spec: what to build, defaults filled in.
        seed: the target row's seed.
        files: sha256 by relative path of the user's files that it is made of.
    """
    return digest(
        {"schema_version": SCHEMA_VERSION, "spec": spec.model_dump(mode="json"), "seed": seed, "files": dict(files)}
    )[:16]


def run_id(
    target: str,
    settings: SamplerSettings,
    posterior: PosteriorSettings,
    runs: RunSettings,
    replicate: int,
    seed: int,
) -> str:
    """The 16 hexadecimal digits that stand for a run; `target` is the target's id, `seed` the experiment's."""
    return digest(
        {
            "schema_version": SCHEMA_VERSION,
            "target": target,
            "settings": settings.model_dump(mode="json"),
            "posterior": posterior.model_dump(mode="json"),
            "runs": runs.model_dump(mode="json"),
            "replicate": replicate,
            "seed": seed,
        }
    )[:16]


def pack_id(runs: Iterable[str]) -> str:
    """The 16 hexadecimal digits that stand for runs in one process; `runs` are their ids, in order."""
    return digest(list(runs))[:16]


def derive_seed(seed: int, *purpose: str) -> int:
    """A 63-bit seed from the experiment's seed and what it is for."""
    return int(digest([seed, *purpose])[:16], 16) >> 1


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return 0.0 if isinstance(value, float) and value == 0 else value
