"""Every (right, unit relation, type, state, own or other) cell, expected from the table in docs/access.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import httpx
import pytest

from tests.contract import calls
from tests.contract.shop import CONCEPT, OTHER_ZONE, STORE, TILL, WORKFLOW, ZONE, Member, Shop
from tests.contract.test_inbox import ids
from tests.contract.test_life import post

T = TypeVar("T")
Cell: TypeAlias = tuple[str, str, str]  # request type, state, whose
Found: TypeAlias = tuple[str, Cell, str]  # verb, cell, answer
DOCS = Path(__file__).parents[2] / "docs" / "access.md"
SIBLING = TILL + 1
RIGHTS = {
    "make": ["CanMakeRequest"], "check": ["CanCheckRequest"], "both": ["CanMakeRequest", "CanCheckRequest"],
    "freeze": ["CanFreeze"],
}  # fmt: skip
PLACES = {
    "till": TILL, "store": STORE, "zone": ZONE, "concept": CONCEPT, "organisation": None, "sibling": SIBLING,
    "elsewhere": OTHER_ZONE,
}  # fmt: skip
# Each is "this" type to its own requests and the "other" one to the requests of the other.
KINDS = ("POINTS-REDEMPTION", "GOODWILL-POINTS")
STATES = ("pending", "voted", "succeeded", "failed", "rejected")
STATES_OF = {KINDS[0]: STATES, KINDS[1]: STATES[:3]}
SCOPES = ("organisation", "units")
# A verb that comes is a line here, and its rows in the table.
VERBS = ("submit", "decide", "send-back", "withdraw", "comment", "freeze", "inbox", "get", "list")
COLUMNS = ("Verb", "Scope", "Right", "Where", "Type", "State", "Whose", "Answer")


@dataclass(frozen=True)
class Persona:
    """Somebody with one kind of grant: for the requests of one type, or for all."""

    number: int
    right: str
    where: str
    kind: str

    def column(self, kind: str) -> str:
        return "all" if self.kind == "all" else "this" if self.kind == kind else "other"

    @property
    def staff_id(self) -> str:
        return f"M-{self.number:03}"

    @property
    def user_name(self) -> str:
        return f"{self.staff_id.lower()}@tipent.com"


PERSONAS = [
    Persona(number, *each)
    for number, each in enumerate([("none", "till", "all"), *product(RIGHTS, PLACES, ("all", *KINDS))], start=1)
]
OWNER = Persona(900, "both", "organisation", "all")
CHECKERS = (Persona(901, "check", "organisation", "all"), Persona(902, "check", "organisation", "all"))


def table() -> list[dict[str, str]]:
    lines = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    head, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert tuple(head) == COLUMNS
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


def expected(rows: Sequence[dict[str, str]], **cell: str) -> tuple[int, str]:
    """The number and the answer of the first row that fits."""
    for number, row in enumerate(rows):
        if all(row[name] == "*" or value in row[name].split(", ") for name, value in cell.items()):
            return number, row["Answer"]
    raise AssertionError(f"no row of docs/access.md fits {cell}")


def at_once(work: Callable[[Persona], T]) -> list[T]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(work, PERSONAS))


def grants_of(persona: Persona) -> Iterator[dict[str, Any]]:
    for right in RIGHTS.get(persona.right, ()):
        kind = None if persona.kind == "all" else persona.kind
        grant = {"person": persona.staff_id, "right": right, "unit": PLACES[persona.where], "type": kind}
        yield {name: value for name, value in grant.items() if value is not None}


class World:
    """The requests of every cell. They are made while everybody may do everything; then each gets their own grant."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        everybody = [*PERSONAS, OWNER, *CHECKERS]
        shop.content["units"]["tills"].append({"id": SIBLING, "name": "Sibling", "code": "s.till", "store": STORE})
        users = {
            each.staff_id: {
                "id": 9000 + each.number,
                "userName": each.user_name,
                "password": f"{shop.password}-{each.user_name}",
            }
            for each in everybody
        }
        shop.content["people"] = [{"staffId": each, "name": each, "users": [user]} for each, user in users.items()]
        shop.content["grants"] = [
            {"person": each.staff_id, "right": right} for each in everybody for right in RIGHTS["both"]
        ]
        shop.change(policy={"approvals": 2}, programme={"goodwillExpiryDays": 30, "goodwillPointsMax": 5000})
        self.member = shop.member()
        for each in everybody:
            shop.token(each.user_name)
        shared = {(kind, state): self.made(kind, OWNER, state) for kind in KINDS for state in STATES_OF[kind][2:]}
        self.cells = at_once(lambda each: dict(self.made_for(each, shared)))
        self.spare = at_once(lambda _: {kind: self.made(kind, OWNER, "pending") for kind in KINDS})
        permanent = [each for persona in (OWNER, *CHECKERS) for each in grants_of(persona)]
        permanent += [{"person": each.staff_id, "right": "CanFreeze"} for each in CHECKERS]
        self.grants = [*permanent, *(each for persona in PERSONAS for each in grants_of(persona))]

    def made(self, kind: str, maker: Persona, state: str) -> str:
        member = Member(1, "9000000001") if state == "failed" else self.member
        submitted = self.submit(kind, maker, member)
        assert submitted.status_code == 200, submitted.text
        request_id = str(submitted.json()["data"]["requestId"])
        voices = {"pending": [], "voted": [], "rejected": [("rejected", CHECKERS[0])]}.get(
            state, [("approved", each) for each in CHECKERS]
        )
        for verdict, checker in voices:
            assert self.decide(kind, request_id, checker, verdict).status_code == 200
        return request_id

    def made_for(self, persona: Persona, shared: dict[tuple[str, str], str]) -> Iterator[tuple[Cell, str]]:
        for kind, states in STATES_OF.items():
            for state in states:
                request_id = shared.get((kind, state)) or self.made(kind, OWNER, state)
                if state == "voted":
                    assert self.decide(kind, request_id, persona).status_code == 200
                else:
                    yield (kind, state, "own"), self.made(kind, persona, state)
                yield (kind, state, "other"), request_id

    def submit(self, kind: str, by: Persona, member: Member | None = None) -> httpx.Response:
        points: object = "1" if kind == KINDS[0] else 1
        body = calls.body(self.shop, kind, member or self.member, points=points)
        return self.shop.submit(body, by=by.user_name, path=calls.url(kind))

    def decide(self, kind: str, request_id: str, by: Persona, verdict: str = "approved") -> httpx.Response:
        return self.shop.decide(request_id, verdict, by=by.user_name, path=calls.url(kind))

    def reads(self, persona: Persona) -> Iterator[Found]:
        by = persona.user_name
        inbox = set(ids(self.shop, "/inbox", by, limit=100))
        listed = {
            each for maker in (persona, OWNER)
            for each in ids(self.shop, "/requests", by, maker=maker.staff_id, limit=100)
        }  # fmt: skip
        for cell, request_id in self.cells[PERSONAS.index(persona)].items():
            yield "inbox", cell, "yes" if request_id in inbox else "no"
            yield "list", cell, "yes" if request_id in listed else "no"
            headers = self.shop.headers(by)
            statuses = {
                self.shop.http.get(f"{path}/requests/{request_id}", headers=headers).status_code
                for path in (WORKFLOW, "/counterfoil/v1")
            }
            yield "get", cell, "yes" if statuses == {200} else "no" if statuses == {404} else str(statuses)

    def writes(self, persona: Persona) -> Iterator[Found]:
        place, by = PERSONAS.index(persona), persona.user_name
        for kind in KINDS:
            yield "submit", (kind, "pending", "own"), told(self.submit(kind, persona))
        for cell, request_id in self.cells[place].items():
            kind, state, whose = cell
            path = f"requests/{request_id}"
            other = self.spare[place][kind] if (state, whose) == ("pending", "other") else request_id
            yield "comment", cell, told(post(self.shop, f"{path}/comments", by, {"message": "seen"}))
            yield "decide", cell, told(self.decide(kind, request_id, persona))
            yield "send-back", cell, told(post(self.shop, f"requests/{other}/send-back", by, {"comment": "again"}))
            yield "withdraw", cell, told(post(self.shop, f"{path}/withdraw", by))

    def freezes(self, persona: Persona) -> Iterator[Found]:
        """Of the till; lifted again at once."""
        body = {"scope": "unit", "target": TILL, "reason": "stolen"}
        answer = post(self.shop, "freezes", persona.user_name, body)
        yield "freeze", (KINDS[0], "pending", "other"), told(answer)
        for each in CHECKERS if answer.status_code == 200 else ():
            lift = f"freezes/{answer.json()['data']['freezeId']}/lift"
            assert post(self.shop, lift, each.user_name).status_code == 200


