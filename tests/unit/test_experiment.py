"""The experiment file: what is read, what is refused and in which words, and how it expands."""

import re
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from lambda_hat_cli.errors import UserError
from lambda_hat_cli.experiment import schema
from lambda_hat_cli.experiment.document import parse_yaml, read_document
from lambda_hat_cli.experiment.expand import Rows, expand, parameter_count
from lambda_hat_cli.experiment.load import load_experiment

ROOT = Path(__file__).parents[2]
QUADRATIC = {"name": "q", "model": {"kind": "quadratic", "curvatures": [1, 2]}}
MLP = {"name": "net", "model": {"kind": "mlp", "widths": [3, 4, 1]}}


def experiment(**changes: Any) -> dict[str, Any]:
    return {"name": "x", "targets": [QUADRATIC], "samplers": [{"kind": "hmc"}]} | changes


def rows(folder: Path, content: dict[str, Any] | str, assignments: str = "") -> Rows:
    file = folder / "x.yml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    loaded = load_experiment(file, assignments)
    return expand(loaded, where="x.yml", files={}, build_code={}, sample_code={})


def refusal(folder: Path, content: dict[str, Any] | str, assignments: str = "") -> str:
    with pytest.raises(UserError) as caught:
        rows(folder, content, assignments)
    return str(caught.value)


