"""Reads a small YAML file as plain values, within limits, with every complaint placed by line and column."""

import re
from pathlib import Path
from typing import Any

import yaml

from lambda_hat_cli.errors import UserError

MAX_BYTES = 1_000_000
_MAX_NODES = 100_000
_TAG = "tag:yaml.org,2002:"
_TAGS = {f"{_TAG}{name}" for name in ("map", "seq", "str", "float", "bool", "null", "merge")}


def read_document(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Scalars are read by YAML 1.2's core rules (`1e-3` is a number, `no` is text); a whole number with an exponent, such
    as `2e6`, is an integer.

    Raises:
        UserError: when the file is missing, not a regular file, too large, not UTF-8 text, not valid YAML, repeats a
            key, or holds anything but one mapping with text keys.
    """
    value = parse_yaml(_read_text(path), str(path))
    if value is None:
        raise UserError(f"{path}: is empty; an experiment needs at least `name` and `targets`")
    if not isinstance(value, dict):
        raise UserError(f"{path}: holds {_shape(value)}, not keys with values; begin with a line such as `name: smoke`")
    return value


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML text; `where` begins the error messages.

    Raises:
        UserError: when the text is not valid YAML, repeats a key, has a key that is no text, or grows without measure.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, {})
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UserError(f"{where}: {place}not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise UserError(f"{where}: nested too deeply to be read; an experiment needs about six levels") from None


def _read_text(path: Path) -> str:
    try:
        if path.is_dir():
            raise UserError(f"{path}: is a folder; give an experiment file, such as {path}/smoke.yml")
        if not path.exists():
            raise UserError(f"{path}: no such file; give the path of an experiment file")
        if not path.is_file():
            raise UserError(f"{path}: is not a regular file; give an experiment file")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UserError(f"{path}: is {size / 1e6:.1f} MB; an experiment file has at most {MAX_BYTES / 1e6:.0f} MB")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if b"\x00" in content:
        raise UserError(f"{path}: is a binary file; give an experiment file in YAML text")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path}: line {line}: is not UTF-8 text; save the file as UTF-8") from None


def _shape(value: Any) -> str:
    return "a list" if isinstance(value, list) else f"the single value {value!r:.40}"


def _measure(node: yaml.Node, sizes: dict[int, int]) -> int:
    """How many nodes the document has with its aliases written out.

    Raises:
        yaml.MarkedYAMLError: when an alias contains itself, a tag asks for more than plain values, or there are too
            many nodes.
    """
    known = sizes.get(id(node))
    if known == 0:
        raise yaml.MarkedYAMLError(problem="an alias contains itself", problem_mark=node.start_mark)
    if node.tag not in _TAGS:
        problem = f"the tag {node.tag.replace(_TAG, '!!')} is not used in experiments; leave it out"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    if known is not None:
        return known
    sizes[id(node)] = 0
    children: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        children = node.value
    elif isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
    sizes[id(node)] = 1 + sum(_measure(child, sizes) for child in children)
    if sizes[id(node)] > _MAX_NODES:
        raise yaml.MarkedYAMLError(problem=f"more than {_MAX_NODES} values", problem_mark=node.start_mark)
    return sizes[id(node)]


class _Loader(yaml.SafeLoader):
    """Plain values only; YAML 1.2's core scalars; text keys, each once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == f"{_TAG}merge":
                continue
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != f"{_TAG}str":
                raise yaml.MarkedYAMLError(
                    problem="a key must be text; put it in quotes", problem_mark=key_node.start_mark
                )
            if key_node.value in seen:
                problem = f'the key "{key_node.value}" stands here a second time'
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


def _construct_number(loader: _Loader, node: yaml.ScalarNode) -> int | float:
    text = node.value.replace("+", "")
    lowered = text.lower()
    try:
        if lowered.lstrip("-").startswith(("0x", "0o")):
            return int(lowered, 0)
        if re.fullmatch(r"-?\d+", text):
            return int(text)
        number = float(lowered.replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError as error:
        raise yaml.MarkedYAMLError(problem=f"no number: {error}", problem_mark=node.start_mark) from None
    whole = "." not in text and abs(number) < 2**53 and number == int(number)
    return int(number) if whole else number


_NUMBER = re.compile(
    r"""^(?:[-+]?(?:\.\d+|\d+(?:\.\d*)?)(?:[eE][-+]?\d+)?
    |0o[0-7]+|0x[0-9a-fA-F]+
    |[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$""",
    re.VERBOSE,
)
_BOOLEAN = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver(f"{_TAG}bool", _BOOLEAN, list("tTfF"))
_Loader.add_implicit_resolver(f"{_TAG}null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(f"{_TAG}float", _NUMBER, list("-+0123456789."))
_Loader.add_implicit_resolver(f"{_TAG}merge", re.compile(r"^(?:<<)$"), ["<"])
_Loader.add_constructor(f"{_TAG}float", _construct_number)
