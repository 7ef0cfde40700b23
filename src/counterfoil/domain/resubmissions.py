"""Another try: a new request linked to the one that ended, with the difference between the two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from msgspec import Struct

from counterfoil.domain.refusals import AlreadyCompleted, NotPermitted, Refusal, RequestNotFound, WrongRequest
from counterfoil.domain.requests import FINAL, State, Submit, is_overdue

ABSENT: Final = object()


class Earlier(Struct, frozen=True):
    """What matters of the request that a submission is another try of."""

    request_type: str
    state: State
    maker_person_id: str
    expires_at: datetime | None
    resubmitted_as: UUID | None


def may_resubmit(command: Submit, earlier: Earlier | None, now: datetime) -> Refusal | None:
    """Another try is the same maker's, of a request that ended without being executed, and the only one of it."""
    if command.resubmission_of is None:
        return None
    if earlier is None:
        return RequestNotFound("no request of this organisation has that requestId", "requestId")
    if earlier.maker_person_id != command.actor.person_id:
        return NotPermitted("only the maker of a request can resubmit it: make a new request instead")
    if earlier.request_type != command.request_type:
        return WrongRequest(f"the request is of type {earlier.request_type}, and so must its resubmission be")
    state = State.EXPIRED if is_overdue(earlier.state, earlier.expires_at, now) else earlier.state
    if state not in FINAL:
        return WrongRequest("the request still waits for its end: withdraw it first, then resubmit it", "requestId")
    if state is State.SUCCEEDED:
        return AlreadyCompleted("the request was executed: make a new request instead", "requestId")
    if earlier.resubmitted_as is not None:
        return AlreadyCompleted(f"the request was resubmitted as {earlier.resubmitted_as}: go on from that one")
    return None


def differences(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each field that differs with its old and new value; ABSENT where one side has no such field."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in (*before, *(key for key in after if key not in before)):
            yield from differences(
                before.get(key, ABSENT), after.get(key, ABSENT), f"{path}.{key}" if path else str(key)
            )
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from differences(old, new, f"{path}[{index}]")
    elif before != after:
        yield path, before, after
