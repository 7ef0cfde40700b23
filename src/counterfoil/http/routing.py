"""What every handler takes and gives, and how a path finds its endpoint."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, Protocol

from msgspec import Struct, field
from starlette.routing import compile_path

from counterfoil.application.access_tokens import AccessTokens
from counterfoil.application.admin_changes import Outcome as AdminOutcome
from counterfoil.application.callers import Callers
from counterfoil.application.comments import CommentOutcome
from counterfoil.application.delegations import DelegationOutcome
from counterfoil.application.endings import WithdrawOutcome
from counterfoil.application.freezes import FreezeOutcome
from counterfoil.application.group_commit import GroupCommit
from counterfoil.application.incidents import SettleOutcome
from counterfoil.application.keys import Keyring, KeysInUse
from counterfoil.application.operations import Pool, Probes
from counterfoil.application.organisations import Organisations
from counterfoil.application.points import RedeemOutcome
from counterfoil.application.requests import DecideOutcome, SubmitOutcome
from counterfoil.domain.admin_changes import DecideChange, Propose
from counterfoil.domain.comments import AddComment
from counterfoil.domain.delegations import Delegate, EndDelegation
from counterfoil.domain.endings import Withdraw
from counterfoil.domain.freezes import LiftFreeze, PlaceFreeze
from counterfoil.domain.incidents import SettleIncident
from counterfoil.domain.redemptions import Redeem
from counterfoil.domain.refusals import InvalidPayload, Refusal, UnknownPath, WrongMethod
from counterfoil.domain.requests import Decide, Request, Submit

Family = Literal["contract", "v1", "v2", "own", "oauth"]

NOTHING: Mapping[str, Any] = MappingProxyType({})
# A second one of these could mean another caller than the first one to some proxy on the way.
SINGLE_HEADERS = frozenset(
    {
        b"authorization",
        b"content-length",
        b"content-type",
        b"idempotency-key",
        b"if-match",
        b"x-cap-api-attribution-entity-code",
        b"x-cap-api-attribution-entity-type",
        b"x-cap-api-attribution-lookup",
        b"x-cap-api-attribution-lookup-type",
        b"x-cap-api-attribution-till-code",
        b"x-cap-api-auth-org-id",
        b"x-cap-api-oauth-token",
        b"x-cap-ui-auth-token",
    }
)


class Call(Struct, frozen=True):
    """One HTTP request, read completely."""

    method: str
    path_params: Mapping[str, str]
    query: Mapping[str, list[str]]
    headers: Mapping[bytes, bytes]
    body: bytes
    correlation_id: str
    client_address: str
    # Of the endpoint that it is for: what access groups name.
    label: str
    family: Family

    def header(self, name: str) -> str | None:
        """The header of this lower-case name, None if it was not sent."""
        value = self.headers.get(name.encode())
        return None if value is None else value.decode("latin-1").strip()

    def query_value(self, name: str) -> str | None:
        """The only value of a query parameter; None when it is absent or empty, which mean the same."""
        values = [value for value in self.query.get(name, ()) if value]
        if len(values) > 1:
            raise InvalidPayload(f"send the query parameter {name} once", name)
        return values[0] if values else None

    def query_number(self, name: str, maximum: int, minimum: int = 0) -> int | None:
        """The same for a whole number; raises InvalidPayload for anything else."""
        text = self.query_value(name)
        if text is None:
            return None
        if not (text.isascii() and text.isdigit() and len(text) <= 19 and minimum <= int(text) <= maximum):
            raise InvalidPayload(f"{name} must be a whole number from {minimum} to {maximum}", name)
        return int(text)


class Answer(Struct, frozen=True):
    """What goes back. Correlation id, content type and length are added by the edge."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    content_type: bytes = b"application/json"


class Executions(Protocol):
    """What executes approved requests on external hosts in this process."""

    owner: str
    lease_seconds: float

    async def carry_out(self, org_id: int, request: Request) -> None:
        """Execute what this process has just claimed; returns when nothing is to be done at once."""


