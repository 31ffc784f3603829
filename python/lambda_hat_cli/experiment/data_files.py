"""x and y from a user's file: columns chosen, every cell checked, labels numbered, inputs standardised."""

import csv
import re
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float64, Int32

from lambda_hat_cli.errors import UserError, nearest
from lambda_hat_cli.experiment.schema import FileData

SHOWN = 5
"""How many of a file's faults a message names; the others are counted."""

Label = int | str


@dataclass(frozen=True)
class Chosen:
    """The columns of a table that are taken: positions from 0, inputs and outputs."""

    header: Sequence[str]
    inputs: list[int]
    outputs: list[int]
    labelled: bool

    @property
    def numeric(self) -> list[int]:
        """The columns that must hold numbers."""
        return self.inputs if self.labelled else [*self.inputs, *self.outputs]

    def named(self, column: int) -> str:
        """What messages call a column: its number from 1, and its name."""
        return f'column {column + 1} "{self.header[column]}"'


@dataclass(frozen=True)
class Cells:
    """The chosen cells of a file, and where a person finds them there.

    Attributes:
        values: the inputs, then the outputs where they are numbers; NaN where a cell is no number.
        labels: whole numbers or text, one a row; None where the outputs are numbers.
        inputs, outputs: what messages call the columns.
        rows: the number of each row in the file.
        told: what a cell holds that is no number, by row and column of `values`.
    """

    values: Float64[np.ndarray, "rows columns"]
    labels: list[Label] | None
    inputs: list[str]
    outputs: list[str]
    rows: Sequence[int]
    told: Mapping[tuple[int, int], str]

    @property
    def x(self) -> Float64[np.ndarray, "rows inputs"]:
        """The inputs."""
        return self.values[:, : len(self.inputs)]

    @property
    def y(self) -> Float64[np.ndarray, "rows outputs"]:
        """The outputs that are numbers."""
        return self.values[:, len(self.inputs) :]


def file_data(file: Path, data: FileData, inputs: int, outputs: int) -> dict[str, np.ndarray]:
    """The rows of a file as a network takes them.

    Messages count rows and columns as a person sees them in the file: from 1, in a csv with the header as row 1.

    Args:
        file: the file that `data.path` names.
        data: what to take from it.
        inputs, outputs: of the model.

    Returns:
        x (rows, inputs) float32, and y (rows, outputs) float32 or (rows,) int32 classes.

    Raises:
        UserError: for a file that cannot be read and for everything in it that cannot be used, with row and column.
    """
    cells = READERS[PurePosixPath(data.path).suffix](file, data)
    rows = len(cells.values)
    if rows < (data.n or 2):
        asked = "at least 2 are needed" if data.n is None else f"data.n asks for {data.n}"
        raise UserError(f"{data.path}: has {rows} rows, but {asked}")
    _check_width(data, "inputs", cells.inputs, f"begin with {inputs}", inputs)
    if cells.labels is None:
        _check_width(data, "outputs", cells.outputs, f"end with {outputs}", outputs)
    _check_finite(data, cells)
    x = (standardized(data, cells) if data.standardize else cells.x).astype(np.float32)
    y = cells.y.astype(np.float32) if cells.labels is None else classes_of(data, cells, cells.labels, outputs)
    return {"x": x, "y": y}


def standardized(data: FileData, cells: Cells) -> Float64[np.ndarray, "rows inputs"]:
    """Every input less its mean and over its standard deviation (of the rows taken, divided by their number).

    Raises:
        UserError: when an input is the same in every row.
    """
    constant = np.flatnonzero(np.ptp(cells.x, axis=0) == 0)
    if len(constant):
        told = [f"{cells.inputs[column]} is {cells.x[0, column]:g}" for column in constant]
        raise UserError(
            f"{data.path}: standardize: true divides by standard deviations, which are 0 where all rows are the same: "
            f"{_some(told)}; leave it out of data.inputs, or give standardize: false"
        )
    return (cells.x - cells.x.mean(axis=0)) / cells.x.std(axis=0)


def classes_of(data: FileData, cells: Cells, labels: Sequence[Label], outputs: int) -> Int32[np.ndarray, " rows"]:
    """The position of each row's label among the classes.

    Labels are compared as numbers where all classes are whole numbers (`3.0` is 3), else as text.

    Raises:
        UserError: when a label is missing or of no class, or there are not as many classes as the model has outputs.
    """
    column = cells.outputs[0]
    whole = [_whole(label) for label in labels]
    empty = [f"row {cells.rows[row]}" for row, label in enumerate(labels) if label == ""]
    if empty:
        raise UserError(f"{data.path}: {column} has no label in {_some(empty)}; mend them, or leave these rows out")
    as_numbers = None not in whole if data.classes == "sorted" else isinstance((data.classes or [0])[0], int)
    read: Sequence[Any] = whole if as_numbers else [str(label) for label in labels]
    classes: Sequence[Label] = sorted(set(read)) if data.classes == "sorted" else data.classes or ()
    position = {label: number for number, label in enumerate(classes)}
    unknown = [
        f'row {cells.rows[row]}, {column} holds "{labels[row]}"'
        for row, label in enumerate(read)
        if label not in position
    ]
    if unknown:
        raise UserError(f"{data.path}: {_some(unknown)}; data.classes has only {_some(map(str, classes), 20)}")
    if len(classes) != outputs:
        raise UserError(
            f"{data.path}: {column} holds {len(classes)} classes ({_some(map(str, classes))}), but model.widths end "
            f"with {outputs}; change the widths, or list all classes as data.classes"
        )
    return np.array([position[label] for label in read], np.int32)


