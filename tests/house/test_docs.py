"""The documentation tells the truth: what it names exists, and what exists is in it.

`docs/states.md` is generated: run this file to write it anew.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from cyclopts import App
from prometheus_client import CollectorRegistry

from counterfoil import telemetry
from counterfoil.application import caller_sections, host_entries, organisation_files, policy_files
from counterfoil.application.operations import Waiting
from counterfoil.cli import demo
from counterfoil.cli.main import app
from counterfoil.domain import execution_answers
from counterfoil.domain.access import UnitKind
from counterfoil.domain.intouch_answers import ITEM_MESSAGES
from counterfoil.domain.refusals import Refusal
from counterfoil.domain.requests import FINAL, TRANSITIONS, WIRE_STATE, State
from counterfoil.http import described, described_calls, health, openapi, problems, wire
from counterfoil.http.app import ENDPOINTS
from counterfoil.settings import Settings, WrongSetting, load_settings

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
SOURCE: Final = ROOT / "src" / "counterfoil"
PAGES: Final = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
BASH: Final = shutil.which("bash") or "bash"
CODE: Final = re.compile(r"`([^`\n]+)`")
PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def rows_of(text: str) -> list[list[str]]:
    """The rows of all tables, without their heads."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in row] for row in rows]
    return [row for row in cells if not set("".join(row)) <= set("-: ")]


def section(text: str, head: str) -> str:
    """What stands below a heading, up to the next one of its level."""
    found = re.search(rf"^{re.escape(head)}.*\n((?:(?!## ).*\n?)*)", text, re.MULTILINE)
    assert found, head
    return found[1]


# Links, files and names.


