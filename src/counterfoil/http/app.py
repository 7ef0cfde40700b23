"""Everything that is served, on one screen, and the application made from it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TypeAlias, TypeVar

from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.types import ASGIApp

from counterfoil import telemetry
from counterfoil.application import admin_changes as admin_verbs
from counterfoil.application import comments, delegations, endings, freezes, operations, points, requests
from counterfoil.application.access_tokens import AccessTokens
from counterfoil.application.callers import Callers
from counterfoil.application.group_commit import GroupCommit, Limits
from counterfoil.application.incidents import settle_incidents
from counterfoil.application.issuers import Issuers
from counterfoil.application.keys import KeysInUse, KeysUnusable
from counterfoil.application.organisations import Organisations, Verb, with_snapshot
from counterfoil.application.passwords import Passwords
from counterfoil.application.throttle import Throttle
from counterfoil.application.tokens import Tokens
from counterfoil.domain import refusals as no
from counterfoil.http import (
    access,
    admin_changes,
    described,
    described_calls,
    health,
    inbox,
    incidents,
    life_routes,
    listed,
    members,
    oauth,
    openapi,
    points_v1,
    points_v2,
    request_reads,
    request_views,
    request_workflow,
    ui_token,
    wire,
)
from counterfoil.http.edge import Edge
from counterfoil.http.routing import Context, Endpoint, Executions, Router
from counterfoil.settings import Settings, WrongSetting
from counterfoil.storage.database import Pool, open_pool

C = TypeVar("C")
R = TypeVar("R")

# An executor is made by who may know the room (`cli`): http and executor do not import each other.
StartExecutor: TypeAlias = Callable[
    [Pool, Organisations, KeysInUse, Limits, telemetry.Telemetry], AbstractAsyncContextManager[Executions]
]
PROBE_SECONDS = 1.0
EXPIRED_MAX = 200  # requests that one transaction of the sweep ends at most
WORKFLOW = "/api_gateway/v2/request-workflow"
OWN = "/counterfoil/v1"

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        method="POST", path=f"{WORKFLOW}/{{request_type}}", handler=request_workflow.create,
        summary="Submit a request as maker", request=described.CreateBody, response=wire.RequestAnswer,
        refusals=(
            no.NotPermitted, no.NobodyCanCheck, no.TypeNotSupported, no.BadEarningEntity, no.BadGoodwillPoints,
            no.BadUri, no.BadHeaders, no.IdempotencyConflict, no.Frozen,
        ),
        parameters=(described.REQUEST_TYPE, described.IDEMPOTENCY_KEY), callers="person",
        organisation_header="required",
    ),
    Endpoint(
        method="PUT", path=f"{WORKFLOW}/{{request_type}}", handler=request_workflow.decide,
        summary="Approve or reject a request as checker", request=described.DecideBody,
        response=wire.RequestAnswer,
        refusals=(
            no.NotPermitted, no.AlreadyCompleted, no.WrongRequest, no.TypeNotSupported, no.BadGoodwillPoints,
            no.NoGoodwillExpiry, no.ChangedSinceShown, no.Frozen,
        ),
        parameters=(described.REQUEST_TYPE, described.IF_MATCH), callers="person", organisation_header="required",
    ),
    Endpoint(
        method="GET", path=f"{WORKFLOW}/requests/{{request_id}}", handler=request_reads.get_one,
        summary="One request", response=wire.RequestAnswer, refusals=(no.RequestNotFound,),
        parameters=(described.REQUEST_ID,), callers="person", organisation_header="optional",
    ),
    Endpoint(
        method="GET", path=f"{WORKFLOW}/requests", handler=request_reads.list_page,
        summary="A page of requests", response=wire.RequestList,
        refusals=(no.BadSort, no.BadSortOrder, no.TypeNotSupported), parameters=described.LIST_FILTERS,
        callers="person", organisation_header="optional",
    ),
    Endpoint(
        method="POST", path="/v1.1/points/redeem", handler=points_v1.redeem, family="v1",
        summary="Redeem at once; needs CanMovePointsDirectly", request=described_calls.RedeemBody,
        response=described.RedeemAnswer, refusals=(no.NotPermitted, no.Frozen), callers="person",
        organisation_header="optional",
    ),
    Endpoint(
        method="GET", path="/v2/customers/lookup/points/balance", handler=points_v2.balance_by_identifier,
        family="v2", summary="A member's points, by an identifier", response=points_v2.BalanceAnswer,
        refusals=(no.MemberNotFound,), parameters=described.IDENTIFIER, callers="person",
        organisation_header="optional",
    ),
    Endpoint(
        method="GET", path="/v2/customers/{customer_id}/points/balance", handler=points_v2.balance_by_id,
        family="v2", summary="A member's points, by the member's number", response=points_v2.BalanceAnswer,
        refusals=(no.MemberNotFound,), parameters=(described.CUSTOMER_ID,), callers="person",
        organisation_header="optional",
    ),
    Endpoint(
        method="POST", path="/v3/oauth/token/generate", handler=oauth.generate, family="oauth",
        summary="An access token for an OAuth client, for X-CAP-API-OAUTH-TOKEN", request=oauth.ClientCredentials,
        response=oauth.GeneratedAnswer, refusals=(no.WrongClient, no.Throttled), callers="anyone",
    ),
    Endpoint(
        method="GET", path="/.well-known/jwks.json", handler=oauth.publish, family="own", callers="anyone",
        summary="The keys that access tokens are signed with", response=oauth.PublishedKeys,
    ),
    Endpoint(
        method="POST", path=f"{OWN}/ui-token", handler=ui_token.issue, family="own",
        summary="A token for a person, for X-CAP-UI-AUTH-TOKEN", request=ui_token.SignIn,
        response=ui_token.TokenAnswer, refusals=(no.IdentityNotVerified, no.Throttled), callers="anyone",
    ),
    Endpoint(
        method="GET", path=f"{OWN}/inbox", handler=inbox.list_inbox, family="own",
        summary="What the person can decide now, the most urgent first", response=listed.RowList,
        refusals=(no.NotPermitted,), parameters=described.PAGE, callers="person", organisation_header="optional",
    ),
    Endpoint(
        method="GET", path=f"{OWN}/requests", handler=inbox.search, family="own",
        summary="Requests by what is known of them, the newest first", response=listed.RowList,
        refusals=(no.TypeNotSupported,), parameters=described.SEARCH, callers="person",
        organisation_header="optional",
    ),
    Endpoint(
        method="GET", path=f"{OWN}/requests/{{request_id}}", handler=request_views.get_full, family="own",
        summary="One request with all that a decision needs", response=request_views.FullAnswer,
        refusals=(no.RequestNotFound,), parameters=(described.REQUEST_ID,), callers="person",
        organisation_header="optional",
    ),
    Endpoint(
        method="GET", path=f"{OWN}/requests/{{request_id}}/timeline", handler=request_views.get_timeline,
        family="own", summary="What happened to a request, for people to read", response=request_views.Timeline,
        refusals=(no.RequestNotFound,), parameters=(described.REQUEST_ID,), callers="person",
        organisation_header="optional",
    ),
    Endpoint(
        method="GET", path=f"{OWN}/requests/{{request_id}}/events", handler=request_reads.list_events,
        family="own", summary="The audit trail of a request", response=request_reads.AuditTrail,
        refusals=(no.RequestNotFound,), parameters=(described.REQUEST_ID,), callers="person",
        organisation_header="optional",
    ),
    *life_routes.ENDPOINTS,
    Endpoint(
        method="GET", path=f"{OWN}/members/{{member_id}}/status", handler=members.status, family="own",
        summary="A member's status label", response=members.MemberStatusAnswer, refusals=(no.MemberNotFound,),
        parameters=(described.MEMBER_ID,), callers="person", organisation_header="optional",
    ),
    Endpoint(
        method="GET", path=f"{OWN}/access", handler=access.explain, family="own",
        summary="Whether a person may make and decide requests at a unit, and why", response=access.AccessAnswer,
        refusals=(no.TypeNotSupported,), parameters=access.PARAMETERS, callers="person", organisation_header="optional",
    ),
    Endpoint(
        method="GET", path=f"{OWN}/access/report", handler=access.report, family="own",
        summary="People with both rights in one place, and makers without a checker", response=access.ReportAnswer,
        parameters=(access.AT,), callers="person", organisation_header="optional",
    ),
    Endpoint(
        method="POST", path=f"{OWN}/admin-changes", handler=admin_changes.propose, family="own",
        summary="Propose a change of the organisation, as an administrator", request=admin_changes.ProposeBody,
        response=admin_changes.ChangeAnswer, refusals=(no.NotPermitted,), callers="person",
        organisation_header="required",
    ),
    Endpoint(
        method="GET", path=f"{OWN}/admin-changes", handler=admin_changes.list_page, family="own",
        summary="Proposed changes, the newest first", response=admin_changes.ChangeList,
        refusals=(no.NotPermitted,), parameters=admin_changes.LIST_PARAMETERS, callers="person",
        organisation_header="optional",
    ),
    Endpoint(
        method="GET", path=f"{OWN}/admin-changes/{{change_id}}", handler=admin_changes.get_one, family="own",
        summary="One change with every line of its difference", response=admin_changes.ChangeAnswer,
        refusals=(no.NotPermitted, no.RequestNotFound), parameters=(admin_changes.CHANGE_ID,), callers="person",
        organisation_header="optional",
    ),
    Endpoint(
        method="POST", path=f"{OWN}/admin-changes/{{change_id}}/decisions", handler=admin_changes.decide, family="own",
        summary="Approve or reject a change as another administrator", request=admin_changes.DecisionBody,
        response=admin_changes.ChangeAnswer,
        refusals=(no.NotPermitted, no.RequestNotFound, no.AlreadyCompleted, no.ChangedSinceShown),
        parameters=(admin_changes.CHANGE_ID, described.IF_MATCH), callers="person", organisation_header="required",
    ),
    Endpoint(
        method="GET", path=f"{OWN}/requests/{{request_id}}/attempts", handler=incidents.list_attempts,
        family="own", summary="The calls and look-ups of a request at its external host",
        response=incidents.AttemptsAnswer, refusals=(no.RequestNotFound,), parameters=(described.REQUEST_ID,),
        callers="person", organisation_header="optional",
    ),
    Endpoint(
        method="GET", path=f"{OWN}/incidents", handler=incidents.list_page, family="own",
        summary="What no machine can clear up, the oldest first", response=incidents.IncidentList,
        parameters=described.INCIDENT_FILTERS, callers="person", organisation_header="optional",
    ),
    Endpoint(
        method="GET", path=f"{OWN}/incidents/{{incident_id}}", handler=incidents.get_one, family="own",
        summary="An incident with all its evidence", response=incidents.IncidentAnswer,
        refusals=(no.RequestNotFound,), parameters=(described.INCIDENT_ID,), callers="person",
        organisation_header="optional",
    ),
    Endpoint(
        method="POST", path=f"{OWN}/incidents/{{incident_id}}/settle", handler=incidents.settle, family="own",
        summary="Say what became of the request; needs CanSettleIncident", request=incidents.Settlement,
        response=incidents.IncidentAnswer, refusals=(no.RequestNotFound, no.NotPermitted, no.AlreadyCompleted),
        parameters=(described.INCIDENT_ID,), callers="person", organisation_header="required",
    ),
    Endpoint(
        method="GET", path="/healthz", handler=health.healthz, family="own", callers="anyone",
        summary="Whether the process answers", response=health.Up,
    ),
    Endpoint(
        method="GET", path="/readyz", handler=health.readyz, family="own", callers="anyone",
        summary="Whether requests can be served", response=health.Ready,
    ),
    Endpoint(
        method="GET", path="/metrics", handler=health.metrics, family="own", callers="anyone",
        summary="Metrics for Prometheus", response=None, response_type="text/plain",
    ),
)  # fmt: skip
# What an access group may name: each call that has a caller, and all calls of a family.
RESOURCES: frozenset[str] = frozenset(
    name for each in ENDPOINTS if each.callers != "anyone" for name in (each.label, each.family)
)


def create_app(settings: Settings, start_executor: StartExecutor | None = None) -> ASGIApp:
    """The ASGI application of one worker. It opens its pool and queues at start-up, not here.

    `start_executor` gives the process an executor for external hosts.
    """
    observer = telemetry.Telemetry()

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        try:
            async with open_context(settings, observer, start_executor) as context:
                edge.context = context
                yield
        except (KeysUnusable, WrongSetting) as error:
            telemetry.log().error("cannot start", reason=str(error))
            raise

    served = tuple(each for each in ENDPOINTS if settings.metrics == "on" or each.handler is not health.metrics)
    # The framework serves start-up and shutdown, and refuses what is not HTTP.
    edge = Edge(
        Router((*served, *openapi.endpoints(served))),
        Starlette(lifespan=lifespan),
        observer,
        body_bytes_max=settings.body_bytes_max,
    )
    return edge


@asynccontextmanager
async def open_context(
    settings: Settings, observer: telemetry.Telemetry, start_executor: StartExecutor | None = None
) -> AsyncIterator[Context]:
    """Open the pool and the queues; afterwards answer what is queued, then close them."""
    if settings.database_url is None:
        raise WrongSetting("DATABASE_URL is not set: `counterfoil serve` starts the embedded database")
    keys = KeysInUse(settings.keys_path, telemetry.keys_not_read)
    access_tokens = AccessTokens(keys, seconds_max=settings.oauth_seconds_max)
    pool = await open_pool(settings.database_url, size=settings.pool_size, statement_cache=settings.statement_cache)
    passwords = Passwords()
    organisations = Organisations(pool)
    limits = Limits(
        queue_max=settings.queue_max, batch_max=settings.batch_max, lock_timeout_ms=settings.lock_timeout_ms
    )

    def queue(verb: str, run: Verb[C, R], bounds: Limits = limits) -> GroupCommit[C, R]:
        return GroupCommit(verb, pool, with_snapshot(organisations, run), bounds, observer)

    context = Context(
        pool=pool,
        keys=keys,
        organisations=organisations,
        callers=Callers(
            pool, organisations, passwords, Throttle(), Tokens(keys.now().token_key), access_tokens, Issuers(keys.now)
        ),
        access_tokens=access_tokens,
        submissions=queue("submit", requests.submit_requests),
        decisions=queue("decide", requests.decide_requests),
        redemptions=queue("redeem", points.redeem_points),
        withdrawals=queue("withdraw", endings.withdraw_requests),
        comments=queue("comment", comments.add_comments),
        delegations=queue("delegate", delegations.change_delegations),
        freezes=queue("freeze", freezes.change_freezes),
        administration=queue("administer", admin_verbs.administer, replace(limits, batch_max=1, in_flight_max=1)),
        incidents=queue("settle_incident", settle_incidents),
        probes=operations.Probes(pool),
        resources=RESOURCES,
        render_metrics=partial(telemetry.render_metrics, observer.registry),
        decide_seconds_max=settings.decide_seconds_max,
    )
    tasks = (
        asyncio.create_task(_probe_pool(pool, observer)),
        asyncio.create_task(_sweep(pool, organisations, settings, observer)),
    )
    try:
        if start_executor is None:
            yield context
        else:
            async with start_executor(pool, organisations, keys, limits, observer) as executions:
                yield replace(context, executions=executions)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in context.queues:
            await each.drain()
        passwords.close()
        await pool.close()


async def _probe_pool(pool: Pool, observer: telemetry.Telemetry) -> None:
    while True:
        await asyncio.sleep(PROBE_SECONDS)
        waited = await operations.seconds_until_free(pool)
        if waited is not None:
            observer.pool_wait(waited)


async def _sweep(pool: Pool, organisations: Organisations, settings: Settings, observer: telemetry.Telemetry) -> None:
    """Write down again and again what time has ended; each worker begins at another moment."""
    while True:
        await asyncio.sleep(settings.expiry_seconds * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
        await endings.sweep(
            pool,
            organisations,
            batch_max=EXPIRED_MAX,
            lock_timeout_ms=settings.lock_timeout_ms,
            fault=partial(observer.fault, "expire"),
        )
