"""estimate_llc: the pipeline's own number, what it says of itself, and mistakes in one message."""

import base64
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

from lambda_hat_cli import LLCEstimate, estimate_llc
from lambda_hat_cli.artifacts.analysis import AnalysisFolder
from lambda_hat_cli.artifacts.run import RunFolder
from lambda_hat_cli.artifacts.store import read_records
from lambda_hat_cli.errors import UserError
from lambda_hat_cli.experiment.rows import RunRow

ROOT = Path(__file__).resolve().parents[2]
PYTHON = {"PYTHONPATH": str(ROOT / "python")}
SIGMA = 0.3
ROWS = 60
EXPERIMENT = f"""
name: one
seed: 7
posterior: {{localization: 5.0}}
targets:
  - name: tanh
    model: {{kind: python, file: tanh_target.py, arguments: {{sigma: {SIGMA}}}}}
samplers: [{{kind: hmc, warmup: 40}}]
runs: {{chains: 4, tolerance: 0.2, budget: {{gradients: 30000}}, save_positions: true}}
"""
# Literal numbers, so that it is the same model in a process of either precision.
TARGET = f"""
import equinox as eqx, jax, jax.numpy as jnp, numpy as np

class Tanh(eqx.Module):
    inner: jax.Array
    outer: jax.Array

    def __call__(self, x):
        return self.outer @ jnp.tanh(self.inner @ x)

def model():
    return Tanh(jnp.asarray([[0.5, -0.25], [1.0, 0.75]], "float32"), jnp.asarray([[0.5, -1.5], [0.25, 1.0]], "float32"))

def data():
    x = np.linspace(-2.0, 2.0, {2 * ROWS}, dtype="float32").reshape({ROWS}, 2)[:, ::-1] * np.float32([1.0, -0.5])
    return {{"x": x, "y": np.asarray(jax.vmap(model())(x)).round(1)}}

def target(sigma):
    return {{"model": model(), "data": data, "loss": "gaussian", "sigma": sigma}}
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    (folder / "tanh_target.py").write_text(TARGET)
    (folder / "experiment.yml").write_text(EXPERIMENT)
    return folder


@pytest.fixture(scope="module")
def stages(work: Path) -> tuple[AnalysisFolder, RunFolder]:
    """What the pipeline's commands make of the target, each a process in its lane's precision."""

    def command(name: str, *arguments: str | Path, x64: bool) -> None:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "JAX_ENABLE_X64": str(int(x64))}
        command = [str(part) for part in (ROOT / "bin" / name, *arguments)]
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    command("plan", "experiment.yml", "--out", "plan", x64=False)
    (row,) = read_records(work / "plan" / "runs.jsonl", RunRow)
    rows, target = ("--rows", "plan/runs.jsonl"), ("--target", f"targets/{row.target_id}")
    command("build-target", "--rows", "plan/targets.jsonl", "--files", "plan/files", "--out", "targets", x64=False)
    command("sample", *rows, *target, "--out", "runs", x64=True)
    judged = ("--runs", "runs", "--stages", "plan/stages.json", "--diagnostics", "none")
    command("analyze", *rows, *target, *judged, "--out", "analyses", x64=False)
    return AnalysisFolder(work / "analyses" / row.id), RunFolder(work / "runs" / row.id)


@cache
def given(work: Path) -> dict[str, Any]:
    """The target's parts, as its file defines them; once, so that compiled functions fit."""
    namespace: dict[str, Any] = {"__name__": "tanh_target"}
    exec(compile(TARGET, str(work / "tanh_target.py"), "exec"), namespace)
    return {"model": namespace["model"](), "data": namespace["data"](), "loss": "gaussian", "sigma": SIGMA}


def estimated(work: Path, seed: int, **changes: Any) -> LLCEstimate:
    """The experiment's run, from Python."""
    settings = {"warmup": 40, "localization": 5.0, "chains": 4, "tolerance": 0.2, "budget": {"gradients": 30_000}}
    fixed = {"seed": seed, "save_positions": True, "progress": False}
    return estimate_llc(**given(work), **{**settings, **fixed, **changes})


@pytest.fixture(scope="module")
def here(work: Path, stages: tuple[AnalysisFolder, RunFolder]) -> LLCEstimate:
    return estimated(work, stages[1].record.seed)


def test_the_number_is_the_pipelines(stages: tuple[AnalysisFolder, RunFolder], here: LLCEstimate) -> None:
    there, run = stages
    trace = run.trace()
    assert trace is not None
    for group in ("posterior", "sample_stats", "warmup_posterior", "warmup_sample_stats"):
        ours, theirs = getattr(here.trace, group), getattr(trace, group)
        assert ours.keys() == theirs.keys()
        for name, values in theirs.items():
            np.testing.assert_array_equal(ours[name], values, err_msg=f"{group} {name}")
    np.testing.assert_array_equal(here.trace.positions, trace.positions)
    assert here.llc is not None
    apart = {"run_id", "target", "target_id", "folder", "truth", "finite_t", "error_budget", "run"}
    assert here.analysis.model_dump(exclude=apart) == there.record.model_dump(exclude=apart)
    apart = {"id", "target_id", "seconds", "peak_memory_bytes", "code"}
    assert here.analysis.run.model_dump(exclude=apart) == run.record.model_dump(exclude=apart)


