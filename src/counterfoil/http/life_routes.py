"""The calls of our own API about the life of a request, on one screen."""

from __future__ import annotations

from typing import Final

from counterfoil.domain import refusals as no
from counterfoil.http import comments, delegations, described, freezes, life, own
from counterfoil.http.routing import Endpoint, Parameter

_REQUEST: Final = "/counterfoil/v1/requests/{request_id}"
_DELEGATIONS: Final = "/counterfoil/v1/delegations"
_FREEZES: Final = "/counterfoil/v1/freezes"
_PAST: Final = Parameter("past", "Also those that are over", {"enum": ["true", "false", ""]})
_PERSON: Final = Parameter("person", "Made by or to this person (staff id)", {"type": "string"})
_VOICE: Final = (no.NotPermitted, no.AlreadyCompleted, no.RequestNotFound, no.ChangedSinceShown)

ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    Endpoint(
        method="POST", path=f"{_REQUEST}/decisions", handler=life.decide, family="own",
        summary="Approve or reject a request as checker", request=life.DecisionBody, response=own.LifeAnswer,
        refusals=(*_VOICE, no.Frozen), parameters=(described.REQUEST_ID, described.IF_MATCH), callers="person",
        organisation_header="required",
    ),
    Endpoint(
        method="POST", path=f"{_REQUEST}/send-back", handler=life.send_back, family="own",
        summary="End a request as rejected, and ask its maker for another try", request=life.SendBackBody,
        response=own.LifeAnswer, refusals=_VOICE, parameters=(described.REQUEST_ID, described.IF_MATCH),
        callers="person", organisation_header="required",
    ),
    Endpoint(
        method="POST", path=f"{_REQUEST}/withdraw", handler=life.withdraw, family="own",
        summary="Take a pending request back as its maker", request=life.WithdrawBody, response=own.LifeAnswer,
        refusals=(no.NotPermitted, no.AlreadyCompleted, no.RequestNotFound), parameters=(described.REQUEST_ID,),
        callers="person", organisation_header="required",
    ),
    Endpoint(
        method="POST", path=f"{_REQUEST}/resubmit", handler=life.resubmit, family="own",
        summary="Make another try of an ended request as its maker", request=described.CreateBody,
        response=life.ResubmittedAnswer,
        refusals=(
            no.NotPermitted, no.AlreadyCompleted, no.WrongRequest, no.RequestNotFound, no.NobodyCanCheck,
            no.BadHeaders, no.IdempotencyConflict, no.Frozen, no.TypeNotSupported,
        ),
        parameters=(described.REQUEST_ID, described.IDEMPOTENCY_KEY), callers="person",
        organisation_header="required",
    ),
    Endpoint(
        method="GET", path=f"{_REQUEST}/differences", handler=life.differences, family="own",
        summary="What a resubmitted request has otherwise than the one before", response=life.DifferencesAnswer,
        refusals=(no.RequestNotFound,), parameters=(described.REQUEST_ID,), callers="person",
        organisation_header="optional",
    ),
    Endpoint(
        method="POST", path=f"{_REQUEST}/comments", handler=comments.add, family="own",
        summary="Comment on a request", request=comments.CommentBody, response=comments.CommentAnswer,
        refusals=(no.NotPermitted, no.RequestNotFound), parameters=(described.REQUEST_ID,), callers="person",
        organisation_header="required",
    ),
    Endpoint(
        method="GET", path=f"{_REQUEST}/comments", handler=comments.list_page, family="own",
        summary="The comments on a request", response=comments.CommentList, refusals=(no.RequestNotFound,),
        parameters=(described.REQUEST_ID, own.LIMIT, own.AFTER), callers="person", organisation_header="optional",
    ),
    Endpoint(
        method="POST", path=_DELEGATIONS, handler=delegations.delegate, family="own",
        summary="Delegate the deciding right to another person", request=delegations.DelegateBody,
        response=delegations.DelegationAnswer, refusals=(no.NotPermitted,), callers="person",
        organisation_header="required",
    ),
    Endpoint(
        method="POST", path=f"{_DELEGATIONS}/{{delegation_id}}/end", handler=delegations.end, family="own",
        summary="End a delegation early as its delegator", request=delegations.EndBody,
        response=delegations.DelegationAnswer,
        refusals=(no.NotPermitted, no.AlreadyCompleted, no.RequestNotFound),
        parameters=(own.parameter("delegation_id", "What the delegate call answered"),), callers="person",
        organisation_header="required",
    ),
    Endpoint(
        method="GET", path=_DELEGATIONS, handler=delegations.list_page, family="own", summary="Delegations",
        response=delegations.DelegationList, parameters=(_PERSON, _PAST, own.LIMIT, own.AFTER), callers="person",
        organisation_header="optional",
    ),
    Endpoint(
        method="POST", path=_FREEZES, handler=freezes.freeze, family="own",
        summary="Stop submissions, approvals and executions at once", request=freezes.FreezeBody,
        response=freezes.FreezeAnswer, refusals=(no.NotPermitted, no.AlreadyCompleted), callers="person",
        organisation_header="required",
    ),
    Endpoint(
        method="POST", path=f"{_FREEZES}/{{freeze_id}}/lift", handler=freezes.lift, family="own",
        summary="Propose to lift a freeze, or lift it as a second person", request=freezes.LiftBody,
        response=freezes.FreezeAnswer, refusals=(no.NotPermitted, no.AlreadyCompleted, no.RequestNotFound),
        parameters=(own.parameter("freeze_id", "What the freeze call answered"),), callers="person",
        organisation_header="required",
    ),
    Endpoint(
        method="GET", path=_FREEZES, handler=freezes.list_page, family="own", summary="Freezes",
        response=freezes.FreezeList, parameters=(_PAST, own.LIMIT, own.AFTER), callers="person",
        organisation_header="optional",
    ),
)  # fmt: skip