def _whole(label: Label) -> int | None:
    """A label as a whole number, where it is one."""
    if isinstance(label, int):
        return label
    # Beyond 2^53 a float would make two labels one.
    if isinstance(label, str) and re.fullmatch(r"\s*[+-]?[0-9]+\s*", label):
        return int(label)
    try:
        number = float(label)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


def _check_width(data: FileData, key: str, columns: list[str], end: str, width: int) -> None:
    if len(columns) != width:
        raise UserError(
            f"{data.path}: {len(columns)} columns are {key} ({_some(columns)}), but model.widths {end}; "
            f"choose them with data.{key}, or change the widths"
        )


def _check_finite(data: FileData, cells: Cells) -> None:
    """Refuse cells that are no number, not finite, or beyond float32, which everything is stored in."""
    columns = [*cells.inputs, *cells.outputs]
    with np.errstate(over="ignore"):
        bad = np.argwhere(~np.isfinite(cells.values.astype(np.float32))).tolist()
    if bad:
        told = [f"row {cells.rows[row]}, {columns[column]} {_fault(cells, row, column)}" for row, column in bad[:SHOWN]]
        more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise UserError(
            f"{data.path}: {', '.join(told)}{more}; every cell must be a finite number: mend the file, or choose other "
            "columns"
        )


def _fault(cells: Cells, row: int, column: int) -> str:
    value, text = cells.values[row, column], cells.told.get((row, column))
    if text is not None:
        return f'holds "{text:.30}"' if text else "is empty"
    return f"is {value:g}, beyond float32" if np.isfinite(value) else f"is {value:g}"


def _some(items: Iterable[str], shown: int = SHOWN) -> str:
    """The first items of a list, and how many more there are."""
    items = list(items)
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return f"{', '.join(items[:shown])}{more}"


# Tables -----------------------------------------------------------------------------------------


def _chosen(header: Sequence[str], data: FileData) -> Chosen:
    """The columns of a table that `data` names.

    Raises:
        UserError: when one is missing, stands twice, or none is left for inputs.
    """
    if not header:
        raise UserError(f"{data.path}: is empty; its first row must name the columns")
    for name in [*data.outputs, *(data.inputs or ())]:
        if name not in header:
            parted = next((mark for mark in ";\t|" if len(header) == 1 and mark in header[0]), None)
            why = f"; its cells are parted by {parted!r}, save it with commas" if parted else nearest(name, header)
            raise UserError(f'{data.path}: has no column "{name}"{why} (columns: {_some(header, 20)})')
        if header.count(name) > 1:
            raise UserError(f'{data.path}: has {header.count(name)} columns "{name}"; give each a name of its own')
    outputs = [header.index(name) for name in data.outputs]
    inputs = (
        [column for column in range(len(header)) if column not in outputs]
        if data.inputs is None
        else [header.index(name) for name in data.inputs]
    )
    return Chosen(header, inputs, outputs, data.classes is not None)


def _cells(
    chosen: Chosen,
    values: Float64[np.ndarray, "rows columns"],
    labels: list[Label],
    rows: Sequence[int],
    told: Mapping[tuple[int, int], str],
) -> Cells:
    """The cells of a table's chosen columns."""
    return Cells(
        values,
        labels if chosen.labelled else None,
        [chosen.named(column) for column in chosen.inputs],
        [chosen.named(column) for column in chosen.outputs],
        rows,
        told,
    )


