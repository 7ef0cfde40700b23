"""/counterfoil/v1/admin-changes: administrators propose, read and decide changes of their organisation."""

from __future__ import annotations

import binascii
import sys
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from counterfoil.application import admin_changes, ids
from counterfoil.application.administration import CannotApply
from counterfoil.application.requests import Stale
from counterfoil.domain import admin_changes as rules
from counterfoil.domain import dual_control
from counterfoil.domain.access import Actor
from counterfoil.domain.admin_changes import AdminChange, DecideChange, Propose
from counterfoil.domain.change_lines import describe
from counterfoil.domain.organisation_changes import Difference
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.refusals import FileRefused, InvalidPayload, Refusal, RequestNotFound
from counterfoil.domain.requests import State
from counterfoil.http import wire
from counterfoil.http.authentication import read_clock
from counterfoil.http.freshness import answer_fresh
from counterfoil.http.routing import Answer, Call, Context, Parameter

MESSAGE_MAX: Final = 2000
LIMIT_MAX: Final = 100
_LIMIT_DEFAULT: Final = 25
_STATES: Final = (State.PENDING, State.SUCCEEDED, State.REJECTED)
CHANGE_ID: Final = Parameter(
    "change_id", "What the proposal answered", {"type": "string", "format": "uuid"}, "path", required=True
)
LIST_PARAMETERS: Final = (
    Parameter("state", "Only those in this state", {"enum": [*_STATES, ""]}),
    Parameter("limit", "Changes on a page", {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX}),
    Parameter("cursor", "The nextCursor of the page before", {"type": "string"}),
)
Message = Annotated[str, Meta(max_length=MESSAGE_MAX)]


class ProposeBody(msgspec.Struct):
    """An organisation file as JSON, passwords in it as they are; with dryRun it is only compared."""

    file: dict[str, Any]
    message: Message = ""
    dryRun: bool = False


class DecisionBody(msgspec.Struct):
    """The verdict; a rejection needs a message."""

    verdict: Literal["approved", "rejected"]
    message: Message = ""


class DifferenceLine(msgspec.Struct):
    """One line: + comes, - goes, ~ differs."""

    sign: str
    text: str


class ByWhom(msgspec.Struct):
    """A person, and the sign-in that was used."""

    personId: str
    userName: str


class Voice(msgspec.Struct):
    """The decision of an administrator."""

    personId: str
    userName: str
    verdict: str
    message: str
    decidedAt: datetime


class Change(msgspec.Struct):
    """A change; `id` is null for a dry run. `reason` says why the caller cannot approve it, null: they can."""

    id: str | None
    state: str
    proposedBy: ByWhom
    proposedAt: datetime
    endedAt: datetime | None
    message: str
    baseVersion: int
    digest: str
    lines: list[DifferenceLine]
    suspended: list[str]
    decisions: list[Voice]
    reason: str | None


class ChangeAnswer(msgspec.Struct):
    """The envelope around one change; `data` is null where the file changes nothing."""

    data: Change | None
    errors: None = None
    warnings: list[str] = msgspec.field(default_factory=list)


class ListedChange(msgspec.Struct):
    """A change without its lines."""

    id: str
    state: str
    proposedBy: ByWhom
    proposedAt: datetime
    endedAt: datetime | None
    message: str
    added: int
    changed: int
    removed: int


class ChangeList(msgspec.Struct):
    """The envelope around a page; `nextCursor` is null on the last one."""

    data: list[ListedChange]
    nextCursor: str | None
    errors: None = None
    warnings: list[str] = msgspec.field(default_factory=list)


async def propose(context: Context, call: Call) -> Answer:
    """Propose what a file changes. The file is compared with the organisation as it is now."""
    request_id = ids.uuid7()

    async def attempt(organisation: Organisation, actor: Actor) -> Answer | Stale:
        now = datetime.fromtimestamp(read_clock().now, UTC)
        command = Propose(request_id, actor, None, organisation.version, "", ids.salt())
        if dual_control.may_administer(organisation, actor, now) is None:
            content, message, dry_run = _proposal(call.body)
            difference = await _difference(context, organisation, content)
            if isinstance(difference, Stale):
                return difference
            if not difference:
                return Answer(200, wire.encode(ChangeAnswer(None)))
            command = replace(command, difference=difference, message=message)
            if dry_run:
                refused = dual_control.may_propose(organisation, actor, difference, now)
                if refused is not None:
                    raise refused
                return _shown(organisation, admin_changes.proposed(command, now), actor, now, is_stored=False)
        outcome = await context.administration.submit(organisation.org_id, command)
        match outcome:
            case AdminChange():
                return _shown(organisation, outcome, actor, outcome.started_at)
            case Refusal():
                raise outcome
            case Stale():
                return outcome

    return await answer_fresh(context, call, attempt)


async def _difference(context: Context, organisation: Organisation, content: dict[str, Any]) -> Difference | Stale:
    try:
        return await admin_changes.difference_from(
            context.pool, organisation, content, resources=context.resources, keyring=context.keys.now
        )
    except CannotApply as refused:
        problems = [(each.path, f"{each.path}: {each.message}".removeprefix(": ")) for each in refused.problems]
        raise FileRefused(str(refused), "file", problems=problems) from None


def _proposal(body: bytes) -> tuple[dict[str, Any], str, bool]:
    sent = wire.json_object(body)
    if not isinstance(sent.get("file"), dict):
        raise InvalidPayload("file must be an organisation file as a JSON object", "file")
    dry_run = sent.get("dryRun") or False
    if not isinstance(dry_run, bool):
        raise InvalidPayload("dryRun must be true or false", "dryRun")
    return sent["file"], _message(sent), dry_run