class Context(Struct, frozen=True, kw_only=True):
    """What the app factory builds once per process and every handler is given."""

    pool: Pool
    keys: KeysInUse
    organisations: Organisations
    callers: Callers
    access_tokens: AccessTokens
    submissions: GroupCommit[Submit, SubmitOutcome]
    decisions: GroupCommit[Decide, DecideOutcome]
    redemptions: GroupCommit[Redeem, RedeemOutcome]
    withdrawals: GroupCommit[Withdraw, WithdrawOutcome]
    comments: GroupCommit[AddComment, CommentOutcome]
    delegations: GroupCommit[Delegate | EndDelegation, DelegationOutcome]
    freezes: GroupCommit[PlaceFreeze | LiftFreeze, FreezeOutcome]
    administration: GroupCommit[Propose | DecideChange, AdminOutcome]
    incidents: GroupCommit[SettleIncident, SettleOutcome]
    probes: Probes
    # What an access group may name.
    resources: frozenset[str]
    # The metrics of all workers as text; takes the ages in seconds of the oldest undecided requests.
    render_metrics: Callable[[Mapping[int, float] | None], bytes]
    # None where another process executes what is approved here.
    executions: Executions | None = None
    decide_seconds_max: float = 30.0

    @property
    def keyring(self) -> Keyring:
        """The keys as the file has them now."""
        return self.keys.now()

    @property
    def queues(self) -> tuple[GroupCommit[Any, Any], ...]:
        """What is answered before the process ends."""
        return (
            self.submissions, self.decisions, self.redemptions, self.withdrawals, self.comments, self.delegations,
            self.freezes, self.administration, self.incidents,
        )  # fmt: skip


Handler = Callable[[Context, Call], Awaitable[Answer]]


class Parameter(Struct, frozen=True):
    """A query, path or header parameter as the API's description shows it."""

    name: str
    description: str
    schema: Mapping[str, Any]
    where: Literal["query", "path", "header"] = "query"
    required: bool = False


class Endpoint(Struct, frozen=True, kw_only=True):
    """One row of the table that routing and the API's description are both made from.

    A path parameter called `request_type` reaches the handler in upper case. `refusals` are those that the
    verb itself may answer: what the edge and authentication may answer is added by the description.
    """

    method: Literal["GET", "POST", "PUT"]
    path: str
    handler: Handler
    summary: str
    response: Any
    request: Any = None
    refusals: tuple[type[Refusal], ...] = ()
    family: Family = "contract"
    parameters: tuple[Parameter, ...] = ()
    callers: Literal["anyone", "system", "person"] = "system"
    organisation_header: Literal["required", "optional"] | None = None
    response_type: str = "application/json"

    @property
    def label(self) -> str:
        """How logs and metrics name it: never the path that was sent."""
        return f"{self.method} {self.path}"


class Route(Struct, frozen=True):
    """A path with the endpoints of its methods."""

    pattern: re.Pattern[str]
    endpoints: Mapping[str, Endpoint]
    allow: str
    family: Family

    def endpoint(self, method: str) -> Endpoint:
        """The endpoint of this method; raises WrongMethod."""
        found = self.endpoints.get(method)
        if found is None:
            raise WrongMethod(f"this path takes {self.allow}, not {method}")
        return found


class Router:
    """Finds the endpoint of a path: paths without parameters in one look-up, the others one by one."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        by_path: dict[str, dict[str, Endpoint]] = {}
        for endpoint in endpoints:
            by_path.setdefault(endpoint.path, {})[endpoint.method] = endpoint
        self._static: dict[str, Route] = {}
        self._patterns: list[Route] = []
        for path, methods in by_path.items():
            if "GET" in methods:
                methods["HEAD"] = methods["GET"]
            allow = ", ".join(sorted(methods))
            for spelled in _spellings(path):
                family = next(iter(methods.values())).family
                route = Route(compile_path(spelled)[0], methods, allow, family)
                if "{" in spelled:
                    self._patterns.append(route)
                else:
                    self._static[spelled] = route

    def find(self, path: str) -> tuple[Route, Mapping[str, str]]:
        """The route of a path and its parameters; raises UnknownPath."""
        if path.endswith("/") and path != "/":
            path = path[:-1]
        route = self._static.get(path)
        if route is not None:
            return route, NOTHING
        for route in self._patterns:
            matched = route.pattern.match(path)
            if matched is not None:
                params = matched.groupdict()
                if "request_type" in params:
                    params["request_type"] = params["request_type"].upper()
                return route, params
        raise UnknownPath("nothing is served at this path: /docs lists what is")


def _spellings(path: str) -> tuple[str, ...]:
    """The reference shows workflow paths under a second prefix as well."""
    return (path, "/v2" + path) if path.startswith("/api_gateway/") else (path,)


def family_of(path: str) -> Family:
    """Whose error body a path without an endpoint gets."""
    if path.startswith("/v1.1/"):
        return "v1"
    if path.startswith("/v3/oauth/"):
        return "oauth"
    return "own" if path.startswith("/counterfoil/") else "contract"
