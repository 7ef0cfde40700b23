"""No route and no command lets one person alone move points or rights of an organisation under dual control.

Every route and every command stands in one of the two tables, or the first test fails: say what kind of door it is,
and for a route that is sent something, what a person who wants more than their right would send.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from counterfoil.cli.main import app
from counterfoil.http.app import ENDPOINTS
from counterfoil.http.routing import Endpoint
from tests.administration.test_command_line import Run, run, write  # noqa: F401 - run is a fixture
from tests.administration.town import ADA, CAL, GUARDED, MIA, PEOPLE, TILL, Town, error_of, grant
from tests.contract.shop import HOST, decision
from tests.house.test_docs import commands

READ: Final = "changes nothing"
REQUEST: Final = "makes a request, which waits for another person"
DECIDE: Final = "decides what another person has requested"
DIRECT: Final = "needs CanMovePointsDirectly, which has caps"
SIGN_IN: Final = "makes a token for who knows the password or the secret"
STOP: Final = "stops something, takes back what the person has made or has a say in, or says something; moves nothing"

ROUTES: Final = {
    "POST /api_gateway/v2/request-workflow/{request_type}": REQUEST,
    "PUT /api_gateway/v2/request-workflow/{request_type}": DECIDE,
    "GET /api_gateway/v2/request-workflow/requests/{request_id}": READ,
    "GET /api_gateway/v2/request-workflow/requests": READ,
    "POST /v1.1/points/redeem": DIRECT,
    "GET /v2/customers/lookup/points/balance": READ,
    "GET /v2/customers/{customer_id}/points/balance": READ,
    "POST /v3/oauth/token/generate": SIGN_IN,
    "GET /.well-known/jwks.json": READ,
    "POST /counterfoil/v1/ui-token": SIGN_IN,
    "GET /counterfoil/v1/requests/{request_id}/events": READ,
    "GET /counterfoil/v1/inbox": READ,
    "GET /counterfoil/v1/requests": READ,
    "GET /counterfoil/v1/requests/{request_id}": READ,
    "GET /counterfoil/v1/requests/{request_id}/timeline": READ,
    "GET /counterfoil/v1/requests/{request_id}/attempts": READ,
    "GET /counterfoil/v1/members/{member_id}/status": READ,
    "GET /counterfoil/v1/access": READ,
    "GET /counterfoil/v1/access/report": READ,
    "POST /counterfoil/v1/requests/{request_id}/decisions": DECIDE,
    "POST /counterfoil/v1/requests/{request_id}/send-back": DECIDE,
    "POST /counterfoil/v1/requests/{request_id}/resubmit": REQUEST,
    "GET /counterfoil/v1/requests/{request_id}/differences": READ,
    "POST /counterfoil/v1/requests/{request_id}/comments": STOP,
    "GET /counterfoil/v1/requests/{request_id}/comments": READ,
    "POST /counterfoil/v1/delegations": STOP,
    "POST /counterfoil/v1/delegations/{delegation_id}/end": STOP,
    "GET /counterfoil/v1/delegations": READ,
    "POST /counterfoil/v1/freezes": STOP,
    "POST /counterfoil/v1/freezes/{freeze_id}/lift": STOP,
    "GET /counterfoil/v1/freezes": READ,
    "GET /counterfoil/v1/incidents": READ,
    "GET /counterfoil/v1/incidents/{incident_id}": READ,
    "POST /counterfoil/v1/incidents/{incident_id}/settle": DECIDE,
    "POST /counterfoil/v1/requests/{request_id}/withdraw": STOP,
    "POST /counterfoil/v1/admin-changes": REQUEST,
    "GET /counterfoil/v1/admin-changes": READ,
    "GET /counterfoil/v1/admin-changes/{change_id}": READ,
    "POST /counterfoil/v1/admin-changes/{change_id}/decisions": DECIDE,
    "GET /healthz": READ,
    "GET /readyz": READ,
    "GET /metrics": READ,
}

PERSON: Final = "acts for a person over HTTP, with that person's token"
OPERATOR: Final = "the operator's: touches no organisation"
READS: Final = "the operator's: reads, and may leave a line in the audit trail that it was done"
SEALS: Final = "the operator's, audited: changes what stored values are encrypted with, and not the values"
HALT: Final = "the operator's, audited: stops an organisation or what is in it; people of it let it go on"
SINGLE: Final = "the operator's, audited: only while control is single; a proposal for who is signed in"
APART: Final = "works on a database made for it"

COMMANDS: Final = {
    "counterfoil serve": OPERATOR,
    "counterfoil migrate": OPERATOR,
    "counterfoil keys create": OPERATOR,
    "counterfoil keys rotate": OPERATOR,
    "counterfoil keys reseal": SEALS,
    "counterfoil execute": OPERATOR,
    "counterfoil resume": OPERATOR,
    "counterfoil reconcile": READS,
    "counterfoil policy test": READS,
    "counterfoil policy prove": READS,
    "counterfoil access explain": READS,
    "counterfoil access report": READS,
    "counterfoil freeze place": HALT,
    "counterfoil freeze lift": PERSON,
    "counterfoil freeze list": PERSON,
    "counterfoil incident list": PERSON,
    "counterfoil incident show": PERSON,
    "counterfoil incident settle": PERSON,
    "counterfoil sandbox": APART,
    "counterfoil org apply": SINGLE,
    "counterfoil login": PERSON,
    "counterfoil logout": PERSON,
    "counterfoil admin list": PERSON,
    "counterfoil admin show": PERSON,
    "counterfoil admin approve": PERSON,
    "counterfoil admin reject": PERSON,
    "counterfoil demo": APART,
}
# Where the code of a command that acts for a person is, by its first word.
MODULES: Final = {
    "login": ["login", "remote"],
    "logout": ["login", "remote"],
    "admin": ["admin", "remote"],
    "incident": ["incident", "remote"],
    "freeze": ["remote"],  # beside it stands what an operator may stop
}

NOTHING: Final = "00000000-0000-7000-8000-000000000000"
GUESS: Final = "a secret that only its owner knows of"
REDEEM: Final = {"root": {"redeem": {"points_redeemed": "10", "customer": {"mobile": "9000000001"}}}}


def greedy(town: Town) -> dict[str, Any]:
    """All that somebody could want at once."""
    return town.with_grants(*(grant(each, "CanMakeRequest", type="POINTS-REDEMPTION") for each in PEOPLE)) | {
        "policy": {"approvals": 1},
        "programme": {"id": 1, "name": "Mine", "currencyPerPoint": "2"},
        "oauthClients": [
            {
                "key": f"mine.{town.org_id}",
                "id": 700,
                "person": ADA,
                "secret": GUESS,
                "rights": ["CanMovePointsDirectly"],
                "directCapPerCall": 5,
                "directCapPerDay": 5,
            }
        ],
        "accessGroups": [{"name": "mine", "resources": ["own"]}],
        "uiTokenIssuers": [
            {"issuer": "mine", "algorithm": "HS256", "secret": GUESS, "userIdClaim": "id", "organisationClaim": "org"}
        ],
        "members": [{"id": 1, "lots": [{"reference": "mine", "points": 5, "awardedAt": "2024-01-01"}]}],
    }


def create_body(town: Town) -> dict[str, Any]:
    task = {"hostname": HOST, "path": "/v1.1/points/redeem", "method": "POST", "body": REDEEM,
            "headers": {"Authorization": town.headers(None)["Authorization"]}}  # fmt: skip
    return {"entityInfo": {"tillId": str(TILL)}, "payload": {"IntouchAPITask-Payload": task}}


Sent = Iterable[tuple[str, Any]]

WHAT_TO_SEND: Final[Mapping[str, Callable[[Town, list[str]], Sent]]] = {
    "POST /api_gateway/v2/request-workflow/{request_type}": lambda town, _: (
        (kind, create_body(town)) for kind in ("POINTS-REDEMPTION", "ADMIN-CHANGE")
    ),
    "PUT /api_gateway/v2/request-workflow/{request_type}": lambda _, made: (
        (kind, decision(each)) for kind in ("POINTS-REDEMPTION", "ADMIN-CHANGE") for each in made
    ),
    "POST /v1.1/points/redeem": lambda *_: [("", REDEEM)],
    "POST /v3/oauth/token/generate": lambda town, _: [("", {"key": f"mine.{town.org_id}", "secret": GUESS})],
    "POST /counterfoil/v1/ui-token": lambda town, _: [
        ("", {"orgId": town.org_id, "userName": f"{ADA}@example.com", "password": "a guess"})
    ],
    "POST /counterfoil/v1/admin-changes": lambda town, _: [
        ("", {"file": town.part(policy={"approvals": 2})}),
        ("", {"file": greedy(town)}),
    ],
    "POST /counterfoil/v1/admin-changes/{change_id}/decisions": lambda _, made: to_each(
        made, {"verdict": "approved", "message": "mine"}
    ),
    "POST /counterfoil/v1/requests/{request_id}/decisions": lambda _, made: to_each(
        made, {"verdict": "approve", "comment": "mine"}
    ),
    "POST /counterfoil/v1/requests/{request_id}/send-back": lambda _, made: to_each(made, {"comment": "mine"}),
    "POST /counterfoil/v1/requests/{request_id}/resubmit": lambda town, made: to_each(made, create_body(town)),
    "POST /counterfoil/v1/requests/{request_id}/comments": lambda _, made: to_each(made, {"message": "mine"}),
    "POST /counterfoil/v1/requests/{request_id}/withdraw": lambda _, made: to_each(made[:1], {}),
    "POST /counterfoil/v1/incidents/{incident_id}/settle": lambda _, made: to_each(
        [*made, NOTHING], {"settledAs": "executed", "reason": "mine", "evidence": "mine"}
    ),
    "POST /counterfoil/v1/delegations": lambda *_: (
        ("", {"delegate": each, "until": f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%dT%H:%M:%SZ}"})
        for each in PEOPLE
    ),
    "POST /counterfoil/v1/delegations/{delegation_id}/end": lambda _, made: to_each([*made, NOTHING], {}),
    "POST /counterfoil/v1/freezes": lambda *_: [("", {"scope": "organisation", "reason": "mine"})],
    "POST /counterfoil/v1/freezes/{freeze_id}/lift": lambda _, made: to_each([*made, NOTHING], {}),
}


def to_each(values: Iterable[str], body: Any) -> Sent:
    return ((each, body) for each in values)


def what_to_send(town: Town, label: str, made: list[str]) -> Sent:
    """The values of the path's parameter and the bodies that one person tries; `made` are that person's requests."""
    if label.startswith("GET "):
        return to_each([*made, "1"], None)
    return WHAT_TO_SEND[label](town, made)


def test_every_door_is_known() -> None:
    assert sorted(ROUTES) == sorted(each.label for each in ENDPOINTS)
    assert sorted(COMMANDS) == sorted(name for name, _ in commands(app, "counterfoil"))


def call(town: Town, endpoint: Endpoint, value: str, body: Any, by: str | None) -> httpx.Response:
    path = endpoint.path
    if "{" in path:
        path = path[: path.index("{")] + value + path[path.index("}") + 1 :]
    content = None if body is None else json.dumps(body).encode()
    headers = town.headers(by) | ({} if body is None else {"Content-Type": "application/json"})
    return town.http.request(endpoint.method, path, content=content, headers=headers)


def id_of(answer: httpx.Response) -> str | None:
    """The id of a request that the call made."""
    data = answer.json().get("data") if answer.status_code == 200 and answer.text.startswith("{") else None
    return (data.get("requestId") or data.get("id")) if isinstance(data, dict) else None


def owned(town: Town) -> dict[str, Any]:
    """Rights and points; to set points aside for a request moves none of them."""
    by_hold = ("member", "lot", "journal", "posting")
    found: dict[str, Any] = {table: rows for table, rows in town.guarded().items() if table not in by_hold}
    for name, sql in {
        # To lend a right for some days and to stop something make another version, and move nothing.
        "organisation": "SELECT to_jsonb(t) - 'version' FROM organisation t WHERE org_id = $1",
        "points": "SELECT member_id, available + held AS points FROM member WHERE org_id = $1 ORDER BY 1",
        "lots": "SELECT lot_id, points, remaining FROM lot WHERE org_id = $1 ORDER BY 1",
        "journals": "SELECT count(*) FROM journal WHERE org_id = $1 AND kind NOT IN ('place', 'release')",
    }.items():
        found[name] = [tuple(row) for row in town.rows(sql)]
    return found


def test_nobody_alone_moves_points_or_rights(make_town: Callable[..., Town]) -> None:
    """A person of each kind, and the till alone, knock at every door with all that the doors before gave them."""
    town = make_town()
    town.change(town.with_grants(grant(CAL, "CanMakeRequest"), grant(ADA, "CanMakeRequest")))
    before = owned(town)
    assert {*GUARDED} - {"member", "lot", "journal", "posting"} <= before.keys()
    for by in (ADA, CAL, MIA, None):
        made: list[str] = []
        for _ in range(2):  # the second time with what the first has made
            for endpoint in ENDPOINTS:
                for value, body in list(what_to_send(town, endpoint.label, made)):
                    answer = call(town, endpoint, value, body, by)
                    assert answer.status_code != 500, answer.text
                    if ROUTES[endpoint.label] in (DECIDE, DIRECT, SIGN_IN):
                        assert answer.status_code != 200, (by, endpoint.label, answer.text)
                    if ROUTES[endpoint.label] == REQUEST and (request_id := id_of(answer)):
                        made.append(request_id)
        assert bool(made) == (by is not None)
        assert owned(town) == before, by


def test_what_only_reads_writes_nothing(town: Town) -> None:
    made = [town.request(), town.proposed(town.part(policy={"approvals": 2}))["id"]]
    everything = [*GUARDED, "request", "decision", "hold", "hold_lot", "event", "outbox", "idempotency_key", "attempt"]

    def rows() -> list[Any]:
        each = (f"SELECT '{table}', t::text FROM {table} t WHERE org_id = $1" for table in everything)  # noqa: S608
        return [tuple(row) for row in town.rows(" UNION ALL ".join(each) + " ORDER BY 1, 2")]

    before = rows()
    for endpoint in ENDPOINTS:
        if ROUTES[endpoint.label] == READ:
            assert endpoint.method == "GET"
            for value, body in what_to_send(town, endpoint.label, made):
                call(town, endpoint, value, body, ADA)
    assert rows() == before


def test_the_token_of_a_person_opens_no_more_than_their_doors(town: Town) -> None:
    """What a decision door opens for, it opens for another person only."""
    request_id = town.request()
    change_id = town.proposed(greedy(town), ADA)["id"]
    error_of(town.decide(change_id, by=ADA), 403, 2001)
    error_of(town.check(request_id, by=MIA), 403, 2001)
    assert town.check(request_id, by=CAL).status_code == 200


def test_commands_for_a_person_never_open_the_database() -> None:
    source = Path(__file__).parents[2] / "src" / "counterfoil" / "cli"
    for name, kind in COMMANDS.items():
        if kind != PERSON:
            continue
        for module in MODULES[name.split()[1]]:
            tree = ast.parse((source / f"{module}.py").read_text(encoding="utf-8"))
            imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
            imported |= {each.name for node in ast.walk(tree) if isinstance(node, ast.Import) for each in node.names}
            assert not [each for each in imported if "storage" in each or "administration" in each], (name, imported)


def test_the_operators_commands_change_no_organisation(
    town: Town,
    run: Run,  # noqa: F811 - the fixture
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", str(town.serve.database_url))
    monkeypatch.setenv("COUNTERFOIL_KEYS_FILE", str(tmp_path / "keys.json"))
    before = town.guarded()
    file = write(tmp_path / "greedy.yaml", greedy(town))
    # The service itself has run all the time.
    arguments: dict[str, tuple[str, ...]] = {
        "counterfoil migrate": (),
        "counterfoil keys create": (),
        "counterfoil keys rotate": ("--after-minutes", "0"),
        "counterfoil keys reseal": (),
        "counterfoil resume": ("--after-restore",),
        "counterfoil reconcile": ("crm", "--org", str(town.org_id), "--from", "2024-01-01", "--to", "2024-01-02"),
        "counterfoil policy test": (file,),
        "counterfoil policy prove": (file,),
        "counterfoil access explain": (ADA, "--unit", str(TILL), "--type", "POINTS-REDEMPTION"),
        "counterfoil access report": (),
        "counterfoil freeze place": ("organisation", "--reason", "seen", "--as-operator", str(town.org_id)),
        "counterfoil org apply": (file,),
    }
    known = (OPERATOR, READS, SEALS, HALT, SINGLE)
    lasting = {"counterfoil serve", "counterfoil execute"}
    assert {*arguments} | lasting == {name for name, kind in COMMANDS.items() if kind in known}
    for name, more in arguments.items():
        code, out, err = run(*name.split()[1:], *more)
        if COMMANDS[name] not in (READS, SEALS):  # nor can this keys file open what others have sealed
            assert (code == 0) == (COMMANDS[name] != SINGLE), (name, out, err)
        after = town.guarded()
        if COMMANDS[name] == HALT:  # every process takes up what stops it with the organisation's next version
            before["organisation"] = after["organisation"]
        assert after == before, name


def test_an_operator_who_applies_a_file_is_on_record(make_town: Callable[..., Town]) -> None:
    town = make_town()
    found = town.rows(
        "SELECT convert_from(personal, 'UTF8') AS who FROM event WHERE org_id = $1 AND kind = 'organisation_applied'"
    )
    assert [who["operator"] for each in found if "operator" in (who := json.loads(each["who"]))] == ["test"]
