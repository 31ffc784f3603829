"""Weights from files: w* as another program has it, and what the commands say about files that do not fit."""

import itertools
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lambda_hat_cli.artifacts.target import TargetFolder
from lambda_hat_cli.errors import UserError
from lambda_hat_cli.experiment.schema import DeepLinearModel, MlpModel, Weights
from lambda_hat_cli.targets.load import load_target
from lambda_hat_cli.targets.models import blank
from lambda_hat_cli.targets.names import named_leaves, parameter_names
from lambda_hat_cli.targets.weights import with_weights
from oracles.hmc_estimates import BEYOND_CHANCE, hmc_estimate
from planned_targets import built, refusals

TORCH = Path(__file__).with_name("torch_mlp.safetensors")
SEQUENTIAL = {"layers/*/weight": "*.weight", "layers/*/bias": "*.bias"}
MLP = MlpModel(kind="mlp", widths=(3, 8, 2))


def weights(file: str, **keys: Any) -> Weights:
    return Weights.model_validate({"file": file, **keys})


def arrays_of(module: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(leaf) for name, leaf in named_leaves(module).items() if eqx.is_array(leaf)}


@pytest.fixture(scope="module")
def from_torch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TargetFolder]:
    """The network of a file that torch wrote, as a built-in model with either likelihood and as a user's own.

    The file and the two losses are what this prints, run with torch 2.15.0 and safetensors 0.8.0:

    torch.manual_seed(0)
    linear, tanh = torch.nn.Linear, torch.nn.Tanh
    net = torch.nn.Sequential(linear(3, 8), tanh(), linear(8, 8), tanh(), linear(8, 2))
    x = torch.randn(60, 3)
    y = torch.sin(x[:, :2]) + 0.1 * torch.randn(60, 2)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(2000):
        optimizer.zero_grad()
        ((y - net(x)) ** 2).mean().backward()
        optimizer.step()
    safetensors.torch.save_file({**net.state_dict(), "data.x": x, "data.y": y}, "torch_mlp.safetensors")
    net, x, y = net.double(), x.double(), y.double()
    print(((y - net(x)) ** 2).sum(1).mean().item() / (2 * 0.1**2))
    print(torch.nn.functional.cross_entropy(net(x), y.argmax(1)).item())
    """
    tmp_path = tmp_path_factory.mktemp("torch")
    tensors = load_file(TORCH)
    (tmp_path / TORCH.name).write_bytes(TORCH.read_bytes())
    np.savez(tmp_path / "d.npz", x=tensors["data.x"], y=tensors["data.y"], kind=tensors["data.y"].argmax(1))
    network = {
        "model": {"kind": "mlp", "widths": [3, 8, 8, 2]},
        "weights": {"file": TORCH.name, "names": SEQUENTIAL, "ignore": ["data.*"]},
    }
    data = {"kind": "file", "path": "d.npz"}
    own = textwrap.dedent("""
        import equinox as eqx, jax, numpy as np

        def target():
            linear = lambda *widths: eqx.nn.Linear(*widths, key=jax.random.key(0))
            tanh = eqx.nn.Lambda(jax.numpy.tanh)
            model = eqx.nn.Sequential([linear(3, 8), tanh, linear(8, 8), tanh, linear(8, 2)])
            return dict(model=model, data=data, loss="gaussian", sigma=0.1)

        def data():
            with np.load("d.npz") as arrays:
                return dict(x=arrays["x"], y=arrays["y"])
    """)
    (tmp_path / "own.py").write_text(own)
    found = built(
        tmp_path,
        {
            "gaussian": {**network, "data": {**data, "noise": {"scale": 0.1}}},
            "categorical": {**network, "data": {**data, "outputs": "kind", "classes": "sorted"}},
            "own": {**network, "model": {"kind": "python", "file": "own.py"}},
        },
    )
    return {name: folder for name, folder in found.items() if isinstance(folder, TargetFolder)}


def test_a_model_that_torch_trained_has_the_loss_that_torch_says(from_torch: dict[str, TargetFolder]) -> None:
    records = {name: folder.record for name, folder in from_torch.items()}
    losses = {name: record.loss_at_w_star for name, record in records.items()}
    expected = {"gaussian": 0.2815193675238892, "categorical": 0.3836896118702813, "own": 0.2815193675238892}
    assert losses == pytest.approx(expected, rel=1e-6)
    assert {(record.truth.kind, record.training, record.d) for record in records.values()} == {("none", None, 122)}