def told(answer: Any) -> str:
    return "yes" if answer.status_code == 200 else str(answer.json()["errors"][0]["code"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_cell(make_shop: Callable[..., Shop]) -> None:
    rows = table()
    world = World(make_shop(members=1))
    used: set[int] = set()
    wrong: list[str] = []
    cells: Counter[str] = Counter()

    def judge(scope: str, persona: Persona, found: Iterable[Found]) -> None:
        for verb, (kind, state, whose), answer in found:
            number, wanted = expected(
                rows, Verb=verb, Scope=scope, Right=persona.right, Where=persona.where, Type=persona.column(kind),
                State=state, Whose=whose,
            )  # fmt: skip
            used.add(number)
            cells[verb] += 1
            if answer != wanted:
                wrong.append(f"{verb} {scope} {persona} {kind} {state} {whose}: {answer}, by the table {wanted}")

    for scope in SCOPES:
        world.shop.change(organisation={"readScope": scope}, grants=world.grants)
        for persona, found in zip(PERSONAS, at_once(lambda each: list(world.reads(each))), strict=True):
            judge(scope, persona, found)
    for persona, found in zip(PERSONAS, at_once(lambda each: list(world.writes(each))), strict=True):
        judge(SCOPES[-1], persona, found)
    for persona in PERSONAS:  # one after the other: each stops all the others
        judge(SCOPES[-1], persona, world.freezes(persona))
    assert wrong == []
    assert used == set(range(len(rows))), "a row of the table is never used"
    requests = len(PERSONAS) * sum(2 * len(states) - 1 for states in STATES_OF.values())
    assert cells == dict.fromkeys(VERBS, requests) | {
        "submit": len(PERSONAS) * len(KINDS), "freeze": len(PERSONAS),
    } | {verb: requests * len(SCOPES) for verb in ("inbox", "get", "list")}  # fmt: skip


def test_the_table_speaks_of_what_there_is() -> None:
    known = {
        "Verb": VERBS, "Scope": SCOPES, "Right": ("none", *RIGHTS), "Where": PLACES,
        "Type": ("all", "this", "other"), "State": STATES, "Whose": ("own", "other"),
    }  # fmt: skip
    for row in table():
        for name, values in known.items():
            assert row[name] == "*" or set(row[name].split(", ")) <= set(values), (name, row)
