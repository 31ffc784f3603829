"""Data from files: the same rows from every format, and what the commands say about everything that cannot be used."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lambda_hat_cli.experiment.data_files import file_data
from lambda_hat_cli.experiment.schema import FileData
from planned_targets import built, planned, refusals

ROWS = 30
RANDOM = np.random.default_rng(4)
X = RANDOM.standard_normal((ROWS, 3)) * [1.0, 20.0, 0.01] + [0.0, 1e4, 5.0]
Y = RANDOM.standard_normal((ROWS, 2))
KINDS = ["setosa", "virginica", "versicolor"]
KIND = [KINDS[number] for number in RANDOM.integers(0, 3, ROWS)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The same table as iris.csv, iris.parquet and iris.npz."""
    table = pd.DataFrame(X, columns=["a", "b, in cm", "c"]).assign(p=Y[:, 0], q=Y[:, 1], kind=KIND)
    table.insert(2, "grade", RANDOM.integers(3, 6, ROWS))
    table.to_csv(tmp_path / "iris.csv", index=False)
    table.astype({"kind": "category"}).to_parquet(tmp_path / "iris.parquet")
    np.savez(tmp_path / "iris.npz", x=X.reshape(ROWS, 1, 3), y=Y, kind=np.array(KIND), grade=table["grade"] + 0.0)
    return tmp_path


def read(folder: Path, widths: tuple[int, int], **keys: Any) -> dict[str, np.ndarray]:
    data = FileData.model_validate({"kind": "file", **keys})
    return file_data(folder / data.path, data, *widths)


COLUMNS = {
    "iris.csv": {"inputs": ["a", "b, in cm", "c"], "outputs": ["p", "q"]},
    "iris.parquet": {"inputs": ["a", "b, in cm", "c"], "outputs": ["p", "q"]},
    "iris.npz": {},
}


@pytest.mark.parametrize("path", COLUMNS)
def test_every_format_gives_the_same_numbers(folder: Path, path: str) -> None:
    arrays = read(folder, (3, 2), path=path, **COLUMNS[path], noise={"scale": 1.0})
    np.testing.assert_array_equal(arrays["x"], X.astype(np.float32))
    np.testing.assert_array_equal(arrays["y"], Y.astype(np.float32))
    first = read(folder, (3, 2), path=path, **COLUMNS[path], noise={"scale": 1.0}, standardize=True, n=7)
    expected = (X[:7] - X[:7].mean(0)) / X[:7].std(0)
    np.testing.assert_allclose(first["x"], expected, rtol=1e-6, atol=1e-6)
    assert (first["x"].dtype, first["y"].shape) == (np.float32, (7, 2))


@pytest.mark.parametrize("path", COLUMNS)
def test_labels_are_numbered_in_the_order_that_is_asked_for(folder: Path, path: str) -> None:
    inputs = {key: value for key, value in COLUMNS[path].items() if key == "inputs"}
    for classes, order in (("sorted", sorted(KINDS)), (KINDS, KINDS)):
        y = read(folder, (3, 3), path=path, **inputs, outputs="kind", classes=classes)["y"]
        assert (y.dtype, [order[label] for label in y]) == (np.int32, KIND)
    grades = pd.read_csv(folder / "iris.csv")["grade"]
    for classes, order in (("sorted", [3, 4, 5]), ([5, 3, 4], [5, 3, 4])):
        y = read(folder, (3, 3), path=path, **inputs, outputs="grade", classes=classes)["y"]
        assert [order[label] for label in y] == list(grades)


def test_all_columns_but_the_outputs_are_inputs_where_none_are_named(tmp_path: Path) -> None:
    with (tmp_path / "t.csv").open("w", encoding="utf-8-sig", newline="") as stream:
        csv.writer(stream).writerows([[" a", "y", "b"], [1, 2, "3 "], [], [4, 5, -6e0], []])
    arrays = read(tmp_path, (2, 1), path="t.csv", outputs="y", noise={"scale": 1.0})
    np.testing.assert_array_equal(arrays["x"], [[1, 3], [4, -6]])
    np.testing.assert_array_equal(arrays["y"], [[2], [5]])


