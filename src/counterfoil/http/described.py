"""Shapes that only the API's description needs: bodies that the rules read by hand, and parameters.

`domain.payloads` judges those bodies field by field, with the field's path in the refusal; here stands what
it accepts.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from counterfoil.domain.payload_types import TYPES
from counterfoil.domain.requests import WIRE_STATE, State
from counterfoil.http.described_calls import ANY_CALL
from counterfoil.http.routing import Parameter

UnitId = Annotated[str, Meta(pattern="^[0-9]{0,18}$")] | Annotated[int, Meta(ge=0, le=2**63 - 1)] | None
UUID_PATTERN: Final = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"


class EntityInfo(msgspec.Struct):
    """Where the request is made; one id that resolves is enough."""

    tillId: UnitId = None
    storeId: UnitId = None
    zoneId: UnitId = None
    conceptId: UnitId = None


class CreatePayload(msgspec.Struct, rename={"call": "IntouchAPITask-Payload"}):
    """The call: that of the type in the URL."""

    call: Annotated[dict[str, Any], ANY_CALL]


class CreateBody(msgspec.Struct):
    """What a maker asks for."""

    entityInfo: EntityInfo
    payload: CreatePayload


class Decision(msgspec.Struct):
    """The checker's decision."""

    actionDecision: Literal["approved", "rejected"]
    actionMessage: Annotated[str, Meta(max_length=2000)]


class DecidePayload(msgspec.Struct, rename={"decision": "AdminTask-Payload"}):
    """The decision."""

    decision: Decision


class DecideBody(msgspec.Struct):
    """Which request, and what about it."""

    requestId: Annotated[str, Meta(pattern=UUID_PATTERN)]
    actionName: Annotated[str, Meta(pattern="^[Aa]dminTask$", examples=["AdminTask"])]
    payload: DecidePayload


class V1Status(msgspec.Struct):
    """Whether the call as a whole went well; a text, as the original has it."""

    success: Literal["true", "false"]
    code: int
    message: str


class V1ItemStatus(msgspec.Struct):
    """Whether the redemption went well: 800, or 744, 816, 818."""

    success: Literal["true", "false"]
    code: int
    message: str


class V1Redemption(msgspec.Struct):
    """One redemption's result; some keys are missing when it failed."""

    mobile: str
    email: str
    external_id: str
    user_id: str | None
    points_redeemed: str
    redeemed_value: float
    side_effects: dict[str, Any]
    item_status: V1ItemStatus
    redemption_id: str = ""
    redemption_purpose: str = ""
    redeemed_local_value: float = 0
    balance: float = 0


class V1Points(msgspec.Struct):
    """The result."""

    points: V1Redemption


class V1Response(msgspec.Struct):
    """Status and result."""

    status: V1Status
    responses: V1Points


class RedeemAnswer(msgspec.Struct):
    """The answer of /v1.1/points/redeem."""

    response: V1Response


