"""Which calling system and which person a call comes from.

A refusal that a stale snapshot may have caused is checked against the database before it is given, so that a
new password or user works at once. What has been taken away is found by the verbs, which compare versions.
"""

from __future__ import annotations

import binascii
import os
from base64 import b64decode
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from counterfoil.application.organisations import Organisations
from counterfoil.application.passwords import REMEMBERED_SECONDS, Passwords
from counterfoil.application.throttle import Throttle
from counterfoil.application.tokens import Token, Tokens
from counterfoil.domain.access import Actor
from counterfoil.domain.organisations import Credential, Organisation, User
from counterfoil.domain.refusals import Busy, IdentityNotVerified, Refusal, Throttled, WrongOrganisation
from counterfoil.storage import organisations as stored
from counterfoil.storage.database import Pool, acquire

KNOWN_MAX: Final = 10_000
# Half of what passwords are remembered for: who is at work asks again in time, and stays remembered there.
KNOWN_SECONDS: Final = REMEMBERED_SECONDS / 2
LOGIN_CHARACTERS_MAX: Final = 255
_FOR_EVER: Final = float("inf")

WRONG_CREDENTIALS: Final = (
    "the credentials are wrong: send Authorization: Basic base64(till code:md5 of its password in hex)"
)
WRONG_USER: Final = (
    "the user token in X-CAP-UI-AUTH-TOKEN is not valid (any more): get one from POST /counterfoil/v1/ui-token"
)
WRONG_SIGN_IN: Final = "the user name or the password is wrong"
_WRONG_TILLS: Final = (
    "too many calls with a wrong credential of this till were decided: nothing was decided now, send it again"
)


@dataclass(frozen=True, slots=True)
class Presented:
    """What a call shows: its headers as they came, and where it came from."""

    authorization: bytes
    organisation: bytes | None
    token: bytes
    source: str
    organisation_required: bool


@dataclass(frozen=True, slots=True)
class Clock:
    """The time of day, which tokens go by, and seconds that never jump, for everything kept in memory."""

    now: float
    ticks: float


@dataclass(frozen=True, slots=True)
class _Known:
    organisation: Organisation
    actor: Actor
    until_ticks: float
    until: float