def test_a_model_that_torch_trained_has_the_coefficient_of_the_same_network_here(
    from_torch: dict[str, TargetFolder],
) -> None:
    """The built-in model at the file's weights, and a user's module with a loss of one datum; two seeds."""
    found = [
        hmc_estimate(load_target(from_torch[name], "float64"), 60 / np.log(60), 10.0, seed)
        for seed, name in enumerate(("gaussian", "own"))
    ]
    assert abs(found[0].llc - found[1].llc) < BEYOND_CHANCE * np.hypot(found[0].se, found[1].se)


def test_names_are_paths() -> None:
    assert parameter_names(blank(MLP)) == ["layers/0/weight", "layers/0/bias", "layers/1/weight", "layers/1/bias"]
    assert parameter_names(eqx.nn.MLP(3, 2, 8, 1, key=jax.random.key(0))) == parameter_names(blank(MLP))
    linear = DeepLinearModel(kind="deep_linear", widths=(3, 2, 3))
    assert parameter_names(blank(linear)) == ["weights/0", "weights/1"]
    assert parameter_names({"a": [jnp.ones(1), np.ones(1)], "b": jnp.ones(1)}) == ["a/0", "b"]
    assert parameter_names(jnp.ones(2)) == ["w"]
    with pytest.raises(UserError, match='two leaves called "a/b"'):
        named_leaves({"a": {"b": jnp.ones(1)}, "a/b": jnp.ones(1)})


@pytest.mark.parametrize(
    ("format_", "dtype"),
    [*itertools.product(["safetensors", "npz", "eqx"], [np.float16, np.float64]), ("safetensors", ml_dtypes.bfloat16)],
)
def test_every_format_and_dtype_becomes_float32(tmp_path: Path, format_: str, dtype: Any) -> None:
    random = np.random.default_rng(0)
    model = blank(MLP)
    saved = {name: random.standard_normal(leaf.shape).astype(dtype) for name, leaf in arrays_of(model).items()}
    file = tmp_path / f"w.{format_}"
    match format_:
        case "safetensors":
            save_file(saved, file)
        case "npz":
            np.savez(file, **saved)
        case "eqx":
            eqx.tree_serialise_leaves(file, jax.tree.unflatten(jax.tree.structure(model), list(saved.values())))
    read = with_weights(model, file, weights(file.name))
    for name, array in arrays_of(read).items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, saved[name].astype(np.float32))


def test_numbered_names_are_paired_by_number_not_by_spelling(tmp_path: Path) -> None:
    deep = MlpModel(kind="mlp", widths=(2,) * 13)
    saved = {f"net.{2 * layer}.weight": np.full((2, 2), float(layer), np.float32) for layer in range(12)}
    saved |= {f"net.{2 * layer}.bias": np.full(2, float(layer), np.float32) for layer in range(12)}
    save_file(saved, tmp_path / "w.safetensors")
    names = {"layers/*/weight": "net.*.weight", "layers/*/bias": "net.*.bias"}
    read = with_weights(blank(deep), tmp_path / "w.safetensors", weights("w.safetensors", names=names))
    assert [float(layer.weight[0, 0]) for layer in read.layers] == list(range(12))


def test_numbered_names_are_not_paired_where_one_is_left_out(tmp_path: Path) -> None:
    """Which of ours has none nothing says: no array is called missing, unused or of another shape for it."""
    deep = blank(MlpModel(kind="mlp", widths=(2, 3, 4, 5)))
    numbered = {
        f"{2 * layer}.{kind}": np.ones(getattr(linear, kind).shape, np.float32)
        for layer, linear in enumerate(deep.layers)
        for kind in ("weight", "bias")
    }
    save_file({name: array for name, array in numbered.items() if name != "2.weight"}, tmp_path / "few.safetensors")
    with pytest.raises(UserError) as raised:
        with_weights(deep, tmp_path / "few.safetensors", weights("few.safetensors", names=SEQUENTIAL))
    assert str(raised.value).startswith(
        'few.safetensors: names: "layers/*/weight" fits 3 arrays of the model (layers/0/weight (3, 2), '
        'layers/1/weight (4, 3), layers/2/weight (5, 4)) and "*.weight" 2 of the file (0.weight (3, 2), '
        "4.weight (5, 4)), which are paired in this order: there must be as many of both; weights.names says what"
    )
    head = {"6.weight": np.ones((5, 5), np.float32)}
    save_file({**numbered, **head}, tmp_path / "more.safetensors")
    keys = {"names": SEQUENTIAL, "ignore": list(head)}
    read = with_weights(deep, tmp_path / "more.safetensors", weights("more.safetensors", **keys))
    np.testing.assert_array_equal(read.layers[2].weight, numbered["4.weight"])