# Reading ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("-.5E+2", -50.0),
        ("2e6", 2_000_000),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 17),
        ("no", "no"),
        ("2026-01-01", "2026-01-01"),
        ("1:30", "1:30"),
        ("'1'", "1"),
        ("true", True),
        ("~", None),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    read = parse_yaml(text, "")
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"# only a comment\n", "is empty"),
        (b"- a\n", "holds a list"),
        (b"name: x\nname: y\n", 'line 2, column 1: not valid YAML: the key "name" stands here a second time'),
        (b"name: [1, 2\nseed: 3\n", "line 2, column 5"),
        (b"name: !!python/object/apply:os.system ['true']\n", "the tag !!python/object/apply:os.system is not used"),
        (b"name: !!binary aGk=\n", "the tag !!binary is not used"),
        (b"1: x\n", "a key must be text"),
        (b"a: 1\n---\nb: 2\n", "line 2"),
        (b"\x89PNG\x00\x01", "is a binary file"),
        (b"name: x\nnote: caf\xe9\n", "line 2: is not UTF-8 text"),
        (b"name: x\nnote: \x07\n", "not valid YAML"),
        (b"a: &a [*a]\n", "an alias contains itself"),
        (b"a: " + b"[" * 500, "nested too deeply"),
        (b"a: &a [1,1,1,1,1,1,1,1,1,1]\n" + b"".join(
            b"%c: &%c [%s]\n" % (c + 1, c + 1, b",".join([b"*%c" % c] * 10)) for c in range(97, 103)
        ), "more than 100000 values"),
    ],
)  # fmt: skip
def test_unreadable_files_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "x.yml"
    file.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        read_document(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_aliases_and_merge_keys_are_read(tmp_path: Path) -> None:
    text = """
name: x
targets:
  - &first {name: a, model: {kind: quadratic, curvatures: [1]}}
  - {<<: *first, name: b, data: {kind: none, n: 50}}
"""
    assert [target.n for target in rows(tmp_path, text).targets] == [1000, 50]


# Refusing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"runz": {}}, 'unknown key "runz"; did you mean "runs"? Allowed: name, seed, posterior, targets'),
        ({"runs": {"toleranc": 1}}, 'runs: unknown key "toleranc"; did you mean "tolerance"?'),
        ({"runs": {"chains": 8.5}}, "runs.chains: 8.5 is not allowed; give a whole number from 2 to 4096"),
        ({"runs": {"chains": True}}, "runs.chains: true is not allowed"),
        ({"runs": {"replicates": 10**9}}, "runs.replicates: 1000000000 is not allowed; give a whole number from 1 to"),
        ({"runs": {"budget": {"seconds": float("inf")}}}, "runs.budget.seconds: Infinity is not allowed; give"),
        ({"posterior": {"localization": -1}}, "posterior.localization: -1 is not allowed; give a number of at least 0"),
        ({"posterior": {"localization": [1, -2]}}, "posterior.localization[1]: -2 is not allowed"),
        ({"posterior": {"inverse_temperature": "aut"}}, 'posterior.inverse_temperature: "aut" is not allowed'),
        ({"samplers": []}, "samplers: [] is not allowed; give a list of at least one, such as {kind: hmc}"),
        ({"samplers": None}, "samplers: null is not allowed"),
        ({"samplers": ["hmc"]}, 'samplers[0]: "hmc" is not allowed; give a section such as {kind: hmc}'),
        ({"samplers": [{"kind": "hcm"}]}, 'samplers[0] "hcm" kind: "hcm" is unknown; did you mean "hmc"?'),
        ({"samplers": [{"kind": "hmc"}, {"kind": "hmc"}]}, 'samplers[1]: the name "hmc" is that of samplers[0]'),
        ({"targets": [QUADRATIC, QUADRATIC]}, 'targets[1]: the name "q" is that of targets[0] already'),
        ({"targets": [{**MLP, "modell": 1}]}, 'targets[0] "net": unknown key "modell"; did you mean "model"?'),
        ({"targets": [{"name": "a"}]}, 'targets[0] "a" model: missing; give a section with a kind: "mlp"'),
        (
            {"targets": [QUADRATIC, {"name": "dln", "model": {"kind": "deep_linear", "widths": [9, 4, 9]},
                                     "data": {"kind": "teacher", "rank": 7}}]},
            'targets[1] "dln": data.rank is 7, but the smallest width is 4: give a rank from 0 to 4',
        ),
        *(
            ({"targets": [QUADRATIC, {"name": "dln", "model": {"kind": "deep_linear", "widths": widths}, "at": at,
                                      "data": {"kind": "teacher", "rank": 1}}]},
             f'targets[1] "dln"{line}')
            for widths, at, line in [
                ([3, 2, 3], {"ranks": [1]}, " at.ranks[1]: missing; give a whole number of at least 0"),
                ([3, 2, 3], {"ranks": [1, -1]}, " at.ranks[1]: -1 is not allowed; give a whole number of at least 0"),
                ([3, 2, 3], {"rank": [1], "ranks": [1, 1]}, ' at: unknown key "rank"; did you mean "ranks"? '
                 "Allowed: ranks"),
                ([3, 2, 3], {}, " at.ranks: missing; give a list of 2 items, each a whole number of at least 0"),
                ([3, 2, 3], "thruth", ' at: "thruth" is not allowed; give "truth" or "trained" or a section with keys '
                 "among ranks"),
                ([3, 2, 3], {"ranks": [2, 2]}, ": at.ranks [2, 2] do not exist in widths [3, 2, 3] with data.rank 1: "
                 "make their sum at most the hidden width plus data.rank, 3"),
                ([2, 9, 3], {"ranks": [0, 4]}, ": at.ranks [0, 4] do not exist in widths [2, 9, 3] with data.rank 1: "
                 "make both at least data.rank 1; the second at most 3"),
                ([2, 2, 2, 2], {"ranks": [1, 1]}, ": at.ranks is for two layers, widths [2, 2, 2, 2] have 3: of deeper "
                 "models only the most singular point has a known coefficient; give `at: truth`"),
            ]
        ),
        ({"overrides": [{"match": {"targt": "q"}, "set": {"warmup": 30}}]}, 'overrides[0].match: unknown key "targt"'),
    ],
)  # fmt: skip
def test_each_problem_has_one_line_of_our_own(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    message = refusal(tmp_path, experiment(**changes))
    assert message.startswith(f"{tmp_path / 'x.yml'}: {line}")
    assert "\n" not in message


def test_a_bad_width_is_told_once_though_the_teacher_inherits_it(tmp_path: Path) -> None:
    bad = {"name": "net", "model": {"kind": "mlp", "widths": [3, 0, 1]}, "data": {"kind": "teacher"}}
    message = refusal(tmp_path, experiment(targets=[bad]))
    assert message.endswith('targets[0] "net" model.widths[1]: 0 is not allowed; give a whole number from 1 to 100000')


def test_all_problems_come_in_one_message(tmp_path: Path) -> None:
    message = refusal(tmp_path, experiment(seed="a", runs={"chains": 1, "toleranc": 0}, foo=1))
    head, *lines = message.splitlines()
    assert head == f"{tmp_path / 'x.yml'}: 4 problems"
    assert [line.split(":")[0].strip() for line in lines] == [
        "seed",
        "runs.chains",
        "runs",
        'unknown key "foo"; allowed',
    ]


def test_the_library_s_wording_never_shows(tmp_path: Path) -> None:
    nonsense = {"name": 3, "seed": [], "posterior": {"localization": "x", "inverse_temperature": [{}]},
                "targets": [{"name": "a", "model": {"kind": []}, "data": {"kind": "teacher", "inputs": 3}}, None],
                "samplers": [{"kind": "sgld", "step_size": {}, "batch_size": [1]}, {"kind": "hmc", "jitter": [1]}],
                "runs": [], "overrides": [{"set": {}}, 3]}  # fmt: skip
    message = refusal(tmp_path, nonsense)
    for word in (
        "Input should",
        "validation",
        "pydantic",
        "literal",
        "union",
        "tuple",
        "constrained",
        "spec",
        "settings",
    ):
        assert word not in message


# Expanding --------------------------------------------------------------------------------------


def test_rows_are_the_product_of_everything(tmp_path: Path) -> None:
    content = experiment(
        targets=[QUADRATIC, MLP],
        samplers=[{"kind": "hmc"}, {"kind": "sgld"}],
        posterior={"inverse_temperature": ["auto", 0.5], "localization": [1, 10, 100]},
        runs={"replicates": 2},
    )
    plan = rows(tmp_path, content)
    assert len(plan.targets) == 2
    assert len(plan.runs) == 2 * 2 * 6 * 2
    assert len({row.id for row in plan.runs}) == len({row.seed for row in plan.runs}) == len(plan.runs)
    assert {(row.sampler, row.precision) for row in plan.runs} == {("hmc", "float64"), ("sgld", "float32")}
    assert all(row.folder == f"{row.target}-{row.sampler}-{row.id[:8]}" for row in plan.runs)


def test_later_overrides_win_and_replace_lists(tmp_path: Path) -> None:
    content = experiment(
        targets=[QUADRATIC, MLP],
        posterior={"localization": [1, 10]},
        overrides=[
            {"set": {"warmup": 50, "runs.budget.gradients": 10}},
            {
                "match": {"target_kind": "mlp"},
                "set": {"posterior.localization": 100, "warmup": 60, "runs.replicates": 3},
            },
        ],
    )
    found = [(r.target, r.posterior.localization, r.settings.warmup, r.runs.budget.gradients, r.replicate)
             for r in rows(tmp_path, content).runs]  # fmt: skip
    assert found == [("q", 1, 50, 10, 0), ("q", 10, 50, 10, 0), *(("net", 100, 60, 10, k) for k in range(3))]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"match": {"target": "p"}, "set": {"warmup": 30}}, 'overrides[0] match.target: "p" matches nothing here'),
        ({"match": {"sampler": "hcm"}, "set": {"warmup": 30}}, 'did you mean "hmc"?'),
        ({"match": {"target": "q", "target_kind": "mlp"}, "set": {"warmup": 30}}, '"q" is not of kind "mlp"'),
        ({"set": {"step_size": 0.1}}, 'sampler "hmc" (kind hmc) has no key "step_size"'),
        ({"set": {"kind": "vi"}}, '"kind" cannot be set'),
        ({"set": {"posterior": {"localization": 1}}}, '"posterior" is a section; set its keys'),
        ({"set": {"runs.budget.gradient": 3}}, 'runs.budget has no key "gradient"; did you mean "gradients"?'),
        ({"set": {"warmup": 3}}, "overrides[0] set.warmup: 3 is not allowed; give a whole number of at least 20"),
        ({"set": {"jitter": [2, 1]}}, 'overrides[0] on target "q", sampler "hmc": jitter [2.0, 1.0] must be'),
    ],
)
def test_overrides_that_cannot_apply_are_refused(tmp_path: Path, override: dict[str, Any], words: str) -> None:
    assert words in refusal(tmp_path, experiment(targets=[QUADRATIC, MLP], overrides=[override]))


