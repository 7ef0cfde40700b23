"""Every expected "no", each with its stable code.

Refusal
├── NotPermitted                2001   the actor lacks the right here
│   ├── SelfApproval            2001   the maker's person tried to decide
│   ├── OverLimit               2001   the right is there, but for fewer points
│   ├── SelfInterest            2001   maker or checker is the member concerned
│   ├── NotNeeded               2001   the voice would meet no open part of the requirement
│   └── CapReached              2001   a cap of the policy refuses it today
├── AlreadyCompleted            2002   somebody decided before
│   └── AlreadyVoted            2002   the same person did
├── WrongOrganisation           2005   the organisation header is missing, malformed or another's
├── WrongRequest                2007   the request id, type or action name does not fit
│   └── RequestNotFound         2007   the same, on a read
├── InvalidPayload              2008   the content is malformed
├── TypeNotSupported            2009
├── BadSort                     2011
├── BadSortOrder                2012
├── IdentityNotVerified         2013
├── BadEarningEntity            2014   goodwill for nobody that can have it
├── BadGoodwillPoints           2015   no amount of goodwill points, or above the cap
├── NobodyCanCheck              2021   no person but the maker could ever decide
├── BadUri                      2022   the call's path cannot be built
├── BadHeaders                  2023   the call's headers cannot be used
├── IdempotencyConflict         2901   the key was used for other content
├── ChangedSinceShown           2902
├── NoGoodwillExpiry            3002   the programme does not say how long goodwill points last
├── MemberNotFound              8015   no such customer (the points API's own code)
├── Busy                        2903
├── TooLarge                    2904
├── WrongMediaType              2905
├── UnknownPath                 2906
├── Throttled                   2907
├── OurFault                    2908
├── WrongMethod                 2909
└── Frozen                      2910   somebody has stopped this

2001-2023 and 3002 are the contract's (dossier §2.10), 29xx ours. No HTTP number stands here: `http/problems.py`
maps each class to its status.
"""

from __future__ import annotations


class Refusal(Exception):
    """A command was refused for a reason that its caller can act on.

    `message` says what to do; `path` names the field, where there is one. Verbs return refusals,
    they never raise them inside a batch.
    """

    code = 0

    def __init__(self, message: str, path: str | None = None, *, retry_after_seconds: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.retry_after_seconds = retry_after_seconds


class NotPermitted(Refusal):
    """The actor lacks the right at this place."""

    code = 2001


class SelfApproval(NotPermitted):
    """The person who made the request tried to decide it."""


class OverLimit(NotPermitted):
    """The actor has the right at this place, but for fewer points."""


class SelfInterest(NotPermitted):
    """The maker or the checker is the member concerned."""


class NotNeeded(NotPermitted):
    """The voice would not bring the request nearer to its requirement now."""


class CapReached(NotPermitted):
    """A cap of the policy has no room for the points."""


class AlreadyCompleted(Refusal):
    """The request was decided before."""

    code = 2002


class AlreadyVoted(AlreadyCompleted):
    """The actor has given a voice already; the request waits for another person."""


class WrongOrganisation(Refusal):
    """The organisation header is missing, malformed or not the caller's."""

    code = 2005


class WrongRequest(Refusal):
    """The request id, its type or the action name does not fit."""

    code = 2007


class RequestNotFound(WrongRequest):
    """A read named a request that this organisation does not have."""


class InvalidPayload(Refusal):
    """The content is malformed."""

    code = 2008


class TypeNotSupported(Refusal):
    """The request type is not served."""

    code = 2009


class BadSort(Refusal):
    """sortBy names something else than startDate or endDate."""

    code = 2011


class BadSortOrder(Refusal):
    """sortOrder is neither asc nor desc."""

    code = 2012


class IdentityNotVerified(Refusal):
    """The credentials or the user token could not be verified."""

    code = 2013


class BadEarningEntity(Refusal):
    """The earning entity of goodwill is missing or malformed."""

    code = 2014


class BadGoodwillPoints(Refusal):
    """The goodwill points are malformed or above the organisation's cap."""

    code = 2015


class NobodyCanCheck(Refusal):
    """No person but the maker could ever decide."""

    code = 2021


class BadUri(Refusal):
    """The path of the stored call cannot be built."""

    code = 2022


class BadHeaders(Refusal):
    """The headers of the stored call cannot be used."""

    code = 2023


class IdempotencyConflict(Refusal):
    """The idempotency key was used before, for other content."""

    code = 2901


class ChangedSinceShown(Refusal):
    """What the checker saw is no longer what would be approved."""

    code = 2902


class NoGoodwillExpiry(Refusal):
    """The programme does not say how long goodwill points last: the request stays pending."""

    code = 3002


class MemberNotFound(Refusal):
    """A read named a customer that this organisation does not have."""

    code = 8015


class Busy(Refusal):
    """Nothing was consumed; the same call may be sent again."""

    code = 2903


class TooLarge(Refusal):
    """The body is over the limit."""

    code = 2904


class WrongMediaType(Refusal):
    """The body is not JSON."""

    code = 2905


class UnknownPath(Refusal):
    """Nothing is served here."""

    code = 2906


class Throttled(Refusal):
    """Too many failures; wait."""

    code = 2907


class OurFault(Refusal):
    """The service failed; nothing was consumed."""

    code = 2908


class WrongMethod(Refusal):
    """The path exists, the method does not."""

    code = 2909


class Frozen(Refusal):
    """A freeze covers this: nothing is submitted, approved or executed until two people lift it."""

    code = 2910
