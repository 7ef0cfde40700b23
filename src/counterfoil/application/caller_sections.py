"""The sections of an organisation file that tell who may call beyond the tills: clients, access groups, issuers."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

import msgspec

from counterfoil.application.passwords import SECRET_BYTES_MAX
from counterfoil.application.yaml_fields import Fields
from counterfoil.domain.access import Right
from counterfoil.domain.callers import (
    ALGORITHMS,
    OAUTH,
    SECRET_ALGORITHM,
    TOKEN_SECONDS_DEFAULT,
    TOKEN_SECONDS_MAX,
    TOKEN_SECONDS_MIN,
    AccessGroup,
    TrustedIssuer,
)
from counterfoil.domain.organisation_files import Password
from counterfoil.domain.organisations import Credential

SECRETS: Final = ("secret", "secretEnv", "secretFile", "secretPrompt")
KEYS: Final = ("key", "keyFile", "jwks", "jwksFile")
CAPS: Final = ("directCapPerCall", "directCapPerDay")
OAUTH_CLIENT: Final = (
    "key", "id", "unit", "person", "rights", *CAPS, "accessGroup", "ttlSeconds", "active", *SECRETS,
)  # fmt: skip
ACCESS_GROUP: Final = ("name", "resources")
ISSUER: Final = (
    "issuer", "algorithm", "audience", "userIdClaim", "userNameClaim", "organisationClaim", *SECRETS, *KEYS,
)  # fmt: skip
KEY_BYTES_MAX: Final = 65_536
_LOGIN = re.compile(r"[^\s:]+")
_RESOURCE = re.compile(r"contract|v1|v2|own|(?:GET|POST|PUT|PATCH|DELETE) /[^\s,]*")
_EXTERNAL_IDS_MAX: Final = 3
_GRANTED: Final = (Right.MAKE, Right.CHECK, Right.ADMINISTER)


def login(fields: Fields, name: str) -> str:
    """A name by which a calling system calls."""
    text = fields.text(name)
    if text and not _LOGIN.fullmatch(text):
        fields.tell(name, "must have no colon and no blank in it")
    return text


def rights(fields: Fields) -> tuple[str, ...]:
    """The rights that a calling system has of its own."""
    return fields.words("rights", lambda word: word == Right.MOVE_DIRECTLY, _why_no_right)


def _why_no_right(word: str) -> str:
    if word in _GRANTED:
        return f"{word} is a person's: put a grant for the credential's person under grants"
    return f"must be {Right.MOVE_DIRECTLY}, the one right that a calling system has of its own"


def external_ids(fields: Fields) -> tuple[str, ...]:
    """The names that other systems have for a store, in the file's order."""
    found = fields.plain("externalIds")
    if found is None:
        return ()
    texts = [each for each in found if isinstance(each, str)] if isinstance(found, list) else []
    if not isinstance(found, list) or len(texts) != len(found) or not 0 < len(texts) <= _EXTERNAL_IDS_MAX:
        fields.tell("externalIds", f"must be a list of at most {_EXTERNAL_IDS_MAX} texts")
    elif any(not each.strip() or "," in each or not each.isprintable() or len(each) > 100 for each in texts):
        fields.tell("externalIds", "must be texts of 1 to 100 characters without a comma")
    return tuple(texts)


def clients(top: Fields, passwords: dict[str, Password]) -> Iterator[tuple[str, Credential]]:
    """`oauthClients`."""
    for fields in top.entries("oauthClients", OAUTH_CLIENT):
        yield (
            fields.path,
            Credential(
                login=login(fields, "key"),
                user_id=fields.number("id"),
                secret_hash="",
                person_id=fields.text("person", maximum=100) or None,
                unit_id=fields.reference("unit"),
                rights=rights(fields),
                active=fields.flag("active", default=True),
                kind=OAUTH,
                token_seconds=fields.number(
                    "ttlSeconds", default=TOKEN_SECONDS_DEFAULT, low=TOKEN_SECONDS_MIN, high=TOKEN_SECONDS_MAX
                ),
                access_group=fields.text("accessGroup", required=False) or None,
                direct_cap_per_call=fields.points(CAPS[0], required=False),
                direct_cap_per_day=fields.points(CAPS[1], required=False),
            ),
        )
        _source(fields, passwords, SECRETS, SECRET_BYTES_MAX)


def access_groups(top: Fields, resources: Collection[str] | None) -> Iterator[tuple[str, AccessGroup]]:
    """`accessGroups`."""

    def is_known(word: str) -> bool:
        return bool(_RESOURCE.fullmatch(word)) and (resources is None or word in resources)

    for fields in top.entries("accessGroups", ACCESS_GROUP):
        if "resources" not in fields:
            fields.tell("resources", "is missing: list what the group may call; [] is nothing")
        yield (
            fields.path,
            AccessGroup(
                fields.text("name"),
                fields.words(
                    "resources", is_known,
                    lambda word: f"{word} is no call: name one as docs/contract.md lists it, such as "
                    "GET /v2/customers/lookup/points/balance, or all of contract, v1, v2 or own",
                ),
            ),
        )  # fmt: skip


def issuers(top: Fields, passwords: dict[str, Password]) -> Iterator[tuple[str, TrustedIssuer]]:
    """`uiTokenIssuers`."""
    for fields in top.entries("uiTokenIssuers", ISSUER):
        algorithm = fields.choice("algorithm", tuple(ALGORITHMS))
        right, wrong = (SECRETS, KEYS) if algorithm == SECRET_ALGORITHM else (KEYS, SECRETS)
        for name in wrong if algorithm else ():
            if name in fields:
                fields.tell(name, f"is not for {algorithm}: give one of {', '.join(right)}")
        user_id_claim = fields.text("userIdClaim", required=False, maximum=100)
        user_name_claim = fields.text("userNameClaim", required=False, maximum=100)
        if not user_id_claim and not user_name_claim:
            fields.tell("userIdClaim", "is missing: name the claim that has the user's id, or userNameClaim")
        yield (
            fields.path,
            TrustedIssuer(
                issuer=fields.text("issuer"),
                algorithm=algorithm or "",
                organisation_claim=fields.text("organisationClaim", maximum=100),
                user_id_claim=user_id_claim or None,
                user_name_claim=user_name_claim or None,
                audience=fields.text("audience", required=False) or None,
            ),
        )
        _source(fields, passwords, (*right, *wrong), KEY_BYTES_MAX)


def _source(fields: Fields, passwords: dict[str, Password], names: Collection[str], bytes_max: int) -> None:
    """Keep where a secret or a key comes from; no message may ever repeat a value."""
    given = [name for name in names if name in fields]
    if len(given) > 1:
        fields.tell(given[1], f"it is also given as {given[0]}: keep one of them")
    for name in given[:1]:
        word = next(each for each in ("secret", "key", "jwks") if name.startswith(each))
        if name == "secretPrompt":
            if fields.flag(name, default=False):
                passwords[fields.path] = Password("prompt", "", word=word)
            continue
        written = fields.plain(name) if name == "jwks" else fields.secret(name)
        inline = written if isinstance(written, str) else msgspec.json.encode(written).decode()
        if not 0 < len(inline.encode("utf-8", "surrogatepass")) <= bytes_max:
            fields.tell(name, f"must have 1 to {bytes_max} bytes: leave it out to keep what is there")
        source = {"Env": "env", "File": "file"}.get(name.removeprefix(word), "value")
        passwords[fields.path] = Password(source, inline, word=word)
