"""POST /counterfoil/v1/ui-token: a person's name and password for the token that the contract's calls carry."""

from __future__ import annotations

from typing import Annotated

import msgspec

from counterfoil.application.tokens import LIFE_SECONDS
from counterfoil.domain.refusals import InvalidPayload
from counterfoil.http import wire
from counterfoil.http.authentication import read_clock
from counterfoil.http.routing import Answer, Call, Context

ORG_ID_MAX = 2**63 - 1
OrgId = Annotated[int, msgspec.Meta(ge=1, le=ORG_ID_MAX)] | Annotated[str, msgspec.Meta(pattern="^[1-9][0-9]{0,18}$")]


class SignIn(msgspec.Struct):
    """Who wants a token. The organisation's number may be a number or a text, as in the contract's headers."""

    orgId: OrgId
    userName: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    password: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


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
    body = wire.json_object(call.body)
    try:
        asked = msgspec.convert(body, SignIn)
    except msgspec.ValidationError as error:
        said, _, path = str(error).partition(" - at `$.")
        raise InvalidPayload(f"{said}: send orgId, userName and password", path.rstrip("`") or None) from None
    org_id = int(asked.orgId)
    if not 1 <= org_id <= ORG_ID_MAX:
        raise InvalidPayload("send the number of the organisation", "orgId")
    token = await context.callers.sign_in(org_id, asked.userName, asked.password, call.client_address, read_clock())
    return Answer(200, wire.encode(TokenAnswer(IssuedToken(token, LIFE_SECONDS))))
