"""Create bodies of every request type in the form of the contract's samples, for a shop of our own."""

from __future__ import annotations

from typing import Any, Final
from uuid import uuid4

from tests.contract.shop import CONCEPT, HOST, STORE, TILL, WORKFLOW, ZONE, Member, Shop

PATHS: Final = {
    "POINTS-REDEMPTION": "/v1.1/points/redeem",
    "GOODWILL-POINTS": "/internal/goodwill/",
    "EARN-BADGE": "/api_gateway/v1/badges/customer/earn",
    "ISSUE-BADGE": "/api_gateway/v1/badges/badgeMeta/customer/issueBulk",
    "CUSTOMER-STATUS-CHANGE": "/v2/customers/lookup/status",
    "RETRO-TRANSACTION": "/v2/transactions/retro",
}
OTHERS: Final = tuple(PATHS)[1:]


def url(kind: str) -> str:
    return f"{WORKFLOW}/{kind}"


def body(shop: Shop, kind: str, member: Member | None = None, **changes: Any) -> dict[str, Any]:
    """A good body; changes are of the call's own body."""
    member = member or shop.member()
    if kind == "POINTS-REDEMPTION":
        return shop.body(member, **changes)
    call: dict[str, Any] = {
        "hostname": HOST,
        "path": PATHS[kind],
        "method": "PUT" if kind in ("CUSTOMER-STATUS-CHANGE", "RETRO-TRANSACTION") else "POST",
        "pathParams": {},
        "queryParams": {},
        "body": {},
        "headers": {"Authorization": shop.basic, "content-type": "application/json"},
    }
    badge: dict[str, Any] = {
        "triggeredBy": {"ownerType": "Goodwill_Module", "referenceId": "123"},
        "customerId": member.member_id,
        "requestId": uuid4().hex,
        "badgeMetaId": "658c50761c4c2b12732c3ec6",
    }
    match kind:
        case "GOODWILL-POINTS":
            call["body"] = {
                "referenceId": f"ref-{uuid4().hex}", "reason": "reason", "baseType": "POINTS",
                "programId": shop.programme_id, "awardingTillId": TILL, "earningEntityType": "CUSTOMER",
                "earningEntityId": member.member_id, "points": 20, "source": "API",
            }  # fmt: skip
        case "EARN-BADGE":
            call["body"] = badge
            del call["queryParams"]
        case "ISSUE-BADGE":
            del badge["customerId"]
            call["body"] = badge | {"customers": [member.member_id]}
            del call["queryParams"]
        case "CUSTOMER-STATUS-CHANGE":
            call["body"] = {"reason": "testing", "label": "Suspended"}
            call["queryParams"] = {
                "source": "INSTORE", "accountId": "", "use_async": "false", "identifierName": "mobile",
                "identifierValue": member.wire_mobile,
            }  # fmt: skip
        case _:
            call["body"] = {
                "oldType": "NOT_INTERESTED", "newType": "REGULAR", "transactionId": uuid4().int % 10**9 + 1,
                "customerId": member.member_id, "extendedFields": {"checkout_date": "2021-12-27T18:38:43+08:00"},
                "customFields": {"pankaj3": "singh3"}, "notes": "Test Transaction",
            }  # fmt: skip
    call["body"] |= changes
    return {
        "entityInfo": {"tillId": str(TILL), "storeId": str(STORE), "zoneId": str(ZONE), "conceptId": str(CONCEPT)},
        "payload": {"IntouchAPITask-Payload": call},
    }
