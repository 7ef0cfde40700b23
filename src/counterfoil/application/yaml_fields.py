"""Reads a YAML document field by field and keeps every problem with the line that it is on.

Scalars are taken as they are written, not as YAML 1.1 would resolve them: 0012 is a text of four digits,
NO is not false, and 12:30:00 is not a number. What cannot be read becomes a problem and a neutral value,
so that reading goes on and one run tells everything.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any, Final, TypeVar

import yaml

from counterfoil.domain.organisation_files import Problem
from counterfoil.domain.payloads import ID_MAX, points_from_wire
from counterfoil.domain.refusals import Refusal

C = TypeVar("C", bound=str)
_TAG = "tag:yaml.org,2002:"
_SCALARS = {f"{_TAG}{name}" for name in ("str", "int", "float", "bool", "null", "timestamp", "value")}
_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?",
    re.ASCII,
)
_PATH_STEP: Final = re.compile(r"([^.\[\]]+)|\[([0-9]+)\]")
# libyaml, where it was compiled in, is many times faster; both read the same language.
_Loader: type[yaml.SafeLoader | yaml.CSafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Document:
    """One parsed file and the problems found in it so far."""

    def __init__(self, text: str) -> None:
        self.problems: list[Problem] = []
        self._root: yaml.Node | None = None
        self._broken_line = 1
        try:
            self._root = yaml.compose(text, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self._broken_line = mark.line + 1 if mark else 1
            told = ", ".join(part for part in (error.context, error.problem) if part)
            self.problems.append(Problem("", f"is not YAML: {told}"))
        except RecursionError:
            self.problems.append(Problem("", "is nested too deeply to be an organisation file"))
        except yaml.reader.ReaderError as error:
            position = error.position if isinstance(error.position, int) else 0
            self._broken_line = text.count("\n", 0, position) + 1
            self.problems.append(Problem("", "has a character that YAML does not allow: escape it"))

    def fields(self, known: Collection[str]) -> Fields:
        """The fields of the document, which is a mapping."""
        if self._root is None and not self.problems:
            self.problems.append(Problem("", "is empty: describe an organisation in it"))
        return Fields(self, self._root, "", known)

    def plain(self) -> Any:
        """The document as mappings, lists and texts: each scalar as it is written, to be read the same again."""
        return _plain(self._root)

    def line(self, path: str) -> int:
        """The line on which a field stands, or the nearest thing around it."""
        node = self._root
        if node is None:
            return self._broken_line
        for name, index in _PATH_STEP.findall(path):
            below = _below(node, name, index)
            if below is None:
                break
            node = below
        return int(node.start_mark.line) + 1


def _plain(node: yaml.Node | None) -> Any:
    if isinstance(node, yaml.MappingNode):
        return {key.value: _plain(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(each) for each in node.value]
    return None if node is None or _is_null(node) else node.value


def _below(node: yaml.Node, name: str, index: str) -> yaml.Node | None:
    if index and isinstance(node, yaml.SequenceNode) and int(index) < len(node.value):
        found: yaml.Node = node.value[int(index)]
        return found
    if name and isinstance(node, yaml.MappingNode):
        # The last one: of a key that is there twice, that is the one that is told about.
        for key, value in reversed(node.value):
            if key.value == name:
                # A block that starts below its key is still found at the key.
                return value if isinstance(value, yaml.ScalarNode) else _moved(value, key)
    return None


def _moved(value: yaml.Node, key: yaml.Node) -> yaml.Node:
    """The value, said to stand where its key does."""
    return type(value)(value.tag, value.value, key.start_mark, value.end_mark)


@dataclass(slots=True, init=False)
class Fields:
    """The fields of one mapping."""

    path: str
    _document: Document
    _nodes: dict[str, yaml.Node]
    _is_readable: bool

    def __init__(self, document: Document, node: yaml.Node | None, path: str, known: Collection[str]) -> None:
        self.path = path
        self._document = document
        self._nodes = {}
        self._is_readable = node is None or isinstance(node, yaml.MappingNode) or _is_null(node)
        if node is None or _is_null(node):
            return
        if not isinstance(node, yaml.MappingNode):
            self.tell("", f"must be a mapping with {', '.join(known)}")
            return
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "?"
            if name not in known:
                close = difflib.get_close_matches(name, known, 1)
                self.tell(name, f"is no field here: use {close[0] if close else 'one of ' + ', '.join(known)}")
            elif name in self._nodes:
                self.tell(name, "is there twice: keep one of them")
            elif not _is_null(value):
                self._nodes[name] = value

    def __contains__(self, name: object) -> bool:
        return name in self._nodes

    def where(self, name: str) -> str:
        """The dotted path of a field."""
        return f"{self.path}.{name}" if self.path and name else self.path or name

    def tell(self, name: str, message: str) -> None:
        """Keep a problem with a field of this mapping."""
        self._document.problems.append(Problem(self.where(name), message))

    def _scalar(self, name: str, *, required: bool) -> str | None:
        node = self._nodes.get(name)
        if node is None:
            if required and self._is_readable:
                self.tell(name, "is missing: add it")
            return None
        if not isinstance(node, yaml.ScalarNode) or node.tag not in _SCALARS:
            self.tell(name, "must be a single value")
            return None
        text: str = node.value
        return text

    def text(self, name: str, *, required: bool = True, maximum: int = 200) -> str:
        """A text that is not blank, without surrounding blanks; "" where there is none."""
        text = (self._scalar(name, required=required) or "").strip()
        if name in self._nodes and not text and isinstance(self._nodes[name], yaml.ScalarNode):
            self.tell(name, "must not be empty")
        if len(text) > maximum:
            self.tell(name, f"must be at most {maximum} characters long")
        if not text.isprintable() and any(unicodedata.category(each) in ("Cc", "Cs") for each in text):
            self.tell(name, "must not have control characters in it")
            return ""
        return text

    def secret(self, name: str) -> str:
        """A text exactly as it is written; never shown again."""
        return self._scalar(name, required=False) or ""

    def number(self, name: str, *, default: int | None = None, low: int = 1, high: int = ID_MAX) -> int:
        """A whole number in plain digits; 0 where there is none. Without a default it is required."""
        text = self._scalar(name, required=default is None)
        if text is None:
            return default or 0
        if not _NUMBER.fullmatch(text) or not low <= int(text) <= high:
            self.tell(name, f"must be a whole number from {low} to {high}, in plain digits")
            return 0
        return int(text)

    def reference(self, name: str, *, required: bool = False) -> int | None:
        """The id of something else; None where there is none."""
        return self.number(name) if required or name in self._nodes else None

    def points(self, name: str, *, required: bool = True, may_be_0: bool = False) -> int | None:
        """Points above 0 (or 0, where that may be) as thousandths."""
        text = self._scalar(name, required=required)
        if text is None:
            return None
        if may_be_0 and text == "0":
            return 0
        try:
            return points_from_wire(text, name)
        except Refusal as refusal:
            self.tell(name, refusal.message.removeprefix(name).strip())
            return None

    def flag(self, name: str, *, default: bool) -> bool:
        """Return true or false."""
        text = self._scalar(name, required=False)
        if text is None:
            return default
        if text not in ("true", "false"):
            self.tell(name, "must be true or false")
            return default
        return text == "true"

    def choice(self, name: str, options: Sequence[C], default: C | None = None) -> C | None:
        """One of a few words; None where it is none of them. Without a default it is required."""
        text = self._scalar(name, required=default is None)
        if text is None:
            return default
        for option in options:
            if text == option:
                return option
        self.tell(name, f"must be one of {', '.join(options)}")
        return None

    def moment(self, name: str, zone: tzinfo, *, required: bool = False) -> datetime | None:
        """A day or a time, in `zone` unless it says otherwise; a day is its first moment."""
        text = self._scalar(name, required=required)
        if text is None:
            return None
        try:
            if _MOMENT.fullmatch(text):
                moment = datetime.fromisoformat(text)
                return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
        self.tell(name, "must be a day or a time such as 2030-12-31, 2030-12-31T18:00 or 2030-12-31T18:00+05:30")
        return None

    def words(self, name: str, is_known: Callable[[str], bool], why_not: Callable[[str], str]) -> tuple[str, ...]:
        """A list of known words, sorted; `why_not` says what to do about another one."""
        found: set[str] = set()
        for index, node in enumerate(self._list(name)):
            word = node.value if isinstance(node, yaml.ScalarNode) else "?"
            if not is_known(word):
                self.tell(f"{name}[{index}]", why_not(word))
            elif word in found:
                self.tell(f"{name}[{index}]", f"{word} is there twice: keep one of them")
            else:
                found.add(word)
        return tuple(sorted(found))

    def plain(self, name: str, *, values_max: int = 1000) -> object:
        """A nested value as mappings, lists and texts; None where there is none or too much of it."""
        node = self._nodes.get(name)
        budget = iter(range(values_max))  # an anchor may stand for itself, or for very much

        def unfold(each: yaml.Node) -> object:
            next(budget)
            if isinstance(each, yaml.MappingNode):
                return {key.value: unfold(value) for key, value in each.value}
            return [unfold(value) for value in each.value] if isinstance(each, yaml.SequenceNode) else each.value

        try:
            return None if node is None else unfold(node)
        except (StopIteration, RecursionError, TypeError):
            self.tell(name, f"has over {values_max} values in it, or a key that is no text")
            return None

    def one_or_many(self, name: str, *, or_none: bool = False) -> Iterator[tuple[str, str]]:
        """The texts of a list, or the one that stands in its place; each with the name of its field."""
        node = self._nodes.get(name)
        if isinstance(node, yaml.SequenceNode):
            if not node.value and not or_none:
                self.tell(name, "must not be empty: leave it out")
            for index, each in enumerate(node.value):
                if isinstance(each, yaml.ScalarNode) and each.value.strip():
                    yield f"{name}[{index}]", each.value.strip()
                else:
                    self.tell(f"{name}[{index}]", "must be a single value")
        elif node is not None:
            text = self.text(name)
            if text:
                yield name, text

    def section(self, name: str, known: Collection[str]) -> Fields:
        """The fields of a mapping inside this one."""
        return Fields(self._document, self._nodes.get(name), self.where(name), known)

    def entries(self, name: str, known: Collection[str]) -> Iterator[Fields]:
        """The mappings of a list."""
        where = self.where(name)
        for index, node in enumerate(self._list(name)):
            yield Fields(self._document, node, f"{where}[{index}]", known)

    def _list(self, name: str) -> list[yaml.Node]:
        node = self._nodes.get(name)
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            self.tell(name, "must be a list: start each entry with a dash")
            return []
        nodes: list[yaml.Node] = node.value
        return nodes


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == f"{_TAG}null"
