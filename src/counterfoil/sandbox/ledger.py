"""What the sandbox has done: a list of effects, and what follows from it. Nothing else is kept."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import asdict

from counterfoil.domain.payloads import points_text

_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FIRST_REDEMPTION: Final = 62**5  # so that every id has six characters


class Effect(Struct, frozen=True):
    """One thing that happened once. Points in thousandths; `reference` is the caller's, "" where it sent none.

    `identifier` is the kind of identifier that `member` is, where that is known.
    """

    number: int
    kind: str
    reference: str
    member: str
    points: int = 0
    detail: str = ""
    at: str = ""
    identifier: str = ""

    @property
    def redemption_id(self) -> str:
        """Six alphanumerics, made from the number."""
        number, text = _FIRST_REDEMPTION + self.number, ""
        while number:
            number, digit = divmod(number, 62)
            text = _BASE62[digit] + text
        return text


@dataclass(slots=True)
class Ledger:
    """Effects in memory, and in `journal` where one is given: then they are there again after a restart."""

    points_each: int
    journal: Path | None = None
    effects: list[Effect] = field(default_factory=list)
    by_key: dict[tuple[str, str], Effect] = field(default_factory=dict)
    by_member: dict[str, list[Effect]] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    spent: dict[str, int] = field(default_factory=dict)
    _file: TextIOWrapper | None = None

    def open(self) -> None:
        """Take up what the journal tells, and write on from there."""
        if self.journal is None:
            return
        self.journal.touch()
        whole, end, _ = self.journal.read_text(encoding="utf-8").rpartition("\n")
        for line in whole.splitlines():
            self._note(Effect(**json.loads(line)))
        self._file = self.journal.open("a", encoding="utf-8")
        self._file.truncate(len((whole + end).encode()))  # a kill may have cut the last line: nobody was told of it

    def close(self) -> None:
        """Let go of the journal."""
        if self._file is not None:
            self._file.close()

    def add(
        self,
        kind: str,
        reference: str,
        member: str,
        *,
        points: int = 0,
        detail: str = "",
        at: str = "",
        identifier: str = "",
    ) -> Effect:
        """Something happened. It is in the journal before anybody is told."""
        effect = Effect(len(self.effects) + 1, kind, reference, member, points, detail, at, identifier)
        if self._file is not None:
            self._file.write(json.dumps(asdict(effect)) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        self._note(effect)
        return effect

    def _note(self, effect: Effect) -> None:
        self.effects.append(effect)
        self.by_member.setdefault(effect.member, []).append(effect)
        if effect.reference:
            self.by_key.setdefault((effect.kind, effect.reference), effect)
        if effect.kind == "POINTS-REDEMPTION":
            self.spent[effect.member] = self.spent.get(effect.member, 0) + effect.points
        if effect.kind == "GOODWILL-POINTS":
            self.spent[effect.member] = self.spent.get(effect.member, 0) - effect.points
        if effect.kind == "CUSTOMER-STATUS-CHANGE":
            self.labels[effect.member] = effect.detail

    def done(self, kind: str, reference: str) -> bool:
        """Whether this reference was used for this kind."""
        return bool(reference) and (kind, reference) in self.by_key

    def balance(self, member: str) -> int:
        """What a member has left."""
        return self.points_each - self.spent.get(member, 0)

    def exported(self) -> list[dict[str, str]]:
        """The redemptions with the columns of a host's export, as `counterfoil reconcile` reads them."""
        return [
            {
                "redemption_id": effect.redemption_id,
                "external_reference_number": effect.reference,
                "points_redeemed": points_text(effect.points),
                "redeemed_time": f"{effect.at}+00:00",
                effect.identifier: effect.member,
            }
            for effect in self.effects
            if effect.kind == "POINTS-REDEMPTION"
        ]

    def told(self, wanted: Mapping[str, str]) -> list[dict[str, object]]:
        """The effects, all or those of a kind, reference or member."""
        return [
            asdict(effect)
            for effect in self.effects
            if all(str(getattr(effect, name)) == value for name, value in wanted.items())
        ]
