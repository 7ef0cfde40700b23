"""What is stored of a proposal is the whole difference, and every kind of record in it is looked after."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from inspect import signature
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from msgspec.structs import fields, replace

from counterfoil.application import organisation_files
from counterfoil.domain import admin_changes, change_lines, dual_control, moved_records, organisation_changes
from counterfoil.domain.organisation_changes import Change, Difference
from counterfoil.domain.organisation_files import Current
from counterfoil.domain.organisations import Organisation
from tests import builders
from tests.administration.town import ADA, BEN, KIM, MIA, Town

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DEMO = Path(__file__).parents[2] / "examples" / "demo-organisation.yaml"


def difference_of(content: bytes, current: Current | None = None) -> tuple[Difference, Organisation]:
    file = organisation_files.read(content).file
    assert file is not None
    hashes = dict.fromkeys(file.passwords, "$argon2id$…")
    difference = organisation_changes.difference(file, current or Current(), hashes)
    return difference, dual_control.organisation_after(None, file.settings, difference)


@pytest.mark.parametrize("content", [DEMO.read_bytes(), json.dumps(Town(None, None, 7).document()).encode()])  # type: ignore[arg-type]
def test_it_is_read_as_it_was_stored(content: bytes) -> None:
    difference, _ = difference_of(content)
    stored = msgspec.json.encode(difference)
    again = msgspec.json.decode(stored, type=Difference)
    assert again == difference
    assert msgspec.json.encode(again) == stored
    assert [*change_lines.describe(again)] == [*change_lines.describe(difference)]


def records() -> dict[str, type]:
    """The kind of record in each list of changes, from the types alone."""
    hints = get_type_hints(Difference)
    kinds = {name: get_args(hint)[0] for name, hint in hints.items() if get_args(hint)}
    return {name: get_args(kind)[0] for name, kind in kinds.items() if get_args(kind)}


def test_every_kind_of_record_is_looked_for() -> None:
    """A new kind without a line in the rule would be applied over what another change did."""
    organisation = builders.organisation()
    assert len(records()) == len([each for each in fields(Difference) if each.name not in ("version", "members")])
    for name, kind in records().items():
        record = kind(**dict.fromkeys(signature(kind).parameters, ""))
        change: Change[Any] = Change(name, "", record, record)
        difference, _ = difference_of(DEMO.read_bytes())
        alone: dict[str, Any] = dict.fromkeys((*records(), "members"), ()) | {name: (change,)}
        only = replace(difference, **alone)
        assert list(moved_records.moved(only, organisation, Current())), name


def test_the_organisation_after_it_is_the_one_that_the_file_says() -> None:
    difference, after = difference_of(json.dumps(Town(None, None, 7).document()).encode())  # type: ignore[arg-type]
    assert dual_control.administrators(after, NOW) == {ADA, BEN, "cleo"}
    assert [*dual_control.problems(after, NOW)] == []
    assert moved_records.settings_of(after).control == "dual"
    assert (after.version, len(after.people), after.policy is not None) == (1, 6, True)
    assert admin_changes.gives_to(builders.organisation(), difference, KIM)
    assert not admin_changes.gives_to(builders.organisation(), difference, "somebody")
    assert admin_changes.suspended_by(builders.organisation(), difference) == ()
    assert admin_changes.suspended_by(after, difference) == tuple(sorted((ADA, BEN, "cal", "cleo", KIM, MIA)))


def test_a_host_gets_the_revision_of_the_version_that_it_is_applied_at() -> None:
    difference, _ = difference_of(DEMO.read_bytes())
    stamped = admin_changes.restamped(difference, 41)
    assert {change.after.revision for change in stamped.hosts if change.after} == {41}
    assert stamped.version == 41
    change = difference.hosts[0]
    assert change.after is not None
    slower = Change("host", change.key, change.after, replace(change.after, concurrency=1))
    assert admin_changes.restamped(replace(difference, hosts=(slower,)), 41).hosts == (slower,)
