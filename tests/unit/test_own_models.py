"""Targets from a user's own file: the named losses against NumPy, training once, and every mistake on the command."""

import csv
import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy.special
from matplotlib.figure import Figure

from lambda_hat_cli.artifacts.failure import FailureNote
from lambda_hat_cli.artifacts.store import read_record
from lambda_hat_cli.artifacts.target import TargetFolder
from lambda_hat_cli.experiment.schema import PythonModel
from lambda_hat_cli.figures.style import loss_axis
from lambda_hat_cli.provenance import stage_code
from lambda_hat_cli.targets.load import load_target
from lambda_hat_cli.targets.user import user_target
from planned_targets import built as built_by_the_commands
from planned_targets import command

ROOT = Path(__file__).resolve().parents[2]

HEAD = """
import equinox as eqx, jax, jax.numpy as jnp, numpy as np
from lambda_hat_cli.targets.user import UserTarget

class Net(eqx.Module):
    weight: jax.Array
    scale: np.ndarray
    def __call__(self, x):
        return self.scale * (self.weight @ x)

def net(outputs=2):
    weight = np.linspace(-1, 1, 3 * outputs).reshape(outputs, 3)
    return Net(jnp.asarray(weight, jnp.float32), np.array([2.0]))

x = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
y = np.random.default_rng(1).standard_normal((6, 2)).astype(np.float32)
classes = np.array([0, 1, 1, 0, 1, 0])
model, data, loss, extra = net(), dict(x=x, y=y), "gaussian", dict(sigma=0.5)
"""
TAIL = """
def target():
    return UserTarget(model=model, data=data, loss=loss, **extra)
"""
BEGIN = HEAD.count("\n") + 1
"""The line of a file on which the part between head and tail begins."""


class Case(NamedTuple):
    """A user's file between HEAD and TAIL, and what the command must say of it."""

    lines: str
    message: str
    sections: dict[str, Any] = {}


