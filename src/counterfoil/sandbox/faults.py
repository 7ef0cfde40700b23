"""Faults to order: what a caller asks for in a header or a scenario file, in a few words.

delay=2;cut-after-effect      at the first attempt: wait two seconds, take effect, hang up
521*3, none                   "try later" three times, then as it should be
refuse=1.5                    hang up without effect and accept no connection for so long
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

LATER_CODES: Final = frozenset({521, 886, 887, 889, 894, 896, 898})
_SHAPED = re.compile(r"(cut|garbage|huge|drip|5[0-9]{2})(-before-effect|-after-effect)?", re.ASCII)
_TIMED = re.compile(r"(delay|delay-after-effect|refuse)=([0-9]{1,4}(?:\.[0-9]{1,3})?)", re.ASCII)
_TIMES = re.compile(r"(.+?)\s*\*\s*([0-9]{1,3})", re.ASCII)
REPEATS_MAX: Final = 1000
RULE_FIELDS: Final = frozenset({"faults", "method", "path", "reference", "chance"})


class UnknownFault(ValueError):
    """Words that name no fault."""


class Fault(Struct, frozen=True):
    """What goes wrong with one attempt. `kind`: none, cut, garbage, huge, drip, status, code, duplicate, refuse."""

    kind: str = "none"
    has_effect: bool = True
    number: int = 0
    delay_seconds: float = 0.0
    delay_after_seconds: float = 0.0
    refuse_seconds: float = 0.0


NONE: Final = Fault()


def parse_faults(text: str) -> tuple[Fault, ...]:
    """The faults of attempt 1, 2, …; raises UnknownFault."""
    faults: list[Fault] = []
    for each in text.split(","):
        words, times = each.strip(), 1
        repeated = _TIMES.fullmatch(words)
        if repeated:
            words, times = repeated[1], int(repeated[2])
        fault = NONE
        for word in words.split(";"):
            fault = _add(fault, word.strip().lower())
        faults += [fault] * times
        if len(faults) > REPEATS_MAX:
            raise UnknownFault(f"at most {REPEATS_MAX} attempts can be described")
    return tuple(faults)


def _add(fault: Fault, word: str) -> Fault:
    timed, shaped = _TIMED.fullmatch(word), _SHAPED.fullmatch(word)
    if timed:
        seconds = float(timed[2])
        if timed[1] == "refuse":
            return replace(fault, kind="refuse", has_effect=False, refuse_seconds=seconds)
        if timed[1] == "delay":
            return replace(fault, delay_seconds=seconds)
        return replace(fault, delay_after_seconds=seconds)
    if word in ("none", ""):
        return fault
    if word == "duplicate":
        return replace(fault, kind="duplicate", has_effect=False)
    if word.isascii() and word.isdigit() and int(word) in LATER_CODES:
        return replace(fault, kind="code", has_effect=False, number=int(word))
    if word in ("429", "503"):
        return replace(fault, kind="status", has_effect=False, number=int(word))
    if shaped and (shaped[2] or shaped[1] in ("garbage", "huge", "drip")):
        has_effect = shaped[2] != "-before-effect"
        if shaped[1].isdigit():
            return replace(fault, kind="status", has_effect=has_effect, number=int(shaped[1]))
        return replace(fault, kind=shaped[1], has_effect=has_effect)
    raise UnknownFault(f"{word[:60]!r} is no fault: docs/sandbox.md lists them")


class Rule(Struct, frozen=True):
    """A line of a scenario: for which calls, which faults; `chance`: not always, and any one of them."""

    faults: tuple[Fault, ...]
    method: str = "*"
    path: str = "*"
    reference: str = "*"
    chance: float | None = None


class Scenario(Struct, frozen=True):
    """Rules in order: the first that fits and strikes decides. The same seed gives the same faults again."""

    rules: Sequence[Rule] = ()
    seed: int = 0

    def fault(self, method: str, path: str, reference: str, attempt: int, known_by: str = "") -> Fault:
        """The fault of this attempt (1, 2, …) of a call; `known_by` tells calls without a reference apart."""
        for number, rule in enumerate(self.rules):
            fits = zip((method, path, reference), (rule.method, rule.path, rule.reference), strict=True)
            if not all(fnmatchcase(value, pattern) for value, pattern in fits):
                continue
            if rule.chance is None:
                return fault_of(rule.faults, attempt)
            key = f"{self.seed}\n{number}\n{method}\n{path}\n{reference or known_by}\n{attempt}"
            drawn = int.from_bytes(sha256(key.encode()).digest()[:8], "big")
            if drawn % 1_000_000 < rule.chance * 1_000_000:
                return rule.faults[drawn // 1_000_000 % len(rule.faults)]
        return NONE


def fault_of(faults: Sequence[Fault], attempt: int) -> Fault:
    """The fault of attempt 1, 2, …; beyond the last there is none."""
    return faults[attempt - 1] if attempt <= len(faults) else NONE


def read_scenario(content: object) -> Scenario:
    """A scenario as a file or a call gives it; raises UnknownFault with what is wrong."""
    if not isinstance(content, Mapping) or not isinstance(content.get("rules"), list):
        raise UnknownFault("a scenario is a mapping with a list of rules: {seed: 1, rules: [{faults: 521}]}")
    seed = content.get("seed", 0)
    if not isinstance(seed, int):
        raise UnknownFault("seed must be a whole number")
    return Scenario([_read_rule(rule, f"rules[{number}]") for number, rule in enumerate(content["rules"])], seed)


def _read_rule(rule: Any, where: str) -> Rule:
    if not isinstance(rule, Mapping) or not {"faults"} <= rule.keys() <= {
        "faults",
        "method",
        "path",
        "reference",
        "chance",
    }:
        raise UnknownFault(f"{where} must have faults, and may have method, path, reference and chance")
    chance = rule.get("chance")
    if chance is not None and not (isinstance(chance, int | float) and 0 <= chance <= 1):
        raise UnknownFault(f"{where}.chance must be from 0 to 1")
    patterns = {name: str(rule.get(name, "*")) for name in ("method", "path", "reference")}
    return Rule(parse_faults(str(rule["faults"])), chance=chance, **patterns)