class Callers:
    """Verifies callers, and remembers the result as long as the organisation's snapshot stays the same."""

    def __init__(
        self,
        pool: Pool,
        organisations: Organisations,
        passwords: Passwords,
        throttle: Throttle,
        tokens: Tokens,
    ) -> None:
        self._pool = pool
        self._organisations = organisations
        self._passwords = passwords
        self._throttle = throttle
        self._tokens = tokens
        self._key = os.urandom(32)
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    async def identify(self, shown: Presented, clock: Clock) -> tuple[Organisation, Actor]:
        """The organisation and the actor of a call; raises the refusal otherwise."""
        # Everything but the clock that the result depends on is in this name or in the snapshot.
        organisation = b"" if shown.organisation is None else b"=" + shown.organisation
        joined = b"%d|%d|%d|%b%b%b" % (
            shown.organisation_required, len(shown.authorization), len(shown.token),
            shown.authorization, shown.token, organisation,
        )  # fmt: skip
        name = blake2b(joined, key=self._key, digest_size=16).digest()
        known = self._known.get(name)
        if (
            known is not None
            and clock.ticks < known.until_ticks
            and clock.now < known.until
            and await self._organisations.current(known.organisation.org_id) is known.organisation
        ):
            return known.organisation, known.actor
        known = await self._identify(shown, clock)
        self._known.pop(name, None)
        self._known[name] = known
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return known.organisation, known.actor

    async def _identify(self, shown: Presented, clock: Clock) -> _Known:
        parsed = parse_basic(shown.authorization)
        if parsed is None:
            raise IdentityNotVerified(WRONG_CREDENTIALS, "Authorization")
        organisation, credential = await self._system(*parsed, shown.source, clock)
        token = self._tokens.verify(shown.token, clock.now) if shown.token else None
        refused = _mismatch(organisation, shown, token)
        if refused is not None:
            # The login may have moved to the organisation that is meant: then this snapshot is an old one.
            if await self._look_again(parsed[0], organisation) is organisation:
                raise refused
            organisation, credential = await self._system(*parsed, shown.source, clock)
            refused = _mismatch(organisation, shown, token)
            if refused is not None:
                raise refused
        if token is None:
            actor = _actor_of(organisation, credential, None)
            return _Known(organisation, actor, clock.ticks + KNOWN_SECONDS, _FOR_EVER)
        user = _user_of(organisation, token.user_id, token.epoch)
        if user is None:
            fresh = await self._reload(organisation)
            user = _user_of(fresh, token.user_id, token.epoch) if fresh else None
            if fresh is None or user is None:
                raise IdentityNotVerified(WRONG_USER, "X-CAP-UI-AUTH-TOKEN")
            organisation = fresh
        actor = _actor_of(organisation, credential, user)
        return _Known(organisation, actor, clock.ticks + KNOWN_SECONDS, token.expires_at)

    async def _system(self, login: str, secret: bytes, source: str, clock: Clock) -> tuple[Organisation, Credential]:
        """The calling system behind a login and its secret; raises IdentityNotVerified."""
        org_id = await self._organisations.organisation_of(login)
        organisation = await self._organisations.current(org_id) if org_id is not None else None
        credential = _credential_of(organisation, login)
        stored_hash = credential.secret_hash if credential else None
        correct = await self._verify(login, secret, stored_hash, source, clock)
        if not correct:
            organisation = await self._look_again(login, organisation)
            credential = _credential_of(organisation, login)
            if credential is not None and credential.secret_hash != stored_hash:
                correct = await self._verify(login, secret, credential.secret_hash, source, clock)
        if not correct:
            raise IdentityNotVerified(WRONG_CREDENTIALS, "Authorization")
        if organisation is None or credential is None:
            raise AssertionError("a secret was verified without a credential (this is a bug)")
        return organisation, credential

    async def _verify(self, login: str, secret: bytes, stored_hash: str | None, source: str, clock: Clock) -> bool:
        """Whether the secret is right; raises Throttled while this login or source was wrong too often."""
        if stored_hash is not None and self._passwords.remembered(secret, stored_hash, clock.ticks, login=login):
            return True
        # Who sends what is being verified already learns nothing more than the first one.
        counted = not self._passwords.is_running(secret, stored_hash, login=login)
        if counted:
            self._throttle.check(login, source, clock.ticks)
        try:
            correct = await self._passwords.verify(secret, stored_hash, clock.ticks, login=login, source=source)
        except Busy:
            if counted:
                self._throttle.take_back(login, source)
            raise
        if correct and counted:
            self._throttle.succeeded(login, source)
        return correct

    async def _look_again(self, login: str, organisation: Organisation | None) -> Organisation | None:
        """The organisation of a login as both are now: a login may move, and a secret change."""
        if organisation is not None:
            await self._reload(organisation)
        org_id = await self._organisations.organisation_of(login, again=True)
        return await self._organisations.current(org_id) if org_id is not None else None

    async def _reload(self, organisation: Organisation) -> Organisation | None:
        """The organisation as it is now, if that is another version; else None."""
        async with acquire(self._pool) as connection:
            version = await stored.fetch_version(connection, organisation.org_id)
        if version in (None, organisation.version):
            return None
        self._organisations.forget(organisation.org_id, version)
        return await self._organisations.current(organisation.org_id)

    async def sign_in(self, org_id: int, user_name: str, password: str, source: str, clock: Clock) -> str:
        """A token for the user; raises IdentityNotVerified, in the same time whatever was wrong."""
        login = f"{org_id}/{user_name.lower()}"
        secret = password.encode()
        organisation = await self._organisations.current(org_id)
        if organisation is not None:
            # A token made from an old snapshot would have the old epoch, and end with the first call.
            organisation = await self._reload(organisation) or organisation
        user = organisation.users_by_name.get(user_name.lower()) if organisation else None
        entitled = _user_of(organisation, user.user_id, user.epoch) if organisation and user else None
        stored_hash = entitled.password_hash if entitled else None
        if not await self._verify(login, secret, stored_hash, source, clock) or entitled is None:
            raise IdentityNotVerified(WRONG_SIGN_IN)
        return self._tokens.issue(org_id, entitled.user_id, entitled.epoch, clock.now)

    async def verify_till(
        self, organisation: Organisation, authorization: str, caller: str, clock: Clock, *, final: bool
    ) -> tuple[str, int] | None:
        """The login and epoch of the credential that a payload carries, None when it is wrong.

        `caller` is the login of the calling system: who sends wrong ones with it has to wait as at the door.
        Until then even a right one counts as wrong; where that would be `final`, Throttled is raised.
        """
        parsed = parse_basic(authorization.encode("utf-8", "surrogatepass"))
        if parsed is None:
            return None
        login, secret = parsed
        credential = _credential_of(organisation, login)
        stored_hash = credential.secret_hash if credential else None
        # Apart, so that makers who guess do not make checkers wait. No address looks like this.
        source = f"{'decisions' if final else 'requests'} of {caller}"
        try:
            correct = await self._verify(login, secret, stored_hash, source, clock)
        except Throttled as error:
            if final:
                raise Throttled(_WRONG_TILLS, retry_after_seconds=error.retry_after_seconds) from None
            return None
        return (login, credential.epoch) if correct and credential is not None else None


