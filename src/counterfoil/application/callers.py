"""Which calling system and which person a call comes from.

A refusal that a stale snapshot may have caused is checked against the database before it is given, so that a
new password or user works at once. What has been taken away is found by the verbs, which compare versions.
"""

from __future__ import annotations

import binascii
import os
from base64 import b64decode
from collections import OrderedDict
from datetime import datetime
from hashlib import blake2b
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct

from counterfoil.application.access_tokens import AccessTokens
from counterfoil.application.issuers import Issuers
from counterfoil.application.organisations import Organisations
from counterfoil.application.passwords import REMEMBERED_SECONDS, Passwords
from counterfoil.application.throttle import Throttle
from counterfoil.application.tokens import Tokens
from counterfoil.domain import identities
from counterfoil.domain.access import Actor
from counterfoil.domain.callers import BASIC, OAUTH, TOKEN_SECONDS_DEFAULT
from counterfoil.domain.organisations import Credential, Organisation, User
from counterfoil.domain.refusals import (
    Busy,
    IdentityNotVerified,
    Refusal,
    Throttled,
    TokenExpired,
    WrongClient,
    WrongOrganisation,
)
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
ACCESS_TOKEN: Final = "X-CAP-API-OAUTH-TOKEN"  # noqa: S105 - the name of a header
WRONG_ACCESS_TOKEN: Final = "the access token is not valid (any more): get one from POST /v3/oauth/token/generate"  # noqa: S105 - no secret
TWO_SYSTEMS: Final = "an access token and Authorization could be two callers: send one of the two"
WRONG_CLIENT: Final = "Invalid client key and secret"  # the contract's words
_WRONG_TILLS: Final = (
    "too many calls with a wrong credential of this till were decided: nothing was decided now, send it again"
)


class Presented(Struct, frozen=True):
    """What a call shows: its headers as they came, and where it came from."""

    authorization: bytes
    access_token: bytes
    organisation: bytes | None
    token: bytes
    source: str
    organisation_required: bool


class Clock(Struct, frozen=True):
    """The time of day, which tokens go by, and seconds that never jump, for everything kept in memory."""

    now: float
    ticks: float


class _Known(Struct, frozen=True):
    organisation: Organisation
    actor: Actor
    until_ticks: float
    until: float
    signing_keys: object


_Judged = tuple[User | None, float, datetime | None]


