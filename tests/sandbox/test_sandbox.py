"""The sandbox: the contract's answers, every fault, and effects that can be counted."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml

from counterfoil.cli.sandbox import sandbox as command
from counterfoil.cli.supervisor import CannotServe
from counterfoil.domain.attempts import REPEATS, Failure, OutboundCall, Reply, Verdict, judge
from counterfoil.domain.look_ups import Absent, Found, NoVerdict
from counterfoil.domain.organisations import Host
from counterfoil.sandbox.endpoints import ENDPOINTS
from counterfoil.sandbox.faults import NONE, Fault, Scenario, UnknownFault, parse_faults, read_scenario
from counterfoil.sandbox.ledger import Ledger
from counterfoil.sandbox.server import Sandbox
from counterfoil.targets.intouch import Session, look_up, open_session, send

ENTRY = Host("sandbox", "http", "127.0.0.1", 80, "external", plain_http=True, private=True)
SAMPLE = Path(__file__).parents[1] / "contract" / "samples" / "points-redeem" / "response.json"
BADGE = {"triggeredBy": {"ownerType": "Goodwill_Module", "referenceId": "123"}, "badgeMetaId": "658c50761c4c"}
STATUS = (
    "/v2/customers/lookup/status?source=INSTORE&accountId=&use_async=false&identifierName=mobile&identifierValue=91"
)
# Method, path, body and reference of each type, as the contract's samples have them.
TYPES: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "POINTS-REDEMPTION": ("POST", "/v1.1/points/redeem?skip_validation=true&format=json", {}, "ACR-1"),
    "GOODWILL-POINTS": ("POST", "/internal/goodwill/", {
        "referenceId": "ref_id_1299314173", "reason": "reason", "baseType": "POINTS", "programId": 2739,
        "awardingTillId": 50682616, "earningEntityType": "CUSTOMER", "earningEntityId": 382332518, "points": 20,
        "source": "API"}, "ref_id_1299314173"),
    "EARN-BADGE": ("POST", "/api_gateway/v1/badges/customer/earn",
                   {**BADGE, "customerId": 382477526, "requestId": "0f932928"}, "0f932928"),
    "ISSUE-BADGE": ("POST", "/api_gateway/v1/badges/badgeMeta/customer/issueBulk",
                    {**BADGE, "customers": [113460811], "requestId": "e7request"}, "e7request"),
    "CUSTOMER-STATUS-CHANGE": ("PUT", STATUS, {"reason": "testing", "label": "Suspended"}, ""),
    "RETRO-TRANSACTION": ("PUT", "/v2/transactions/retro", {
        "oldType": "NOT_INTERESTED", "newType": "REGULAR", "transactionId": 7648261, "customerId": 382553857,
        "extendedFields": {}, "customFields": {}, "notes": "Test Transaction"}, "7648261"),
}  # fmt: skip


@asynccontextmanager
async def running(journal: Path | None = None, points: int = 1000) -> AsyncIterator[Sandbox]:
    ledger = Ledger(points * 1000, journal)
    ledger.open()
    sandbox = Sandbox(ledger, lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    await sandbox.open(0)
    try:
        yield sandbox
    finally:
        await sandbox.close()
        ledger.close()


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with running() as served:
        yield served


@pytest.fixture
async def session() -> AsyncIterator[Session]:
    async with open_session() as opened:
        yield opened


def make_call(
    port: int, kind: str = "POINTS-REDEMPTION", fault: str = "", read_fault: str = "", *, deadline: float = 20.0,
    reference: str = "ACR-1", mobile: str = "919887766554", points: object = "100", login: str = "aW5kLjE6eA==",
) -> OutboundCall:  # fmt: skip
    method, path, body, _ = TYPES[kind]
    if kind == "POINTS-REDEMPTION":
        item = {"points_redeemed": points, "customer": {"mobile": mobile}, "external_reference_number": reference}
        body = {"root": {"redeem": item}}
    headers = {"Authorization": f"Basic {login}", "X-Sandbox-Fault": fault, "X-Sandbox-Read-Fault": read_fault}
    return OutboundCall(
        UUID(int=1), kind, method, f"http://127.0.0.1:{port}{path}",
        tuple((name, value) for name, value in headers.items() if value), json.dumps(body).encode(), ENTRY, deadline,
    )  # fmt: skip


def verdict(kind: str, answered: Reply | Failure, *, repeated: bool = False) -> tuple[Verdict, int | None]:
    judged = judge(kind, answered, repeated=repeated)
    return judged.verdict, judged.code


# ---------------------------------------------------------------- the contract


@pytest.mark.parametrize("kind", TYPES)
async def test_every_type_takes_effect_once(sandbox: Sandbox, session: Session, kind: str) -> None:
    first = await send(session, make_call(sandbox.port, kind))
    assert verdict(kind, first)[0] is Verdict.SUCCEEDED
    assert isinstance(first, Reply)
    assert first.header("X-CAP-REQUEST-ID")
    again = await send(session, make_call(sandbox.port, kind))
    done = REPEATS[kind].done_code
    if done is not None:
        assert verdict(kind, again) == (Verdict.FAILED, done)
        assert verdict(kind, again, repeated=True) == (Verdict.ALREADY_DONE, done)
    effects = sandbox.ledger.effects
    assert [(each.kind, each.reference) for each in effects] == [(kind, TYPES[kind][3])] * len(effects)
    assert len(effects) == (2 if kind == "GOODWILL-POINTS" else 1)  # its reference holds nothing back: as the original


async def test_a_redemption_is_answered_as_the_contract_says(sandbox: Sandbox, session: Session) -> None:
    answered = await send(session, make_call(sandbox.port, points=12.5))
    assert isinstance(answered, Reply)
    shown = answered.shown()
    points = shown["body"]["response"]["responses"]["points"]
    sample = json.loads(SAMPLE.read_text(encoding="utf-8"))
    assert list(points) == list(sample["response"]["responses"]["points"])
    assert points["points_redeemed"] == "12.5"
    assert float(points["balance"]) == 987.5
    assert shown["headers"]["till"] == ["ind.1"]
    assert shown["headers"]["status_code"] == ["200"]
    assert shown["headers"]["X-Frame-Options"] == ["SAMEORIGIN", "SAMEORIGIN"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"points": "1000.001"}, 818),
        ({"points": "1000"}, 800),
        ({"points": "-1"}, 801),
        ({"mobile": "unknown-1"}, 816),
        ({"login": "ZGVuaWVkLjE6eA=="}, 401),
        ({"login": "?"}, 401),
    ],
)
async def test_what_a_redemption_comes_to(
    sandbox: Sandbox, session: Session, change: dict[str, Any], code: int
) -> None:
    answered = await send(session, make_call(sandbox.port, **change))
    wanted = Verdict.SUCCEEDED if code == 800 else Verdict.FAILED
    assert verdict("POINTS-REDEMPTION", answered) == (wanted, code)
    assert len(sandbox.ledger.effects) == (code == 800)


async def test_redemptions_and_labels_are_read(sandbox: Sandbox, session: Session) -> None:
    redemption, status = make_call(sandbox.port), make_call(sandbox.port, "CUSTOMER-STATUS-CHANGE")
    assert isinstance(await look_up(session, redemption), Absent)
    assert isinstance(await look_up(session, status), Absent)
    for call in (redemption, status):
        await send(session, call)
    found = await look_up(session, redemption)
    assert isinstance(found, Found)
    assert found.evidence["redemption_id"] == sandbox.ledger.effects[0].redemption_id
    assert isinstance(await look_up(session, status), Found)
    assert isinstance(await look_up(session, make_call(sandbox.port, read_fault="500-before-effect*9")), NoVerdict)


def test_redemption_ids_are_six_characters_and_differ() -> None:
    ledger = Ledger(1)
    ids = {ledger.add("POINTS-REDEMPTION", "", "m").redemption_id for _ in range(200)}
    assert len(ids) == 200
    assert all(len(each) == 6 and each.isalnum() for each in ids)


# ---------------------------------------------------------------- faults

FAULTS: list[tuple[str, Verdict, int | None, int]] = [
    ("none", Verdict.SUCCEEDED, 800, 1),
    ("delay=0.05", Verdict.SUCCEEDED, 800, 1),
    ("delay-after-effect=0.05", Verdict.SUCCEEDED, 800, 1),
    ("cut-before-effect", Verdict.UNKNOWN, None, 0),
    ("cut-after-effect", Verdict.UNKNOWN, None, 1),
    ("delay=0.05;cut-after-effect", Verdict.UNKNOWN, None, 1),
    ("500-before-effect", Verdict.UNKNOWN, 500, 0),
    ("502-after-effect", Verdict.UNKNOWN, 502, 1),
    ("503-after-effect", Verdict.RETRY, 503, 1),
    ("503", Verdict.RETRY, 503, 0),
    ("429", Verdict.RETRY, 429, 0),
    ("521", Verdict.RETRY, 521, 0),
    ("889", Verdict.RETRY, 889, 0),
    ("garbage", Verdict.UNKNOWN, None, 1),
    ("garbage-before-effect", Verdict.UNKNOWN, None, 0),
    ("huge", Verdict.UNKNOWN, None, 1),
    ("drip", Verdict.UNKNOWN, None, 1),
    ("delay-after-effect=9", Verdict.UNKNOWN, None, 1),
    ("duplicate", Verdict.FAILED, 744, 0),
    ("refuse=0.2", Verdict.UNKNOWN, None, 0),
]


@pytest.mark.parametrize(("fault", "told", "code", "effects"), FAULTS, ids=[row[0] for row in FAULTS])
async def test_a_fault_is_what_was_ordered(
    sandbox: Sandbox, session: Session, fault: str, told: Verdict, code: int | None, effects: int
) -> None:
    call = make_call(sandbox.port, fault=fault, deadline=2.0 if fault in ("drip", "delay-after-effect=9") else 20.0)
    assert verdict("POINTS-REDEMPTION", await send(session, call)) == (told, code)
    assert len(sandbox.ledger.effects) == effects
    assert sandbox.calls[-1]["effects"] == effects


async def test_faults_count_the_attempts_of_a_call(sandbox: Sandbox, session: Session) -> None:
    call = make_call(sandbox.port, fault="521*2, cut-after-effect")
    told = [verdict("POINTS-REDEMPTION", await send(session, call), repeated=bool(number)) for number in range(4)]
    assert told == [
        (Verdict.RETRY, 521), (Verdict.RETRY, 521), (Verdict.UNKNOWN, None), (Verdict.ALREADY_DONE, 744),
    ]  # fmt: skip
    other = make_call(sandbox.port, fault="521*2", reference="ACR-other")
    assert verdict("POINTS-REDEMPTION", await send(session, other)) == (Verdict.RETRY, 521)
    assert [each["attempt"] for each in sandbox.calls] == [1, 2, 3, 4, 1]


async def test_while_it_refuses_no_connection_is_made(sandbox: Sandbox, session: Session) -> None:
    await send(session, make_call(sandbox.port, fault="refuse=3"))
    answered = await send(session, make_call(sandbox.port))
    assert isinstance(answered, Failure)
    assert (answered.sent, answered.kind) == (False, "connect")
    for _ in range(100):
        if verdict("POINTS-REDEMPTION", await send(session, make_call(sandbox.port)))[0] is Verdict.SUCCEEDED:
            break
        await asyncio.sleep(0.1)
    assert len(sandbox.ledger.effects) == 1


async def test_it_comes_back_though_its_port_was_taken_meanwhile(sandbox: Sandbox, session: Session) -> None:
    sandbox.refuse(0)
    with socket.create_server(("127.0.0.1", sandbox.port)):
        await asyncio.sleep(0.05)
    for _ in range(100):
        if sandbox.listening is None:
            await asyncio.sleep(0.05)
    assert verdict("POINTS-REDEMPTION", await send(session, make_call(sandbox.port)))[0] is Verdict.SUCCEEDED


async def test_an_effect_comes_even_if_nobody_waits_for_it(sandbox: Sandbox, session: Session) -> None:
    """The worst of all: absent when it is looked up, there a moment later."""
    call = make_call(sandbox.port, fault="delay=5", deadline=2.0)
    assert verdict("POINTS-REDEMPTION", await send(session, call))[0] is Verdict.UNKNOWN
    assert isinstance(await look_up(session, call), Absent)
    for _ in range(100):
        if isinstance(await look_up(session, call), Found):
            return
        await asyncio.sleep(0.1)
    pytest.fail("the effect never came")


async def test_a_fault_that_is_not_known_is_told(sandbox: Sandbox, session: Session) -> None:
    answered = await send(session, make_call(sandbox.port, fault="explode"))
    assert isinstance(answered, Reply)
    assert answered.status == 400
    assert b"explode" in answered.body
    assert sandbox.ledger.effects == []


@pytest.mark.parametrize(
    "text", ["cut", "500", "delay", "delay=x", "refuse=-1", "600-before-effect", "521x3", "521*2000", "none*", "a,b"]
)
def test_other_words_are_no_fault(text: str) -> None:
    with pytest.raises(UnknownFault):
        parse_faults(text)


def test_words_are_read_in_turn() -> None:
    assert parse_faults("NONE , 521 * 2,delay=1.5;cut-after-effect") == (
        NONE, *[Fault("code", has_effect=False, number=521)] * 2, Fault("cut", delay_seconds=1.5),
    )  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [None, [], {}, {"rules": {}}, {"rules": [{}]}, {"rules": [{"faults": "cut"}]}, {"rules": [], "seed": "x"},
     {"rules": [{"faults": "521", "chance": 2}]}, {"rules": [{"faults": "521", "paht": "x"}]}],
)  # fmt: skip
def test_a_scenario_that_cannot_be_read_is_refused(content: object) -> None:
    with pytest.raises(UnknownFault):
        read_scenario(content)


def test_a_scenario_is_the_same_for_the_same_seed() -> None:
    def strikes(seed: int) -> list[str]:
        scenario = read_scenario({"seed": seed, "rules": [{"chance": 0.3, "faults": "521, cut-after-effect"}]})
        return [scenario.fault("POST", "/x", f"r{number}", 1).kind for number in range(500)]

    scenario = read_scenario({"rules": [{"chance": 0.5, "faults": "521"}]})
    without_reference = {scenario.fault("GET", "/x", "", 1, f"content {number}").kind for number in range(50)}
    assert without_reference == {"none", "code"}
    assert strikes(1) == strikes(1) != strikes(2)
    assert 100 < sum(kind != "none" for kind in strikes(1)) < 200
    assert set(strikes(1)) == {"none", "code", "cut"}


def test_the_first_rule_that_fits_decides() -> None:
    scenario = read_scenario({"rules": [
        {"method": "GET", "faults": "500-before-effect"},
        {"reference": "ACR-*", "path": "*/redeem", "faults": "521*2"},
        {"faults": "garbage"},
    ]})  # fmt: skip
    assert scenario.fault("GET", "/v1.1/points/redeem", "ACR-1", 1).number == 500
    assert scenario.fault("POST", "/v1.1/points/redeem", "ACR-1", 2).number == 521
    assert scenario.fault("POST", "/v1.1/points/redeem", "ACR-1", 3) == NONE
    assert scenario.fault("POST", "/internal/goodwill/", "ACR-1", 1).kind == "garbage"
    assert Scenario().fault("POST", "/x", "", 1) == NONE


# ---------------------------------------------------------------- exactly once, with the judgements alone

STORM = {
    "rules": [
        {"method": "GET", "chance": 0.3, "faults": "cut-before-effect, 500-before-effect, garbage, 503"},
        {"chance": 0.6, "faults": "cut-before-effect, cut-after-effect, 500-before-effect, 502-after-effect, "
         "503-after-effect, 521, 429, garbage, garbage-before-effect, delay=0.01;cut-after-effect, duplicate"},
    ]
}  # fmt: skip


async def execute(session: Session, call: OutboundCall) -> str:
    """The shortest executor there can be: what the table says, at once."""
    sent = False
    for _ in range(60):
        answered = await send(session, call)
        judged = judge(call.request_type, answered, repeated=sent)
        sent |= not isinstance(answered, Failure) or answered.sent
        match judged.verdict:
            case Verdict.SUCCEEDED | Verdict.FAILED:
                return judged.verdict.value
            case Verdict.UNKNOWN | Verdict.ALREADY_DONE:
                found: object = None
                while not isinstance(found, Found | Absent):
                    found = await look_up(session, call)
                if isinstance(found, Found):
                    return "succeeded"
            case Verdict.RETRY:
                pass
    return "incident"


@pytest.mark.parametrize("seed", range(3))
async def test_a_storm_of_faults_makes_no_effect_twice(sandbox: Sandbox, session: Session, seed: int) -> None:
    sandbox.scenario = read_scenario({**STORM, "seed": seed})
    calls = {f"ACR-{number}": make_call(sandbox.port, reference=f"ACR-{number}", mobile=f"9198{number:08}")
             for number in range(60)}  # fmt: skip
    ended = dict(zip(calls, await asyncio.gather(*(execute(session, call) for call in calls.values())), strict=True))
    effects = Counter(each.reference for each in sandbox.ledger.effects)
    assert max(effects.values()) == 1
    for reference, state in ended.items():
        # A first answer of 744 is a lie here: the fault orders it. It fails, as it would there.
        assert state == ("succeeded" if effects[reference] else "failed"), (seed, reference)
    assert len(sandbox.calls) > len(calls) * 1.5


# ---------------------------------------------------------------- control, and as a program


def read(port: int, path: str, method: str = "GET", body: str | None = None) -> Any:
    with closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


async def test_a_journal_is_taken_up_again(session: Session, tmp_path: Path) -> None:
    journal = tmp_path / "effects.jsonl"
    async with running(journal) as sandbox:
        for kind in TYPES:
            await send(session, make_call(sandbox.port, kind))
        before = sandbox.ledger.told({})
    with journal.open("a", encoding="utf-8") as torn:
        torn.write('{"number": 7, "ki')  # as a kill leaves it
    for time in (1, 2):
        async with running(journal) as sandbox:
            assert sandbox.ledger.told({})[:6] == before
            again = await send(session, make_call(sandbox.port))
            assert verdict("POINTS-REDEMPTION", again) == (Verdict.FAILED, 744)
            await send(session, make_call(sandbox.port, reference=f"ACR-again-{time}"))
    assert [each["number"] for each in sandbox.ledger.told({})] == list(range(1, 9))


async def test_the_scenario_can_be_changed_while_it_serves(sandbox: Sandbox) -> None:
    async def asked(*arguments: str) -> Any:
        return await asyncio.to_thread(read, sandbox.port, *arguments)

    body = json.dumps({"root": {"redeem": {"points_redeemed": 1, "customer": {"mobile": "1"}}}})
    assert await asked("/sandbox/scenario", "PUT", '{"rules":[{"faults":"521"}]}') == (200, {"data": {"rules": 1}})
    assert (await asked("/sandbox/scenario", "PUT", '{"rules":[{"faults":"x"}]}'))[0] == 400
    assert (await asked("/sandbox/effects?x=1"))[0] == 400
    assert (await asked("/sandbox/other"))[0] == 404
    assert (await asked("/v1.1/points/redeem"))[0] == 404
    assert (await asked("/v1.1/points/redeem", "POST", body))[0] == 401
    assert (await asked("/v1.1/points/redeem", "POST", "{"))[0] == 400
    assert [each["fault"] for each in (await asked("/sandbox/calls"))[1]["data"]] == ["code"]


@pytest.mark.parametrize("content", ["rules: [{faults: explode}]", "a: [", "3", "\x00"])
def test_a_scenario_file_that_cannot_be_read_is_said_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        command(port=0, scenario=path)
    assert str(ended.value).startswith(f"counterfoil: {path}: ")
    assert "\n" not in str(ended.value)


async def test_a_port_in_use_is_said_in_one_line(sandbox: Sandbox) -> None:
    with pytest.raises(CannotServe, match=f"port {sandbox.port} cannot be used"):
        await asyncio.to_thread(command, port=sandbox.port)


@pytest.mark.slow
def test_the_command_keeps_effects_over_a_kill_if_told_to(tmp_path: Path) -> None:
    def started(*arguments: str) -> tuple[subprocess.Popen[str], int]:
        program = subprocess.Popen(
            [sys.executable, "-m", "counterfoil", "sandbox", "--port", "0", *arguments],
            env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert program.stdout is not None
        return program, int(program.stdout.readline().split(";")[0].rpartition(":")[2])

    journal = tmp_path / "effects.jsonl"
    body = json.dumps({"transactionId": 1, "customerId": 2})
    for times, number in enumerate((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)):
        program, port = started("--journal", str(journal))
        with closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            connection.request("PUT", "/v2/transactions/retro", body, {"Authorization": "Basic aW5kLjE6eA=="})
            assert connection.getresponse().status == (400 if times else 201)
        assert len(read(port, "/sandbox/effects?kind=RETRO-TRANSACTION")[1]["data"]) == 1
        program.send_signal(number)
        program.communicate(timeout=10)
        assert program.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 0)


PAGE = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text(encoding="utf-8")


def test_the_page_tells_every_fault_and_call() -> None:
    table = PAGE.partition("## Faults")[2].partition("A look-up carries")[0]
    rows = [re.findall(r"`([^`]+)`", line) for line in table.splitlines() if line.startswith("| `")]
    told = {fault for row in rows for fault in [row[0], *(each for each in row if each.endswith("-before-effect"))]}
    for fault in told:
        parse_faults(fault)
    assert told >= {row[0].replace("502", "500").replace("0.05", "2") for row in FAULTS if ";" not in row[0]} - {
        "889", "503-after-effect", "delay-after-effect=9", "refuse=0.2",
    }  # fmt: skip
    calls = {tuple(each.split(" ", 1)) for each in re.findall(r"`((?:GET|POST|PUT) /[^`]+)`", PAGE)}
    assert {each for each in calls if not each[1].startswith("/sandbox/")} == {
        each for each in ENDPOINTS if each not in (("POST", "/internal/goodwill"), ("POST", STATUS.partition("?")[0]))
    }
    [scenario] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert len(read_scenario(yaml.safe_load(scenario)).rules) == 3


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page's commands are for curl")
async def test_the_commands_of_the_page(sandbox: Sandbox) -> None:
    script = "\n".join(re.findall(r"<!-- run -->\n```bash\n(.*?)```", PAGE, re.DOTALL))
    ran = await asyncio.create_subprocess_exec(
        shutil.which("bash") or "bash", "-euc", script.replace("8641", str(sandbox.port)),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    told = (await ran.communicate())[0].decode()
    assert ran.returncode == 0
    for expected in ('"code":800', '"reference":"ACR-1"', '"code":521'):
        assert expected in told
