"""Comments on a request: who may make one, and what is taken out of it."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct

from counterfoil.domain import access
from counterfoil.domain.access import Actor, Right
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.payloads import WITHHELD
from counterfoil.domain.refusals import NotPermitted, Refusal, RequestNotFound

MESSAGE_MAX: Final = 2000

_BASIC = re.compile(r"\b(Basic\s+)([A-Za-z0-9+/]{4,}={0,2})", re.IGNORECASE | re.ASCII)
_SECRETS: Final = (
    re.compile(r"\b(Bearer\s+)[A-Za-z0-9+/=_.~-]{16,}", re.IGNORECASE | re.ASCII),
    re.compile(r"()\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*", re.ASCII),  # a signed token
    re.compile(r"()\b[0-9a-fA-F]{32}\b", re.ASCII),  # what tills send as their password
    re.compile(r"\b((?:password|passwd|pwd|secret|token|api[ _-]?key|otp)\s*[:=]\s*)\S+", re.IGNORECASE),
)


class Comment(Struct, frozen=True):
    """What a person said about a request. Never changed, never taken back."""

    comment_id: UUID
    request_id: UUID
    person_id: str
    user_id: int
    user_name: str
    message: str
    made_at: datetime


class AddComment(Struct, frozen=True):
    """A call to comment. `comment_id` is made once; `message` is masked already."""

    comment_id: UUID
    actor: Actor
    request_id: UUID
    message: str
    salt: bytes


class Commented(Struct, frozen=True):
    """What matters of the request that is commented."""

    request_type: str
    unit_id: int
    maker_person_id: str


def masked(text: str) -> str:
    """The text without what looks like a password, a token or an Authorization header."""

    def basic(found: re.Match[str]) -> str:
        try:
            is_login = b":" in b64decode(found[2] + "=" * (-len(found[2]) % 4))
        except binascii.Error:
            is_login = False
        return f"{found[1]}{WITHHELD}" if is_login else found[0]

    text = _BASIC.sub(basic, text)
    for secret in _SECRETS:
        text = secret.sub(rf"\g<1>{WITHHELD}", text)
    return text


def comment(
    organisation: Organisation, request: Commented | None, command: AddComment, now: datetime
) -> Comment | Refusal:
    """A new comment of the maker, or of anybody who may make or decide such requests there."""
    actor = command.actor
    if request is None:
        return RequestNotFound("no request of this organisation has that requestId", "requestId")
    if not actor.has_user or actor.person_id is None:
        return NotPermitted("a comment needs a person: send a user token in X-CAP-UI-AUTH-TOKEN")
    may = (
        actor.person_id == request.maker_person_id
        or any(
            access.has_right(
                organisation, actor.person_id, right, unit_id=request.unit_id, request_type=request.request_type,
                points=0, now=now,
            )
            for right in (Right.MAKE, Right.CHECK)
        )
        or access.holders(
            organisation, actor.person_id, frozenset({request.maker_person_id}), unit_id=request.unit_id,
            request_type=request.request_type, points=0, now=now,
        )
    )  # fmt: skip
    if not may:
        return NotPermitted(f"{actor.user_name} has no part in requests of unit {request.unit_id}")
    return Comment(
        command.comment_id, command.request_id, actor.person_id, actor.user_id, actor.user_name, command.message, now
    )
