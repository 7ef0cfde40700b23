"""The stored calls of the six request types, as the API's description shows them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from counterfoil.domain.payload_types import LABEL_MAX, REFERENCE_MAX, STATUS_IDENTIFIERS
from counterfoil.domain.payloads import ID_MAX, TEXT_MAX

Points = (
    Annotated[str, Meta(pattern=r"^(?=.*[1-9])[0-9]{1,12}(\.[0-9]{1,3})?$", examples=["100"])]
    | Annotated[float, Meta(gt=0, lt=1e12)]
)
Text = Annotated[str, Meta(max_length=TEXT_MAX)] | int | None
Id = Annotated[str, Meta(pattern="^0{0,4}[1-9][0-9]{0,14}$")] | Annotated[int, Meta(ge=1, le=ID_MAX)]
Filled = Annotated[str, Meta(pattern=r"\S", max_length=TEXT_MAX)] | int
Reference = Annotated[str, Meta(pattern=r"\S", max_length=REFERENCE_MAX)] | int
Label = Annotated[str, Meta(pattern=r"\S", max_length=LABEL_MAX)] | int
Anything = dict[str, Any] | None


def _needs(*names: str) -> Meta:
    """At least one of these members, as a text that is not empty: more than a type can say."""
    text = {"type": "string", "minLength": 1}
    return Meta(extra_json_schema={"anyOf": [{"required": [name], "properties": {name: text}} for name in names]})


class Customer(msgspec.Struct):
    """The member, by one of these."""

    mobile: Text = None
    external_id: Text = None
    email: Text = None
    card_number: Text = None


class Redeem(msgspec.Struct):
    """One redemption; points with at most three decimals."""

    points_redeemed: Points
    customer: Annotated[Customer, _needs("mobile", "external_id", "email", "card_number")]
    redemption_time: Text = None
    transaction_number: Text = None
    notes: Text = None
    external_reference_number: Text = None


class RedeemRoot(msgspec.Struct):
    """The redemption, as an object or an array of one."""

    redeem: Redeem | Annotated[list[Redeem], Meta(min_length=1, max_length=1)]


class RedeemBody(msgspec.Struct):
    """The body of /v1.1/points/redeem."""

    root: RedeemRoot


class GoodwillBody(msgspec.Struct):
    """The body of /internal/goodwill/."""

    referenceId: Reference
    reason: Filled
    baseType: Literal["POINTS"]
    programId: Id
    awardingTillId: Id
    earningEntityType: Literal["CUSTOMER"]
    earningEntityId: Id
    points: Points
    source: Filled


class Trigger(msgspec.Struct):
    """What a badge is given for."""

    ownerType: Filled
    referenceId: Filled


class EarnBadgeBody(msgspec.Struct):
    """The body of /api_gateway/v1/badges/customer/earn."""

    triggeredBy: Trigger
    customerId: Id
    requestId: Reference
    badgeMetaId: Filled


class IssueBadgeBody(msgspec.Struct):
    """The body of /api_gateway/v1/badges/badgeMeta/customer/issueBulk."""

    triggeredBy: Trigger
    customers: Id | Annotated[list[Id], Meta(min_length=1)]
    requestId: Reference
    badgeMetaId: Filled


class StatusBody(msgspec.Struct):
    """The body of /v2/customers/lookup/status."""

    label: Label
    reason: Text = None


class StatusQuery(msgspec.Struct):
    """Whose status it is."""

    source: Filled
    identifierName: Annotated[str, Meta(extra_json_schema={"enum": list(STATUS_IDENTIFIERS)})]
    identifierValue: Annotated[str, Meta(pattern=r"\S", max_length=200)]


class RetroBody(msgspec.Struct):
    """The body of /v2/transactions/retro."""

    oldType: Literal["NOT_INTERESTED"]
    newType: Literal["REGULAR"]
    transactionId: Id
    customerId: Id
    extendedFields: Anything = None
    customFields: Anything = None
    notes: Text = None


class StoredCall(msgspec.Struct, kw_only=True):
    """The call that is made once the request is approved. `headers` must hold Authorization."""

    hostname: Annotated[str, Meta(min_length=1, examples=["<https://crm-nightly-new.cc.capillarytech.com>"])]
    headers: Annotated[dict[str, str], _needs("Authorization", "authorization")]
    pathParams: dict[str, str] | None = None
    queryParams: dict[str, str] | None = None


class RedemptionCall(StoredCall, kw_only=True):
    """Spend points."""

    path: Literal["/v1.1/points/redeem"]
    method: Literal["POST"]
    body: RedeemBody


class GoodwillCall(StoredCall, kw_only=True):
    """Give points."""

    path: Literal["/internal/goodwill/"]
    method: Literal["POST"]
    body: GoodwillBody


class EarnBadgeCall(StoredCall, kw_only=True):
    """Let a member earn a badge."""

    path: Literal["/api_gateway/v1/badges/customer/earn"]
    method: Literal["POST"]
    body: EarnBadgeBody


class IssueBadgeCall(StoredCall, kw_only=True):
    """Issue a badge to members."""

    path: Literal["/api_gateway/v1/badges/badgeMeta/customer/issueBulk"]
    method: Literal["POST"]
    body: IssueBadgeBody


class StatusCall(StoredCall, kw_only=True):
    """Change a member's status label; kept with the method PUT."""

    path: Literal["/v2/customers/lookup/status"]
    method: Literal["POST", "PUT"]
    queryParams: StatusQuery  # type: ignore[assignment]
    body: StatusBody


class RetroCall(StoredCall, kw_only=True):
    """Let a bill count for a member afterwards."""

    path: Literal["/v2/transactions/retro"]
    method: Literal["PUT"]
    body: RetroBody


CALLS: Final = (RedemptionCall, GoodwillCall, EarnBadgeCall, IssueBadgeCall, StatusCall, RetroCall)
# A record of records without a tag is more than a type can say.
ANY_CALL: Final = Meta(
    extra_json_schema={"anyOf": [{"$ref": f"#/components/schemas/{each.__name__}"} for each in CALLS]}
)
