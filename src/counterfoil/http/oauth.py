"""OAuth client credentials (dossier §4), and the keys by which anybody can verify an access token."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from counterfoil.domain.refusals import InvalidPayload, TooLarge
from counterfoil.http import wire
from counterfoil.http.authentication import read_clock
from counterfoil.http.routing import Answer, Call, Context

BODY_BYTES_MAX: Final = 8192  # anybody may send one
_Key = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
_Secret = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


class ClientCredentials(msgspec.Struct):
    """Which client wants a token."""

    key: _Key
    secret: _Secret


class GeneratedToken(msgspec.Struct):
    """The token, for X-CAP-API-OAUTH-TOKEN."""

    accessToken: str
    ttlSeconds: int


class GeneratedAnswer(msgspec.Struct):
    """The contract's envelope."""

    data: GeneratedToken
    errors: None = None


class PublishedKeys(msgspec.Struct):
    """A JWKS (RFC 7517): every key that signs access tokens, will sign or has signed them."""

    keys: list[dict[str, Any]]


async def generate(context: Context, call: Call) -> Answer:
    """Issue an access token for the life time that the client has; it ends earlier with the client or its secret."""
    if len(call.body) > BODY_BYTES_MAX:
        raise TooLarge(f"the body is over {BODY_BYTES_MAX} bytes: send key and secret only")
    body = wire.json_object(call.body)
    for name, kind, most in (("key", _Key, 255), ("secret", _Secret, 1024)):
        try:
            msgspec.convert(body.get(name), kind)
        except msgspec.ValidationError:
            raise InvalidPayload(f"{name} must be a text of 1 to {most} characters", name) from None
    asked = msgspec.convert(body, ClientCredentials)
    token, seconds = await context.callers.issue_access_token(
        asked.key, asked.secret, call.client_address, read_clock()
    )
    return Answer(200, wire.encode(GeneratedAnswer(GeneratedToken(token, seconds))))


async def publish(context: Context, _call: Call) -> Answer:
    """GET /.well-known/jwks.json."""
    return Answer(200, wire.encode(context.access_tokens.published(read_clock().ticks)))