SGD = {"optimizer": "sgd", "learning_rate": 0.01, "batch_size": "full"}
FAILS_ON = """extra = {{}}
def loss(model, data):
    if len(data['x']) == {rows}:
        {fails}
    return jax.vmap(model)(data['x'])[:, 0]
"""
HOLDS_OUT = "extra['held_out'] = dict(x=x[:5], y=y[:5])\n"
OWN_LOSS = "extra = {}\n"
MISTAKES = {
    "static array": Case(
        "class Held(Net):\n    mask: jax.Array = eqx.field(static=True)\n"
        "model = dict(inner=Held(net().weight, net().scale, np.ones(3)))\n"
        "loss, extra = (lambda model, data: jax.vmap(model['inner'])(data['x'])[:, 0]), {}",
        f"mine.py, line {BEGIN + 1}: the static field Held.mask holds an array; leave out static=True",
    ),
    "static list": Case(
        "class Held(Net):\n    sizes: list = eqx.field(static=True)\nmodel = Held(net().weight, net().scale, [1])",
        f"mine.py, line {BEGIN + 1}: the static field Held.sizes holds a list, which has no hash; make it a tuple",
    ),
    "no pytree": Case(
        "class Plain:\n    def __call__(self, x): return x[:2]\nmodel = Plain()",
        "mine.py: the model has no parameters: floating-point JAX arrays in an Equinox module, dict, list or tuple are "
        "parameters, NumPy arrays are constants; found Plain",
    ),
    "only constants": Case("model = Net(np.ones((2, 3)), np.ones(1))", "NumPy arrays are constants; found ndarray"),
    "empty parameter": Case(
        "model = dict(w=jnp.zeros((0, 3)))\nloss, extra = (lambda m, d: d['x'][:, 0]), {}",
        "the model has no parameters",
    ),
    "complex parameter": Case(
        "model = Net(net().weight * 1j, net().scale)", "a parameter (.weight) has dtype complex64; artefacts hold"
    ),
    "wide constant": Case(
        "model = Net(net().weight, np.array([1e300]))",
        "a constant array of the model (.scale) holds 1e+300, which is beyond float32; rescale it",
    ),
    "key": Case("model = dict(net=net(), key=jax.random.key(0))\nloss, extra = (lambda m, d: d['x'][:, 0]), {}",
                "a constant array of the model (['key']) is a random key"),
    "x64": Case(
        "getattr(jax.config, 'update')('jax_' 'enable_x64', True)", "it switched JAX's precision; leave that alone"
    ),
    "exit": Case("raise SystemExit('bye')", f"mine.py, line {BEGIN}: its import failed: SystemExit: bye"),
    "unknown loss": Case("loss = 'mse'", "target(): loss is 'mse'; give \"gaussian\", \"categorical\" or a function"),
    "no sigma": Case("extra = {}", 'target(): loss "gaussian" needs sigma, a number above 0; sigma is None'),
    "zero sigma": Case("extra = dict(sigma=0.0)", "needs sigma, a number above 0; sigma is 0.0"),
    "idle sigma": Case("loss, data = 'categorical', dict(x=x, y=classes)", 'sigma is for loss "gaussian" only'),
    "dict called": Case("model = dict(w=jnp.ones(3))", "on one datum, and a dict cannot be called; return an Equinox"),
    "no y": Case("data = dict(x=x)", 'loss "gaussian" needs data with x and y; data has x'),
    "held out alone": Case("extra['held_out'] = x", "held_out must be a dict of at least one array"),
    "held out others": Case(
        "extra['held_out'] = dict(x=x, y=y[:, :1])",
        "mine.py: held_out must have the arrays of data; data has x: float32 of shape (3,) a row, y: float32 of shape "
        "(2,) a row; held_out x: float32 of shape (3,) a row, y: float32 of shape (1,) a row",
    ),
    "held out no class": Case(
        "loss, data, extra = 'categorical', dict(x=x, y=classes), dict(held_out=dict(x=x, y=classes + 1))",
        "so classes are 0 to 1, but y of held_out is 2 in row 1",
    ),
    "model fails": Case(
        "data = dict(x=x[:, :2], y=y)",
        "mine.py, line 9: the model, given one datum x of shape (2,), failed: TypeError: dot_general"
    ),
    "other shape": Case(
        "data = dict(x=x, y=y[:, 0])",
        "mine.py, line 8: the model answers one datum x of shape (3,) with shape (2,), but one datum of y has shape "
        '(); loss "gaussian" needs equal shapes',
    ),
    "no logits": Case(
        "class Scalar(Net):\n    def __call__(self, x): return jnp.sum(x * self.weight)\n"
        "model, loss, extra, data = Scalar(net().weight, net().scale), 'categorical', {}, dict(x=x, y=classes)",
        f"mine.py, line {BEGIN + 1}: the model answers one datum x of shape (3,) with shape (); "
        'loss "categorical" needs one logit a class',
    ),
    "float classes": Case(
        "loss, extra, data = 'categorical', {}, dict(x=x, y=classes / 1)",
        'loss "categorical" needs y of shape (rows,) and integer dtype, the class of each row; y has shape (6,) and '
        "dtype float32",
    ),
    "one-hot classes": Case(
        "loss, extra, data = 'categorical', {}, dict(x=x, y=np.eye(2, dtype=int)[classes])",
        "y has shape (6, 2) and dtype"
    ),
    "class beyond": Case(
        "loss, extra, data = 'categorical', {}, dict(x=x, y=classes + 1)",
        "with shape (2,), so classes are 0 to 1, but y is 2 in row 1",
    ),
    "wide data": Case("data = dict(x=x * np.float64(1e300), y=y)", 'mine.py: data["x"] holds'),
    "ragged data": Case("data = dict(x=[[1.0], [1.0, 2.0]], y=y)", 'mine.py: data["x"] failed: ValueError'),
    "data fails": Case("data = lambda: open('/nowhere')", f"mine.py, line {BEGIN}: data() failed: FileNotFoundError"),
    "data is no dict": Case("data = lambda: None", f"mine.py, line {BEGIN}: data() must return a dict"),
    "nan in data": Case(
        "x[4, 1] = np.nan",
        'the loss at w* is nan in row 4; it must be finite in every row; data["x"] is not finite in that'
    ),
    "nan at w*": Case(
        "model = Net(net().weight * np.nan, net().scale)",
        "the loss at w* is nan in row 0; it must be finite in every row; the parameter .weight is not finite",
    ),
    "mean loss": Case(
        OWN_LOSS + "def loss(model, data):\n    return jnp.mean(jax.vmap(model)(data['x']))",
        f"mine.py, line {BEGIN + 1}: the loss of 6 rows has shape (); it must be (6,), one loss in nats a row",
    ),
    "column loss": Case(
        OWN_LOSS + "def loss(model, data):\n    return jax.vmap(model)(data['x'])[:, :1]",
        "has shape (6, 1); it must be (6,)"
    ),
    "integer loss": Case(
        OWN_LOSS + "def loss(model, data):\n    return jnp.ones(len(data['x']), int)",
        "the loss has dtype int32; it must be"
    ),
    "other model": Case(
        OWN_LOSS + "def loss(_, data):\n    return jax.vmap(model)(data['x'])[:, 0]",
        f"mine.py, line {BEGIN + 1}: the loss stays the same when every parameter is moved",
    ),
    "numpy loss": Case(
        OWN_LOSS + "def loss(model, data):\n    return np.sum(np.asarray(data['x']) @ np.asarray(model.weight).T, 1)",
        f"mine.py, line {BEGIN + 2}: the loss under jax.jit and jax.grad failed: TracerArrayConversionError",
    ),
    "no gradient": Case(
        OWN_LOSS + "model = dict(w=jnp.zeros(2))\ndef loss(model, data):\n"
        "    return jnp.sqrt(jnp.sum(model['w'] ** 2)) * jnp.ones(len(data['x']))",
        "at w* the loss is 0.0 and its gradient's norm nan; both must be finite numbers",
    ),
    "nan at the start": Case(
        "model = Net(net().weight * np.nan, net().scale)",
        "the loss at the start of training is nan in row 0; it must be finite in every row; the parameter .weight is",
        {"train": SGD},
    ),
    "no mean at the start": Case(
        OWN_LOSS + "model = dict(w=jnp.zeros(1))\ndef loss(model, data):\n"
        "    return 3e38 * jnp.cos(model['w'][0]) * jnp.ones(len(data['x']))",
        "the mean loss is inf where training starts; it must be finite in float32, rescale it",
        {"train": {**SGD, "steps": 0}},
    ),
    "loss fails in training": Case(
        FAILS_ON.format(rows=2, fails="raise ValueError('no pairs')"),
        f"mine.py, line {BEGIN + 3}: the loss in training failed: ValueError: no pairs",
        {"train": {**SGD, "batch_size": 2, "steps": 1}},
    ),
    "loss fails on chosen rows": Case(
        FAILS_ON.format(rows=2, fails="raise ValueError('no pairs')"),
        f"mine.py, line {BEGIN + 3}: the loss at w* failed: ValueError: no pairs",
        {"rows": [0, 2]},
    ),
    "loss fails on held out": Case(
        FAILS_ON.format(rows=5, fails="raise ValueError('no fives')") + HOLDS_OUT,
        f"mine.py, line {BEGIN + 3}: the loss of held_out at the start of training failed: ValueError: no fives",
        {"train": SGD},
    ),
    "mean loss of held out": Case(
        FAILS_ON.format(rows=5, fails="return jnp.sum(model.weight)") + HOLDS_OUT,
        f"mine.py, line {BEGIN + 1}: the loss of 5 rows of held_out has shape (); it must be (5,), one loss in nats a",
    ),
    "train fails": Case(
        "def fit(model, data):\n    raise ValueError('no luck')\nextra['train'] = fit",
        f"mine.py, line {BEGIN + 1}: train() failed: ValueError: no luck",
    ),
    "train changes": Case(
        "extra['train'] = lambda model, data: net(3)",
        f"mine.py, line {BEGIN}: train() returned a model of another structure than the one it was given (leaf 0: "
        "ParameterSlot(shape=(2, 3)), then ParameterSlot(shape=(3, 3))); change the values of its arrays only",
    ),
    "train is no function": Case("extra['train'] = 100", "train is a int; give a function of (model, data)"),
    "dict without": Case(
        "def target(): return dict(model=model, data=data, los=loss)\nUserTarget = lambda **k: target()",
        "keys ['model', 'data', 'los']; it needs model, data, loss and may have sigma, train",
    ),
}  # fmt: skip


