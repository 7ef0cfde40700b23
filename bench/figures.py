"""Measured runs, medians over rounds, and the table of targets at the end."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from statistics import median
from typing import Any, Literal

Sign = Literal["≥", "≤"]
AT_LEAST: Sign = "≥"
AT_MOST: Sign = "≤"
_REACHED: dict[Sign, Callable[[float, float], bool]] = {AT_LEAST: operator.ge, AT_MOST: operator.le}


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run, or the medians of several. Times in microseconds, CPU per request."""

    rate: float  # requests, or lifecycles, per second
    p50_us: float = 0.0
    p99_us: float = 0.0
    server_cpu_us: float = 0.0
    database_cpu_us: float = 0.0
    group: float = 0.0  # commands per transaction, 0 where nothing is grouped
    load_cpu_us: float = 0.0  # of the load generator, which has to share the cores
    count: int = 0
    others: float = 0.0  # cores that other programs on the machine kept busy meanwhile


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of the sorted values lies."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def medians(runs: Sequence[Run]) -> Run:
    """The median of each figure on its own."""
    return Run(*(median(getattr(run, each.name) for run in runs) for each in fields(Run)))


@dataclass(slots=True)
class Report:
    """What was measured, by name and in order, and the targets."""

    settings: dict[str, Any] = field(default_factory=dict)
    rounds: dict[str, list[Run]] = field(default_factory=dict)
    targets: list[dict[str, Any]] = field(default_factory=list)
    costs: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, run: Run) -> None:
        """Keep one round."""
        self.rounds.setdefault(name, []).append(run)

    def median(self, name: str) -> Run:
        """The medians over the rounds of this name."""
        return medians(self.rounds[name])

    def ratio(self, name: str, other: str, figure: str = "rate") -> float:
        """The median of the ratios round by round: what slows the whole machine slows both."""
        pairs = zip(self.rounds[name], self.rounds[other], strict=True)
        return float(median(getattr(one, figure) / getattr(two, figure) for one, two in pairs))

    def target(self, text: str, value: float, sign: Sign, bound: float) -> None:
        """Say what was to be reached."""
        self.targets.append(
            {"figure": text, "value": value, "target": f"{sign} {bound:g}", "reached": _REACHED[sign](value, bound)}
        )

    def cpu_ratio(self, name: str, other: str) -> float:
        """The CPU of one's request, all processes, over that of the other's.

        It bounds the ratio of the rates once the cores are busy, and a busy machine disturbs it less.
        """
        one, two = (
            (run.server_cpu_us + run.database_cpu_us + run.load_cpu_us) for run in map(self.median, (name, other))
        )
        return one / two

    def busy_elsewhere(self) -> float:
        """The cores that other programs kept busy, in the middle of the rounds."""
        return median(run.others for runs in self.rounds.values() for run in runs)

    def print_runs(self, names: Sequence[str]) -> None:
        """A table of medians."""
        print(
            f"  {'':54}{'per second':>11}{'p50 ms':>9}{'p99 ms':>9}"
            f"{'server µs':>11}{'database µs':>13}{'load µs':>9}{'group':>7}{'others':>8}"
        )
        for name in names:
            run = self.median(name)
            group = f"{run.group:7.1f}" if run.group else f"{'-':>7}"
            print(
                f"  {name:54}{run.rate:11,.0f}{run.p50_us / 1000:9.2f}{run.p99_us / 1000:9.2f}"
                f"{run.server_cpu_us:11.0f}{run.database_cpu_us:13.0f}{run.load_cpu_us:9.0f}{group}{run.others:8.2f}",
                flush=True,
            )

    def print_targets(self, *, busy: bool) -> None:
        """The table at the end. On a busy machine a ratio settles nothing, whichever way it falls."""
        print(f"\n  {'figure':66}{'measured':>10}{'target':>10}  reached")
        for each in self.targets:
            said = ("yes" if each["reached"] else "NO") + (" (busy machine: unsettled)" if busy else "")
            print(f"  {each['figure']:66}{each['value']:10.2f}{each['target']:>10}  {said}")