_TEXT: Final = {"type": "string"}
_NUMBER: Final = {"type": "string", "pattern": "^([0-9]{1,18})?$"}
_STATES: Final = tuple(dict.fromkeys(WIRE_STATE.values()))
_DAY: Final = {"anyOf": [{"type": "string", "format": "date"}, {"const": ""}]}
REQUEST_TYPE: Final = Parameter(
    "request_type", "Type of request, in any case", {"enum": list(TYPES)}, "path", required=True
)
REQUEST_ID: Final = Parameter(
    "request_id", "What the create call answered", {"type": "string", "format": "uuid"}, "path", required=True
)
MEMBER_ID: Final = Parameter(
    "member_id", "The member's number", {"type": "string", "pattern": "^[0-9]{1,18}$"}, "path", required=True
)
INCIDENT_ID: Final = Parameter(
    "incident_id", "As the list shows it", {"type": "string", "format": "uuid"}, "path", required=True
)
INCIDENT_FILTERS: Final = (
    Parameter("state", "open (the default) or all", {"enum": ["open", "all", ""]}),
    Parameter("limit", "Incidents per page, 1 to 200", {"type": "string", "pattern": "^([1-9][0-9]?|1[0-9]{2}|200)?$"}),
    Parameter(
        "cursor",
        "`nextCursor` of the page before",
        {"anyOf": [{"type": "string", "format": "uuid"}, {"const": ""}]},
    ),
)
CUSTOMER_ID: Final = Parameter(
    "customer_id",
    "The member's number",
    {"type": "string", "pattern": "^[0-9]{1,18}$"},
    "path",
    required=True,
)
IDEMPOTENCY_KEY: Final = Parameter(
    "Idempotency-Key",
    "Ours, optional: the same key with the same content gives the first answer again",
    {"type": "string", "pattern": "^[!-~]{1,255}$"},
    "header",
)
IF_MATCH: Final = Parameter(
    "If-Match",
    "Ours, optional: the ETag of what the checker saw",
    {"type": "string", "pattern": "^[!-~]*$"},
    "header",
)
IDENTIFIER: Final = (
    Parameter(
        "identifierName",
        "Which identifier",
        {"enum": ["mobile", "email", "externalId", "cardnumber", "id"]},
        required=True,
    ),
    Parameter("identifierValue", "Its value", {"type": "string", "minLength": 1}, required=True),
)
PAGE: Final = (
    Parameter("limit", "Requests per page, 1 to 100", {"type": "string", "pattern": "^([1-9][0-9]?|100)?$"}),
    Parameter("cursor", "`pagination.next` of the page before; left out: the first page", _TEXT),
)
SEARCH: Final = (
    Parameter("memberId", "The member's number", _NUMBER),
    Parameter("identifierName", "Which identifier", {"enum": ["mobile", "email", "externalId", "cardnumber"]}),
    Parameter("identifierValue", "Its value; beside identifierName", _TEXT),
    Parameter("reference", "The external reference, exactly", _TEXT),
    Parameter("maker", "Staff id, user name or user id of the maker, or me", _TEXT),
    Parameter("checker", "The same of somebody who has decided", _TEXT),
    Parameter("states", f"List with commas of {', '.join(State)}", _TEXT),
    Parameter("requestType", "Type of request, in any case", _TEXT),
    Parameter("unit", "Made at this unit or below it", _NUMBER),
    Parameter("startDate", "First day of the submission, inclusive, in the wire time zone", _DAY),
    Parameter("endDate", "Last day of the submission, inclusive", _DAY),
    *PAGE,
)
LIST_FILTERS: Final = (
    Parameter("userId", "The maker's user id", _NUMBER),
    Parameter("sortBy", "Which time the order goes by", {"enum": ["startDate", "endDate", ""]}),
    Parameter("sortOrder", "Its direction", {"enum": ["asc", "desc", ""]}),
    Parameter("conceptId", "Made in this concept", _NUMBER),
    Parameter("zoneId", "Made in this zone", _NUMBER),
    Parameter("storeId", "Made in this store", _NUMBER),
    Parameter("tillId", "Made at this till", _NUMBER),
    Parameter("startDate", "First day of startTime, inclusive", _DAY),
    Parameter("endDate", "Last day of startTime, inclusive", _DAY),
    Parameter(
        "states",
        f"List with commas of {', '.join(_STATES)}, in any case",
        {
            "type": "string",
            "pattern": f"^(({'|'.join(_STATES)})(,({'|'.join(_STATES)}))*)?$",
            "examples": ["AdminTask,failed,approved"],
        },
    ),
    Parameter("limit", "Requests per page", {"type": "string", "pattern": "^([1-9][0-9]{0,2})?$"}),
    Parameter("PageNo", "Zero-based number of the page", {"type": "string", "pattern": "^([0-9]{1,9})?$"}),
    Parameter("requestType", "Type of request, in any case", _TEXT),
)
