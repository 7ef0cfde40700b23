"""What should become of requests and of who may do what, said a second time: no database, none of the program's rules.

Time is a number of ticks; an hour is many of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

HOUR = 1_000_000
PENDING, OVER = "pending", ("rejected", "withdrawn", "expired", "succeeded")


@dataclass
class Life:
    """A request as the oracle remembers it; a voice is who gave it, with whose right, and what it was.

    `members` of the places are for people of the group, the others for anybody.
    """

    maker: str
    members: int
    others: int
    ends: int | None
    state: str = PENDING
    voices: list[tuple[str, str, str]] = field(default_factory=list)
    resubmission_of: UUID | None = None
    resubmitted_as: UUID | None = None


@dataclass
class Lent:
    delegator: str
    delegate: str
    begins: int
    ends: int
    over: bool = False


@dataclass
class Stop:
    scope: str
    target: str
    proposer: str | None = None
    lifted: bool = False


@dataclass
class Lives:
    """One organisation: `rights` of each person among make, check and freeze.

    The policy asks for `members` of the `group` and `required` others.
    """

    rights: dict[str, set[str]]
    required: int
    life_hours: int | None
    members: int = 0
    group: set[str] = field(default_factory=set)
    suspended: dict[str, int] = field(default_factory=dict)
    now: int = 0
    inactive: set[str] = field(default_factory=set)
    requests: dict[UUID, Life] = field(default_factory=dict)
    lent: dict[UUID, Lent] = field(default_factory=dict)
    stops: dict[UUID, Stop] = field(default_factory=dict)

    def has(self, person: str, right: str) -> bool:
        if right == "check" and self.is_suspended(person):
            return False
        return person not in self.inactive and right in self.rights[person]

    def is_suspended(self, person: str) -> bool:
        return self.now < self.suspended.get(person, 0)

    def filled(self, holders: list[str], members: int, others: int) -> int:
        """How many of the places these people fill together, each one at most one."""
        by_group = min(members, sum(each in self.group for each in holders))
        return by_group + min(others, len(holders) - by_group)

    def holders(self, person: str, maker: str) -> list[str]:
        """Whose right the person could use, the own one first."""
        if person == maker or person in self.inactive or self.is_suspended(person):
            return []
        lenders = [
            each.delegator
            for each in self.lent.values()
            if each.delegate == person and not each.over and each.begins <= self.now < each.ends
        ]
        return [each for each in (person, *lenders) if each != maker and self.has(each, "check")]

    def frozen(self, maker: str) -> bool:
        return any(not each.lifted and (each.scope != "maker" or each.target == maker) for each in self.stops.values())

    def state_of(self, life: Life) -> str:
        overdue = life.state == PENDING and life.ends is not None and life.ends <= self.now
        return "expired" if overdue else life.state

    def sweep(self) -> None:
        for life in self.requests.values():
            life.state = self.state_of(life)

    # Each answers with the state of the request, or with the code of a refusal.

    def submit(self, request_id: UUID, maker: str, again: UUID | None) -> str | int:
        earlier = None if again is None else self.requests[again]
        if earlier is not None:
            if earlier.maker != maker:
                return 2001
            state = self.state_of(earlier)
            if state == PENDING:
                return 2007
            if state == "succeeded" or earlier.resubmitted_as is not None:
                return 2002
        if not self.has(maker, "make"):
            return 2001
        able = [each for each in self.rights if each != maker and self.has(each, "check")]
        if self.filled(able, self.members, self.required) < self.members + self.required:
            return 2021
        if self.frozen(maker):
            return 2910
        ends = None if self.life_hours is None else self.now + self.life_hours * HOUR
        self.requests[request_id] = Life(maker, self.members, self.required, ends, resubmission_of=again)
        if earlier is not None:
            earlier.resubmitted_as = request_id
        return PENDING

    def decide(self, request_id: UUID, person: str, verdict: str) -> str | int:
        life = self.requests[request_id]
        holders = self.holders(person, life.maker)
        if not holders:
            return 2001
        if self.state_of(life) != PENDING:
            return 2002
        if verdict == "approved" and self.agreed(life) and person in {giver for giver, _ in self.counting(life)}:
            # What had lapsed counts again, and one of those who gave it says so.
            if self.frozen(life.maker):
                return 2910
            life.state = "succeeded"
            return life.state
        used = {each for voice in self.counting(life) for each in voice}
        free = [] if person in used else [each for each in holders if each not in used]
        if not free:
            return 2002
        holder = free[0] if verdict == "rejected" else self.useful(life, free)
        if holder is None:
            return 2001
        if verdict == "approved" and self.frozen(life.maker):
            return 2910
        life.voices.append((person, holder, verdict))
        if verdict == "rejected":
            life.state = "rejected"
        elif self.agreed(life):
            life.state = "succeeded"
        return life.state

    def useful(self, life: Life, free: list[str]) -> str | None:
        """The first right that would fill one place more; any where none is open."""
        if self.agreed(life):
            return free[0]
        given = [each for _, each in self.counting(life)]
        before = self.filled(given, life.members, life.others)
        return next((each for each in free if self.filled([*given, each], life.members, life.others) > before), None)

    def counting(self, life: Life) -> list[tuple[str, str]]:
        """The voices that count now: of each person the last one that they gave, or that was given for them."""
        last: dict[str, int] = {}
        for number, (giver, holder, _) in enumerate(life.voices):
            last |= {giver: number, holder: number}
        return [
            (giver, holder)
            for number, (giver, holder, _) in enumerate(life.voices)
            if last[giver] == last[holder] == number
            and holder in self.holders(giver, life.maker)
            and self.filled([holder], life.members, life.others)
        ]

    def agreed(self, life: Life) -> bool:
        """Whether enough of the voices count now."""
        given = [holder for _, holder in self.counting(life)]
        return self.filled(given, life.members, life.others) == life.members + life.others

    def withdraw(self, request_id: UUID, person: str) -> str | int:
        life = self.requests[request_id]
        if person != life.maker:
            return 2001
        if self.state_of(life) != PENDING:
            return 2002
        life.state = "withdrawn"
        return life.state

    def delegate(self, delegation_id: UUID, lent: Lent) -> int:
        if "check" not in self.rights[lent.delegator] or self.is_suspended(lent.delegator):
            return 2001
        if lent.delegate == lent.delegator or lent.delegate in self.inactive:
            return 2008
        self.lent[delegation_id] = lent
        return 0

    def end(self, delegation_id: UUID, person: str) -> int:
        found = self.lent[delegation_id]
        if person != found.delegator:
            return 2001
        if found.over or found.ends <= self.now:
            return 2002
        found.over = True
        return 0

    def freeze(self, freeze_id: UUID, person: str, stop: Stop) -> int:
        if not self.has(person, "freeze"):
            return 2001
        if any(
            not each.lifted and (each.scope, each.target) == (stop.scope, stop.target) for each in self.stops.values()
        ):
            return 2002
        self.stops[freeze_id] = stop
        return 0

    def lift(self, freeze_id: UUID, person: str) -> int:
        stop = self.stops[freeze_id]
        if not self.has(person, "freeze") or self.is_suspended(person):
            return 2001
        if stop.lifted:
            return 2002
        if stop.proposer == person:
            return 2001
        proposer = stop.proposer
        if proposer is None or not self.has(proposer, "freeze") or self.is_suspended(proposer):
            stop.proposer = person
        else:
            stop.lifted = True
        return 0