def test_it_shows_itself(here: LLCEstimate) -> None:
    assert here.interval is not None
    low, high = here.interval
    assert low < (here.llc or np.nan) < high
    lines = repr(here).splitlines()
    assert re.fullmatch(r"λ̂ = -?[\d.]+ ± [\d.]+, (reliable|uncertain); w\* (at|above) a minimum \(δ = .*\)", lines[0])
    assert lines[1] == f"n = {ROWS}, d = 8, β = {1 / np.log(ROWS):.4g}, γ = 5"
    assert "hmc in float64: 4 × " in lines[2]
    assert lines[3:] == [*here.reasons, *([here.analysis.minimum_reason] if here.analysis.minimum_reason else [])]
    images = re.findall(r'src="data:image/png;base64,([^"]+)"', here._repr_html_())
    assert [base64.b64decode(image)[:8] for image in images] == [b"\x89PNG\r\n\x1a\n"] * 2


def test_devinterps_settings_translate(work: Path) -> None:
    """devinterp 1.3.2, slt/llc.py: nbeta·(mean of the draws' losses − loss at w*), with torch's mean squared error.

    That error is a mean over rows and outputs, so the same local posterior is at β = nbeta·2σ²/(outputs·n).
    """
    nbeta, outputs = 150.0, 2
    ours = estimated(work, 1, inverse_temperature=nbeta * 2 * SIGMA**2 / (outputs * ROWS), tolerance=0.5)
    data = given(work)["data"]
    x, y = data["x"].astype(np.float64), data["y"].astype(np.float64)

    def mean_squared_error(w: Float[np.ndarray, "... 8"]) -> Float[np.ndarray, "..."]:
        inner, outer = w[..., :4].reshape(*w.shape[:-1], 2, 2), w[..., 4:].reshape(*w.shape[:-1], 2, 2)
        answers = np.einsum("...oh,...hn->...no", outer, np.tanh(np.einsum("...hi,ni->...hn", inner, x)))
        return np.mean((answers - y) ** 2, axis=(-2, -1))

    positions = ours.trace.positions
    assert positions is not None
    w_star = np.array([0.5, -0.25, 1.0, 0.75, 0.5, -1.5, 0.25, 1.0])
    devinterps = nbeta * (mean_squared_error(positions).mean() - mean_squared_error(w_star))
    assert ours.analysis.nbeta == pytest.approx(nbeta * SIGMA**2)
    assert ours.llc == pytest.approx(devinterps, rel=1e-9)


class Line(eqx.Module):
    weights: Float[Array, " inputs"]

    def __call__(self, x: Float[Array, " inputs"]) -> Float[Array, ""]:
        return x @ self.weights


LINE = Line(jnp.ones(2))
X, Y = np.eye(6, 2, dtype=np.float32), np.ones(6, dtype=np.float32)
RIGHT: dict[str, Any] = {"model": LINE, "data": {"x": X, "y": Y}, "loss": "gaussian", "sigma": 1.0}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"sampler": "hcm"}, 'sampler.kind: "hcm" is unknown; did you mean "hmc"?'),
        ({"sampler": {"kind": "hmc"}, "warm_up": 3}, 'sampler: unknown key "warm_up"; did you mean "warmup"?'),
        ({"tolerence": 0.1}, 'unknown argument "tolerence"; did you mean "tolerance"?'),
        ({"sampler": "sgld", "precision": "float32"}, "precision float32 is asked for, but JAX has float64 here"),
        ({"tolerance": 5, "chains": 1}, "2 problems"),
        ({"budget": {"gradient": 1}}, 'budget: unknown key "gradient"; did you mean "gradients"?'),
        ({"loss": "mse"}, 'loss is \'mse\'; give "gaussian", "categorical" or a function'),
        ({"sigma": None}, 'loss "gaussian" needs sigma'),
        ({"loss": lambda model, data: jnp.zeros(3), "sigma": None}, "the loss of 6 rows has shape (3,)"),
        ({"data": {"x": X, "y": Y[:5]}}, "x has 6, y has 5"),
        ({"data": {"x": X, "y": Y * np.nan}}, 'data["y"] is not finite in that row'),
        ({"data": {"x": X[:1], "y": Y[:1]}}, "inverse_temperature auto is 1/log n, and there is 1 row of data"),
    ],
    ids=lambda value: "",
)
def test_a_mistake_is_told_in_one_message(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        estimate_llc(**{**RIGHT, **wrong})


Python = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture
def python() -> Python:
    def run(program: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **PYTHON, "JAX_ENABLE_X64": "0"}
        command = [sys.executable, "-c", program]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return run


def test_the_package_is_light_and_says_which_extra_is_missing(python: Python) -> None:
    done = python("import sys, lambda_hat_cli; print({'jax', 'numpy'} & set(sys.modules), dir(lambda_hat_cli))")
    assert done.stdout.startswith("set()"), done.stderr
    assert "estimate_llc" in done.stdout
    done = python("import sys; sys.modules['jax'] = None; from lambda_hat_cli import estimate_llc")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: estimate_llc needs the package jax, which is not installed here: install ")
    assert "lambda-hat-cli[sample]" in last


def test_in_float32_and_out_of_budget(python: Python) -> None:
    """The interpreter's precision is taken and stated, progress is told, and no number is made up."""
    done = python(
        "import equinox as eqx, jax, jax.numpy as jnp\n"
        "from lambda_hat_cli import estimate_llc\n"
        "data = {'x': jnp.eye(6, 2), 'y': jnp.ones((6, 1))}\n"
        "model = eqx.nn.Linear(2, 1, key=jax.random.key(0))\n"
        "print(estimate_llc(model, data, 'gaussian', sigma=1.0, budget={'gradients': 20}))"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("λ̂ = –, invalid\nn = 6, d = 3,")
    assert "hmc in float32" in done.stdout
    assert "the budget of 20 gradients was used up" in done.stdout