def source(lines: str) -> str:
    tail = "" if "def target" in lines else TAIL
    return HEAD + lines + "\n" + tail


def row(name: str, files: Path, text: str, sections: dict[str, Any]) -> dict[str, Any]:
    """A row of the plan for a python target, with its file in place."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    files.mkdir(exist_ok=True)
    (files / digest).write_text(text)
    identity = hashlib.sha256(name.encode()).hexdigest()[:16]
    return {
        "id": identity, "name": name, "entry": name, "folder": f"t-{identity[:8]}",
        "spec": {"model": {"kind": "python", "file": "mine.py"}, **sections},
        "seed": 1, "files": {"mine.py": digest},
        "d": None, "n": None, "code": stage_code("build_target"), "pack": identity,
    }  # fmt: skip


def build(
    folder: Path, texts: dict[str, str], sections: dict[str, dict[str, Any]] | None = None, x64: bool = False
) -> dict[str, str]:
    """Runs build-target once on all of them, some with further sections; the ids by name."""
    folder.mkdir(exist_ok=True)
    rows = [row(name, folder / "files", text, (sections or {}).get(name, {})) for name, text in texts.items()]
    (folder / "rows.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "JAX_ENABLE_X64": str(int(x64))}
    done = subprocess.run(
        [ROOT / "bin/build-target", "--rows", "rows.jsonl", "--out", "targets", "--files", "files",
         "--failures", "notes"],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {each["name"]: each["id"] for each in rows}


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What one process says about each mistake. That of switching the precision has a process to itself."""
    told = {}
    for names in ([name for name in MISTAKES if name != "x64"], ["x64"]):
        folder = tmp_path_factory.mktemp("mistakes")
        texts = {name: source(MISTAKES[name].lines) for name in names}
        ids = build(folder, texts, {name: MISTAKES[name].sections for name in names})
        assert not list((folder / "targets").glob("*/target.json")) if (folder / "targets").exists() else True
        for name, identity in ids.items():
            told[name] = read_record(folder / f"notes/build_target-{identity}.json", FailureNote).message
    return told


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_message_that_says_where_and_what(notes: dict[str, str], mistake: str) -> None:
    message = notes[mistake]
    assert MISTAKES[mistake].message in message
    assert "internal error" not in message
    assert "\n" not in message
    assert "\nTraceback" not in message