def test_identical_content_is_refused_by_both_names(tmp_path: Path) -> None:
    twin = {"name": "r", "model": {"rotation": False, "curvatures": [1.0, 2.0], "kind": "quadratic"}}
    assert 'targets "q" and "r" have identical content' in refusal(tmp_path, experiment(targets=[QUADRATIC, twin]))
    samplers = [{"kind": "hmc"}, {"kind": "hmc", "name": "other", "warmup": "auto"}]
    message = refusal(tmp_path, experiment(samplers=samplers))
    assert '"q" × "hmc"' in message
    assert '"q" × "other"' in message


@pytest.mark.parametrize(
    ("model", "d"),
    [
        (schema.MlpModel(kind="mlp", widths=(10, 25, 25, 1)), 951),
        (schema.MlpModel(kind="mlp", widths=(10, 25, 25, 1), bias=False, layer_norm=True), 900),
        (schema.MlpModel(kind="mlp", widths=(10, 90, 90, 10)), 10_090),
        (schema.DeepLinearModel(kind="deep_linear", widths=(10, 10, 10, 10)), 300),
        (schema.QuadraticModel(kind="quadratic", curvatures=(1.0, 2.0)), 2),
        (schema.NormalCrossingModel(kind="normal_crossing", exponents=(1, 1, 0)), 3),
        (schema.PythonModel(kind="python", file="a.py"), None),
    ],
)
def test_parameter_counts(model: schema.Model, d: int | None) -> None:
    assert parameter_count(model) == d


