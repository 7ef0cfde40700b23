"""The house rules that no linter knows. A new one is a function here, and a line in `BROKEN`."""

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2] / "src" / "counterfoil"
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
CLOCKS = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time", "time.time_ns"}
EDGES = ("cli/", "http/", "telemetry.py", "application/ids.py")  # ids are made at the edge, once per command
VAGUE = {"common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"}
IMPURE = {"asyncio", "io", "logging", "os", "pathlib", "random", "secrets", "shutil", "socket", "subprocess"}
IMPURE |= {"tempfile", "threading", "time"}
RECORDS = {"msgspec"}  # frozen records made in C, docs/decisions/0012
HANDED_DOWN = {"counterfoil.settings", "counterfoil.telemetry"}
TAKE_SETTINGS = ("cli/", "http/app.py", "settings.py", "telemetry.py")


def short_files(path: str, source: str) -> Iterator[str]:
    """A file fits in one head: split it by noun."""
    lines = source.count("\n")
    if lines > FILE_LINES_MAX:
        yield f"{path}: {lines} lines, at most {FILE_LINES_MAX}"


def short_functions(path: str, source: str) -> Iterator[str]:
    """A function fits on one screen."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"{path}:{node.lineno}: {node.name} has {lines} lines, at most {FUNCTION_LINES_MAX}"


def time_is_an_argument(path: str, source: str) -> Iterator[str]:
    """Only the edge may read the clock: elsewhere take `now` as an argument."""
    if path.startswith(EDGES):
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            call = ".".join(ast.unparse(node).split(".")[-2:])
            if call in CLOCKS:
                yield f"{path}:{node.lineno}: {call}, take `now` as an argument"


def telling_names(path: str, source: str) -> Iterator[str]:
    """A module is named by its noun."""
    for part in Path(path).with_suffix("").parts:
        if VAGUE & set(part.split("_")):
            yield f"{path}: `{part}` says nothing, name it by its noun"


def pure_domain(path: str, source: str) -> Iterator[str]:
    """The domain imports the standard library, what records are made of, and nothing that does IO or has a clock."""
    if not path.startswith("domain/"):
        return
    for line, name in imports(source):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names | RECORDS and not name.startswith("counterfoil.domain"):
            yield f"{path}:{line}: imports {name}, which is not in the standard library"
        if top in IMPURE:
            yield f"{path}:{line}: imports {name}; the edge does that and hands the result in"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.AsyncFunctionDef):
            yield f"{path}:{node.lineno}: {node.name} is async, a rule waits for nothing"


def settings_are_handed_down(path: str, source: str) -> Iterator[str]:
    """Only the command line and the app factory read settings and telemetry."""
    if path.startswith(TAKE_SETTINGS):
        return
    for line, name in imports(source):
        if name in HANDED_DOWN:
            yield f"{path}:{line}: imports {name}, take what you need as an argument"


def imports(source: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if module == "counterfoil":  # `from counterfoil import settings` imports the submodule
                yield from ((node.lineno, f"counterfoil.{name.name}") for name in node.names)
            else:
                yield node.lineno, module


Rule = Callable[[str, str], Iterator[str]]
BROKEN: dict[Rule, tuple[str, str]] = {
    short_files: ("domain/points.py", "x = 1\n" * (FILE_LINES_MAX + 1)),
    short_functions: ("domain/points.py", "def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX),
    time_is_an_argument: (
        "storage/points.py",
        "import datetime\nx = datetime.datetime.now(tz=datetime.UTC)\n",
    ),
    telling_names: ("http/request_utils.py", ""),
    pure_domain: ("domain/points.py", "import aiohttp\n"),
    settings_are_handed_down: ("storage/points.py", "from counterfoil import settings\n"),
}


@pytest.mark.parametrize("rule", BROKEN, ids=lambda rule: rule.__name__)
def test_the_house_keeps(rule: Rule) -> None:
    files = sorted(HOUSE.rglob("*.py"))
    assert files
    problems = [
        problem
        for file in files
        for problem in rule(file.relative_to(HOUSE).as_posix(), file.read_text(encoding="utf-8"))
    ]
    assert not problems, "\n".join([rule.__doc__ or "", *problems])


@pytest.mark.parametrize("rule", BROKEN, ids=lambda rule: rule.__name__)
def test_it_is_possible_to_break(rule: Rule) -> None:
    assert list(rule(*BROKEN[rule]))