def parse_basic(header: bytes) -> tuple[str, bytes] | None:
    """Login and secret of a Basic header, None when it is not one. The md5 form may be in upper case."""
    scheme, _, encoded = header.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        login, colon, secret = b64decode(encoded.strip(), validate=True).partition(b":")
        name = login.decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    if not colon or not name.isprintable() or not 0 < len(name) <= LOGIN_CHARACTERS_MAX:
        return None
    return name, secret.lower() if len(secret) == 32 else secret


def _credential_of(organisation: Organisation | None, login: str) -> Credential | None:
    credential = organisation.credentials.get(login) if organisation else None
    return credential if credential is not None and credential.active else None


def _user_of(organisation: Organisation, user_id: int, epoch: int) -> User | None:
    """The user, if it may act: active, of an active person, and of the same epoch."""
    user = organisation.users.get(user_id)
    if user is None or not user.active or user.epoch != epoch:
        return None
    person = organisation.people.get(user.person_id)
    return user if person is not None and person.active else None


def _mismatch(organisation: Organisation, shown: Presented, token: Token | None) -> Refusal | None:
    """What of the call is not this organisation's: its number, or the token."""
    if shown.organisation is None:
        if shown.organisation_required:
            return WrongOrganisation("send the number of your organisation in the header", "X-CAP-API-AUTH-ORG-ID")
    else:
        digits = shown.organisation.strip()
        # int() alone would take blanks, signs, underscores and Arabic digits.
        if not digits.isdigit() or len(digits) > 19 or int(digits) != organisation.org_id:
            return WrongOrganisation(
                "this is not the number of the organisation that the credentials belong to",
                "X-CAP-API-AUTH-ORG-ID",
            )
    if shown.token and (token is None or token.org_id != organisation.org_id):
        return IdentityNotVerified(WRONG_USER, "X-CAP-UI-AUTH-TOKEN")
    return None


def _actor_of(organisation: Organisation, credential: Credential, user: User | None) -> Actor:
    return Actor(
        org_id=organisation.org_id,
        organisation_version=organisation.version,
        login=credential.login,
        login_rights=frozenset(credential.rights),
        person_id=user.person_id if user else credential.person_id,
        user_id=user.user_id if user else credential.user_id,
        user_name=user.user_name if user else credential.login,
        has_user=user is not None,
    )