# --set ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        ("runs.toleranc=1", 'after --set: runs: unknown key "toleranc"; did you mean "tolerance"?'),
        ("run.tolerance=1", 'after --set: unknown key "run"; did you mean "runs"?'),
        ("targets.qq.data.n=3", '--set targets.qq.data.n: targets has no item "qq"'),
        ("targets.3.data.n=3", 'targets has no item "3"; allowed: q'),
        ("samplers.hcm.warmup=30", 'samplers has no item "hcm"; did you mean "hmc"?'),
        ("name.x=3", '--set name.x: name holds "x"'),
        ("posterior.localization=-1", "after --set: posterior.localization: -1 is not allowed"),
        ("tolerance", "is no assignment"),
        ("runs.tolerance=", "is no assignment"),
        ("runs.tolerance=[1", "--set runs.tolerance: line 1"),
        ("runs..tolerance=1", "a key is missing between two dots"),
    ],
)
def test_bad_assignments_are_refused(tmp_path: Path, assignments: str, words: str) -> None:
    assert words in refusal(tmp_path, experiment(), assignments)


def test_assignments_can_mend_a_file_and_reach_everything(tmp_path: Path) -> None:
    dln = {"name": "a.b", "model": {"kind": "deep_linear", "widths": [4, 4]}, "data": {"kind": "teacher"}}
    content = experiment(targets=[dln], overrides=[{"set": {"posterior.localization": 5}}])
    text = (
        "targets.a.b.data.rank=2; targets.0.data.n=1e2; samplers.hmc={kind: vi, name: 'v;w'}; samplers.0.name=v; "
        "runs.budget.gradients=2e6; overrides.0.set.posterior.localization=[1, 2]"
    )
    plan = rows(tmp_path, content, text)
    assert (plan.targets[0].spec.data.rank, plan.targets[0].n) == (2, 100)
    assert [(row.sampler, row.posterior.localization, row.runs.budget.gradients) for row in plan.runs] == [
        ("v", 1.0, 2_000_000),
        ("v", 2.0, 2_000_000),
    ]


# Ready files and their page ---------------------------------------------------------------------