# What is refused --------------------------------------------------------------------------------

GOOD_CSV = "a,b,y\n1,2,3\n4,5,6\n7,9,9\n"
REGRESSION = {"kind": "file", "path": "t.csv", "outputs": "y", "noise": {"scale": 0.1}}
LABELS = {"kind": "file", "path": "t.csv", "outputs": "y", "classes": [3, 6, 9]}
BAD_CSV: dict[str, tuple[str, dict[str, Any], str]] = {
    "nan": (GOOD_CSV.replace("5", "nan"), REGRESSION, 't.csv: row 3, column 2 "b" is nan; every cell must be a finite'),
    "infinite": (GOOD_CSV.replace("6", "-inf"), REGRESSION, 'row 3, column 3 "y" is -inf;'),
    "empty": (GOOD_CSV.replace("4", ""), REGRESSION, 'row 3, column 1 "a" is empty;'),
    "text": (GOOD_CSV.replace("7,9", "x,o"), REGRESSION,
             'row 4, column 1 "a" holds "x", row 4, column 2 "b" holds "o"'),
    "many": (GOOD_CSV + "?,?,?\n" * 4, REGRESSION, 'row 6, column 2 "b" holds "?" and 7 more;'),
    "large": (GOOD_CSV.replace("5", "1e39"), REGRESSION, 'row 3, column 2 "b" is 1e+39, beyond float32'),
    "short": (GOOD_CSV + "1,2\n", REGRESSION, "row 5 has 2 cells, but the header in row 1 has 3"),
    "no column": (GOOD_CSV, {**REGRESSION, "outputs": "yy"},
                  'has no column "yy"; did you mean "y"? (columns: a, b, y)'),
    "no input": (GOOD_CSV, {**REGRESSION, "inputs": ["a", "bb"]}, 'has no column "bb"'),
    "two of a name": (GOOD_CSV.replace("b", "y"), REGRESSION, 't.csv: has 2 columns "y"; give each a name of its own'),
    "semicolons": (GOOD_CSV.replace(",", ";"), REGRESSION, "its cells are parted by ';', save it with commas"),
    "nothing": ("", REGRESSION, "is empty; its first row must name the columns"),
    "header": ("a,b,y\n", REGRESSION, "has 0 rows, but at least 2 are needed"),
    "few": (GOOD_CSV, {**REGRESSION, "n": 4}, "has 3 rows, but data.n asks for 4"),
    "quote": (GOOD_CSV + '"1,2,3\n', REGRESSION, "no valid csv (unexpected end of data)"),
    "wide": (GOOD_CSV.replace("b,", "b,c,").replace("\n", ",1\n"), REGRESSION, "but the header in row 1 has 5"),
    "inputs": (GOOD_CSV.replace("b,y", "b,y,c").replace("3\n", "3,1\n").replace("6\n", "6,1\n").replace("9\n", "9,1\n"),
               REGRESSION, "3 columns are inputs"),
    "constant": (GOOD_CSV.replace("4", "1").replace("7", "1"), {**REGRESSION, "standardize": True},
                 'which are 0 where all rows are the same: column 1 "a" is 1; leave it out'),
    "unknown class": (GOOD_CSV.replace("6", "cat"), LABELS,
                      'row 3, column 3 "y" holds "cat"; data.classes has only 3, 6, 9'),
    "no label": (GOOD_CSV.replace("6", ""), LABELS, 'column 3 "y" has no label in row 3'),
    "classes": (GOOD_CSV.replace("6", "3"), {**LABELS, "classes": "sorted"},
                "holds 2 classes (3, 9), but model.widths end with 3"),
}  # fmt: skip