def slug(heading: str) -> str:
    """The anchor that a forge makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def broken_links(page: Path, text: str) -> Iterator[str]:
    """Relative links to a file or heading that is not there."""
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        heads = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE) if target.is_file() else []
        if not target.exists() or (anchor and anchor not in map(slug, heads)):
            yield link


@cache
def functions_of(file: str) -> frozenset[str]:
    path = ROOT / "tests" / file
    if not path.is_file():
        return frozenset()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def missing_tests(text: str) -> Iterator[str]:
    """Tests that are named, `folder/file.py::function` or after that `::function`, and do not exist."""
    for line in text.splitlines():
        file = ""
        for span in CODE.findall(line):
            if found := re.fullmatch(r"((?:\w+/)?test_\w+\.py)?::(\w+)", span):
                file = found[1] or file
                if found[2] not in functions_of(file):
                    yield f"{file}::{found[2]}"
            elif "::" in span or re.search(r"\btest_\w+", span):
                yield span


def missing_files(text: str) -> Iterator[str]:
    """Files of the program that are named by room and do not exist."""
    for name in re.findall(r"`((?:domain|application|storage|http|cli|targets)/\w+\.(?:py|sql))`", text):
        if not (SOURCE / name).exists():
            yield name


def missing_variables(text: str) -> Iterator[str]:
    known = {each.metadata["variable"] for each in fields(Settings)}
    known |= set(re.findall(r"\bCOUNTERFOIL_\w+", text_of("Makefile")))
    yield from set(re.findall(r"\b(?:COUNTERFOIL|PROMETHEUS)_[A-Z_]+|\b[A-Z]+_URL\b", text)) - known


def missing_targets(text: str) -> Iterator[str]:
    known = set(re.findall(r"^([a-z0-9-]+):", text_of("Makefile"), re.MULTILINE))
    yield from set(re.findall(r"(?:^ *|`|\| )make ([a-z][a-z0-9-]*)", text, re.MULTILINE)) - known


def what_nobody_needs(text: str) -> Iterator[str]:
    """Paths of one machine, and hosts of package registries."""
    here = re.escape(str(ROOT))
    yield from re.findall(rf"(?:{here}|/home/|/Users/|/tmp/|/root/)\S*|\S*(?:pypi\.|pythonhosted\.)\S*", text)


@PAGE
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = [missing_tests, missing_files, missing_variables, missing_targets, what_nobody_needs]
    assert [*broken_links(page, text), *(each for check in found for each in check(text))] == []


def test_it_is_possible_to_name_what_is_not_there() -> None:
    """Each of the checks above fails when it should."""
    assert [*broken_links(ROOT / "README.md", "[a](docs/none.md) [b](README.md#none) [c](#none)")]
    assert [*missing_tests("`house/test_docs.py::slug` and `::test_none`")] == ["house/test_docs.py::test_none"]
    assert [*missing_tests("`http/test_none.py::test_a`, `tests/http/test_edge.py`")][1:] == ["tests/http/test_edge.py"]
    assert [*missing_files("`storage/none.py`")] == ["storage/none.py"]
    assert [*missing_variables("COUNTERFOIL_NONE")] == ["COUNTERFOIL_NONE"]
    assert [*missing_targets("    make none")] == ["none"]
    assert [*what_nobody_needs(f"cd {ROOT} && pip install --index-url https://pypi.example/simple")]


def test_decisions_are_numbered_and_listed() -> None:
    listed = re.findall(r"^- \[(\d{4}) ([^]]+)\]\((\S+)\)$", text_of("docs/decisions/README.md"), re.MULTILINE)
    files = sorted((DOCS / "decisions").glob("0*.md"))
    assert [name for _, _, name in listed] == [file.name for file in files]
    for expected, ((number, title, _), file) in enumerate(zip(listed, files, strict=True), start=1):
        assert int(number) == expected
        assert file.read_text(encoding="utf-8").startswith(f"# {number} {title}\n")


# Settings, commands, errors, states, fields, routes, metrics: complete, and nothing that is not there.


def test_settings() -> None:
    rows = {row[0]: row[1:] for row in rows_of(text_of("docs/settings.md"))[1:]}
    assert list(rows) == [f"`{each.metadata['variable']}`" for each in fields(Settings)]
    for each in fields(Settings):
        variable = each.metadata["variable"]
        default, allowed, meaning = rows[f"`{variable}`"]
        assert meaning.startswith(each.metadata["doc"])
        if each.default is not MISSING:
            assert default == ("none" if each.default in (None, ()) else str(each.default)), variable
        if limits := re.fullmatch(r"(\d+) to (\d+)", allowed):
            low, high = int(limits[1]), int(limits[2])
            for value in (low, high):
                load_settings({variable: str(value)})
            for value in (low - 1, high + 1):
                with pytest.raises(WrongSetting):
                    load_settings({variable: str(value)})


def commands(under: App, name: str) -> Iterator[tuple[str, App]]:
    below = [each for each in under if not each.startswith("-")]
    for each in below:
        yield from commands(under[each], f"{name} {each}")
    if not below:
        yield name, under


def test_commands() -> None:
    page = text_of("docs/cli.md")
    known = dict(commands(app, "counterfoil"))
    heads = re.findall(r"^## `([a-z ]+)", page, re.MULTILINE)
    assert sorted(each.strip() for each in heads) == sorted(known)
    for name, command in known.items():
        options = {argument.names[0] for argument in command.assemble_argument_collection()}
        assert set(re.findall(r"--[a-z][a-z-]*", section(page, f"## `{name}"))) == options, name


def refusals(under: type[Refusal] = Refusal) -> Iterator[type[Refusal]]:
    for each in under.__subclasses__():
        yield each
        yield from refusals(each)


def test_errors() -> None:
    page = text_of("docs/errors.md")
    ours = {(str(each.code), str(problems.status_of(each))) for each in refusals()}
    head, items = page.split("Codes from 2901 on", 1)
    assert sorted((row[0], row[1]) for row in rows_of(head)[1:]) == sorted(ours)
    assert f"| {problems.ACCESS_DENIED_CODE} | 403 |" in items
    messages = {row[0]: row[2] for row in rows_of(section(page, "## Item codes"))[1:]}
    assert messages == {str(code): message for code, message in ITEM_MESSAGES.items()}
    others = {row[0]: row[2] for row in rows_of(section(page, "## Other types on the built-in ledger"))[1:]}
    assert others == {str(code): message for code, message in execution_answers.MESSAGES.items()}


def states_page() -> str:
    """`docs/states.md`, made from the table of transitions."""
    lines = [
        "# States",
        "",
        "Made from `TRANSITIONS` in `domain/requests.py`: do not edit. The contract shows fewer states than there are;",
        "the wire state moves only from `AdminTask` to `approved`, `failed` or `rejected`, and then never again.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        "    [*] --> pending",
    ]
    for state, following in TRANSITIONS.items():
        lines += [f"    {state} --> {after}" for after in State if after in following]
    lines += [f"    {state} --> [*]" for state in State if state in FINAL]
    lines += ["```", "", "| State | On the wire | Final | Means |", "|---|---|---|---|"]
    for state in State:
        final = "yes" if state in FINAL else ""
        lines.append(f"| `{state}` | `{WIRE_STATE[state]}` | {final} | {MEANING[state]} |")
    lines += [
        "",
        "On the built-in ledger a request goes from `pending` straight to `succeeded` or `failed`, in the transaction",
        "of the last approval. On an external host it goes through `approved`, and `unknown` while an answer is looked",
        "up. A request that a checker sent back is `rejected`, with the mark `sentBack` in our own API. What is",
        "over by time is shown as `expired` from that moment on, also before the sweep has stored it.",
        "",
    ]
    return "\n".join(lines)


MEANING: Final[Mapping[State, str]] = {
    State.PENDING: "waits for a checker, or for another one; points are set aside where there are enough",
    State.APPROVED: "decided; the call to an external host is to be made or in flight",
    State.UNKNOWN: "the external host's answer was lost; it is being looked up",
    State.SUCCEEDED: "approved and executed",
    State.FAILED: "approved, but the points API refused; nothing was spent",
    State.REJECTED: "a checker said no, or sent it back for another try; the points went back",
    State.WITHDRAWN: "the maker took it back",
    State.EXPIRED: "nobody decided in time",
}


def test_states_are_current() -> None:
    command = f"{Path(sys.executable).name} {Path(__file__).relative_to(ROOT)}"
    assert text_of("docs/states.md") == states_page(), f"write it anew: {command}"


def test_every_field_of_an_organisation_file() -> None:
    page = text_of("docs/organisation-file.md")
    known = {
        "organisation": {*organisation_files.ORGANISATION},
        "units": {name for kind in UnitKind for name in organisation_files.UNITS[kind]},
        "people": {*organisation_files.PERSON, *organisation_files.USER},
        "groups": {*organisation_files.GROUP},
        "credentials": {*organisation_files.CREDENTIAL},
        "oauthClients": {*caller_sections.OAUTH_CLIENT},
        "accessGroups": {*caller_sections.ACCESS_GROUP},
        "uiTokenIssuers": {*caller_sections.ISSUER},
        "grants": {*organisation_files.GRANT},
        "hosts": {*host_entries.HOST},
        "policy": {*policy_files.fields_of_the_section()},
        "programme": {*organisation_files.PROGRAMME},
        "reasonCodes": {*organisation_files.REASON_CODE},
        "members": {*organisation_files.MEMBER, *organisation_files.LOT},
    }
    passwords = {organisation_files.MD5, *organisation_files.PASSWORDS}
    assert sorted(known) == sorted(organisation_files.SECTIONS)
    assert {name for row in rows_of(section(page, "## Passwords"))[1:] for name in CODE.findall(row[0])} == passwords
    for name, expected in known.items():
        rows = rows_of(section(page, f"## `{name}`"))[1:]
        cells = [" ".join(row) if name == "policy" else row[0] for row in rows]  # fields of fields stand beside them
        assert {each for cell in cells for each in CODE.findall(cell)} == expected - passwords, name


def test_the_example_of_an_organisation_file_can_be_read() -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", text_of("docs/organisation-file.md"), re.DOTALL)
    assert organisation_files.read(example.encode()).problems == []


def test_every_route() -> None:
    rows = rows_of(section(text_of("docs/contract.md"), "## What is served"))
    listed = [span for row in rows for span in CODE.findall(row[0]) if re.match("[A-Z]+ /", span)]
    assert sorted(listed) == sorted(each.label for each in (*ENDPOINTS, *openapi.endpoints(ENDPOINTS)))


def test_every_field_of_the_contract() -> None:
    """Each field and parameter that the description of the API has is in the page, and each flag."""
    spans = " ".join(CODE.findall(text_of("docs/contract.md")))
    bodies = (
        described.EntityInfo, described.CreatePayload, described_calls.Customer, described_calls.Redeem,
        described_calls.GoodwillBody, described_calls.Trigger, described_calls.EarnBadgeBody,
        described_calls.IssueBadgeBody, described_calls.StatusQuery, described_calls.StatusBody,
        described_calls.RetroBody, *described_calls.CALLS, described.Decision, described.DecideBody,
        described.DecidePayload, wire.RequestData, wire.Details, wire.AdminTaskPayload,
    )  # fmt: skip
    names = {name for body in bodies for name in body.__struct_encode_fields__}
    names |= {each.name for each in (*described.LIST_FILTERS, described.IDEMPOTENCY_KEY, described.IF_MATCH)}
    for file in ("submissions.py", "ledger_executions.py"):
        names |= {*re.findall(r'yield "(\w+)"', (SOURCE / "domain" / file).read_text(encoding="utf-8"))}
    assert {"unfunded", "not_served"} <= names
    assert sorted(name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", spans)) == []


def test_every_metric() -> None:
    registry = CollectorRegistry()
    telemetry.Telemetry(registry)
    ours = {each.name + "_total" * (each.type == "counter") for each in registry.collect()}
    ours |= {*re.findall(r"^# TYPE (\w+)", telemetry.render_metrics(CollectorRegistry(), {}).decode(), re.MULTILINE)}
    ours |= {*re.findall(r"^# TYPE (\w+)", health.outside_metrics(Waiting({}, None), 0).decode(), re.MULTILINE)}
    rows = rows_of(section(text_of("docs/operations.md"), "## Watching"))
    assert {name for row in rows for name in CODE.findall(row[0]) if name.startswith("counterfoil_")} == ours


def test_what_the_database_guards_is_in_the_schema() -> None:
    schema = "".join(path.read_text(encoding="utf-8") for path in sorted((SOURCE / "storage/migrations").glob("*.sql")))
    page = text_of("docs/guarantees.md")
    named = [
        span
        for part in re.findall(r"\*\*Database:\*\*(.*?)(?=\n- |\n\n|\Z)", page, re.DOTALL)
        for span in CODE.findall(part)
        if "_" in span and " " not in span
    ]
    assert len(named) > 10
    assert [name for name in named if not re.search(rf"\b{name}\b", schema)] == []


# The README: its request is the contract's, and its commands run as they stand there.


def commands_to_copy() -> list[str]:
    return re.findall(r"<!-- run -->\n```bash\n(.*?)```", text_of("README.md"), re.DOTALL)


def test_the_request_of_the_readme_is_the_contracts() -> None:
    bodies = [json.loads(re.sub(r"'\"\$.*?\"'", "…", each)) for block in commands_to_copy()
              for each in re.findall(r"-d '(\{\n.*?\n\})'", block, re.DOTALL)]  # fmt: skip
    wanted: dict[str, Any] = demo.contract_request()
    item = wanted["payload"]["IntouchAPITask-Payload"]["body"]["root"]["redeem"]
    item["external_reference_number"] = "ACR-…"
    assert [json.dumps(each) for each in bodies] == [json.dumps(wanted), json.dumps(demo._decision("…"))]  # noqa: SLF001 - the very body that the demo sends


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="the README's commands are for curl")
def test_the_commands_of_the_readme(data_dir: Path, tmp_path: Path) -> None:
    program = [sys.executable, "-m", "counterfoil"]
    kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "COUNTERFOIL_KEYS_FILE")}
    environment = kept | {"COUNTERFOIL_DATA_DIR": str(data_dir), "COUNTERFOIL_PORT": "0", "COUNTERFOIL_WORKERS": "2"}
    example = str(ROOT / "examples" / "demo-organisation.yaml")
    subprocess.run([*program, "org", "apply", example], env=environment, check=True, capture_output=True)
    with subprocess.Popen(
        [*program, "serve"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            assert server.stdout is not None
            served = re.search(r"http://127\.0\.0\.1:\d+", server.stdout.readline())
            assert served
            script = "\n".join(commands_to_copy()).replace("http://127.0.0.1:8640", served[0])
            ran = subprocess.run(
                [BASH, "-euo", "pipefail", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
            )
        finally:
            server.send_signal(signal.SIGTERM)
    assert ran.returncode == 0, ran.stderr
    for expected in (
        '"state":"AdminTask"',
        '"state":"approved"',
        '"code":800',
        '"totalElements":1',
        '"mainPoints":399.5',
    ):
        assert expected in ran.stdout
    assert '"kind":"succeeded"' in ran.stdout


if __name__ == "__main__":
    (DOCS / "states.md").write_text(states_page(), encoding="utf-8")