@pytest.mark.parametrize("file", sorted((ROOT / "conf/experiments").glob("*.yml")), ids=lambda file: file.stem)
def test_ready_experiments_expand(file: Path) -> None:
    loaded = load_experiment(file)
    plan = expand(loaded, where=file.name, files={}, build_code={}, sample_code={})
    assert loaded.name == file.stem
    assert "hmc" in {row.settings.kind for row in plan.runs}


def documented_rows() -> list[str]:
    """The page's table rows that the schema asks for, up to and including the default's cell."""
    found: list[str] = []
    for union in (schema.Model, schema.Data, schema.Inputs, schema.Noise, schema.SamplerSettings):
        for member in get_args(get_args(union)[0]):
            kind = get_args(member.model_fields["kind"].annotation)[0]
            found += [f"| {kind} {row}" for row in _rows_of(member) if not row.startswith("| `kind`")]
    for section in (schema.PosteriorGrid, schema.TrainingSection, schema.Weights, schema.RunsSection):
        found += _rows_of(section)
    found += [f"| `{key}` |" for model in (schema.Experiment, schema.TargetSpec) for key in model.model_fields]
    found += [f"| `match.{key}` |" for key in schema.Match.model_fields]
    return found


def _rows_of(model: type[BaseModel], prefix: str = "") -> list[str]:
    found = []
    for key, field in model.model_fields.items():
        annotation = field.annotation
        if annotation is schema.Budget:
            found += _rows_of(schema.Budget, f"{key}.")
        elif field.default is PydanticUndefined:
            found.append(f"| `{prefix}{key}` | required |")
        elif field.default is None:
            found.append(f"| `{prefix}{key}` |")
        else:
            found.append(f"| `{prefix}{key}` | `{_written(field.default)}` |")
    return found


def _written(value: Any) -> str:
    if isinstance(value, BaseModel):
        return value.kind  # type: ignore[attr-defined]
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if get_origin(type(value)) or isinstance(value, tuple) else str(value)


def test_the_page_has_every_key_and_default() -> None:
    page = (ROOT / "docs/experiment-file.md").read_text()
    assert [row for row in documented_rows() if row not in page] == []


TRAINED = """
name: t
targets:
  - {name: net, model: {kind: mlp, widths: [2, 3, 1]}, train: {checkpoints: %s}}
  - {name: other, model: {kind: quadratic, curvatures: [1]}}
samplers: [{kind: hmc}]
overrides:
  - {match: {target: net}, set: {posterior.localization: 100}}
  - {match: {target: net-step-100}, set: {runs.chains: 4}}
"""


@pytest.mark.parametrize(
    ("checkpoints", "steps"),
    [("[100, 0, 7]", [0, 7, 100]), ("{first: 1, last: 100, count: 5}", [1, 3, 10, 32, 100]), ("{last: 100}", None)],
)
def test_every_checkpoint_is_a_target_of_one_pack(tmp_path: Path, checkpoints: str, steps: list[int] | None) -> None:
    found = rows(tmp_path, TRAINED % checkpoints)
    *net, other = found.targets
    trained = [row.spec.train.steps for row in net if row.spec.train is not None]
    if steps is not None:
        assert trained == steps
    assert trained[-1] == 100
    assert [row.name for row in net] == [f"net-step-{step}" for step in trained]
    assert {row.entry for row in net} == {"net"}
    assert len({row.pack for row in net}) == 1
    assert other.pack != net[0].pack
    assert [run.posterior.localization for run in found.runs] == [100.0] * len(net) + [1.0]
    assert [run.runs.chains for run in found.runs] == [8] * (len(net) - 1) + [4, 8]


