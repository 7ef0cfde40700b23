"""OAuth clients over raw HTTP: the token call, the token, its end, and what a client may call (dossier §4)."""

from __future__ import annotations

import base64
import hmac
import json
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jws
from joserfc.jwk import KeySet

from counterfoil.application.keys import load_keys
from counterfoil.http.app import ENDPOINTS
from counterfoil.http.routing import Endpoint
from tests.contract.shop import (
    CHECKER,
    CREATE,
    MAKER,
    MAKER_ID,
    OTHER_STORE,
    OTHER_TILL,
    REDEEM,
    STORE,
    TILL,
    WORKFLOW,
    ZONE,
    Shop,
    assert_refused,
    basic,
    data_of,
    guesses,
    md5,
)

SAMPLES = Path(__file__).parent / "samples"
GENERATE = "/v3/oauth/token/generate"
LIST = f"{WORKFLOW}/requests"
BALANCE = "/v2/customers/lookup/points/balance?identifierName=mobile&identifierValue=1&source=INSTORE"
EVENTS = "/counterfoil/v1/requests/d9df3b65-62a7-11ee-aa6d-0aaee4e533d2/events"
# One path of each family of APIs.
FAMILIES = {"contract": LIST, "v1": REDEEM, "v2": BALANCE, "own": EVENTS}