GOOD = {
    "gaussian": source(""),
    "images": source("data = dict(x=x, y=np.stack([y, y], 1).transpose(0, 2, 1))\n"
                     "class Twice(Net):\n    def __call__(self, x): return jnp.stack([super().__call__(x)] * 2, 1)\n"
                     "model = Twice(net().weight, net().scale)"),
    "categorical": source("loss, extra, data = 'categorical', {}, dict(x=x, y=classes)"),
    "trained": source("def load():\n    open('called', 'a').write('data ')\n    return dict(x=x, y=y)\n"
                      "def fit(model, data):\n    open('called', 'a').write('train ')\n"
                      "    assert isinstance(data['x'], jax.Array)\n"
                      "    return eqx.tree_at(lambda net: net.weight, model, model.weight + 1)\n"
                      "data, extra['train'] = load, fit"),
}  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, TargetFolder]]:
    folder = tmp_path_factory.mktemp("good")
    ids = build(folder, GOOD)
    return folder, {name: TargetFolder(folder / "targets" / identity) for name, identity in ids.items()}


def by_hand(weight: np.ndarray, folder: TargetFolder) -> np.ndarray:
    """What Net answers to every row."""
    return 2.0 * folder.data()["x"].astype(np.float64) @ weight.T


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_named_losses_map_the_model_over_rows(built: tuple[Path, dict[str, TargetFolder]], precision: str) -> None:
    tolerance = 1e-12 if precision == "float64" else 1e-5
    weight = np.linspace(-1, 1, 6).reshape(2, 3).astype(np.float32).astype(np.float64) + 0.25
    for name, times in (("gaussian", 1), ("images", 2)):
        folder = built[1][name]
        target = load_target(folder, precision)
        y = folder.data()["y"].reshape(6, 2, -1)[:, :, 0]
        expected = times * np.sum((by_hand(weight, folder) - y) ** 2, 1) / (2 * 0.5**2)
        np.testing.assert_allclose(target.losses(target.w_star + 0.25, target.data), expected, rtol=tolerance)
        assert (folder.record.likelihood, folder.record.scale) == ("gaussian", 0.5)
    folder = built[1]["categorical"]
    target = load_target(folder, precision)
    classes = folder.data()["y"]
    expected = -scipy.special.log_softmax(by_hand(weight, folder), axis=1)[np.arange(6), classes]
    np.testing.assert_allclose(target.losses(target.w_star + 0.25, target.data), expected, rtol=tolerance)
    assert (folder.record.likelihood, folder.record.scale) == ("categorical", None)


