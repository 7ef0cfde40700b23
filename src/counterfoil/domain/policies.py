"""A policy: ordered rules, what each asks for, and caps. Data only; `rulings.py` applies it, `proofs.py` checks it.

The requirement that applies to a request is frozen on it: a later revision changes nothing for it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from msgspec import Struct

from counterfoil.domain.conditions import ALWAYS, Condition


class Level(StrEnum):
    """Where the grant must be by which a checker decides: at that level, or above it."""

    STORE = "store"
    ZONE = "zone"
    CONCEPT = "concept"
    ORGANISATION = "organisation"


class Need(Struct, frozen=True):
    """So many different people who hold CanCheckRequest there, perhaps of one group, or by a grant of one level.

    `other_store`: they hold no grant at the request's store, at one of its maker's, or at their tills. `step`: needs of
    one step are open at the same time, those of the next one when all of it are met.
    """

    count: int = 1
    group: str | None = None
    level: Level | None = None
    other_store: bool = False
    step: int = 1


class PairCap(Struct, frozen=True):
    """The most that one checker may approve for one maker in a day; frozen with the requirement."""

    name: str
    points: int


class Requirement(Struct, frozen=True):
    """All that must be agreed before a request is executed; frozen on it when it is made."""

    needs: tuple[Need, ...] = (Need(),)
    rule: str = ""
    comment: bool = False
    pair_caps: tuple[PairCap, ...] = ()

    @property
    def approvals(self) -> int:
        """How many different people."""
        return sum(need.count for need in self.needs)


class AutoApproval(Struct, frozen=True):
    """How much is executed without a second person, at most: each request, and each day by member, maker and all."""

    per_request: int
    per_member: int
    per_maker: int
    per_day: int


class Rule(Struct, frozen=True):
    """What is asked of the requests that it applies to; with `auto`, of those that are not executed at once."""

    name: str
    when: Condition = ALWAYS
    needs: tuple[Need, ...] = (Need(),)
    auto: AutoApproval | None = None
    life_hours: int | None = None
    comment_above: int | None = None


class CapSubject(StrEnum):
    """Whose points of a day are counted; `request` counts nothing, it bounds each one."""

    REQUEST = "request"
    MEMBER = "member"
    MAKER = "maker"
    PAIR = "pair"
    DAY = "day"


class Cap(Struct, frozen=True):
    """So many points, pending and executed together; beyond it `needs` come on top, or without them it is refused."""

    name: str
    per: CapSubject
    points: int
    when: Condition = ALWAYS
    needs: tuple[Need, ...] = ()


class Policy(Struct, frozen=True):
    """The rules in order, the first that applies counts. Without rules: so many approvals for everything."""

    revision: int
    approvals_required: int = 1
    rules: tuple[Rule, ...] = ()
    caps: tuple[Cap, ...] = ()

    @property
    def ladder(self) -> tuple[Rule, ...]:
        """The rules, also of the simple form."""
        return self.rules or (Rule(SIMPLE, needs=(Need(self.approvals_required),)),)


SIMPLE: Final = "approvals"
ONE_APPROVAL: Final = Requirement()


def auto_counters(rule: Rule) -> tuple[Cap, ...]:
    """The counters of a rule's automatic approvals, as caps of their own."""
    if rule.auto is None:
        return ()
    return (
        Cap(f"auto:{rule.name}:member", CapSubject.MEMBER, rule.auto.per_member),
        Cap(f"auto:{rule.name}:maker", CapSubject.MAKER, rule.auto.per_maker),
        Cap(f"auto:{rule.name}:day", CapSubject.DAY, rule.auto.per_day),
    )


def describe_need(need: Need) -> str:
    """A need in words: 2 x group finance at zone level, of another store."""
    who = f"group {need.group}" if need.group else "checker"
    level = f" at {need.level} level" if need.level else ""
    store = ", of another store" if need.other_store else ""
    return f"{need.count} x {who}{level}{store}"


def describe_needs(needs: tuple[Need, ...]) -> str:
    """All needs in words, the steps in their order."""
    steps = sorted({need.step for need in needs})
    return ", then ".join(" + ".join(describe_need(need) for need in needs if need.step == step) for step in steps)
