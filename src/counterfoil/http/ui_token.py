"""POST /counterfoil/v1/ui-token: a person's name and password for the token that the contract's calls carry."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from counterfoil.application.tokens import LIFE_SECONDS
from counterfoil.domain.refusals import InvalidPayload, TooLarge
from counterfoil.http import wire
from counterfoil.http.authentication import read_clock
from counterfoil.http.routing import Answer, Call, Context

ORG_ID_MAX = 2**63 - 1
BODY_BYTES_MAX: Final = 8192  # anybody may send one
OrgId = Annotated[int, msgspec.Meta(ge=1, le=ORG_ID_MAX)] | Annotated[str, msgspec.Meta(pattern="^[1-9][0-9]{0,18}$")]
UserName = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Password = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


class SignIn(msgspec.Struct):
    """Who wants a token. The organisation's number may be a number or a text, as in the contract's headers."""

    orgId: OrgId
    userName: UserName
    password: Password


_WANTED: Final = (
    ("orgId", OrgId, "the number of the organisation, as a number or a text"),
    ("userName", UserName, "a text of 1 to 255 characters"),
    ("password", Password, "a text of 1 to 1024 characters"),
)


class IssuedToken(msgspec.Struct):
    """The token, for X-CAP-UI-AUTH-TOKEN."""

    token: str
    ttlSeconds: int


class TokenAnswer(msgspec.Struct):
    """The envelope, as that of the original's token call."""

    data: IssuedToken
    errors: None = None


async def issue(context: Context, call: Call) -> Answer:
    """Issue a token for a day; it ends earlier when the password changes or the user is deactivated."""
    if len(call.body) > BODY_BYTES_MAX:
        raise TooLarge(f"the body is over {BODY_BYTES_MAX} bytes: send orgId, userName and password only")
    body = wire.json_object(call.body)
    for name, kind, wanted in _WANTED:
        _check_field(body, name, kind, wanted)
    asked = msgspec.convert(body, SignIn)
    org_id = int(asked.orgId)
    if org_id > ORG_ID_MAX:
        raise InvalidPayload(f"{_WANTED[0][0]} must be {_WANTED[0][2]}", "orgId")
    token = await context.callers.sign_in(org_id, asked.userName, asked.password, call.client_address, read_clock())
    return Answer(200, wire.encode(TokenAnswer(IssuedToken(token, LIFE_SECONDS))))


def _check_field(body: dict[str, Any], name: str, kind: Any, wanted: str) -> None:
    try:
        msgspec.convert(body.get(name), kind)
    except msgspec.ValidationError:
        raise InvalidPayload(f"{name} must be {wanted}", name) from None