def test_an_equinox_model_keeps_its_structure_and_takes_its_constants_from_the_file(tmp_path: Path) -> None:
    class Scaled(eqx.Module):
        layer: eqx.nn.Linear
        scale: np.ndarray
        steps: np.ndarray
        rate: float

    def make(number: float) -> Scaled:
        layer = eqx.nn.Linear(2, 2, key=jax.random.key(int(number)))
        return Scaled(layer, np.full(2, number, np.float32), np.array([int(number)], np.int32), 0.5)

    with (tmp_path / "w.eqx").open("wb") as stream:
        stream.write(b'{"width": 2}\n')
        eqx.tree_serialise_leaves(stream, make(3.0))
    save_file({"layer/weight": np.eye(2), "layer/bias": np.ones(2), "scale": np.ones(2)}, tmp_path / "w.safetensors")
    read = with_weights(make(1.0), tmp_path / "w.eqx", weights("w.eqx"))
    for name, array in arrays_of(make(3.0)).items():
        np.testing.assert_array_equal(arrays_of(read)[name], array.astype(np.float32))
    assert isinstance(read.scale, np.ndarray)
    assert (read.rate, parameter_names(read)) == (0.5, ["layer/weight", "layer/bias"])
    other = eqx.tree_at(lambda scaled: scaled.rate, make(1.0), 0.25)
    with pytest.raises(UserError, match=r"array 5 is 0\.5, but rate of the model is the plain number 0\.25"):
        with_weights(other, tmp_path / "w.eqx", weights("w.eqx"))
    part = with_weights(make(1.0), tmp_path / "w.safetensors", weights("w.safetensors"))
    assert (part.scale.tolist(), part.steps.tolist(), part.layer.bias.tolist()) == ([1, 1], [1], [1, 1])


# What is refused --------------------------------------------------------------------------------

GOOD = {name: np.ones(leaf.shape, np.float32) for name, leaf in arrays_of(blank(MLP)).items()}
NAN = np.where(np.arange(2) == 1, np.nan, 1.0)
BAD: dict[str, tuple[dict[str, np.ndarray], dict[str, Any], list[str]]] = {
    "missing": (
        {"layers/0/weight": GOOD["layers/0/weight"], "2.bias": np.ones(2), "layers/1/bias": np.ones(3)},
        {"names": {"layers/0/bias": "0.bias"}},
        ['missing in the file: layers/0/bias (8,) (as "0.bias"), layers/1/weight (2, 8)', "unused in the file: 2.bias",
         '{"layers/*/weight": "*.weight"', "layers/1/bias has shape (2,), but layers/1/bias in the file (3,)"],
    ),
    "turned": (
        {**GOOD, "layers/0/weight": np.ones((3, 8))}, {},
        ["in the file (3, 8); transpose it, and square ones with it: ours are outputs × inputs"],
    ),
    "nan": ({**GOOD, "layers/1/bias": NAN}, {}, ["layers/1/bias[1] is nan; weights must be finite in float32"]),
    "large": ({**GOOD, "layers/1/bias": np.array([1e300, 0.0])}, {}, ["layers/1/bias[0] is 1e+300"]),
    "whole": ({**GOOD, "layers/1/bias": np.ones(2, int)}, {}, ["has dtype int64, but layers/1/bias holds real"]),
    "misnamed": (GOOD, {"names": {"layer/0/bias": "b"}}, ['no "layer/0/bias"; did you mean "layers/0/bias"?']),
    "numbers": (
        {f"{number}.weight": np.ones((8, 3)) for number in range(3)} | {"0.bias": np.ones(8), "1.bias": np.ones(2)},
        {"names": SEQUENTIAL},
        ['names: "layers/*/weight" fits 2 arrays of the model (layers/0/weight (8, 3), layers/1/weight (2, 8)) and '
         '"*.weight" 3 of the file (0.weight (8, 3), 1.weight (8, 3), 2.weight (8, 3)), which are paired'],
    ),
}  # fmt: skip
FILES = {
    "renamed.safetensors": "is no safetensors file that can be read",
    "torch.npz": "missing in the file",
    "objects.npz": "is no npz of plain arrays (Object arrays cannot be loaded when allow_pickle=False)",
    "pickle.npz": "is no npz of plain arrays",
    "few.eqx": "holds 1 arrays ((2,)), but the model has 4 (layers/0/weight (8, 3), layers/0/bias (8,), ",
    "pickle.eqx": "array 1 is none that Equinox writes",
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TargetFolder | str]:
    """What one process says about each file that does not fit."""
    folder = tmp_path_factory.mktemp("bad")
    for name, (arrays, _, _) in BAD.items():
        save_file(arrays, folder / f"{name}.safetensors")
    pickle = b"\x80\x04N."
    for name in ("renamed.safetensors", "torch.npz"):
        with zipfile.ZipFile(folder / name, "w") as stream:
            stream.writestr("archive/data.pkl", pickle)
    np.savez(folder / "objects.npz", **{"layers/0/weight": np.array([{}], object)})
    for name in ("pickle.npz", "pickle.eqx"):
        (folder / name).write_bytes(pickle)
    eqx.tree_serialise_leaves(folder / "few.eqx", jnp.ones(2))
    asked = {f"{name}.safetensors": keys for name, (_, keys, _) in BAD.items()} | {name: {} for name in FILES}
    data = {"kind": "teacher", "n": 10}
    model = MLP.model_dump(mode="json")
    return built(
        folder,
        {file: {"model": model, "data": data, "weights": {"file": file, **keys}} for file, keys in asked.items()},
    )


