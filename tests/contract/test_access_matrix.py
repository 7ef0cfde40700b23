"""Every (right, unit relation, type, state, own or other) cell, expected from the table in docs/access.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.contract.shop import CONCEPT, OTHER_ZONE, STORE, TILL, WORKFLOW, ZONE, Member, Shop
from tests.contract.test_inbox import ids

T = TypeVar("T")
DOCS = Path(__file__).parents[2] / "docs" / "access.md"
SIBLING = TILL + 1
RIGHTS = {"make": ["CanMakeRequest"], "check": ["CanCheckRequest"], "both": ["CanMakeRequest", "CanCheckRequest"]}
PLACES = {
    "till": TILL, "store": STORE, "zone": ZONE, "concept": CONCEPT, "organisation": None, "sibling": SIBLING,
    "elsewhere": OTHER_ZONE,
}  # fmt: skip
TYPES = {"all": None, "this": "POINTS-REDEMPTION", "other": "GOODWILL-POINTS"}
STATES = ("pending", "voted", "succeeded", "failed", "rejected")
SCOPES = ("organisation", "units")
# A verb that comes is a line here, and its rows in the table.
VERBS = ("submit", "decide", "inbox", "get", "list")
COLUMNS = ("Verb", "Scope", "Right", "Where", "Type", "State", "Whose", "Answer")


@dataclass(frozen=True)
class Persona:
    """Somebody with one kind of grant."""

    number: int
    right: str
    where: str
    kind: str

    @property
    def staff_id(self) -> str:
        return f"M-{self.number:03}"

    @property
    def user_name(self) -> str:
        return f"{self.staff_id.lower()}@tipent.com"


PERSONAS = [
    Persona(number, *each)
    for number, each in enumerate([("none", "till", "all"), *product(RIGHTS, PLACES, TYPES)], start=1)
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
        grant = {"person": persona.staff_id, "right": right, "unit": PLACES[persona.where], "type": TYPES[persona.kind]}
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
        shop.change(policy={"approvals": 2})
        self.member = shop.member()
        for each in everybody:
            shop.token(each.user_name)
        self.shared = {state: self.made(OWNER, state) for state in STATES[2:]}
        self.others = at_once(lambda each: self.shared | {
            "pending": self.made(OWNER, "pending"), "voted": self.voted(each)})  # fmt: skip
        self.own = at_once(lambda each: {state: self.made(each, state) for state in STATES if state != "voted"})
        permanent = [each for persona in (OWNER, *CHECKERS) for each in grants_of(persona)]
        self.grants = [*permanent, *(each for persona in PERSONAS for each in grants_of(persona))]

    def made(self, maker: Persona, state: str) -> str:
        member = Member(1, "9000000001") if state == "failed" else self.member
        request_id = str(self.shop.create(self.shop.body(member, points="1"), by=maker.user_name)["requestId"])
        if state == "rejected":
            assert self.shop.decide(request_id, "rejected", by=CHECKERS[0].user_name).status_code == 200
        elif state != "pending":
            for checker in CHECKERS:
                assert self.shop.decide(request_id, by=checker.user_name).status_code == 200
        return request_id

    def voted(self, persona: Persona) -> str:
        request_id = self.made(OWNER, "pending")
        assert self.shop.decide(request_id, by=persona.user_name).status_code == 200
        return request_id

    def cells(self, persona: Persona) -> Iterator[tuple[str, str, str]]:
        """State, whose, request id."""
        place = PERSONAS.index(persona)
        yield from ((state, "own", request_id) for state, request_id in self.own[place].items())
        yield from ((state, "other", request_id) for state, request_id in self.others[place].items())

    def reads(self, persona: Persona) -> Iterator[tuple[str, str, str, str]]:
        """Verb, state, whose, answer."""
        by = persona.user_name
        inbox = set(ids(self.shop, "/inbox", by, limit=100))
        listed = {
            each for maker in (persona, OWNER)
            for each in ids(self.shop, "/requests", by, maker=maker.staff_id, limit=100)
        }  # fmt: skip
        for state, whose, request_id in self.cells(persona):
            yield "inbox", state, whose, "yes" if request_id in inbox else "no"
            yield "list", state, whose, "yes" if request_id in listed else "no"
            headers = self.shop.headers(by)
            statuses = {
                self.shop.http.get(f"{path}/requests/{request_id}", headers=headers).status_code
                for path in (WORKFLOW, "/counterfoil/v1")
            }
            yield "get", state, whose, "yes" if statuses == {200} else "no" if statuses == {404} else str(statuses)

    def writes(self, persona: Persona) -> Iterator[tuple[str, str, str, str]]:
        by = persona.user_name
        for state, whose, request_id in self.cells(persona):
            yield "decide", state, whose, told(self.shop.decide(request_id, by=by))
            submitted = self.shop.submit(self.shop.body(self.member, points="1"), by=by)
            yield "submit", state, whose, told(submitted)


def told(answer: Any) -> str:
    return "yes" if answer.status_code == 200 else str(answer.json()["errors"][0]["code"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_cell(make_shop: Callable[..., Shop]) -> None:
    rows = table()
    world = World(make_shop(members=1))
    used: set[int] = set()
    wrong: list[str] = []
    cells = 0
    for scope in SCOPES:
        world.shop.change(organisation={"readScope": scope}, grants=world.grants)
        tasks = [world.reads] + [world.writes] * (scope == SCOPES[-1])
        for task in tasks:
            for persona, found in zip(PERSONAS, at_once(lambda each, task=task: list(task(each))), strict=True):  # type: ignore[misc]
                for verb, state, whose, answer in found:
                    number, wanted = expected(
                        rows, Verb=verb, Scope=scope, Right=persona.right, Where=persona.where, Type=persona.kind,
                        State=state, Whose=whose,
                    )  # fmt: skip
                    used.add(number)
                    cells += 1
                    if answer != wanted:
                        wrong.append(f"{verb} {scope} {persona} {state} {whose}: {answer}, by the table {wanted}")
    assert wrong == []
    assert used == set(range(len(rows))), "a row of the table is never used"
    assert cells == len(PERSONAS) * 9 * (3 * len(SCOPES) + 2)


def test_the_table_speaks_of_what_there_is() -> None:
    known = {
        "Verb": VERBS, "Scope": SCOPES, "Right": ("none", *RIGHTS), "Where": PLACES, "Type": TYPES, "State": STATES,
        "Whose": ("own", "other"),
    }  # fmt: skip
    for row in table():
        for name, values in known.items():
            assert row[name] == "*" or set(row[name].split(", ")) <= set(values), (name, row)