class Callers:
    """Verifies callers, and remembers the result as long as the organisation's snapshot stays the same."""

    def __init__(
        self,
        pool: Pool,
        organisations: Organisations,
        passwords: Passwords,
        throttle: Throttle,
        tokens: Tokens,
        access_tokens: AccessTokens,
        issuers: Issuers,
    ) -> None:
        self._pool = pool
        self._organisations = organisations
        self._passwords = passwords
        self._throttle = throttle
        self._tokens = tokens
        self._access_tokens = access_tokens
        self._issuers = issuers
        self._key = os.urandom(32)
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    async def identify(self, shown: Presented, clock: Clock) -> tuple[Organisation, Actor]:
        """The organisation and the actor of a call; raises the refusal otherwise."""
        # Everything but the clock that the result depends on is in this name or in the snapshot.
        organisation = b"" if shown.organisation is None else b"=" + shown.organisation
        joined = b"%d|%d|%d|%d|%b%b%b%b" % (
            shown.organisation_required, len(shown.authorization), len(shown.access_token), len(shown.token),
            shown.authorization, shown.access_token, shown.token, organisation,
        )  # fmt: skip
        name = blake2b(joined, key=self._key, digest_size=16).digest()
        known = self._known.get(name)
        if (
            known is not None
            and clock.ticks < known.until_ticks
            and clock.now < known.until
            and known.signing_keys is self._access_tokens.generation(clock.ticks)
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
        organisation, credential, until = await self._system(shown, clock)
        judged = self._judge(organisation, shown, clock)
        if isinstance(judged, Refusal):
            # The login may have moved to the organisation that is meant, the user or the issuer of the token may be
            # new: then this snapshot is an old one.
            if await self._look_again(credential.login, organisation) is organisation:
                raise judged
            organisation, credential, until = await self._system(shown, clock)
            judged = self._judge(organisation, shown, clock)
            if isinstance(judged, Refusal):
                raise judged
        user, user_until, decides_from = judged
        return _Known(
            organisation,
            identities.actor_of(organisation, credential, user, decides_from),
            clock.ticks + KNOWN_SECONDS,
            min(until, user_until),
            self._access_tokens.generation(clock.ticks),
        )

    async def _system(self, shown: Presented, clock: Clock) -> tuple[Organisation, Credential, float]:
        """The calling system, and until when what it shows counts; raises IdentityNotVerified."""
        if shown.access_token:
            if shown.authorization:
                raise IdentityNotVerified(TWO_SYSTEMS, ACCESS_TOKEN)
            return await self._client(shown.access_token, clock)
        parsed = parse_basic(shown.authorization)
        if parsed is None:
            raise IdentityNotVerified(WRONG_CREDENTIALS, "Authorization")
        found = await self._secret_of(*parsed, BASIC, shown.source, clock)
        if found is None:
            raise IdentityNotVerified(WRONG_CREDENTIALS, "Authorization")
        return *found, _FOR_EVER

    async def _client(self, token: bytes, clock: Clock) -> tuple[Organisation, Credential, float]:
        """The OAuth client behind an access token; raises IdentityNotVerified or TokenExpired."""
        said = self._access_tokens.read(token, clock.now, clock.ticks)
        organisation = await self._organisations.current(said.org_id) if said else None
        if said is None or organisation is None:
            raise IdentityNotVerified(WRONG_ACCESS_TOKEN, ACCESS_TOKEN)
        client = identities.credential_of(organisation, said.client, OAUTH)
        if client is None or client.epoch != said.epoch:
            organisation = await self._reload(organisation) or organisation
            client = identities.credential_of(organisation, said.client, OAUTH)
        if client is None or client.epoch != said.epoch:
            raise IdentityNotVerified(WRONG_ACCESS_TOKEN, ACCESS_TOKEN)
        if clock.now >= said.expires_at:
            ended = datetime.fromtimestamp(said.expires_at, ZoneInfo(organisation.wire_time_zone))
            raise TokenExpired(f"Token expired at {ended:%Y-%m-%dT%H:%M:%S}.000{ended:%z}")
        return organisation, client, said.expires_at

    async def _secret_of(
        self, login: str, secret: bytes, kind: str, source: str, clock: Clock
    ) -> tuple[Organisation, Credential] | None:
        """The credential of this kind behind a login, if the secret is its own."""
        org_id = await self._organisations.organisation_of(login)
        organisation = await self._organisations.current(org_id) if org_id is not None else None
        credential = identities.credential_of(organisation, login, kind)
        stored_hash = credential.secret_hash if credential else None
        known_wrong = self._passwords.remembered(secret, stored_hash, clock.ticks, login=login) is False
        if known_wrong:
            # The snapshot may be an old one: who sends a new secret many times at once has not guessed many times.
            self._throttle.admit(login, source, clock.ticks)
        elif await self._verify(login, secret, stored_hash, source, clock):
            return (organisation, credential) if organisation and credential else None
        organisation = await self._look_again(login, organisation)
        credential = identities.credential_of(organisation, login, kind)
        new_hash = credential.secret_hash if credential else None
        if not known_wrong and new_hash in (None, stored_hash):
            return None  # this attempt has been counted
        correct = await self._verify(login, secret, new_hash, source, clock)
        return (organisation, credential) if correct and organisation and credential else None

    async def issue_access_token(self, key: str, secret: str, source: str, clock: Clock) -> tuple[str, int]:
        """A token for the OAuth client and its life in seconds; raises WrongClient, whatever was wrong."""
        if not key.isprintable():
            raise WrongClient(WRONG_CLIENT)
        found = await self._secret_of(key, secret.encode(), OAUTH, source, clock)
        if found is not None:
            # A token made from an old snapshot would have the old epoch, and end with the first call.
            organisation = await self._reload(found[0]) or found[0]
            client = identities.credential_of(organisation, key, OAUTH)
            if client is not None and client.secret_hash == found[1].secret_hash:
                seconds = client.token_seconds or TOKEN_SECONDS_DEFAULT
                return self._access_tokens.issue(
                    organisation.org_id, key, client.epoch, seconds, clock.now, clock.ticks
                )
        raise WrongClient(WRONG_CLIENT)

    def _judge(self, organisation: Organisation, shown: Presented, clock: Clock) -> _Judged | Refusal:
        """The user of a call, until when its token counts and from when it decides, or the refusal."""
        refused = _wrong_organisation(organisation, shown)
        if refused is not None:
            return refused
        if not shown.token:
            return None, _FOR_EVER, None
        token = self._tokens.verify(shown.token, clock.now)
        if token is not None and token.org_id == organisation.org_id:
            user = identities.user_of(organisation, token.user_id, token.epoch)
            if user is not None:
                return user, token.expires_at, None
        elif token is None and organisation.issuers:
            identity = self._issuers.verify(organisation, shown.token, clock.now)
            user = identities.named_user(organisation, identity) if identity else None
            if user is not None and identity is not None:
                return user, identity.expires_at, identity.decides_from
        return IdentityNotVerified(WRONG_USER, "X-CAP-UI-AUTH-TOKEN")

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
        entitled = identities.user_of(organisation, user.user_id, user.epoch) if organisation and user else None
        stored_hash = entitled.password_hash if entitled else None
        if not await self._verify(login, secret, stored_hash, source, clock) or entitled is None:
            raise IdentityNotVerified(WRONG_SIGN_IN)
        return self._tokens.issue(org_id, entitled.user_id, entitled.epoch, clock.now)

    async def verify_till(
        self, organisation: Organisation, authorization: str, caller: str, clock: Clock, *, final: bool
    ) -> tuple[str, int] | None:
        """The login and epoch of the credential that a payload carries, None when it is wrong.

        `caller` is the login of the calling system: who sends ever new wrong ones with it has to wait as at the door.
        Until then even a right one counts as wrong; where that would be `final`, Throttled is raised.
        """
        parsed = parse_basic(authorization.encode("utf-8", "surrogatepass"))
        if parsed is None:
            return None
        login, secret = parsed
        credential = identities.credential_of(organisation, login, BASIC)
        stored_hash = credential.secret_hash if credential else None
        if self._passwords.remembered(secret, stored_hash, clock.ticks, login=login) is False:
            return None  # told before: no new guess
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


def _wrong_organisation(organisation: Organisation, shown: Presented) -> Refusal | None:
    """The refusal of a call whose number of the organisation is not the calling system's."""
    if shown.organisation is None:
        if shown.organisation_required:
            return WrongOrganisation("send the number of your organisation in the header", "X-CAP-API-AUTH-ORG-ID")
        return None
    digits = shown.organisation.strip()
    # int() alone would take blanks, signs, underscores and Arabic digits.
    if not digits.isdigit() or len(digits) > 19 or int(digits) != organisation.org_id:
        return WrongOrganisation(
            "this is not the number of the organisation that the credentials belong to", "X-CAP-API-AUTH-ORG-ID"
        )
    return None
