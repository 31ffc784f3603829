"""The experiment file as typed, frozen models; every key has its default here and nowhere else.

The models hold what a result depends on. Names, which no result depends on, are kept beside them
(`TargetEntry.name`, `SamplerEntry.name`) and enter no identity. Numbers are finite. Unknown keys are refused.
"""

import json
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from lambda_hat_cli.experiment.restriction import check_pattern

SCHEMA_VERSION = 4

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Temperature = Positive | Literal["auto"]
Count = Annotated[int, Field(ge=1)]
Width = Annotated[int, Field(ge=1, le=100_000)]
# strict=False lets a YAML list become a tuple; the items stay strict.
Widths = Annotated[tuple[Width, ...], Field(min_length=2, strict=False)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Precision = Literal["float64", "float32"]
Device = Literal["auto", "cpu", "gpu"]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Strict(BaseModel):
    """Immutable, no unknown keys, no coercion between types, no infinities."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


# Models -----------------------------------------------------------------------------------------


class MlpModel(Strict):
    """Fully connected network, widths from input to output."""

    kind: Literal["mlp"]
    widths: Widths
    activation: Literal["tanh", "relu", "gelu", "identity"] = "tanh"
    bias: bool = True
    layer_norm: bool = False


class DeepLinearModel(Strict):
    """Product of matrices without biases; two layers are reduced-rank regression."""

    kind: Literal["deep_linear"]
    widths: Widths


class QuadraticModel(Strict):
    """K(w) = ½ wᵀHw with H of the given eigenvalues, rotated or diagonal."""

    kind: Literal["quadratic"]
    curvatures: Annotated[tuple[NonNegative, ...], Field(min_length=1, strict=False)]
    rotation: bool = False


class NormalCrossingModel(Strict):
    """K(w) = Π w_j^(2k_j)."""

    kind: Literal["normal_crossing"]
    exponents: Annotated[tuple[Annotated[int, Field(ge=0, le=20)], ...], Field(min_length=1, strict=False)]

    @model_validator(mode="after")
    def _some_exponent(self) -> Self:
        if not any(self.exponents):
            raise ValueError("at least one exponent must be positive")
        return self


class SuperpositionModel(Strict):
    """Toy model of superposition with two hidden units, x ↦ ReLU(WᵀWx + b), at a regular polygon.

    The loss is E‖x − ReLU(WᵀWx + b)‖² for x that has one input alone, uniform in [0, 1]. At w* the first `polygon`
    columns of W are a regular polygon's corners and the others 0. The biases of those others are `dead_bias`, which no
    output answers to, or, where there is one such input and `positive_bias` is true, what serves it best.
    """

    kind: Literal["superposition"]
    inputs: Annotated[int, Field(ge=5, le=8)] = 6
    polygon: Annotated[int, Field(ge=5, le=8)] = 6
    positive_bias: bool = False
    dead_bias: Annotated[float, Field(lt=0)] = -1.0

    @model_validator(mode="after")
    def _corners(self) -> Self:
        if self.polygon > self.inputs:
            raise ValueError(
                f"polygon: {self.polygon} is more than inputs: {self.inputs}; give at most one corner an input"
            )
        if self.positive_bias and self.polygon != self.inputs - 1:
            raise ValueError(
                f"positive_bias: true is a minimum only where one input has no corner: give polygon: {self.inputs - 1}"
            )
        return self


class PythonModel(Strict):
    """A user's own file: `function(**arguments)` returns the module at w*, the data and the loss per datum."""

    kind: Literal["python"]
    file: str
    function: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = "target"
    arguments: dict[str, Any] = {}

    @model_validator(mode="after")
    def _plain(self) -> Self:
        try:
            json.dumps(self.arguments, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError("arguments may hold text, finite numbers, true, false, null, lists and sections") from None
        return self


Model = Annotated[
    MlpModel | DeepLinearModel | QuadraticModel | NormalCrossingModel | SuperpositionModel | PythonModel,
    Field(discriminator="kind"),
]


# Data -------------------------------------------------------------------------------------------


class GaussianInputs(Strict):
    """x ~ N(0, I)."""

    kind: Literal["gaussian"]


class AnisotropicInputs(Strict):
    """Gaussian with variances falling geometrically from 1 to 1/condition."""

    kind: Literal["anisotropic"]
    condition: Annotated[float, Field(ge=1)] = 100.0


class MixtureInputs(Strict):
    """Equal mixture of unit Gaussians whose centres are N(0, separation² I)."""

    kind: Literal["mixture"]
    components: Count = 3
    separation: NonNegative = 3.0


class ManifoldInputs(Strict):
    """A random smooth map of `dimension` Gaussian coordinates into the input space."""

    kind: Literal["manifold"]
    dimension: Count = 2


class HeavyTailedInputs(Strict):
    """Independent Student-t coordinates."""

    kind: Literal["heavy_tailed"]
    degrees_of_freedom: Annotated[float, Field(gt=2)] = 4.0


Inputs = Annotated[
    GaussianInputs | AnisotropicInputs | MixtureInputs | ManifoldInputs | HeavyTailedInputs,
    Field(discriminator="kind"),
]


class NoNoise(Strict):
    """Noise-free labels; `scale` is still the likelihood's σ."""

    kind: Literal["none"]
    scale: Positive = 0.1


class GaussianNoise(Strict):
    """y = f(x) + scale·N(0, 1)."""

    kind: Literal["gaussian"]
    scale: Positive = 0.1


class HeteroscedasticNoise(Strict):
    """Gaussian noise whose standard deviation is scale·(1 + strength·‖x‖/√dim)/(1 + strength)."""

    kind: Literal["heteroscedastic"]
    scale: Positive = 0.1
    strength: NonNegative = 1.0


class StudentTNoise(Strict):
    """y = f(x) + scale·t_ν."""

    kind: Literal["student_t"]
    scale: Positive = 0.1
    degrees_of_freedom: Annotated[float, Field(gt=2)] = 4.0


class OutlierNoise(Strict):
    """Gaussian noise of standard deviation scale, multiplied by `factor` in a share `fraction` of the rows."""

    kind: Literal["outliers"]
    scale: Positive = 0.1
    fraction: Annotated[float, Field(ge=0, le=1)] = 0.05
    factor: Annotated[float, Field(ge=1)] = 10.0


Noise = Annotated[
    NoNoise | GaussianNoise | HeteroscedasticNoise | StudentTNoise | OutlierNoise,
    Field(discriminator="kind"),
]


class TeacherData(Strict):
    """Regression data labelled by a random teacher of the student's kind.

    `widths` are the teacher's (default: the student's); `rank` is the rank of a deep linear teacher's product.
    """

    kind: Literal["teacher"]
    n: Annotated[int, Field(ge=2)] = 1000
    inputs: Inputs = GaussianInputs(kind="gaussian")
    noise: Noise = GaussianNoise(kind="gaussian")
    widths: Widths | None = None
    rank: Annotated[int, Field(ge=0)] | None = None


class DigitsData(Strict):
    """scikit-learn's bundled images of handwritten digits, pixels scaled to [0, 1], labels 0..9; the first n rows."""

    kind: Literal["digits"]
    n: Annotated[int, Field(ge=10, le=1797)] = 1797


class NoData(Strict):
    """For models that are their own loss; n only sets t = nβ."""

    kind: Literal["none"]
    n: Annotated[int, Field(ge=2)] = 1000


DATA_SUFFIXES = (".csv", ".parquet", ".npz")
Columns = Annotated[tuple[str, ...], Field(min_length=1, strict=False)]


class Deviation(Strict):
    """The likelihood's σ for labels that come with their noise."""

    scale: Positive


class FileData(Strict):
    """Rows of a user's file: columns of a table (csv, parquet), or two arrays of an npz.

    `inputs` names the columns of x (None: all but `outputs`), `outputs` those of y; of an npz one array each. Labels
    are numbers with the deviation `noise.scale`, or classes, in the order of the model's outputs: a list, or `sorted`,
    those that occur. `standardize` brings every input to mean 0 and variance 1 over the rows taken, the first n.
    """

    kind: Literal["file"]
    path: str
    inputs: Columns | None = None
    outputs: Columns
    noise: Deviation | None = None
    classes: Annotated[tuple[int | str, ...], Field(min_length=2, strict=False)] | Literal["sorted"] | None = None
    standardize: bool = False
    n: Annotated[int, Field(ge=2)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, raw: Any) -> Any:
        """A single column may stand without its list; the arrays of an npz are called x and y where nothing is said."""
        if not isinstance(raw, dict):
            return raw
        raw = {key: value for key, value in raw.items() if value is not None}
        if isinstance(raw.get("path"), str) and raw["path"].endswith(".npz"):
            raw = {"inputs": "x", "outputs": "y", **raw}
        lists = {key: [raw[key]] for key in ("inputs", "outputs") if isinstance(raw.get(key), str)}
        return {**raw, **lists}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        suffix = PurePosixPath(self.path).suffix
        if suffix not in DATA_SUFFIXES:
            raise ValueError(f'path "{self.path}" must end in one of {", ".join(DATA_SUFFIXES)}')
        if suffix == ".npz" and (len(self.inputs or ()), len(self.outputs)) != (1, 1):
            raise ValueError("inputs and outputs of an npz name one array each")
        columns = [*(self.inputs or ()), *self.outputs]
        repeated = [name for name in dict.fromkeys(columns) if columns.count(name) > 1]
        if repeated:
            raise ValueError(f'inputs and outputs name "{repeated[0]}" twice; name each column once')
        if (self.noise is None) == (self.classes is None):
            raise ValueError(
                "give either noise: {scale: σ}, for outputs that are numbers, or classes: sorted or a list, for labels"
            )
        if self.classes is not None and len(self.outputs) > 1:
            raise ValueError(f"classes are for one column of labels, but outputs name {len(self.outputs)}")
        if isinstance(self.classes, tuple):
            if len(set(self.classes)) < len(self.classes):
                raise ValueError(f"classes {list(self.classes)} name a class twice; name each once")
            if len({type(label) for label in self.classes}) > 1:
                raise ValueError(f"classes {list(self.classes)} mix numbers and text; quote the numbers")
        return self


Data = Annotated[TeacherData | DigitsData | FileData | NoData, Field(discriminator="kind")]


class Training(Strict):
    """How w* is trained. `batch_size: full` takes every row in each step; `weight_decay` is for adamw."""

    optimizer: Literal["adam", "sgd", "adamw"] = "adam"
    learning_rate: Positive = 1e-3
    weight_decay: NonNegative = 1e-4
    steps: Annotated[int, Field(ge=0)] = 5000
    batch_size: Count | Literal["full"] = 256

    @model_validator(mode="after")
    def _decay(self) -> Self:
        if self.optimizer != "adamw" and self.weight_decay != type(self).model_fields["weight_decay"].default:
            raise ValueError(
                f"weight_decay: {self.weight_decay:g} is for optimizer: adamw, {self.optimizer} has none: leave it out"
            )
        return self


class LogSpaced(Strict):
    """`count` numbers of steps from `first` to `last`, evenly spaced in their logarithms; repeats are dropped."""

    first: Count = 1
    last: Count
    count: Annotated[int, Field(ge=2, le=10_000)] = 12

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.first >= self.last:
            raise ValueError(f"first: {self.first} must be below last: {self.last}")
        return self


Steps = Annotated[int, Field(ge=0)]


class TrainingSection(Training):
    """As Training; `checkpoints` in place of `steps` gives a target for each number of steps, all of one training."""

    checkpoints: Annotated[tuple[Steps, ...], Field(min_length=1, strict=False)] | LogSpaced | None = None

    @model_validator(mode="before")
    @classmethod
    def _end(cls, raw: Any) -> Any:
        """Training ends with the last checkpoint."""
        if not isinstance(raw, dict) or "steps" in raw:
            return raw
        match raw.get("checkpoints"):
            case [*steps] if steps and all(isinstance(step, int) for step in steps):
                return {**raw, "steps": max(steps)}
            case {"last": last}:
                return {**raw, "steps": last}
        return raw

    @model_validator(mode="after")
    def _checkpoints(self) -> Self:
        if self.checkpoints is None:
            return self
        last = self._numbers_of_steps()[-1]
        if self.steps != last:
            raise ValueError(f"steps: {self.steps} is not the last of the checkpoints, {last}: leave steps out")
        if isinstance(self.checkpoints, tuple) and len(set(self.checkpoints)) < len(self.checkpoints):
            raise ValueError(f"checkpoints {list(self.checkpoints)} name a number of steps twice: name each once")
        return self

    def each(self) -> tuple[Training, ...]:
        """The trainings that end at the checkpoints, in ascending order; itself where it has none."""
        settings = self.model_dump(exclude={"checkpoints", "steps"})
        return tuple(Training.model_validate({**settings, "steps": steps}) for steps in self._numbers_of_steps())

    def _numbers_of_steps(self) -> list[int]:
        match self.checkpoints:
            case None:
                return [self.steps]
            case LogSpaced(first=first, last=last, count=count):
                ratio = (last / first) ** (1.0 / (count - 1))
                return sorted({round(first * ratio**position) for position in range(count)})
            case steps:
                return sorted(steps)


WEIGHTS_FORMATS = {".safetensors": "safetensors", ".npz": "npz", ".eqx": "eqx"}
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".joblib")


class Weights(Strict):
    """w* from a user's file.

    Attributes:
        file: relative to the experiment file's folder.
        format: `eqx` is what Equinox's tree_serialise_leaves writes; the file's suffix says it where nothing else does.
        names: what our arrays are called in the file; `*` stands for a number, and numbers are paired in their order.
        ignore: names, with `*` for anything, that the file may have and the model has not.
    """

    file: str
    format: Literal["safetensors", "npz", "eqx"]
    names: dict[str, str] = {}
    ignore: Annotated[tuple[str, ...], Field(strict=False)] = ()

    @model_validator(mode="before")
    @classmethod
    def _by_suffix(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or not isinstance(raw.get("file"), str):
            return raw
        suffix = PurePosixPath(raw["file"]).suffix
        if suffix in PICKLES:
            raise ValueError(
                f'file "{raw["file"]}" is a pickle by its name: loading one can run any code, so none is ever loaded. '
                "Convert it where it was made: from safetensors.torch import save_file; "
                'save_file(model.state_dict(), "weights.safetensors")'
            )
        known = {"format": WEIGHTS_FORMATS[suffix]} if suffix in WEIGHTS_FORMATS else {}
        return {**known, **{key: value for key, value in raw.items() if value is not None}}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.format == "eqx" and (self.names or self.ignore):
            raise ValueError("an eqx file has no names, its arrays go by position: leave out `names` and `ignore`")
        for ours, theirs in self.names.items():
            if ours.count("*") != theirs.count("*") or ours.count("*") > 1:
                raise ValueError(
                    f'names: "{ours}: {theirs}" must have one * on both sides, for a number, or none on either'
                )
        return self


Rank = Annotated[int, Field(ge=0)]


def _pattern(text: str) -> str:
    check_pattern(text)
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]


class Stratum(Strict):
    """A true parameter of a two-layer deep_linear model whose layers have these ranks, first layer first."""

    ranks: Annotated[tuple[Rank, Rank], Field(strict=False)]


class TargetSpec(Strict):
    """What a target is: everything that its artefacts depend on, besides the seed and a user's files."""

    model: Model
    data: Data | None = None
    at: Literal["truth", "trained"] | Stratum | None = None
    train: Training | None = None
    weights: Weights | None = None
    restrict: Annotated[tuple[Pattern, ...], Field(min_length=1, strict=False)] | None = None
    rows: Annotated[tuple[Steps, Steps], Field(strict=False)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, raw: Any) -> Any:
        """Spell out what the model kind implies, so that an omitted and a spelled default are the same target."""
        if not isinstance(raw, dict) or not isinstance(raw.get("model"), dict):
            return raw
        raw = {key: value for key, value in raw.items() if value is not None}
        kind = raw["model"].get("kind")
        if kind in ("quadratic", "normal_crossing", "superposition"):
            raw.setdefault("data", {"kind": "none"})
            raw.setdefault("at", "truth")
        elif kind in ("mlp", "deep_linear"):
            raw.setdefault("data", {"kind": "teacher"})
            if "weights" not in raw:
                raw.setdefault("at", "trained")
                if raw["at"] == "trained":
                    raw.setdefault("train", {})
            data = raw["data"]
            if isinstance(data, dict) and data.get("kind") == "teacher" and "widths" in raw["model"]:
                raw["data"] = {**data, "widths": data.get("widths") or raw["model"]["widths"]}
        return raw

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_target(self)
        return self


def check_target(spec: TargetSpec) -> None:
    """Refuse combinations of model, data and training that make no sense.

    Raises:
        ValueError: with the key, the value, what is allowed and what to do.
    """
    model, data = spec.model, spec.data
    if spec.rows is not None:
        if spec.rows[0] >= spec.rows[1]:
            raise ValueError(f"rows: {list(spec.rows)} hold no row: give [start, stop] with start < stop")
        if isinstance(data, NoData):
            raise ValueError(f"a {model.kind} model has no rows: leave out `rows`")
        if data is not None and data.n is not None and (trouble := missing_rows(spec.rows, data.n)):
            raise ValueError(trouble)
    if spec.weights is not None:
        if isinstance(model, QuadraticModel | NormalCrossingModel | SuperpositionModel):
            raise ValueError(f"a {model.kind} model is studied at its known minimum: leave out `weights`")
        given = [key for key in ("at", "train") if getattr(spec, key) is not None]
        if given:
            raise ValueError(f"`weights` are w*: leave out `{given[0]}`")
    if isinstance(model, QuadraticModel | NormalCrossingModel | SuperpositionModel):
        if not isinstance(data, NoData):
            got = data and data.kind
            raise ValueError(f'a {model.kind} model is its own loss: give data {{kind: none, n: …}}, not "{got}"')
        if spec.train is not None or spec.at != "truth":
            raise ValueError(f"a {model.kind} model is studied at its known minimum: leave out `train` and `at`")
        return
    if isinstance(model, PythonModel):
        if data is not None or spec.at is not None:
            raise ValueError("a python model brings its own data and w*: leave out `data` and `at`")
        return
    if spec.at != "trained" and spec.train is not None:
        at = "`at: truth`" if spec.at == "truth" else "`at.ranks`"
        raise ValueError(f"{at} and `train` exclude each other: leave one of them out")
    if isinstance(spec.at, Stratum) and isinstance(model, MlpModel):
        raise ValueError("at.ranks is for deep_linear models: give `at: truth`, or leave it out and give `train`")
    widths = model.widths
    if isinstance(data, DigitsData):
        if isinstance(model, DeepLinearModel):
            raise ValueError("data digits needs a classifier: use a model of kind mlp")
        if widths[0] != 64 or widths[-1] != 10:
            raise ValueError(
                f"data digits has 64 inputs and 10 classes: widths {list(widths)} must begin with 64 and end with 10"
            )
        if spec.at == "truth":
            raise ValueError("data digits has no constructed minimum: leave out `at: truth` and give `train`")
        return
    if isinstance(data, FileData):
        check_file_data(spec.at, model, data)
        return
    if not isinstance(data, TeacherData) or data.widths is None:
        kinds = "teacher, file or digits" if model.kind == "mlp" else "teacher or file"
        raise ValueError(f"a {model.kind} model needs data of kind {kinds}")
    if (data.widths[0], data.widths[-1]) != (widths[0], widths[-1]):
        raise ValueError(
            f"the teacher's widths {list(data.widths)} must have the model's {widths[0]} inputs "
            f"and {widths[-1]} outputs"
        )
    if isinstance(data.inputs, ManifoldInputs) and data.inputs.dimension > widths[0]:
        raise ValueError(f"inputs.dimension {data.inputs.dimension} must be at most the {widths[0]} inputs")
    if isinstance(model, MlpModel):
        if data.rank is not None:
            raise ValueError("data.rank is for deep_linear models: leave it out")
        if spec.at == "truth" and data.widths != widths:
            raise ValueError("`at: truth` needs a teacher of the model's own widths: leave out data.widths")
        return
    if data.widths != widths:
        raise ValueError("a deep_linear teacher is given by `rank`: leave out data.widths")
    least = min(widths)
    if data.rank is None:
        raise ValueError(f"a deep_linear model needs data.rank, from 0 to {least}")
    if data.rank > least:
        raise ValueError(f"data.rank is {data.rank}, but the smallest width is {least}: give a rank from 0 to {least}")
    if isinstance(spec.at, Stratum):
        check_stratum(widths, data.rank, spec.at.ranks)


def missing_rows(rows: tuple[int, int], there: int) -> str | None:
    """Why `rows` are not all among the `there` rows of the data, or None."""
    if rows[1] <= there:
        return None
    return f"rows: {list(rows)} go beyond the {there} rows of the data; give [start, stop] within them"


def check_file_data(at: str | Stratum | None, model: MlpModel | DeepLinearModel, data: FileData) -> None:
    """Refuse data from a file that do not fit a network, as far as that can be told without the file.

    Raises:
        ValueError: with the key, the value, what is allowed and what to do.
    """
    if at not in (None, "trained"):
        raise ValueError("data from a file have no constructed minimum: leave out `at`, and give `train` or `weights`")
    if data.classes is not None and isinstance(model, DeepLinearModel):
        raise ValueError("data with classes need a classifier: use a model of kind mlp")
    inputs, outputs = model.widths[0], model.widths[-1]
    table = not data.path.endswith(".npz")
    if table and data.inputs is not None and len(data.inputs) != inputs:
        raise ValueError(f"data.inputs are {len(data.inputs)} columns, but model.widths begin with {inputs}")
    if table and data.classes is None and len(data.outputs) != outputs:
        raise ValueError(f"data.outputs are {len(data.outputs)} columns, but model.widths end with {outputs}")
    if isinstance(data.classes, tuple) and len(data.classes) != outputs:
        raise ValueError(f"data.classes are {len(data.classes)}, but model.widths end with {outputs}")


def check_stratum(widths: tuple[int, ...], rank: int, ranks: tuple[int, int]) -> None:
    """Refuse ranks that no two layers of these widths with a product of rank `rank` have.

    Raises:
        ValueError: with every bound that is broken.
    """
    if len(widths) != 3:
        raise ValueError(
            f"at.ranks is for two layers, widths {list(widths)} have {len(widths) - 1}: of deeper models only the most "
            "singular point has a known coefficient; give `at: truth`"
        )
    inputs, hidden, outputs = widths
    first, second = ranks
    bounds = [
        (rank <= min(ranks), f"both at least data.rank {rank}"),
        (first <= min(inputs, hidden), f"the first at most {min(inputs, hidden)}"),
        (second <= min(hidden, outputs), f"the second at most {min(hidden, outputs)}"),
        (first + second - rank <= hidden, f"their sum at most the hidden width plus data.rank, {hidden + rank}"),
    ]
    broken = [allowed for holds, allowed in bounds if not holds]
    if broken:
        raise ValueError(
            f"at.ranks {list(ranks)} do not exist in widths {list(widths)} with data.rank {rank}: "
            f"make {'; '.join(broken)}"
        )


# Samplers ---------------------------------------------------------------------------------------


class HmcSettings(Strict):
    """Hamiltonian Monte Carlo: jittered step and length, dual averaging, above d = 20 slower along stiff directions.

    `target_acceptance` is what the step is tuned to (`auto`: 0.9 up to d = 20, else 0.8); `leapfrog_steps` the number
    of steps of every trajectory (`auto`: 10 up to d = 20, else 20); `jitter` the range of the log-uniform factor on the
    step size (`auto`: [0.15, 1.5] up to d = 20, else [0.5, 1.2]); `warmup` the draws before recording (`auto`: 200
    where stiff directions are slowed, d from 21 to 50,000, else 300).
    """

    kind: Literal["hmc"]
    precision: Precision = "float64"
    target_acceptance: Annotated[float, Field(gt=0, lt=1)] | Literal["auto"] = "auto"
    leapfrog_steps: Count | Literal["auto"] = "auto"
    jitter: Annotated[tuple[Positive, Positive], Field(strict=False)] | Literal["auto"] = "auto"
    warmup: Annotated[int, Field(ge=20)] | Literal["auto"] = "auto"

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.jitter != "auto" and self.jitter[0] > self.jitter[1]:
            raise ValueError(f"jitter {list(self.jitter)} must be [low, high] with low ≤ high")
        return self


class MclmcSettings(Strict):
    """Microcanonical Langevin, leapfrog, warm-started by HMC away from w*; `adjusted` by a Metropolis test or not.

    Without the test `energy_error` is the energy-error variance per dimension that the step size is tuned to;
    `decoherence_steps` the momentum decoherence length in steps while recording; `draw_steps` the integrator
    steps averaged into one recorded draw, beside twice as many of half the size.
    """

    kind: Literal["mclmc"]
    precision: Precision = "float64"
    adjusted: bool = False
    energy_error: Positive = 1e-4
    decoherence_steps: Positive = 30.0
    draw_steps: Count = 10
    warmup: Annotated[int, Field(ge=20)] = 60

    @model_validator(mode="after")
    def _only_unadjusted(self) -> Self:
        for name in ("energy_error", "decoherence_steps", "draw_steps") if self.adjusted else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is for adjusted: false, a Metropolis test leaves it nothing to do: drop it")
        return self


class SgldSettings(Strict):
    """Stochastic-gradient Langevin dynamics with a frozen (or, on request, moving and biased) preconditioner.

    `step_size: auto` takes half the inverse of the largest curvature; a number is used as it stands.
    `batch_size: full` uses every row; smaller batches may be corrected by the full gradient at w*, or at an anchor,
    where the chain was at most `anchor_every` steps ago; `auto` measures whether w* is worth its cost.
    `draw_steps` steps are averaged into one recorded draw.
    """

    kind: Literal["sgld"]
    precision: Precision = "float32"
    preconditioner: Literal["none", "rmsprop", "adam"] = "none"
    moving: bool = False
    step_size: Positive | Literal["auto"] = "auto"
    batch_size: Count | Literal["full"] = "full"
    control_variate: Literal["auto", "none", "w_star", "anchor"] = "auto"
    anchor_every: Count = 20
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.99
    epsilon: Positive = 0.1
    draw_steps: Count = 20
    warmup: Annotated[int, Field(ge=20)] = 500

    @model_validator(mode="after")
    def _moving_preconditioner(self) -> Self:
        if self.moving and self.preconditioner == "none":
            raise ValueError("moving: true needs a preconditioner (rmsprop or adam)")
        return self

    @model_validator(mode="after")
    def _anchors(self) -> Self:
        if self.control_variate != "anchor":
            return self
        if self.batch_size == "full":
            raise ValueError("control_variate: anchor needs mini-batches; give a batch_size")
        if self.draw_steps % self.anchor_every:
            raise ValueError(
                f"anchor_every: {self.anchor_every} does not divide draw_steps: {self.draw_steps}; give a divisor of it"
            )
        return self


class ViSettings(Strict):
    """Variational inference with importance-corrected draws, in coordinates whitened by curvature.

    `family: auto` fits a Gaussian and, where its weights do not vouch for it and d ≤ 12, a coupling flow. `mfa` is a
    mixture of `components` factor analyzers; `rank` is also that of the Gaussian's factor. A family without components
    or rank does not read them.
    `draws` of each fit are a pilot, which decides how many are drawn afresh, at most 64,000.
    """

    kind: Literal["vi"]
    precision: Precision = "float32"
    family: Literal["auto", "gaussian", "mfa", "flow"] = "auto"
    components: Count = 8
    rank: Annotated[int, Field(ge=0)] = 2
    whitening: Literal["auto", "full", "diagonal"] = "auto"
    steps: Count = 1500
    samples_per_step: Count = 32
    learning_rate: Positive = 1e-2
    draws: Annotated[int, Field(ge=100)] = 4000


SamplerSettings = Annotated[HmcSettings | MclmcSettings | SgldSettings | ViSettings, Field(discriminator="kind")]


# Posterior and runs -----------------------------------------------------------------------------


class PosteriorSettings(Strict):
    """p(w) ∝ exp(−nβ·L_n(w) − (γ/2)·‖w−w*‖²): β = inverse_temperature (`auto`: 1/log n), γ = localization."""

    inverse_temperature: Temperature = "auto"
    localization: NonNegative = 1.0


class PosteriorGrid(Strict):
    """As PosteriorSettings; a list gives one run per combination."""

    inverse_temperature: Temperature | Annotated[tuple[Temperature, ...], Field(min_length=1, strict=False)] = "auto"
    localization: NonNegative | Annotated[tuple[NonNegative, ...], Field(min_length=1, strict=False)] = 1.0


class Budget(Strict):
    """Bounds on one run: gradients in full-data equivalents over chains and phases; seconds of wall time."""

    gradients: Count = 2_000_000
    seconds: Positive = 600.0


class RunSettings(Strict):
    """How long a run may go and when it may stop.

    A run stops when the half-width of its 95 % interval is at most tolerance·(λ̂ + Δ) and its chains agree, or when
    the budget is used up.
    """

    chains: Annotated[int, Field(ge=2, le=4096)] = 8
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.05
    budget: Budget = Budget()
    save_positions: bool = False


class RunsSection(RunSettings):
    """The experiment file's `runs`: RunSettings, how often each run is repeated, how many share a process, on what."""

    replicates: Annotated[int, Field(ge=1, le=10_000)] = 1
    pack: Annotated[int, Field(ge=1, le=1000)] = 1
    device: Device = "auto"


# The file ---------------------------------------------------------------------------------------


class TargetSection(TargetSpec):
    """As TargetSpec; with `train.checkpoints` it stands for a target at each of them."""

    train: TrainingSection | None = None

    def each(self) -> tuple[TargetSpec, ...]:
        """The targets that it stands for, by steps of training."""
        trainings = (None,) if self.train is None else self.train.each()
        fields = {name: getattr(self, name) for name in TargetSpec.model_fields}
        return tuple(TargetSpec(**{**fields, "train": training}) for training in trainings)


class TargetEntry(Strict):
    """One named target of the file, or one for each checkpoint of its training.

    `group` is the name in the file where the entry stood for several, `step` the checkpoint's where it was one of
    several files of weights, `varied` its values by key where it was one of a grid; `seed` stands in the place of the
    experiment's.
    """

    name: Name
    group: Name | None = None
    step: Steps | None = None
    varied: dict[str, Any] = {}
    seed: Seed | None = None
    spec: TargetSection


class SamplerEntry(Strict):
    """One named sampler of the file; the name defaults to the kind."""

    name: Name
    settings: SamplerSettings


class Match(Strict):
    """Which runs an override touches; an absent key matches all."""

    target: str | None = None
    target_kind: str | None = None
    sampler: str | None = None


class Override(Strict):
    """`set` holds sampler keys, `posterior.*` and `runs.*`, applied in order to the matching runs."""

    match: Match = Match()
    set: Annotated[dict[str, Any], Field(min_length=1)]


class Experiment(Strict):
    """The whole file, validated."""

    name: Name
    seed: Seed = 0
    posterior: PosteriorGrid = PosteriorGrid()
    targets: Annotated[tuple[TargetEntry, ...], Field(min_length=1, strict=False)]
    samplers: Annotated[tuple[SamplerEntry, ...], Field(min_length=1, strict=False)] = (
        SamplerEntry(name="hmc", settings=HmcSettings(kind="hmc")),
        SamplerEntry(name="mclmc", settings=MclmcSettings(kind="mclmc")),
        SamplerEntry(name="sgld", settings=SgldSettings(kind="sgld")),
        SamplerEntry(name="vi", settings=ViSettings(kind="vi")),
    )
    runs: RunsSection = RunsSection()
    overrides: Annotated[tuple[Override, ...], Field(strict=False)] = ()