def sample(name: str) -> Any:
    return json.loads((SAMPLES / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def shop(make_shop: Callable[..., Shop]) -> Shop:
    """An organisation with clients that tests only use."""
    shop = make_shop()
    shop.client("app", ttlSeconds=300)
    shop.client("store", unit=STORE, person="E-1004")
    shop.client("short", ttlSeconds=60)
    shop.client("box", rights=["CanMovePointsDirectly"])
    shop.client("closed", active=False)
    shop.content["units"]["stores"][1] |= {"code": "S-2", "externalIds": ["ext-2", "ext-2b"]}
    shop.apply()
    return shop


def call(shop: Shop, path: str, headers: dict[str, str]) -> httpx.Response:
    if path == REDEEM:
        return shop.http.post(path, json={"root": {"redeem": {}}}, headers=headers)
    return shop.http.get(path, headers=headers)


def forged(shop: Shop, name: str = "app", **changes: Any) -> str:
    """A token as the service itself would sign it."""
    key = load_keys(shop.serve.folder / "keys.json").signing[-1]
    now, client = int(time.time()), f"{name}.{shop.org_id}"
    claims = {
        "iss": "Capillary", "sub": client, "client_id": client, "org_id": shop.org_id, "token_use": "token_access",
        "jti": "1", "iat": now, "exp": now + 300, "epoch": 1,
    } | changes  # fmt: skip
    header = {"alg": "RS256", "kid": key.kid}
    token = jws.serialize_compact(header, json.dumps(claims).encode(), key.key, ["RS256"])
    shop.serve.secrets.add(token)
    return token


def with_token(shop: Shop, token: str, by: str | None = None, **changes: str | None) -> dict[str, str]:
    return shop.headers(by, Authorization=None, X_CAP_API_OAUTH_TOKEN=token, **changes)


# The token call.


def test_the_samples(shop: Shop) -> None:
    """Keys, their order and types of the two sample answers."""
    asked = sample("oauth-token/request.json")
    assert list(asked) == ["key", "secret"]
    answer = shop.access_token(f"app.{shop.org_id}")
    assert answer.status_code == 200
    wanted = sample("oauth-token/response.json")
    wanted["data"]["accessToken"] = answer.json()["data"]["accessToken"]
    assert answer.text == json.dumps(wanted, separators=(",", ":"))
    shop.serve.secrets.add(answer.json()["data"]["accessToken"])
    assert shop.access_token(f"short.{shop.org_id}").json()["data"]["ttlSeconds"] == 60
    refused = shop.http.post(GENERATE, json=asked)
    assert refused.status_code == 401
    assert refused.text == json.dumps(sample("oauth-token/response-invalid.json"), separators=(",", ":"))


def test_one_answer_whatever_is_wrong(shop: Shop) -> None:
    """An unknown key, a wrong secret, a client that ended, a till's login with its password."""
    pairs = [
        ("nobody", "x"), (f"app.{shop.org_id}", "wrong"), (f"closed.{shop.org_id}", shop.secret("closed")),
        (shop.till, md5(shop.password)), (shop.till, shop.password), ("a\tb", "x"),
    ]  # fmt: skip
    answers = {(each.status_code, each.content) for each in (shop.access_token(*pair) for pair in pairs)}
    assert len(answers) == 1
    assert answers.pop()[0] == 401


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"{", 400, 2008), (b"[]", 400, 2008), (b"{}", 400, 2008), (b'{"key":"a"}', 400, 2008),
        (b'{"key":1,"secret":"a"}', 400, 2008), (b'{"key":"","secret":"a"}', 400, 2008),
        (b'{"key":"a","secret":"a","key":"b"}', 400, 2008), (b'{"key":"a","secret":"\\u0000"}', 400, 2008),
        (b'{"key":"a","secret":"%s"}' % (b"a" * 1025), 400, 2008),
        (b'{"key":"a","secret":"b","x":"%s"}' % (b"a" * 9000), 413, 2904),
    ],
    ids=range(10),
)  # fmt: skip
def test_a_malformed_token_call(shop: Shop, content: bytes, status: int, code: int) -> None:
    """In the form of the token call, too."""
    answer = shop.http.post(GENERATE, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert list(body) == ["data", "errors"]
    [error] = body["errors"]
    assert list(error) == ["code", "message"]
    assert error["code"] == code


def test_other_refusals_of_the_token_call(shop: Shop) -> None:
    for answer, status in (
        (shop.http.get(GENERATE), 405),
        (shop.http.post(GENERATE, content=b"a=b", headers={"Content-Type": "text/plain"}), 415),
        (shop.http.post(GENERATE.replace("generate", "other"), json={}), 404),
    ):
        assert answer.status_code == status
        assert list(answer.json()["errors"][0]) == ["code", "message"]


def test_guesses_of_a_secret_are_slowed_down(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop()
    shop.client("app")
    shop.apply()
    key = f"app.{shop.org_id}"
    answers = guesses(partial(shop.access_token, key))
    assert len(answers) > 3
    assert answers[-1].status_code == 429
    answer = shop.access_token(key)
    assert answer.status_code == 429, "also the right one, as it was not verified lately"
    assert answer.json()["errors"][0]["code"] == 2907
    assert int(answer.headers["retry-after"]) >= 1


def test_anybody_can_verify_a_token(shop: Shop) -> None:
    keys: Any = shop.http.get("/.well-known/jwks.json").json()
    assert {name for key in keys["keys"] for name in key} == {"kty", "n", "e", "kid", "use", "alg"}
    token = shop.access_token(f"app.{shop.org_id}").json()["data"]["accessToken"]
    shop.serve.secrets.add(token)
    verified = jws.deserialize_compact(token, KeySet.import_key_set(keys), ["RS256"])
    assert verified.headers() == {"typ": "JWT", "alg": "RS256", "kid": keys["keys"][-1]["kid"]}
    claims = json.loads(verified.payload)
    assert set(claims) == {"iss", "exp", "iat", "jti", "sub", "client_id", "org_id", "token_use", "epoch"}
    assert claims["exp"] - claims["iat"] == 300
    assert (claims["org_id"], claims["token_use"]) == (shop.org_id, "token_access")


# Calls with a token.


def test_a_whole_life_by_a_client(shop: Shop) -> None:
    """The person is the user token's; the client is only what calls."""
    created = data_of(shop.http.post(CREATE, json=shop.body(), headers=shop.by_client("app", MAKER)))
    assert (created["userId"], created["userName"]) == (MAKER_ID, MAKER)
    decision = {"requestId": created["requestId"], "actionName": "AdminTask",
                "payload": {"AdminTask-Payload": {"actionDecision": "approved", "actionMessage": "ok"}}}  # fmt: skip
    by_checker = shop.by_client("app", CHECKER)
    assert data_of(shop.http.put(CREATE, json=decision, headers=by_checker))["state"] == "approved"
    [login] = shop.serve.rows("SELECT maker_login FROM request WHERE request_id = $1", created["requestId"])
    assert login["maker_login"] == f"app.{shop.org_id}"


@pytest.mark.parametrize("token", [None, ""])
def test_without_a_user_token_the_client_itself_is_the_maker(shop: Shop, token: str | None) -> None:
    """Under its person's rights; a decision needs a person who is there."""
    headers = shop.by_client("app", X_CAP_UI_AUTH_TOKEN=token)
    created = data_of(shop.http.post(CREATE, json=shop.body(), headers=headers))
    assert created["userName"] == f"app.{shop.org_id}"
    assert_refused(shop.decide(created["requestId"], by=MAKER), 403, 2001, "maker")  # the client's person
    both = shop.by_client("store", X_CAP_UI_AUTH_TOKEN=token)
    decision = {"requestId": created["requestId"], "actionName": "AdminTask",
                "payload": {"AdminTask-Payload": {"actionDecision": "approved", "actionMessage": "ok"}}}  # fmt: skip
    assert_refused(shop.http.put(CREATE, json=decision, headers=both), 403, 2001, "needs a person")


def test_a_right_of_its_own(shop: Shop) -> None:
    member = shop.member()
    item = {"points_redeemed": 1, "customer": {"mobile": member.mobile}}
    for name, status in (("box", 200), ("app", 403)):
        headers = shop.by_client(name)
        answer = shop.http.post(REDEEM, json={"root": {"redeem": item}}, headers=headers)
        assert answer.status_code == status, answer.text


def test_one_system_at_a_time(shop: Shop) -> None:
    both = shop.by_client("app") | {"Authorization": shop.basic}
    assert_refused(shop.http.get(LIST, headers=both), 401, 2013, "one of the two")
    twice = [*shop.by_client("app").items(), ("X-CAP-API-OAUTH-TOKEN", "x")]
    assert_refused(shop.http.get(LIST, headers=twice), 400, 2008, "x-cap-api-oauth-token")
    empty = shop.headers(X_CAP_API_OAUTH_TOKEN="")
    assert shop.http.get(LIST, headers=empty).status_code == 200


def test_a_key_and_its_secret_are_no_till(shop: Shop) -> None:
    """Neither at the door nor in a payload."""
    key = f"app.{shop.org_id}"
    for secret in (shop.secret(key), md5(shop.secret(key))):
        authorization = basic(key, secret)
        assert_refused(shop.http.get(LIST, headers={"Authorization": authorization}), 401, 2013)
        body = shop.body()
        body["payload"]["IntouchAPITask-Payload"]["headers"]["Authorization"] = authorization
        assert "till_credential" in shop.submit(body).headers["X-Counterfoil-Flags"]


def unsigned(shop: Shop) -> str:
    _, claims, _ = forged(shop).split(".")
    return base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=") + f".{claims}."


def signed_with_the_public_key(shop: Shop) -> str:
    key = load_keys(shop.serve.folder / "keys.json").signing[-1]
    header = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": key.kid}).encode()).decode().rstrip("=")
    signed = f"{header}.{forged(shop).split('.')[1]}"
    signature = hmac.digest(key.key.as_pem(private=False), signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


WRONG_TOKENS: dict[str, Callable[[Shop], str]] = {
    "garbage": lambda _: "x.y.z",
    "none": unsigned,
    "HS256 with the public key": signed_with_the_public_key,
    "another organisation's client": lambda shop: forged(shop, org_id=600_000),
    "an unknown client": lambda shop: forged(shop, sub="nobody", client_id="nobody"),
    "a till": lambda shop: forged(shop, sub=shop.till, client_id=shop.till),
    "a client that ended": lambda shop: forged(shop, "closed"),
    "an older secret": lambda shop: forged(shop, epoch=0),
    "another issuer": lambda shop: forged(shop, iss="counterfoil"),
    "a long one": lambda shop: forged(shop, exp=int(time.time()) + 7200),
    "a user token": lambda shop: shop.token(MAKER),
    "too long": lambda _: "a" * 20_000,
}


def test_the_forger_of_these_tests_can_forge(shop: Shop) -> None:
    assert shop.http.get(LIST, headers=with_token(shop, forged(shop))).status_code == 200


@pytest.mark.parametrize("kind", WRONG_TOKENS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_wrong_token_in_every_family(shop: Shop, kind: str, family: str) -> None:
    answer = call(shop, FAMILIES[family], with_token(shop, WRONG_TOKENS[kind](shop)))
    assert answer.status_code == 401, answer.text
    body = answer.json()
    if family == "v1":
        assert body["response"]["status"] == {"success": "true", "code": "401", "message": "Unauthorized"}
    else:
        assert body["errors"][0]["code"] == 2013
        assert "X-CAP-API-OAUTH-TOKEN" in body["errors"][0]["message"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_token_that_is_over_in_every_family(shop: Shop, family: str) -> None:
    """HTTP 498 and the sample's words, with the time in the organisation's zone."""
    ended = int(time.time()) - 10
    answer = call(shop, FAMILIES[family], with_token(shop, forged(shop, iat=ended - 300, exp=ended)))
    assert answer.status_code == 498
    wanted = sample("auth-errors/v11-498-expired.json")
    status = wanted["response"]["status"]
    form = re.sub(r"\d", r"\\d", re.escape(status["message"])).replace(r"\+\d\d\d\d", r"\+0530")
    if family == "v1":
        found = answer.json()["response"]["status"]
        assert list(answer.json()["response"]) == ["status", "responses"]  # the sample is of the customers API
        assert list(found) == list(status)
        assert (found["success"], found["code"]) == (status["success"], status["code"])
    else:
        found = answer.json()["errors"][0]
        assert found["code"] == 2013
    assert re.fullmatch(form, found["message"]), found["message"]


def test_a_token_of_a_client_that_ended_is_no_expired_one(shop: Shop) -> None:
    """Who asks for a new one after 498 would ask for ever."""
    ended = int(time.time()) - 10
    token = forged(shop, "closed", iat=ended - 300, exp=ended)
    assert call(shop, LIST, with_token(shop, token)).status_code == 401


def test_the_organisations_header_must_agree(shop: Shop) -> None:
    assert_refused(
        shop.http.post(CREATE, json=shop.body(), headers=shop.by_client("app", MAKER, X_CAP_API_AUTH_ORG_ID="600000")),
        400, 2005,
    )  # fmt: skip


@pytest.mark.parametrize("change", ["secret", "active", "person", "no person's rights"])
def test_what_is_taken_away_counts_with_the_next_call(make_shop: Callable[..., Shop], change: str) -> None:
    """And does not come back with the client."""
    shop = make_shop()
    client = shop.client("app")
    shop.apply()
    headers = shop.by_client("app")
    data_of(shop.http.post(CREATE, json=shop.body(), headers=headers))
    if change == "secret":
        client["secret"] = "another secret"
    elif change == "active":
        client["active"] = False
    elif change == "person":
        shop.content["people"][0]["active"] = False
    else:
        shop.content["grants"] = []
    shop.apply()
    status = 403 if change == "no person's rights" else 401
    assert shop.http.post(CREATE, json=shop.body(), headers=headers).status_code == status
    assert shop.http.get(LIST, headers=headers).status_code == (200 if status == 403 else 401)
    assert shop.access_token(client["key"]).status_code == (200 if status == 403 else 401)
    if change == "active":
        client["active"] = True
        shop.apply()
        assert shop.http.get(LIST, headers=headers).status_code == 401
        assert shop.access_token(client["key"]).status_code == 200


def test_a_new_client_works_at_once(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop()
    assert shop.access_token(f"app.{shop.org_id}", "a secret that is not there").status_code == 401
    shop.client("app")
    shop.apply()
    assert shop.http.get(LIST, headers=shop.by_client("app")).status_code == 200


def test_no_secret_is_kept(shop: Shop) -> None:
    rows = shop.serve.rows("SELECT secret_hash FROM credential WHERE org_id = $1 AND kind = 'oauth'", shop.org_id)
    assert rows
    assert all(row["secret_hash"].startswith("$argon2id$") for row in rows)


# Access groups.

CALLED = [each for each in ENDPOINTS if each.callers != "anyone"]
DENIED = {"status": False, "code": 4000, "message": "Not authorized. Access is denied!"}


@pytest.fixture(scope="module")
def grouped(make_shop: Callable[..., Shop]) -> Shop:
    """A till and a client for each call that lack only that one, and a till that has only that one."""
    shop = make_shop(0)
    shop.content["accessGroups"] = []
    for number, endpoint in enumerate(CALLED):
        others = [each.label for each in CALLED if each is not endpoint]
        for name, resources in ((f"but{number}", others), (f"only{number}", [endpoint.label])):
            shop.content["accessGroups"].append({"name": name, "resources": resources})
            till = {"login": f"{name}.{shop.org_id}", "id": 100 + 2 * number + name.startswith("only")}
            shop.content["credentials"].append(till | {"passwordMd5": md5(shop.password), "accessGroup": name})
        shop.client(f"c{number}", id=10_000 + number, accessGroup=f"but{number}")
    shop.content["accessGroups"].append({"name": "v2", "resources": ["v2"]})
    shop.client("family", accessGroup="v2", id=20_000)
    shop.client("nothing", accessGroup="none", id=20_001)
    shop.content["accessGroups"].append({"name": "none", "resources": []})
    shop.apply()
    return shop


def ask(shop: Shop, endpoint: Endpoint, headers: dict[str, str]) -> httpx.Response:
    path = endpoint.path.replace("{request_type}", "POINTS-REDEMPTION").replace("{customer_id}", "1")
    path = re.sub(r"\{\w+\}", "d9df3b65-62a7-11ee-aa6d-0aaee4e533d2", path)
    query = {"identifierName": "mobile", "identifierValue": "1"} if "lookup" in path else {}
    body: dict[str, Any] | None = {} if endpoint.request is not None else None
    return shop.http.request(endpoint.method, path, params=query, json=body, headers=headers)


@pytest.mark.parametrize("number", range(len(CALLED)), ids=[each.label for each in CALLED])
def test_a_call_outside_the_access_group(grouped: Shop, number: int) -> None:
    """403 with 4000 in each family's form, before anything of the body is judged; inside the group it is not so."""
    endpoint = CALLED[number]
    outside, within = (
        grouped.headers(Authorization=basic(f"{name}{number}.{grouped.org_id}", md5(grouped.password)))
        for name in ("but", "only")
    )
    answer = ask(grouped, endpoint, outside)
    assert answer.status_code == 403, answer.text
    body = answer.json()
    if endpoint.family == "v2":
        assert body == sample("auth-errors/v2-403-access-group.json")
    elif endpoint.family == "v1":
        assert body == {"response": {"status": {"success": "false", "code": 4000, "message": DENIED["message"]}}}
    else:
        assert body["errors"][0]["code"] == 4000
        assert f"but{number}" in body["errors"][0]["message"]
        assert endpoint.label in body["errors"][0]["message"]
    client = ask(grouped, endpoint, grouped.by_client(f"c{number}"))
    assert client.status_code == 403
    if endpoint.family == "v1":
        assert client.json() == sample("auth-errors/v11-403-scope.json")
    else:
        assert client.json()["errors"][0]["code"] == 4000
    inside = ask(grouped, endpoint, within)
    assert inside.json() != body
    assert "the access group" not in inside.text


def test_a_family_is_a_resource(grouped: Shop) -> None:
    headers = grouped.by_client("family")
    assert grouped.http.get(BALANCE, headers=headers).status_code == 404
    assert_refused(grouped.http.get(LIST, headers=headers), 403, 4000)


def test_an_empty_group_holds_nothing_and_the_token_call_needs_none(grouped: Shop) -> None:
    headers = grouped.by_client("nothing")
    assert [ask(grouped, each, headers).status_code for each in CALLED] == [403] * len(CALLED)
    assert grouped.http.get("/healthz", headers=headers).status_code == 200


def test_a_group_that_changes_counts_with_the_next_call(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop()
    shop.content["accessGroups"] = [{"name": "g", "resources": ["contract"]}]
    shop.client("app", accessGroup="g")
    shop.apply()
    headers = shop.by_client("app")
    for resources, status in ((["contract"], 200), (["v2"], 403), ([f"GET {LIST}"], 200), ([], 403)):
        shop.change(accessGroups=[{"name": "g", "resources": resources}])
        assert shop.http.get(LIST, headers=headers).status_code == status, resources


# Attribution: calls for another till.


@pytest.mark.parametrize(
    ("headers", "unit_id", "shown"),
    [
        ({"ENTITY-CODE": "o.{till}"}, OTHER_TILL, "o.{till}"),
        ({"ENTITY-TYPE": "TILL", "ENTITY-CODE": "o.{till}"}, OTHER_TILL, "o.{till}"),
        ({"ENTITY-TYPE": "STORE_CODE", "ENTITY-CODE": "S-2"}, OTHER_STORE, "S-2"),
        ({"ENTITY-TYPE": "STORE_NAME", "ENTITY-CODE": "Other store"}, OTHER_STORE, "S-2"),
        ({"ENTITY-TYPE": "STORE_EXTERNAL_ID", "ENTITY-CODE": "ext-2"}, OTHER_STORE, "S-2"),
        ({"ENTITY-TYPE": "STORE_EXTERNAL_ID_1", "ENTITY-CODE": "ext-2b"}, OTHER_STORE, "S-2"),
        ({"LOOKUP-TYPE": "TILL", "LOOKUP": "o.{till}"}, OTHER_TILL, "o.{till}"),
        ({"TILL-CODE": "o.{till}"}, OTHER_TILL, "o.{till}"),
        ({"TILL-CODE": "o.{till}", "ENTITY-CODE": "o.{till}"}, OTHER_TILL, "o.{till}"),
        ({"TILL-CODE": ""}, None, "app.{org}"),
    ],
    ids=str,
)
def test_a_call_for_another_till(shop: Shop, headers: dict[str, str], unit_id: int | None, shown: str) -> None:
    """Without a user the system is called by that till's name; the recorded login and the rights stay."""
    sent = {f"X-CAP-API-ATTRIBUTION-{name}": value.format(till=shop.till) for name, value in headers.items()}
    created = data_of(shop.http.post(CREATE, json=shop.body(), headers=shop.by_client("app") | sent))
    assert created["userName"] == shown.format(till=shop.till, org=shop.org_id)
    assert created["userId"] == unit_id or unit_id is None
    request_id = created["requestId"]
    [row] = shop.serve.rows("SELECT maker_login, maker_person_id FROM request WHERE request_id = $1", request_id)
    assert tuple(row) == (f"app.{shop.org_id}", "E-1001")
    [event] = shop.http.get(f"/counterfoil/v1/requests/{request_id}/events", headers=shop.headers()).json()["data"]
    assert event["facts"]["login"] == f"app.{shop.org_id}"
    assert event["facts"].get("attributedTo") == unit_id


def test_a_person_stays_the_person(shop: Shop) -> None:
    """With a user token only the audit trail tells for which till the call was; also a till may say so."""
    for headers in (shop.by_client("app", MAKER), shop.headers(MAKER)):
        sent = headers | {"X-CAP-API-ATTRIBUTION-TILL-CODE": f"o.{shop.till}"}
        created = data_of(shop.http.post(CREATE, json=shop.body(), headers=sent))
        assert (created["userId"], created["userName"]) == (MAKER_ID, MAKER)
        [row] = shop.serve.rows(
            "SELECT convert_from(facts, 'UTF8') AS facts FROM event WHERE subject_id = $1", created["requestId"]
        )
        assert json.loads(row["facts"])["attributedTo"] == OTHER_TILL


def test_an_attribution_adds_no_right(make_shop: Callable[..., Shop]) -> None:
    """The other till may redeem directly and has a person with rights: who calls for it gets neither."""
    shop = make_shop()
    shop.content["credentials"].append({
        "login": f"o.{shop.till}", "id": OTHER_TILL, "till": OTHER_TILL, "passwordMd5": md5(shop.password),
        "rights": ["CanMovePointsDirectly"], "person": "E-1001",
    })  # fmt: skip
    shop.client("app", person="E-1005")
    shop.apply()
    sent = {"X-CAP-API-ATTRIBUTION-TILL-CODE": f"o.{shop.till}"}
    for headers in (shop.headers(), shop.by_client("app")):
        assert_refused(shop.http.post(CREATE, json=shop.body(), headers=headers | sent), 403, 2001)
        item = {"points_redeemed": 1, "customer": {"mobile": shop.member().mobile}}
        answer = shop.http.post(REDEEM, json={"root": {"redeem": item}}, headers=headers | sent)
        assert answer.status_code == 403


def test_attributions_that_cannot_be(shop: Shop) -> None:
    """1061 without the type, a clear word for what is not there, and no unit outside the client's own."""
    for name, headers, status, code, said in (
        ("app", {"LOOKUP": "o.x"}, 400, 1061, "X-CAP-API-ATTRIBUTION-LOOKUP-TYPE"),
        ("app", {"LOOKUP-TYPE": "TILL"}, 400, 2008, "X-CAP-API-ATTRIBUTION-LOOKUP"),
        ("app", {"ENTITY-CODE": "nowhere"}, 400, 2008, "X-CAP-API-ATTRIBUTION-ENTITY-CODE"),
        ("app", {"ENTITY-TYPE": "ZONE", "ENTITY-CODE": str(ZONE)}, 400, 2008, "X-CAP-API-ATTRIBUTION-ENTITY-TYPE"),
        ("app", {"ENTITY-CODE": shop.till.upper()}, 400, 2008, "case counts"),
        ("app", {"TILL-CODE": shop.till, "ENTITY-CODE": f"o.{shop.till}"}, 400, 2008, "different units"),
        ("store", {"TILL-CODE": f"o.{shop.till}"}, 403, 2001, f"unit {STORE}"),
    ):
        sent = {f"X-CAP-API-ATTRIBUTION-{header}": value for header, value in headers.items()}
        for method, path in (("GET", LIST), ("POST", CREATE)):
            body = shop.body(shop.members[0]) if method == "POST" else None
            answer = shop.http.request(method, path, json=body, headers=shop.by_client(name) | sent)
            assert_refused(answer, status, code, said)
    inside = shop.by_client("store") | {"X-CAP-API-ATTRIBUTION-TILL-CODE": shop.till}
    assert data_of(shop.http.post(CREATE, json=shop.body(), headers=inside))["userId"] == TILL


def test_a_client_makes_requests_within_its_unit_only(make_shop: Callable[..., Shop]) -> None:
    """Whatever names the unit, and whoever's token comes with the call."""
    shop = make_shop()
    for name, unit in (("one", TILL), ("store", STORE), ("elsewhere", OTHER_TILL), ("any", None)):
        shop.client(name, **({} if unit is None else {"unit": unit}))
    shop.apply()
    for by in (None, MAKER):
        for name in ("one", "store", "any"):
            made = shop.http.post(CREATE, json=shop.body(), headers=shop.by_client(name, by))
            assert made.status_code == 200, made.text
        outside = shop.http.post(CREATE, json=shop.body(), headers=shop.by_client("elsewhere", by))
        assert_refused(outside, 403, 2001, f"elsewhere.{shop.org_id}", f"unit {OTHER_TILL} and those below it only")
        above = shop.body() | {"entityInfo": {"storeId": str(STORE)}}
        answer = shop.http.post(CREATE, json=above, headers=shop.by_client("one", by))
        assert_refused(answer, 403, 2001, f"unit {TILL} and those below it only")
    request_id = data_of(made)["requestId"]
    shop.http.post(f"/counterfoil/v1/requests/{request_id}/withdraw", json={}, headers=shop.headers(MAKER))
    again = f"/counterfoil/v1/requests/{request_id}/resubmit"
    answer = shop.http.post(again, json=shop.body(), headers=shop.by_client("elsewhere", MAKER))
    assert answer.status_code == 403, answer.text


def test_a_new_till_can_be_named_at_once(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop()
    headers = shop.headers() | {"X-CAP-API-ATTRIBUTION-TILL-CODE": "new.till"}
    assert_refused(shop.http.get(LIST, headers=headers), 400, 2008)
    shop.content["units"]["tills"].append({"id": 5, "name": "New", "code": "new.till", "store": STORE})
    shop.apply()
    assert shop.http.get(LIST, headers=headers).status_code == 200