def test_a_checkpoint_has_the_id_of_training_that_ends_there(tmp_path: Path) -> None:
    many, one = (rows(tmp_path, TRAINED % text).targets[-2] for text in ("[0, 5, 100]", "[100]"))
    alone = rows(tmp_path, (TRAINED % "[100]").replace("checkpoints: [100]", "steps: 100").split("overrides")[0])
    assert many.id == one.id == alone.targets[0].id
    assert alone.targets[0].name == "net"


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ("steps: 5, checkpoints: [1]", "train: steps: 5 is not the last of the checkpoints, 1: leave steps out"),
        ("checkpoints: [1, 5, 1]", "train: checkpoints [1, 5, 1] name a number of steps twice"),
        ("checkpoints: {first: 9, last: 9}", "first: 9 must be below last: 9"),
        ("checkpoints: [-1]", "checkpoints[0]: -1"),
        ("checkpoints: []", "checkpoints"),
        ("weight_decay: 0.1", "weight_decay: 0.1 is for optimizer: adamw, adam has none: leave it out"),
    ],
)
def test_checkpoints_that_make_no_sense(tmp_path: Path, training: str, message: str) -> None:
    with pytest.raises(UserError) as told:
        rows(tmp_path, (TRAINED % "[1]").replace("checkpoints: [1]", training))
    assert message in str(told.value)


GRID = """
name: t
targets:
  - name: net
    model: {kind: mlp, widths: [2, 3, 1]}
    data: {kind: teacher, n: 50, noise: {kind: gaussian}}
    grid: %s
  - {name: other, model: {kind: quadratic, curvatures: [1]}, seed: 5}
samplers: [{kind: hmc}]
overrides: [{match: {target: net}, set: {runs.chains: 4}}]
"""


def test_a_grid_is_every_combination_of_its_values(tmp_path: Path) -> None:
    found = rows(tmp_path, GRID % "{data.n: [50, 80], data.noise.scale: [0.1, 1e-3], seed: [0, 1]}")
    *nets, other = found.targets
    assert [row.name for row in nets[:3]] == [
        "net-n-50-scale-0.1-seed-0", "net-n-50-scale-0.1-seed-1", "net-n-50-scale-0.001-seed-0",
    ]  # fmt: skip
    assert len({row.id for row in nets}) == len(nets) == 8
    assert [row.spec.data.n for row in nets] == 4 * [50] + 4 * [80]
    assert {row.entry for row in nets} == {"net"}
    assert len({row.seed for row in nets}) == 2
    assert nets[2].varied == {"data.n": 50, "data.noise.scale": 0.001, "seed": 0}
    assert other.seed not in {row.seed for row in nets}
    assert [run.runs.chains for run in found.runs] == 8 * [4] + [8]


def test_two_entries_of_one_name_are_refused_whatever_their_grids(tmp_path: Path) -> None:
    text = (
        (GRID % "{data.n: [50, 80]}")
        .replace("name: other,", "name: net, grid: {seed: [0, 1]},")
        .replace(", seed: 5}", "}")
    )
    with pytest.raises(UserError) as told:
        rows(tmp_path, text)
    assert 'targets[1]: the name "net" is that of targets[0] already' in str(told.value)


def test_a_combination_is_the_target_that_is_written_out(tmp_path: Path) -> None:
    combined = rows(tmp_path, GRID % "{model.widths: [[2, 5, 1]], seed: [3]}").targets[0]
    text = (GRID % "{}").replace("grid: {}", "seed: 3").replace("[2, 3, 1]", "[2, 5, 1]")
    assert combined.id == rows(tmp_path, text).targets[0].id
    assert combined.name == "net-widths-2-5-1-seed-3"


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("[1]", 'targets[0] "net": grid: give a section of lists'),
        ("{data.n: 5}", 'targets[0] "net": grid.data.n: give a list of at least one value'),
        ("{name: [a]}", 'grid: "name" cannot be varied'),
        ("{data.m: [5, 6]}", 'targets[0] "net" data: unknown key "m"'),
        ("{data.n: [50, 1]}", 'targets[0] "net" data.n: 1'),
        ("{data.n: [50, 50]}", 'the name "net-n-50" is that of'),
    ],
)
def test_grids_that_make_no_sense(tmp_path: Path, grid: str, message: str) -> None:
    with pytest.raises(UserError) as told:
        rows(tmp_path, GRID % grid)
    assert message in str(told.value)
    assert str(told.value).count("\n") <= 1