def target(data: dict[str, Any]) -> dict[str, Any]:
    return {"model": {"kind": "mlp", "widths": [2, 3, 3 if "classes" in data else 1]}, "data": data}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the plan says about each file that cannot be used."""
    folder = tmp_path_factory.mktemp("bad")
    targets = {}
    for number, (name, (text, data, _)) in enumerate(BAD_CSV.items()):
        (folder / f"t{number}").mkdir()
        (folder / f"t{number}/t.csv").write_text(text)
        targets[name.replace(" ", "-")] = target({**data, "path": f"t{number}/t.csv"})
    (folder / "latin.csv").write_bytes("a,b,y\n1,2,é\n".encode("latin-1"))
    columns = {"a": [1.0, None, 3.0], "b": [1, 2, 3], "t": ["x", "y", None], "y": [1, 2, 3]}
    pd.DataFrame(columns).to_parquet(folder / "t.parquet")
    (folder / "no.parquet").write_text("PAR1")
    arrays = {"x": np.ones((3, 2)), "short": np.ones(2), "bad": np.array([[1, 2], [3, np.inf], [5, 6]])}
    arrays |= {"objects": np.array([{}, None], object), "complex": np.ones(3) * 1j, "y": np.arange(3.0)}
    np.savez(folder / "t.npz", **arrays, wide=np.ones((3, 4)), gap=[0, np.nan, 1])
    (folder / "no.npz").write_bytes(b"\x80\x04N.")
    for name, change in OTHERS.items():
        targets[name] = target({**REGRESSION, **change[0]})
    # One message names 20 problems.
    names = list(targets)
    said = [refusals(folder, {name: targets[name] for name in part}) for part in (names[:20], names[20:])]
    lines = [line for message in said for line in message.splitlines()[1:]]
    return {name: line for name, line in zip(names, lines, strict=True) if f'"{name}" data.path ' in line}


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "latin": ({"path": "latin.csv"}, "latin.csv: is not UTF-8 text"),
    "null": ({"path": "t.parquet", "inputs": ["a", "b"]}, 't.parquet: row 2, column 1 "a" is empty'),
    "type": ({"path": "t.parquet", "inputs": ["b", "t"]}, 'column 3 "t" holds'),
    "unlabelled": ({"path": "t.parquet", "inputs": ["b", "y"], "outputs": "t", "noise": None, "classes": [*"xyz"]},
                   'column 3 "t" has no label in row 3'),
    "nan-label": ({"path": "t.npz", "outputs": "gap", "noise": None, "classes": "sorted"},
                  'column 1 of "gap" has no label in row 2'),
    "no-parquet": ({"path": "no.parquet"}, "no.parquet: is no parquet file that can be read"),
    "no-array": ({"path": "t.npz", "inputs": "X"}, 't.npz: has no array "X"'),
    "unequal": ({"path": "t.npz", "outputs": "short"}, '"x" has 3 rows, "short" has 2; they must have the same'),
    "inf-npz": ({"path": "t.npz", "inputs": "bad"}, 'row 2, column 2 of "bad" is inf'),
    "objects": ({"path": "t.npz", "inputs": "objects"},
                "t.npz: is no npz of plain arrays (Object arrays cannot be loaded"),
    "complex": ({"path": "t.npz", "outputs": "complex"}, '"complex" has dtype complex128 and shape (3,)'),
    "outputs": ({"path": "t.npz", "outputs": "wide"}, "4 columns are outputs"),
    "pickle": ({"path": "no.npz"}, "no.npz: is no npz of plain arrays"),
}  # fmt: skip


@pytest.mark.parametrize("name", [*BAD_CSV, *OTHERS])
def test_what_a_file_has_that_cannot_be_used_is_told_with_its_place(told: dict[str, str], name: str) -> None:
    assert (BAD_CSV[name][2] if name in BAD_CSV else OTHERS[name][1]) in told[name.replace(" ", "-")]


def test_the_plan_counts_the_rows_and_tells_an_entry_once(tmp_path: Path) -> None:
    """Also where it stands for several targets; `rows` are those of what is taken of the file."""
    (tmp_path / "t.csv").write_text(GOOD_CSV)
    net = {**target(REGRESSION), "train": {"steps": 0}}
    targets = {
        "all": {**net, "grid": {"seed": [0, 1]}},
        "first": {**net, "data": {**REGRESSION, "n": 2}},
        "some": {**net, "rows": [1, 3]},
    }
    assert planned(tmp_path, targets).returncode == 0
    lines = (tmp_path / "plan/targets.jsonl").read_text().splitlines()
    assert [json.loads(line)["n"] for line in lines] == [3, 3, 2, 2]
    beyond = {"all": targets["all"], "beyond": {**net, "rows": [1, 4], "grid": {"seed": [0, 1]}}}
    assert refusals(tmp_path, beyond).strip() == (
        'plan: experiment.yml: targets[1] "beyond" rows: [1, 4] go beyond the 3 rows of the data; '
        "give [start, stop] within them"
    )


def test_the_plan_refuses_what_it_can_see(tmp_path: Path) -> None:
    said = refusals(tmp_path, {
        "suffix": target({**REGRESSION, "path": "t.xlsx"}),
        "both": target({**LABELS, "noise": {"scale": 0.1}}),
        "neither": target({"kind": "file", "path": "t.npz"}),
        "outputs": target({"kind": "file", "path": "t.csv", "noise": {"scale": 0.1}}),
        "twice": target({**REGRESSION, "inputs": ["a", "y"]}),
        "count": target({**REGRESSION, "inputs": ["a", "b", "c"]}),
        "labels": target({**LABELS, "classes": [1, 2]}),
        "mixed": target({**LABELS, "classes": [1, "b", 3]}),
        "linear": {"model": {"kind": "deep_linear", "widths": [2, 3]}, "data": LABELS},
        "truth": {**target(REGRESSION), "at": "truth"},
    })  # fmt: skip
    for name, words in {
        "suffix": 'path "t.xlsx" must end in one of .csv, .parquet, .npz',
        "both": "give either noise: {scale: σ}, for outputs that are numbers, or classes",
        "neither": "give either noise: {scale: σ}",
        "outputs": "data.outputs: missing; give a list of at least 1 item, each text",
        "twice": 'inputs and outputs name "y" twice',
        "count": "data.inputs are 3 columns, but model.widths begin with 2",
        "labels": "data.classes are 2, but model.widths end with 3",
        "mixed": "classes [1, 'b', 3] mix numbers and text",
        "linear": "data with classes need a classifier: use a model of kind mlp",
        "truth": "data from a file have no constructed minimum",
    }.items():
        (line,) = [line for line in said.splitlines() if f'"{name}"' in line]
        assert words in line
    (tmp_path / "large.csv").touch()
    with (tmp_path / "large.csv").open("r+b") as stream:
        stream.truncate(4_000_000_001)
    said = refusals(tmp_path, {
        "absent": target(REGRESSION),
        "above": target({**REGRESSION, "path": "../t.csv"}),
        "large": target({**REGRESSION, "path": "large.csv"}),
    })  # fmt: skip
    assert f'"absent" data.path "t.csv" is no file; give the path of one relative to {tmp_path}' in said
    assert '"above" data.path "../t.csv" must lie in the folder of the experiment file or below' in said
    assert '"large" data.path "large.csv" has 4.0 GB; give a file of at most 4 GB' in said


def test_another_content_is_another_target_and_what_targets_share_is_copied_once(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(GOOD_CSV)
    (tmp_path / "u.csv").write_text(GOOD_CSV.replace("9", "8"))
    asked = {"all": REGRESSION, "two": {**REGRESSION, "n": 2}, "other": {**REGRESSION, "path": "u.csv"}}
    targets = {name: {**target(data), "train": {"steps": 0}} for name, data in asked.items()}
    records = [folder.record for folder in built(tmp_path, targets).values() if not isinstance(folder, str)]
    assert [(record.n, record.likelihood, record.scale) for record in records] == [
        (rows, "gaussian", 0.1) for rows in (3, 2, 3)
    ]
    assert len(list((tmp_path / "plan/files").iterdir())) == 2
    shutil.rmtree(tmp_path / "plan")
    (tmp_path / "t.csv").write_text(GOOD_CSV + "1,1,1\n")
    assert planned(tmp_path, targets).returncode == 0
    after = [json.loads(line)["id"] for line in (tmp_path / "plan/targets.jsonl").read_text().splitlines()]
    assert [new == record.id for new, record in zip(after, records, strict=True)] == [False, False, True]
