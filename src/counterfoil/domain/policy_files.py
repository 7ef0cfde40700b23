"""What the `policy` of an organisation file says beside the policy itself: claims to prove and examples to try."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from counterfoil.domain.policies import Policy


class Claim(Struct, frozen=True):
    """Nothing above so many points is executed with fewer approvals."""

    path: str
    above: int
    approvals: int


class Example(Struct, frozen=True):
    """A request and what is expected of it; None where nothing is said. Points in thousandths."""

    path: str
    name: str
    request_type: str
    unit_id: int
    points: int
    maker: str
    login: str
    at: datetime | None
    rule: str | None = None
    approvals: int | None = None
    is_automatic: bool | None = None
    needs_comment: bool | None = None
    life_hours: int | None = None
    is_refused: bool | None = None


class Mention(Struct, frozen=True):
    """A unit or group that the policy names, and where. `count`: how many people of the group it asks for."""

    path: str
    unit_id: int | None = None
    group_id: str | None = None
    count: int = 0


class PolicyFile(Struct, frozen=True):
    """The whole section. The policy's revision is 0 until it is compared with what is there."""

    policy: Policy
    claims: tuple[Claim, ...] = ()
    examples: tuple[Example, ...] = ()
    mentions: tuple[Mention, ...] = ()
