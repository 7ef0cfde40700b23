"""What the service should do, said a second time: plain Python, no database, none of the program's own rules.

Time is a number of ticks. Whatever time decides happens at its own moment, in order: the oracle does not wait
until somebody looks, as the ledger does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

HOUR = 1_000_000  # ticks; what happens within one hour of the test's clock is told apart by single ticks
HOLD_HOURS, GRACE_HOURS, GOODWILL_HOURS = 7 * 24, 24, 24
NEVER = 10**18

Answer = tuple[Any, ...]


@dataclass
class Batch:
    """Points of one award."""

    lot_id: UUID
    awarded: int
    expires: int
    remaining: int
    held: int = 0
    grace: int = 0

    @property
    def ends(self) -> int:
        return self.grace or self.expires

    @property
    def free(self) -> int:
        return self.remaining - self.held


@dataclass
class Asked:
    """A request as the oracle remembers it."""

    request_id: UUID
    maker: str
    mobile: str
    points: int
    reference: str | None
    required: int
    kind: str = "redemption"
    label: str = ""
    last_voice: int = 0
    flags: tuple[str, ...] = ()
    state: str = "pending"
    code: int | None = None
    voices: dict[str, str] = field(default_factory=dict)
    hold: str = "none"
    hold_expires: int = NEVER
    pinned: dict[UUID, int] = field(default_factory=dict)


@dataclass
class Oracle:
    """One organisation: its members by mobile, its requests, what was redeemed, which keys were used."""

    makers: frozenset[str]
    checkers: frozenset[str]
    required: int
    strict: bool
    now: int = 0
    members: dict[str, list[Batch]] = field(default_factory=dict)
    requests: dict[UUID, Asked] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    redeemed: dict[str, int] = field(default_factory=dict)
    keys: dict[str, tuple[Any, UUID]] = field(default_factory=dict)
    given: dict[str, int] = field(default_factory=dict)
    labels: dict[str, tuple[int, str]] = field(default_factory=dict)
    refusals: int = 0

    # ------------------------------------------------------------ time

    def later(self, hours: int) -> None:
        """Let everything happen that falls due, at its own moment."""
        until = self.now + hours * HOUR
        while True:
            ends = [(lot.ends, 0, lot) for lots in self.members.values() for lot in lots if lot.free > 0]
            holds = [(each.hold_expires, 1, each) for each in self.requests.values() if each.hold == "open"]
            due = [each for each in (*ends, *holds) if each[0] <= until]
            if not due:
                break
            at, _, what = min(due, key=lambda each: each[:2])
            self.now = max(self.now, at)
            if isinstance(what, Batch):
                what.remaining = what.held
            elif isinstance(what, Asked):
                self._release(what, at, "expired")
        self.now = until

    def _release(self, asked: Asked, at: int, state: str) -> None:
        for lot in self.members[asked.mobile]:
            if lot.lot_id in asked.pinned:
                lot.held -= asked.pinned[lot.lot_id]
                if lot.ends <= at:
                    lot.grace = at + GRACE_HOURS * HOUR
        asked.hold = state

    # ------------------------------------------------------------ points

    def available(self, mobile: str) -> int:
        return sum(lot.free for lot in self.members.get(mobile, []))

    def held(self, mobile: str) -> int:
        return sum(lot.held for lot in self.members.get(mobile, []))

    def _take(self, mobile: str, points: int) -> dict[UUID, int] | None:
        if self.available(mobile) < points:
            return None
        taken: dict[UUID, int] = {}
        for lot in sorted(self.members[mobile], key=lambda each: (each.expires, each.awarded, each.lot_id)):
            part = min(points - sum(taken.values()), lot.free)
            if part > 0:
                taken[lot.lot_id] = part
        return taken

    def _spend(self, mobile: str, points: int, reference: str | None) -> int:
        if mobile not in self.members:
            return 816
        if reference in self.used:
            return 744
        taken = self._take(mobile, points)
        if taken is None:
            return 818
        for lot in self.members[mobile]:
            lot.remaining -= taken.get(lot.lot_id, 0)
        self._redeemed(mobile, points, reference)
        return 800

    def _redeemed(self, mobile: str, points: int, reference: str | None) -> None:
        self.redeemed[mobile] = self.redeemed.get(mobile, 0) + points
        if reference is not None:
            self.used[reference] = points

    # ------------------------------------------------------------ the verbs

    def submit(self, calls: list[dict[str, Any]]) -> list[Answer]:
        """One batch of create calls."""
        answers: list[Answer] = []
        lost: set[str] = set()
        for call in calls:
            key = call["key"]
            content = (call["kind"], call["mobile"], call["points"], call["reference"], call["label"])
            if key in lost:
                answers.append(("again",))
                continue
            if key in self.keys:
                first_content, first = self.keys[key]
                answers.append(("replayed" if first_content == content else "conflict", first))
                continue
            answer = self._submit(call)
            if key is not None and answer[0] == "request":
                self.keys[key] = (content, call["request_id"])
            elif key is not None:
                lost.add(key)
            answers.append(answer)
        return answers

    def _submit(self, call: dict[str, Any]) -> Answer:
        maker, mobile, points, reference = call["maker"], call["mobile"], call["points"], call["reference"]
        if maker not in self.makers:
            self.refusals += 1
            return ("refused", 2001)
        if len(self.checkers - {maker}) < self.required:
            return ("refused", 2021)
        twin = reference is not None and any(
            each.kind == call["kind"] and each.reference == reference and each.state in ("pending", "succeeded")
            for each in self.requests.values()
        )
        asked = Asked(
            call["request_id"], maker, mobile, points, reference, self.required, call["kind"], call["label"]
        )  # fmt: skip
        flags = [] if mobile in self.members else ["member_unknown"]
        holds = asked.kind == "redemption" and mobile in self.members and not twin
        taken = self._take(mobile, points) if holds else None
        if twin:
            flags.append("duplicate")
        elif asked.kind != "redemption":
            pass
        elif taken is None:
            flags.append("unfunded")
            if self.strict:
                return ("refused", 2008)
        else:
            asked.hold, asked.pinned, asked.hold_expires = "open", taken, self.now + HOLD_HOURS * HOUR
            for lot in self.members[mobile]:
                lot.held += taken.get(lot.lot_id, 0)
        asked.flags = tuple(flags)
        self.requests[asked.request_id] = asked
        return ("request", "pending", asked.flags, None, None)

    def kind_of(self, request_id: UUID) -> str:
        asked = self.requests.get(request_id)
        return "redemption" if asked is None else asked.kind

    def decide(self, call: dict[str, Any]) -> Answer:
        """One decide call."""
        asked, person = self.requests.get(call["request_id"]), call["person"]
        if asked is None:
            return ("refused", 2007)
        if person == asked.maker or person not in self.checkers:
            self.refusals += 1
            return ("refused", 2001)
        if asked.state != "pending" or person in asked.voices:
            return ("refused", 2002)
        asked.voices[person] = call["verdict"]
        asked.last_voice = max(self.now, asked.last_voice + 1)  # voices have an order, also in one batch
        if call["verdict"] == "rejected":
            asked.state = "rejected"
            if asked.hold == "open":
                self._release(asked, self.now, "released")
        elif len(asked.voices) >= asked.required:
            self._execute(asked)
        balance = self.available(asked.mobile) if asked.code == 800 else None
        return ("request", asked.state, asked.flags, asked.code, balance)

    def _execute(self, asked: Asked) -> None:
        if asked.kind != "redemption":
            asked.code = self._give(asked)
            asked.state = "succeeded" if asked.code in (200, 201) else "failed"
            return
        if asked.hold == "open" and asked.reference not in self.used:
            for lot in self.members[asked.mobile]:
                part = asked.pinned.get(lot.lot_id, 0)
                lot.remaining -= part
                lot.held -= part
            asked.hold, asked.code = "captured", 800
            self._redeemed(asked.mobile, asked.points, asked.reference)
        else:
            asked.code = self._spend(asked.mobile, asked.points, asked.reference)
        asked.state = "succeeded" if asked.code == 800 else "failed"
        if asked.hold == "open":
            self._release(asked, self.now, "released")

    def _give(self, asked: Asked) -> int:
        """Goodwill points, or a status label."""
        if asked.mobile not in self.members:
            return 8015
        if asked.kind == "status":
            if asked.last_voice >= self.labels.get(asked.mobile, (0, ""))[0]:
                self.labels[asked.mobile] = (asked.last_voice, asked.label)
            return 200
        if asked.reference in self.given or asked.reference is None:
            return 744
        self.given[asked.reference] = asked.points
        at = asked.last_voice
        self.members[asked.mobile].append(Batch(asked.request_id, at, at + GOODWILL_HOURS * HOUR, asked.points))
        return 201

    def redeem(self, call: dict[str, Any]) -> Answer:
        """One direct call."""
        code = self._spend(call["mobile"], call["points"], call["reference"])
        return ("redeemed", code, self.available(call["mobile"]) if code == 800 else None)