def test_data_and_training_run_when_the_target_is_built_and_not_again(
    built: tuple[Path, dict[str, TargetFolder]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, targets = built
    monkeypatch.chdir(folder)
    target = load_target(targets["trained"], "float64")
    assert (folder / "called").read_text() == "data train "
    np.testing.assert_allclose(target.w_star, np.linspace(-1, 1, 6).astype(np.float32) + 1, rtol=1e-6)


HELD_OUT = "extra['held_out'] = lambda: dict(x=x[:4] + 1, y=y[:4])"


def test_the_experiment_trains_a_users_model(tmp_path: Path) -> None:
    """One step of plain descent and one of AdamW (Loshchilov and Hutter 2019), by hand, and the losses of both sets."""
    sections = {
        "start": {"train": {**SGD, "steps": 0}},
        "sgd": {"train": {**SGD, "steps": 1}},
        "adamw": {"train": {**SGD, "optimizer": "adamw", "weight_decay": 0.5, "steps": 1}},
    }
    ids = build(tmp_path, dict.fromkeys(sections, source(HELD_OUT)), sections)
    folders = {name: TargetFolder(tmp_path / "targets" / identity) for name, identity in ids.items()}
    start = np.linspace(-1, 1, 6).reshape(2, 3).astype(np.float32).astype(np.float64)
    x, y = (folders["start"].data()[name].astype(np.float64) for name in ("x", "y"))
    gradient = 2.0 * (by_hand(start, folders["start"]) - y).T @ x / (len(x) * 0.5**2)
    expected = {
        "start": start,
        "sgd": start - 0.01 * gradient,
        "adamw": start - 0.01 * (np.sign(gradient) + 0.5 * start),
    }
    for name, folder in folders.items():
        weight, record = load_target(folder, "float64").w_star.reshape(2, 3), folder.record
        np.testing.assert_allclose(weight, expected[name], rtol=1e-5, atol=1e-7)
        held_out = np.mean(np.sum((2.0 * (x[:4] + 1) @ np.asarray(weight).T - y[:4]) ** 2, 1)) / (2 * 0.5**2)
        assert record.held_out_loss == pytest.approx(held_out, rel=1e-5)
        assert record.training is not None
        assert record.training.held_out_losses is not None
        assert record.training.held_out_losses[-1] == pytest.approx(held_out, rel=1e-5)
        assert record.training.losses[-1] == pytest.approx(record.loss_at_w_star, rel=1e-5)


def test_a_users_model_is_trained_as_it_is_stored_in_either_precision(tmp_path: Path) -> None:
    text = source("model = Net(jnp.asarray(np.full((2, 3), 0.1)), np.array([1 / 3]))")
    trained = {
        x64: TargetFolder(tmp_path / str(x64) / "targets" / identity)
        for x64 in (False, True)
        for identity in build(
            tmp_path / str(x64), {"net": text}, {"net": {"train": {**SGD, "steps": 20}}}, x64
        ).values()
    }
    assert trained[True].record.checksums == trained[False].record.checksums


LOGARITHM = """
import jax.numpy as jnp, numpy as np

def target():
    loss = lambda model, data: jnp.log(data["x"] - model["w"]) ** 2
    rows = dict(x=np.linspace(1.8, 2.2, 5))
    return dict(model=dict(w=jnp.zeros(1)), data=rows, loss=loss, held_out=dict(x=np.array([0.5])))
"""


def test_held_out_rows_may_have_no_finite_loss(tmp_path: Path) -> None:
    """w goes from 0 to about 1, and log(0.5 − w)² stops being a number halfway: told as unknown, in no one's way."""
    (tmp_path / "mine.py").write_text(LOGARITHM)
    training = {"optimizer": "sgd", "learning_rate": 0.2, "batch_size": "full", "checkpoints": [0, 50]}
    targets = built_by_the_commands(
        tmp_path, {"net": {"model": {"kind": "python", "file": "mine.py"}, "train": training}}
    )
    start, end = (targets[f"net-step-{step}"] for step in (0, 50))
    assert isinstance(start, TargetFolder)
    assert isinstance(end, TargetFolder)
    assert start.record.held_out_loss == pytest.approx(np.log(0.5) ** 2, rel=1e-6)
    assert end.record.held_out_loss is None
    record = end.record.training
    assert record is not None
    assert record.held_out_losses is not None
    assert record.held_out_losses[0] == pytest.approx(np.log(0.5) ** 2, rel=1e-6)
    assert record.held_out_losses[-1] is None
    assert record.losses[-1] < record.losses[0]

    options = [f"--{name}={name}" for name in ("analyses", "targets", "failures")]
    done = command("report", "--plan=plan", *options, "--stages=plan/stages.json", "--out=summary", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "summary/checkpoints.csv").open(encoding="utf-8", newline="") as stream:
        told = [row["held_out_loss"] for row in csv.DictReader(stream)]
    assert told == [repr(start.record.held_out_loss), ""]
    assert [len(list((tmp_path / "summary" / name).glob("*.png"))) for name in ("checkpoints", "training")] == [1, 1]


def test_the_axis_of_losses_passes_over_those_that_are_no_number() -> None:
    axes = Figure().subplots()
    loss_axis(axes, [math.nan, 1.0, math.nan, 100.0])
    assert axes.get_yscale() == "log"


def test_training_is_the_files_or_the_experiments(tmp_path: Path) -> None:
    ids = build(tmp_path, {"both": GOOD["trained"]}, {"both": {"train": SGD}})
    message = read_record(tmp_path / f"notes/build_target-{ids['both']}.json", FailureNote).message
    assert "mine.py: target() returns `train`, and the experiment file has a section `train` for it" in message


def test_targets_of_one_process_have_their_own_modules(tmp_path: Path) -> None:
    """Two files that import a module of the same name, each the one beside it."""
    found = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "beside_it.py").write_text(f"WEIGHT = {number}.0\n")
        (folder / "mine.py").write_text(
            "import jax.numpy as jnp\nfrom beside_it import WEIGHT\n"
            "def target():\n"
            "    loss = lambda model, data: (model['w'][0] - data['x']) ** 2\n"
            "    return dict(model={'w': jnp.array([WEIGHT])}, data={'x': jnp.arange(3.0)}, loss=loss)\n"
        )
        user, _ = user_target(folder, PythonModel(kind="python", file="mine.py"))
        found.append(float(user.model["w"][0]))
    assert found == [1.0, 2.0]