@pytest.mark.parametrize(
    ("grid", "posteriors"),
    [
        ("{posterior.localization: [1, 20]}", {("auto", 1), ("auto", 20)}),
        ("{posterior: [{inverse_temperature: auto}, {inverse_temperature: 0.5}]}", {("auto", 1), (0.5, 1)}),
        ("{posterior: [{localization: 1}, {localization: 2, inverse_temperature: 0.5}]}", {(0.5, 1), (0.5, 2)}),
        ("{posterior: [3]}", {("auto", 1), ("auto", 10), ("auto", 100)}),
    ],
)
def test_what_is_said_of_a_posterior_in_a_grid_can_be_written_in_its_place(
    tmp_path: Path, grid: str, posteriors: set[tuple[Any, float]]
) -> None:
    with pytest.raises(UserError) as told:
        rows(tmp_path, GRID % grid)
    advice = re.search(r"is no key of a target; .* (overrides: \[.*\])$", str(told.value))
    assert advice
    text = (GRID % "{seed: [0]}").split("overrides")[0] + advice[1]
    found = [(run.target, run.posterior) for run in rows(tmp_path, text).runs]
    of_net = {(each.inverse_temperature, each.localization) for name, each in found if name != "other"}
    assert of_net == posteriors
    assert len(found) == len(posteriors) + 1


WEIGHTS = """
name: t
targets:
  - {name: net, model: {kind: mlp, widths: [2, 3, 1]}, weights: {files: "ck/*.npz"}}
samplers: [{kind: hmc}]
overrides: [{match: {target: net}, set: {runs.chains: 4}}]
"""


def test_what_an_entry_becomes_cannot_be_written(tmp_path: Path) -> None:
    for key in ("group: net", "step: 3"):
        with pytest.raises(UserError, match=f'unknown key "{key.split(":")[0]}"'):
            rows(tmp_path, (GRID % "{seed: [1]}").replace("seed: 5", key))


def test_every_file_of_weights_is_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "ck").mkdir()
    for name in ("run2-step1000", "run2-step20", "run2-step0"):
        (tmp_path / f"ck/{name}.npz").touch()
    found = rows(tmp_path, WEIGHTS)
    assert [(row.name, row.entry, row.step) for row in found.targets] == [
        ("net-step-0", "net", 0), ("net-step-20", "net", 20), ("net-step-1000", "net", 1000),
    ]  # fmt: skip
    assert [row.spec.weights.file for row in found.targets if row.spec.weights] == [
        "ck/run2-step0.npz", "ck/run2-step20.npz", "ck/run2-step1000.npz",
    ]  # fmt: skip
    assert {run.runs.chains for run in found.runs} == {4}


@pytest.mark.parametrize(
    ("names", "weights", "message"),
    [
        ([], '{files: "ck/*.npz"}', 'targets[0] "net": weights.files: "ck/*.npz" fits no file in'),
        (["a"], '{files: "ck/*.npz"}', "weights.files: ck/a.npz has no number in its name"),
        (["a1", "b1"], '{files: "ck/*.npz"}', "weights.files: ck/a1.npz and ck/b1.npz both tell step 1"),
        (["a1"], '{files: "../*.npz"}', "within the folder"),
        (["a1"], '{files: "ck/*.npz", file: a.npz}', "`file` and `files` exclude each other"),
    ],
)
def test_files_of_weights_that_make_no_sense(tmp_path: Path, names: list[str], weights: str, message: str) -> None:
    (tmp_path / "ck").mkdir()
    for name in names:
        (tmp_path / f"ck/{name}.npz").touch()
    with pytest.raises(UserError) as told:
        rows(tmp_path, WEIGHTS.replace('{files: "ck/*.npz"}', weights))
    assert message in str(told.value)


def test_the_page_s_example_is_valid(tmp_path: Path) -> None:
    example = re.search(r"```yaml\n(.*?)```", (ROOT / "docs/experiment-file.md").read_text(), re.DOTALL)
    assert example
    assert len(rows(tmp_path, example[1]).runs) == 8
