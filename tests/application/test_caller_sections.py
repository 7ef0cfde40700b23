"""OAuth clients, access groups and trusted issuers in a file: what is read, and every mistake with its line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from msgspec.structs import replace

from counterfoil.application.administration import PasswordSources, resolve_passwords
from counterfoil.application.organisation_files import read
from counterfoil.domain.access import Right
from counterfoil.domain.callers import OAUTH, AccessGroup, TrustedIssuer
from counterfoil.domain.change_lines import describe
from counterfoil.domain.organisation_changes import difference
from counterfoil.domain.organisation_files import Current
from counterfoil.domain.organisations import Credential
from counterfoil.http.app import ENDPOINTS, RESOURCES
from tests.application.test_organisation_files import HEAD, draft_of, file_of, only_problem

PEOPLE = "people: [{staffId: E1, name: A}]\n"
CLIENT = PEOPLE + "oauthClients:\n- {key: app, id: 9, person: E1, secret: s"
ISSUER = "uiTokenIssuers:\n- {issuer: i, algorithm: RS256, userIdClaim: id, organisationClaim: o, key: k"
GROUP = "accessGroups:\n- {name: g, resources: [contract]}\n"
STORE = (
    "units: {zones: [{id: 1, name: Z}], concepts: [{id: 2, name: C}], stores: [{id: 3, name: S, zone: 1, concept: 2, "
)
TILL = "credentials: [{login: app, id: 8, password: s}]"
KNOWN_CLIENT = Credential("app", 9, "h", "E1", kind=OAUTH, token_seconds=300)
KNOWN_TILL = Credential("app", 9, "h")


def test_a_client() -> None:
    file = file_of(
        CLIENT + ", ttlSeconds: 900, unit: 5, accessGroup: g, rights: [CanMovePointsDirectly]}\n" + GROUP
        + "units: {zones: [{id: 5, name: Z}]}"
    )  # fmt: skip
    assert list(file.credentials.values()) == [
        Credential("app", 9, "", "E1", 5, (Right.MOVE_DIRECTLY,), kind=OAUTH, token_seconds=900, access_group="g")
    ]
    assert list((file.access_groups or {}).values()) == [AccessGroup("g", ("contract",))]


def test_a_clients_secret_is_taken_as_it_is_and_a_tills_password_is_not() -> None:
    draft = draft_of(CLIENT + "}\ncredentials: [{login: t, id: 8, password: s}]")
    assert draft.file is not None
    secrets = resolve_passwords(draft, draft.file, PasswordSources({}, Path(), None))
    assert secrets == {"credentials[0]": "03c7c0ace395d80182db07ae2c30f034", "oauthClients[0]": "s"}


@pytest.mark.parametrize(
    ("field", "given", "told"),
    [("secretEnv", "NAME", "in the environment"), ("secretFile", "file", "from a file")],
)
def test_where_a_secret_comes_from(tmp_path: Path, field: str, given: str, told: str) -> None:
    (tmp_path / "file").write_text("from a file\n")
    draft = draft_of(CLIENT.replace("secret: s", f"{field}: {given}") + "}")
    assert draft.file is not None
    sources = PasswordSources({"NAME": "in the environment"}, tmp_path, None)
    assert resolve_passwords(draft, draft.file, sources) == {"oauthClients[0]": told}
    assert draft.problems == []
    resolve_passwords(draft, draft.file, PasswordSources({}, tmp_path / "nowhere", None))
    assert [each.path for each in draft.problems] == [f"oauthClients[0].{field}"]


@pytest.mark.parametrize(
    ("text", "line", "path", "says"),
    [
        (CLIENT.replace("person: E1, ", "") + "}", 3, "oauthClients[0].person", "is missing"),
        (CLIENT.replace("person: E1", "person: E2") + "}", 3, "oauthClients[0].person", "there is no person E2"),
        (CLIENT.replace("key: app", "key: 'a b'") + "}", 3, "oauthClients[0].key", "no blank"),
        (CLIENT + ", ttlSeconds: 59}", 3, "oauthClients[0].ttlSeconds", "from 60 to 2592000"),
        (CLIENT + ", ttlSeconds: 2592001}", 3, "oauthClients[0].ttlSeconds", "from 60"),
        (CLIENT + ", unit: 7}", 3, "oauthClients[0].unit", "there is no unit 7"),
        (CLIENT + ", accessGroup: g}", 3, "oauthClients[0].accessGroup", "there is no access group g"),
        (CLIENT + ", secretEnv: X}", 3, "oauthClients[0].secretEnv", "also given as secret"),
        (CLIENT + ", rights: [CanMakeRequest]}", 3, "oauthClients[0].rights[0]", "is a person's"),
        (CLIENT + ", passwordMd5: x}", 3, "oauthClients[0].passwordMd5", "is no field"),
        (CLIENT.replace(", secret: s", "") + "}", 3, "oauthClients[0]", "needs a secret: add secret, secretEnv"),
        (CLIENT.replace("secret: s", "secret: ''") + "}", 3, "oauthClients[0].secret", "must have 1 to"),
        (CLIENT + "}\n- {key: app, id: 8, person: E1, secret: s}", 4, "oauthClients[1].key", "also at oauthClients[0]"),
        (CLIENT + "}\n" + TILL, 3, "oauthClients[0].key", "also at credentials"),
        (CLIENT + "}\ncredentials: [{login: b, id: 9, password: s}]", 3, "oauthClients[0].id", "id 9 is also at"),
        ("accessGroups:\n- {name: g}", 2, "accessGroups[0].resources", "is missing"),
        ("accessGroups:\n- {name: g, resources: [v3]}", 2, "accessGroups[0].resources[0]", "v3 is no call"),
        ("accessGroups:\n- {name: g, resources: [GET]}", 2, "accessGroups[0].resources[0]", "GET is no call"),
        ("accessGroups:\n- {name: g, resources: [v1, v1]}", 2, "accessGroups[0].resources[1]", "twice"),
        (GROUP + "- {name: g, resources: []}", 3, "accessGroups[1].name", "also at accessGroups[0]"),
        (ISSUER.replace("RS256", "none") + "}", 2, "uiTokenIssuers[0].algorithm", "must be one of HS256"),
        (ISSUER.replace("RS256", "HS256") + "}", 2, "uiTokenIssuers[0].key", "is not for HS256"),
        (ISSUER.replace("key: k", "secret: s") + "}", 2, "uiTokenIssuers[0].secret", "is not for RS256"),
        (ISSUER.replace("userIdClaim: id, ", "") + "}", 2, "uiTokenIssuers[0].userIdClaim", "or userNameClaim"),
        (ISSUER.replace("organisationClaim: o, ", "") + "}", 2, "uiTokenIssuers[0].organisationClaim", "is missing"),
        (ISSUER + ", jwks: {keys: []}}", 2, "uiTokenIssuers[0].jwks", "also given as key"),
        (ISSUER.replace(", key: k", "") + "}", 2, "uiTokenIssuers[0]", "needs a key for RS256"),
        (ISSUER.replace("issuer: i", "issuer: counterfoil") + "}", 2, "uiTokenIssuers[0].issuer", "our own"),
        (STORE + "externalIds: [a, b, c, d]}]}", 1, "units.stores[0].externalIds", "at most 3"),
        (STORE + "externalIds: ['a,b']}]}", 1, "units.stores[0].externalIds", "without a comma"),
    ],
    ids=range(30),
)  # fmt: skip
def test_mistakes(text: str, line: int, path: str, says: str) -> None:
    found = only_problem(text)
    assert found[:2] == (line, path)
    assert says in found[2]


def test_a_login_stays_of_its_kind() -> None:
    current = Current(credentials={"app": KNOWN_TILL})
    assert only_problem(CLIENT + "}", current)[1:] == (
        "oauthClients[0].key", "app is a till's login, which it stays: use another",
    )  # fmt: skip
    current = Current(credentials={"app": KNOWN_CLIENT})
    assert "key of an OAuth client" in only_problem("credentials: [{login: app, id: 9, password: s}]", current)[2]


def test_a_group_in_use_cannot_go() -> None:
    current = Current(
        credentials={"app": replace(KNOWN_CLIENT, access_group="g")}, access_groups={"g": AccessGroup("g", ())}
    )
    assert only_problem("accessGroups: []", current)[1] == "accessGroups"
    file_text = PEOPLE + "accessGroups: []\noauthClients: [{key: app, id: 9, person: E1}]"
    draft = draft_of(file_text)
    assert draft.file is not None
    changes = difference(draft.file, current, {}).records
    assert [(each.what, each.sign) for each in changes if each.what in ("oauthClient", "accessGroup")] == [
        ("oauthClient", "~"), ("accessGroup", "-"),
    ]  # fmt: skip


def test_the_calls_that_a_group_may_name() -> None:
    """Every call that has a caller, and every family of them."""
    for name in RESOURCES:
        draft = read(f"{HEAD}accessGroups: [{{name: g, resources: ['{name}']}}]".encode(), RESOURCES)
        assert draft.problems == [], name
    assert {each.label for each in ENDPOINTS if each.callers == "anyone"} & RESOURCES == set()
    draft = read(f"{HEAD}accessGroups: [{{name: g, resources: ['GET /v2/nothing']}}]".encode(), RESOURCES)
    assert [each.path for each in draft.problems] == ["accessGroups[0].resources[0]"]


def test_a_key_set_in_the_file() -> None:
    text = ISSUER.replace("key: k", "jwks: {keys: [{kty: RSA, kid: '01', n: AQAB, e: AQAB}]}") + "}"
    [told] = file_of(text).passwords.values()
    assert (told.word, told.value) == ("jwks", '{"keys":[{"kty":"RSA","kid":"01","n":"AQAB","e":"AQAB"}]}')


def test_a_key_set_that_never_ends() -> None:
    for wrong in ("&a {keys: *a}", "{keys: [" + "{}," * 2000 + "]}"):
        draft = draft_of(ISSUER.replace("key: k", f"jwks: {wrong}") + "}")
        assert [each.path for each in draft.problems] == ["uiTokenIssuers[0].jwks"]


def test_no_secret_is_told() -> None:
    draft = draft_of(CLIENT.replace("secret: s", "secret: hush-hush") + "}\n" + ISSUER + "}")
    assert draft.file is not None
    told = difference(draft.file, Current(), {"oauthClients[0]": "argon-hash", "uiTokenIssuers[0]": "the-keys"})
    lines = [line.text for line in describe(told)]
    assert not [line for line in lines for secret in ("hush", "argon", "the-keys") if secret in line]
    assert "oauthClient app: id 9, person E1, ttlSeconds 300, secret set" in lines
    assert [line for line in lines if line.startswith("uiTokenIssuer i: algorithm RS256, userIdClaim id")]
    assert "hush" not in repr(draft.file)


def test_what_ends_a_token() -> None:
    """A new secret and the end of a client raise the epoch; nothing else does."""
    current = Current(credentials={"app": KNOWN_CLIENT})
    for text, hashes, epoch in (
        (CLIENT + "}", {}, 1),
        (CLIENT + ", ttlSeconds: 900}", {}, 1),
        (CLIENT + "}", {"oauthClients[0]": "new"}, 2),
        (CLIENT + ", active: false}", {}, 2),
    ):
        [changed] = [
            each.after for each in difference(file_of(text), current, hashes).credentials
        ] or [KNOWN_CLIENT]  # fmt: skip
        assert changed is not None
        assert changed.epoch == epoch


def test_an_issuer_keeps_its_keys_and_goes_with_its_line() -> None:
    known = TrustedIssuer("i", "RS256", "o", "id", keys="kept")
    current = Current(issuers={"i": known})
    draft = draft_of(ISSUER.replace(", key: k", ", audience: a}"))
    assert draft.file is not None
    [changed] = difference(draft.file, current, {}).issuers
    assert changed.after == dataclasses.replace(known, audience="a")
    draft = draft_of("uiTokenIssuers: []")
    assert draft.file is not None
    [gone] = difference(draft.file, current, {}).issuers
    assert (gone.before, gone.after) == (known, None)
    draft = draft_of("")
    assert draft.file is not None
    assert difference(draft.file, current, {}).issuers == ()
