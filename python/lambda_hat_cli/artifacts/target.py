"""The target folder: target.json, data.npz, params.eqx, static.eqx and a user's code, under checksums."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    model_serializer,
    model_validator,
)

from lambda_hat_cli.artifacts.store import file_digest, read_record
from lambda_hat_cli.errors import UserError
from lambda_hat_cli.experiment.identity import digest
from lambda_hat_cli.experiment.schema import TargetSpec

TARGET_SCHEMA_VERSION = 3


class ArtifactRecord(BaseModel):
    """Frozen, no unknown keys, no NaN: an unknown number is None."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Truth(ArtifactRecord):
    """The learning coefficient that theory gives for this w*.

    Attributes:
        coefficient: λ as an exact rational, "87/2"; written as `lambda` in JSON.
        multiplicity: m, or None where kind is none.
        kind: exact_global (of the model), exact_local (at this w*), or none.
        source: formula and paper, or why there is none.
    """

    model_config = ConfigDict(
        serialize_by_alias=True,
        validate_by_name=True,
        validate_by_alias=True,
        alias_generator=lambda name: "lambda" if name == "coefficient" else name,
    )

    coefficient: str | None
    multiplicity: int | None
    kind: Literal["exact_global", "exact_local", "none"]
    source: str


class TrainingRecord(ArtifactRecord):
    """How training went.

    Attributes:
        losses: at each of `recorded_steps`, the mean over all rows, nats per datum.
        held_out_losses: the same over the rows that were held out, None for each that is not finite, and None where
            there are no such rows.
    """

    steps: int
    recorded_steps: tuple[int, ...]
    losses: tuple[float, ...]
    held_out_losses: tuple[float | None, ...] | None


class TargetRecord(ArtifactRecord):
    """target.json, which also holds the digest of its own content: no other file could hold its checksum.

    Nothing in it tells when or where the target was built: built again, it is the same file, and runs that used it stay
    cached.

    Attributes:
        name: the user's name when the target was built; no result depends on it.
        likelihood: gaussian (with `scale` = σ), categorical, own (the model is its own loss) or custom (a user's).
        n: data points, sets t = nβ; d: parameters; inputs_shape etc. are in data.npz itself.
        loss_at_w_star: L_n(w*), nats per datum. gradient_norm: ‖∇L_n(w*)‖₂, float64 where the stage has it.
        held_out_loss: the mean loss at w* over a user's held-out rows, None where there are none or it is not finite.
        checksums: sha256 by relative path of every other file of the folder.
        code: sha256 by module of the sources that built it.
    """

    schema_version: int = TARGET_SCHEMA_VERSION
    id: str
    name: str
    spec: TargetSpec
    seed: int
    likelihood: Literal["gaussian", "categorical", "own", "custom"]
    scale: float | None
    n: int
    d: int
    loss_at_w_star: float
    gradient_norm: float
    held_out_loss: float | None
    training: TrainingRecord | None
    truth: Truth
    versions: dict[str, str]
    code: dict[str, str]
    checksums: dict[str, str]

    @model_serializer(mode="wrap")
    def _sealed(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content = handler(self)
        return {**content, "digest": digest(content)}

    @model_validator(mode="before")
    @classmethod
    def _unbroken(cls, raw: Any, info: ValidationInfo) -> Any:
        if info.mode != "json" or not isinstance(raw, dict):
            return raw
        content = {key: value for key, value in raw.items() if key != "digest"}
        if raw.get("digest") != digest(content):
            raise ValueError("its content differs from its digest")
        return content


class TargetFolder:
    """A built target on disk whose every file has been checked.

    Attributes:
        path: the folder.
        record: target.json.
    """

    def __init__(self, path: Path):
        """Open `path`.

        Raises:
            UserError: when a file is missing, its bytes differ from the checksums, or the version is another.
        """
        if not path.is_dir():
            raise UserError(f"{path}: no target folder there; give the folder that build-target wrote")
        self.path = path
        self.record = read_record(path / "target.json", TargetRecord)
        if self.record.schema_version != TARGET_SCHEMA_VERSION:
            raise UserError(
                f"{path / 'target.json'}: schema_version is {self.record.schema_version}, "
                f"this program reads {TARGET_SCHEMA_VERSION}; build the target again"
            )
        for name, checksum in self.record.checksums.items():
            file = path / name
            if not file.is_file():
                raise UserError(f"{file}: missing from the target folder; build the target again")
            if file_digest(file) != checksum:
                raise UserError(f"{file}: its bytes differ from the checksum in target.json; build the target again")

    def data(self) -> dict[str, np.ndarray]:
        """The arrays of data.npz (float32, labels of classifiers int32), each with the rows first."""
        with np.load(self.path / "data.npz", allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def parameter_leaves(self) -> list[np.ndarray]:
        """The arrays of params.eqx in the module's leaf order, float32 (Equinox writes consecutive .npy arrays)."""
        leaves = []
        with (self.path / "params.eqx").open("rb") as stream:
            while stream.peek(1):
                leaves.append(np.load(stream, allow_pickle=False))
        return leaves