def _message(sent: dict[str, Any]) -> str:
    message = sent.get("message") or ""
    if not isinstance(message, str) or len(message) > MESSAGE_MAX:
        raise InvalidPayload(f"message must be a text of at most {MESSAGE_MAX} characters", "message")
    return message


async def get_one(context: Context, call: Call) -> Answer:
    """One change, for administrators."""
    change_id = _change_id(call)

    async def attempt(organisation: Organisation, actor: Actor) -> Answer | Stale:
        found = await admin_changes.find_change(context.pool, organisation.org_id, change_id)
        if found is None or found.organisation_version != organisation.version:
            return Stale(found.organisation_version if found else 0)
        _check_reader(organisation, actor, found.now)
        if found.change is None:
            raise RequestNotFound("no change of this organisation has that id", "changeId")
        return _shown(organisation, found.change, actor, found.now)

    return await answer_fresh(context, call, attempt)


async def list_page(context: Context, call: Call) -> Answer:
    """A page of changes, for administrators."""
    state = call.query_value("state")
    if state is not None and state not in _STATES:
        raise InvalidPayload(f"state must be one of {', '.join(_STATES)}", "state")
    limit = call.query_number("limit", LIMIT_MAX, 1) or _LIMIT_DEFAULT
    after = _cursor(call.query_value("cursor"))

    async def attempt(organisation: Organisation, actor: Actor) -> Answer | Stale:
        page = await admin_changes.list_changes(
            context.pool, organisation.org_id, state=state, after=after, limit=limit + 1
        )
        if page is None or page.organisation_version != organisation.version:
            return Stale(page.organisation_version if page else 0)
        _check_reader(organisation, actor, page.now)
        shown = page.changes[:limit]
        following = None
        if len(page.changes) > limit:
            text = f"{shown[-1].started_at.isoformat()} {shown[-1].request_id}"
            following = urlsafe_b64encode(text.encode()).decode()
        data = [
            ListedChange(
                str(each.request_id), each.state, ByWhom(each.maker_person_id, each.maker_user_name), each.started_at,
                each.ended_at, each.summary.message, each.summary.added, each.summary.changed, each.summary.removed,
            )
            for each in shown
        ]  # fmt: skip
        return Answer(200, wire.encode(ChangeList(data, following)))

    return await answer_fresh(context, call, attempt)


async def decide(context: Context, call: Call) -> Answer:
    """Approve or reject a change; an approval applies it before it is answered."""
    change_id = _change_id(call)
    decision_id = ids.uuid7()

    async def attempt(organisation: Organisation, actor: Actor) -> Answer | Stale:
        sent = wire.json_object(call.body)
        verdict, message = sent.get("verdict"), _message(sent)
        if verdict not in ("approved", "rejected"):
            raise InvalidPayload("verdict must be approved or rejected", "verdict")
        if verdict == "rejected" and not message.strip():
            raise InvalidPayload("a rejection needs a message: say why", "message")
        command = DecideChange(decision_id, actor, change_id, verdict, message, ids.salt(), _digest_seen(call))
        outcome = await context.administration.submit(organisation.org_id, command)
        match outcome:
            case AdminChange():
                return _shown(organisation, outcome, actor, outcome.ended_at or outcome.started_at)
            case Refusal():
                raise outcome
            case Stale():
                return outcome

    return await answer_fresh(context, call, attempt)


def _check_reader(organisation: Organisation, actor: Actor, now: datetime) -> None:
    refused = dual_control.may_read_changes(organisation, actor, now)
    if refused is not None:
        raise refused


def _change_id(call: Call) -> UUID:
    found = wire.read_uuid(call.path_params["change_id"])
    if found is None:
        raise RequestNotFound("no change of this organisation has that id", "changeId")
    return found


def _cursor(text: str | None) -> tuple[datetime, UUID] | None:
    if text is None:
        return None
    try:
        at, _, request_id = urlsafe_b64decode(text).decode("ascii").partition(" ")
        moment = datetime.fromisoformat(at)
        if moment.tzinfo is not None:
            return moment, UUID(request_id)
    except (ValueError, binascii.Error):
        pass
    raise InvalidPayload("cursor must be the nextCursor of an answer", "cursor")


def _digest_seen(call: Call) -> str | None:
    header = call.header("if-match")
    return None if header in (None, "", "*") else header.removeprefix("W/").strip('"')


def _shown(
    organisation: Organisation, change: AdminChange, actor: Actor, now: datetime, *, is_stored: bool = True
) -> Answer:
    """Every line: what is not shown cannot be approved."""
    lines = () if change.difference is None else describe(change.difference, members_shown_max=sys.maxsize)
    suspended: tuple[str, ...] = ()
    if change.state is State.PENDING and change.difference is not None:
        suspended = rules.suspended_by(organisation, change.difference)
    refused = rules.why_not_decide(organisation, change, actor, now) or rules.why_not_approve(
        organisation, change, actor.person_id or "", now
    )
    shown = Change(
        id=str(change.request_id) if is_stored else None,
        state=change.state,
        proposedBy=ByWhom(change.maker_person_id, change.maker_user_name),
        proposedAt=change.started_at,
        endedAt=change.ended_at,
        message=change.message,
        baseVersion=change.base_version,
        digest=change.digest.hex(),
        lines=[DifferenceLine(line.sign, line.text) for line in lines],
        suspended=list(suspended),
        decisions=[
            Voice(each.person_id, each.user_name, each.verdict, each.message, each.decided_at)
            for each in change.decisions
        ],
        reason=None if refused is None else refused.message,
    )
    return Answer(200, wire.encode(ChangeAnswer(shown)), {"ETag": f'"{shown.digest}"'} if is_stored else {})