def _read_csv(file: Path, data: FileData) -> Cells:
    """The chosen columns of a csv in UTF-8 whose first row names them; empty rows are passed over."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            records = csv.reader(stream, strict=True)
            chosen = _chosen([name.strip() for name in next(records, [])], data)
            return _read_records(records, chosen, data)
    except UnicodeDecodeError as error:
        raise UserError(f"{data.path}: is not UTF-8 text ({error.reason}); save it as UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{data.path}: line {records.line_num}: no valid csv ({error})") from None


def _read_records(records: Iterable[list[str]], chosen: Chosen, data: FileData) -> Cells:
    """The chosen cells of what follows the header."""
    numeric = chosen.numeric
    values, rows = array("d"), array("q")
    labels: list[Label] = []
    told: dict[tuple[int, int], str] = {}
    for number, record in enumerate(records, start=2):
        if not record:
            continue
        if len(record) != len(chosen.header):
            raise UserError(
                f"{data.path}: row {number} has {len(record)} cells, but the header in row 1 has {len(chosen.header)}; "
                "mend the row (a cell that holds a comma stands in quotes)"
            )
        try:
            values.extend([float(record[column]) for column in numeric])
        except ValueError:
            for place, column in enumerate(numeric):
                try:
                    values.append(float(record[column]))
                except ValueError:
                    values.append(np.nan)
                    told[len(rows), place] = record[column].strip()
        if chosen.labelled:
            labels.append(record[chosen.outputs[0]].strip())
        rows.append(number)
        if len(rows) == data.n:
            break
    return _cells(chosen, np.frombuffer(values, np.float64).reshape(len(rows), len(numeric)), labels, rows, told)


def _read_parquet(file: Path, data: FileData) -> Cells:
    """The chosen columns of a parquet file."""
    import pyarrow  # other targets need not wait for its import
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as source:
            chosen = _chosen(source.schema_arrow.names, data)
            names = [chosen.header[column] for column in [*chosen.inputs, *chosen.outputs]]
            table = source.read(columns=names, use_threads=False).slice(0, data.n)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{data.path}: is no parquet file that can be read ({error})") from None
    values = np.empty((table.num_rows, len(chosen.numeric)))
    told = {}
    for place, column in enumerate(chosen.numeric):
        cells = table[chosen.header[column]]
        if not (
            pyarrow.types.is_integer(cells.type)
            or pyarrow.types.is_floating(cells.type)
            or pyarrow.types.is_boolean(cells.type)
        ):
            raise UserError(f"{data.path}: {chosen.named(column)} holds {cells.type}, no numbers; choose other columns")
        values[:, place] = cells.cast(pyarrow.float64(), safe=False).to_numpy()
        for row in np.flatnonzero(cells.is_null().to_numpy()) if cells.null_count else ():
            told[int(row), place] = ""
    labels = [_label(label) for label in table[names[-1]].to_pylist()] if chosen.labelled else []
    return _cells(chosen, values, labels, range(1, table.num_rows + 1), told)


def _label(value: Any) -> Label:
    """A label as it stands in a file of typed columns; missing ones, NaN too, are empty text."""
    if value is None or value != value:
        return ""
    return int(value) if isinstance(value, bool) else value if isinstance(value, int | str) else str(value)


# Arrays -----------------------------------------------------------------------------------------


def _read_npz(file: Path, data: FileData) -> Cells:
    """The two arrays of an npz, rows first; further axes of an array are columns in C order."""
    of_x, of_y = *(data.inputs or ("x",)), *data.outputs
    labelled = data.classes is not None
    try:
        with np.load(file, allow_pickle=False) as arrays:
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise UserError(f"{data.path}: holds one array, not an npz of two; write it with numpy.savez")
            x, y = _array(arrays, of_x, data, "fiub"), _array(arrays, of_y, data, "fiubU" if labelled else "fiub")
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise UserError(f"{data.path}: is no npz of plain arrays ({error}); write it with numpy.savez") from None
    if len(x) != len(y):
        raise UserError(f'{data.path}: "{of_x}" has {len(x)} rows, "{of_y}" has {len(y)}; they must have the same')
    x, y = (part.reshape(len(part), -1)[: data.n] for part in (x, y))
    if labelled and y.shape[1] != 1:
        raise UserError(f'{data.path}: "{of_y}" has {y.shape[1]} columns; classes need one label a row')
    return Cells(
        values=np.hstack([x] if labelled else [x, y]).astype(np.float64),
        labels=[_label(label) for label in y[:, 0].tolist()] if labelled else None,
        inputs=[f'column {column + 1} of "{of_x}"' for column in range(x.shape[1])],
        outputs=[f'column {column + 1} of "{of_y}"' for column in range(y.shape[1])],
        rows=range(1, len(x) + 1),
        told={},
    )


def _array(arrays: Mapping[str, np.ndarray], name: str, data: FileData, kinds: str) -> np.ndarray:
    """One array of an npz with at least an axis of rows.

    Raises:
        UserError: when it is missing, a single number, or of a dtype that is none of `kinds`.
    """
    if name not in arrays:
        raise UserError(f'{data.path}: has no array "{name}"{nearest(name, arrays)} (arrays: {_some(arrays, 20)})')
    array = arrays[name]
    if array.dtype.kind not in kinds or array.ndim == 0 or array.size == 0:
        needed = "numbers or text" if "U" in kinds else "numbers"
        raise UserError(f'{data.path}: "{name}" has dtype {array.dtype} and shape {array.shape}; give rows of {needed}')
    return array


READERS = {".csv": _read_csv, ".npz": _read_npz, ".parquet": _read_parquet}