@pytest.mark.parametrize("file", [*(f"{name}.safetensors" for name in BAD), *FILES])
def test_a_file_that_does_not_fit_is_told_with_all_that_is_wrong(
    told: dict[str, TargetFolder | str], file: str
) -> None:
    message = told[file]
    assert isinstance(message, str), "it was built"
    assert message.startswith(f"{file}: ")
    for words in BAD[Path(file).stem][2] if Path(file).stem in BAD else [FILES[file]]:
        assert words in message


def test_the_plan_refuses_pickles_and_what_does_not_go_together(tmp_path: Path) -> None:
    network = {"model": {"kind": "mlp", "widths": [3, 8, 2]}}
    safe = {"file": "w.safetensors"}
    said = refusals(tmp_path, {
        "pickle": {**network, "weights": {"file": "net.pt", "format": "npz"}},
        "suffix": {**network, "weights": {"file": "net.h5"}},
        "format": {**network, "weights": {"file": "net.h5", "format": "hdf5"}},
        "names": {**network, "weights": {"file": "net.eqx", "names": {"a": "b"}}},
        "star": {**network, "weights": {**safe, "names": {"layers/*/bias": "b"}}},
        "train": {**network, "weights": safe, "train": {}},
        "at": {**network, "weights": safe, "at": "truth"},
        "quadratic": {"model": {"kind": "quadratic", "curvatures": [1]}, "weights": safe},
    })  # fmt: skip
    for name, words in {
        "pickle": 'weights: file "net.pt" is a pickle by its name: loading one can run any code, so none is ever '
        "loaded. Convert it where it was made: from safetensors.torch import save_file; save_file(model.state_dict(), ",
        "suffix": 'weights.format: missing; give "safetensors", "npz" or "eqx"',
        "format": 'weights.format: "hdf5" is not allowed; give "safetensors", "npz" or "eqx"',
        "names": "an eqx file has no names, its arrays go by position: leave out `names` and `ignore`",
        "star": 'names: "layers/*/bias: b" must have one * on both sides, for a number, or none on either',
        "train": "`weights` are w*: leave out `train`",
        "at": "`weights` are w*: leave out `at`",
        "quadratic": "a quadratic model is studied at its known minimum: leave out `weights`",
    }.items():
        (line,) = [line for line in said.splitlines() if f'"{name}"' in line]
        assert words in line
    assert 'weights.file "w.safetensors" is no file' in refusals(tmp_path, {"absent": {**network, "weights": safe}})
