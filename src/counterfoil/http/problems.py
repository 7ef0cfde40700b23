"""ONE table: what HTTP says to each refusal, and the body that each family of APIs has for it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from counterfoil.domain import refusals
from counterfoil.domain.refusals import Refusal
from counterfoil.http.routing import Answer, Family

BAD_REQUEST: Final = 400
# A class stands for its subclasses, as far as they have no line of their own.
STATUS: Final[Mapping[type[Refusal], int]] = MappingProxyType(
    {
        refusals.NotPermitted: 403,
        refusals.AlreadyCompleted: BAD_REQUEST,
        refusals.WrongOrganisation: BAD_REQUEST,
        refusals.WrongRequest: BAD_REQUEST,
        refusals.RequestNotFound: 404,
        refusals.InvalidPayload: BAD_REQUEST,
        refusals.TypeNotSupported: BAD_REQUEST,
        refusals.BadSort: BAD_REQUEST,
        refusals.BadSortOrder: BAD_REQUEST,
        refusals.IdentityNotVerified: 401,
        refusals.BadGoodwillPoints: BAD_REQUEST,
        refusals.NobodyCanCheck: BAD_REQUEST,
        refusals.BadEarningEntity: BAD_REQUEST,
        refusals.BadGoodwillPoints: BAD_REQUEST,
        refusals.BadUri: BAD_REQUEST,
        refusals.BadHeaders: BAD_REQUEST,
        refusals.NoGoodwillExpiry: BAD_REQUEST,
        refusals.MemberNotFound: 404,
        refusals.IdempotencyConflict: 409,
        refusals.ChangedSinceShown: 412,
        refusals.Busy: 503,
        refusals.TooLarge: 413,
        refusals.WrongMediaType: 415,
        refusals.UnknownPath: 404,
        refusals.Throttled: 429,
        refusals.OurFault: 500,
        refusals.WrongMethod: 405,
        refusals.Frozen: 423,
    }
)
ACCESS_DENIED: Final = "Not authorized. Access is denied!"
ACCESS_DENIED_CODE: Final = 4000

encode: Final = msgspec.json.Encoder().encode


def status_of(kind: type[Refusal]) -> int:
    """The HTTP status of a refusal."""
    for each in kind.__mro__:
        if each in STATUS:
            return STATUS[each]
    raise AssertionError(f"{kind.__name__} has no line in the table of problems (this is a bug)")


def render(refusal: Refusal, family: Family) -> Answer:
    """The answer to a refused call."""
    headers: dict[str, str] = {}
    if refusal.retry_after_seconds is not None:
        headers["Retry-After"] = str(refusal.retry_after_seconds)
    elif isinstance(refusal, refusals.Busy | refusals.Throttled):
        headers["Retry-After"] = "1"
    return Answer(status_of(type(refusal)), encode(_BODIES[family](refusal)), headers)


def _message(refusal: Refusal) -> str:
    """What to do, with the path of the field."""
    if refusal.path and refusal.path not in refusal.message:
        return f"{refusal.path}: {refusal.message}"
    return refusal.message


def _error(refusal: Refusal) -> dict[str, Any]:
    return {"status": False, "code": refusal.code, "message": _message(refusal)}


def _contract(refusal: Refusal) -> dict[str, Any]:
    return {"data": None, "errors": [_error(refusal)], "warnings": []}


def _own(refusal: Refusal) -> dict[str, Any]:
    return {"data": None, "errors": [_error(refusal) | {"path": refusal.path}], "warnings": []}


def _points_error(refusal: Refusal) -> dict[str, Any]:
    error = _error(refusal)
    if isinstance(refusal, refusals.NotPermitted):
        error |= {"code": ACCESS_DENIED_CODE, "message": f"{ACCESS_DENIED} {_message(refusal)}"}
    return error


def _v2(refusal: Refusal) -> dict[str, Any]:
    return {"warnings": [], "errors": [_points_error(refusal)]}


def _v1(refusal: Refusal) -> dict[str, Any]:
    if isinstance(refusal, refusals.IdentityNotVerified):
        # The original really says success "true" here (dossier §4).
        status = {"success": "true", "code": "401", "message": "Unauthorized"}
        return {"response": {"status": status, "responses": None}}
    error = _points_error(refusal)
    return {"response": {"status": {"success": "false", "code": error["code"], "message": error["message"]}}}


_BODIES: Final = MappingProxyType({"contract": _contract, "own": _own, "v2": _v2, "v1": _v1})

_TEXT: Final = {"type": "string"}
_STANDARD_ERROR: Final = {
    "status": {"const": False},
    "code": {"type": "integer"},
    "message": _TEXT,
}


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _list_of_one(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": dict(item), "minItems": 1, "maxItems": 1}


_NO_WARNINGS: Final = {"type": "array", "maxItems": 0}
_V1_STATUS: Final = {
    "success": {"enum": ["true", "false"]},
    "code": {"type": ["integer", "string"]},
    "message": _TEXT,
}
# How the bodies above look in the API's description; a test holds them together.
SCHEMAS: Final[Mapping[Family, dict[str, Any]]] = MappingProxyType(
    {
        "contract": _object(
            {
                "data": {"type": "null"},
                "errors": _list_of_one(_object(_STANDARD_ERROR)),
                "warnings": _NO_WARNINGS,
            }
        ),
        "own": _object(
            {
                "data": {"type": "null"},
                "errors": _list_of_one(_object({**_STANDARD_ERROR, "path": {"type": ["string", "null"]}})),
                "warnings": _NO_WARNINGS,
            }
        ),
        "v2": _object({"warnings": _NO_WARNINGS, "errors": _list_of_one(_object(_STANDARD_ERROR))}),
        "v1": _object(
            {
                "response": {
                    "type": "object",
                    "properties": {"status": _object(_V1_STATUS), "responses": {"type": "null"}},
                    "required": ["status"],
                    "additionalProperties": False,
                }
            }
        ),
    }
)
