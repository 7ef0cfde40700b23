"""Who calls: the till, the organisation's header, the person's token (dossier §4; design.md §6)."""

import base64
import time
from collections.abc import Callable
from functools import partial

import pytest

from tests.contract.serving import Serve
from tests.contract.shop import (
    CHECKER,
    CREATE,
    MAKER,
    PEOPLE,
    REDEEM,
    WORKFLOW,
    Shop,
    assert_refused,
    basic,
    data_of,
    decision,
    encoded,
    guesses,
    md5,
)

CALLS = {
    "create": ("POST", CREATE),
    "decide": ("PUT", CREATE),
    "get": ("GET", f"{WORKFLOW}/requests/d9df3b65-62a7-11ee-aa6d-0aaee4e533d2"),
    "list": ("GET", f"{WORKFLOW}/requests"),
}
WRONG_BASIC: dict[str, Callable[[str], str | None]] = {
    "none": lambda _: None,
    "empty": lambda _: "",
    "no scheme": lambda till: base64.b64encode(f"{till}:{md5('long password of a till')}".encode()).decode(),
    "bearer": lambda _: "Bearer abc",
    "not base64": lambda _: "Basic %%%",
    "no colon": lambda till: "Basic " + base64.b64encode(till.encode()).decode(),
    "unknown till": lambda _: basic("nobody.7", md5("x")),
    "wrong password": lambda till: basic(till, md5("wrong")),
    "password in plain": lambda till: basic(till, "long password of a till"),
    "empty password": lambda till: basic(till, ""),
    "not UTF-8": lambda _: "Basic " + base64.b64encode(b"\xff\xfe:x").decode(),
    "NUL": lambda till: "Basic " + base64.b64encode(f"{till}\0:x".encode()).decode(),
}


@pytest.fixture(scope="module")
def guessed(make_shop: Callable[..., Shop]) -> Shop:
    """Where failures may pile up without hurting other tests."""
    return make_shop()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("wrong", WRONG_BASIC)
@pytest.mark.parametrize("good_body", [True, False], ids=["good body", "bad body"])
def test_wrong_credentials(guessed: Shop, call: str, wrong: str, good_body: bool) -> None:  # noqa: FBT001
    """2013 on every path, before anything of the body is judged."""
    method, path = CALLS[call]
    headers = guessed.headers(Authorization=WRONG_BASIC[wrong](guessed.till))
    body = {"POST": guessed.body(guessed.members[0]), "PUT": decision("x"), "GET": None}[method]
    content = None if method == "GET" else encoded(body) if good_body else b"[["
    answer = guessed.http.request(method, path, headers=headers, content=content)
    if answer.status_code == 429:  # many tests guess with the same login: the delay is the right answer
        assert_refused(answer, 429, 2907)
        assert int(answer.headers["retry-after"]) >= 1
    else:
        assert_refused(answer, 401, 2013, "Authorization")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("header", [None, "", "0", "51251", "abc", "600000a", "-600000", "6_00000", "\u0661", "9" * 30])
def test_the_organisations_header(shop: Shop, call: str, header: str | None) -> None:
    """Needed where something is changed, optional on reads; it must agree wherever it is sent (2005)."""
    method, path = CALLS[call]
    by = {"create": MAKER, "decide": CHECKER}.get(call)
    raw = shop.raw_headers(by, X_CAP_API_AUTH_ORG_ID=header)
    body = {"POST": shop.body(), "PUT": decision("x")}.get(method)
    answer = shop.http.request(method, path, headers=raw, json=body)
    if not header and method == "GET":
        assert answer.status_code in (200, 404)
    else:
        assert_refused(answer, 400, 2005, "X-CAP-API-AUTH-ORG-ID")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "kind", ["garbage", "cut", "other key", "other organisation", "not ASCII", "too long", "none alg"]
)
def test_a_wrong_token(shop: Shop, guessed: Shop, call: str, kind: str) -> None:
    good = shop.token(MAKER)
    head, claims, signature = good.split(".")
    no_algorithm = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    token = {
        "garbage": b"x.y.z",
        "cut": good[:-5].encode(),
        "other key": f"{head}.{claims}.{'A' * len(signature)}".encode(),
        "other organisation": guessed.token(MAKER).encode(),
        "not ASCII": "é".encode(),
        "too long": b"a" * 20_000,
        "none alg": f"{no_algorithm}.{claims}.".encode(),
    }[kind]
    method, path = CALLS[call]
    headers = shop.raw_headers(X_CAP_UI_AUTH_TOKEN=token)
    body = {"POST": shop.body(), "PUT": decision("x")}.get(method)
    assert_refused(shop.http.request(method, path, headers=headers, json=body), 401, 2013, "X-CAP-UI-AUTH-TOKEN")


@pytest.mark.parametrize("spelling", [str.upper, str.lower], ids=["upper", "lower"])
def test_the_md5_in_any_case(shop: Shop, spelling: Callable[[str], str]) -> None:
    authorization = basic(shop.till, spelling(md5(shop.password)))
    data_of(shop.submit(Authorization=authorization))
    data_of(shop.submit(Authorization=authorization.replace("Basic", "basic")))


def test_header_names_in_any_case(shop: Shop) -> None:
    headers = {name.upper(): value for name, value in shop.headers(MAKER).items()}
    data_of(shop.http.post(CREATE, json=shop.body(), headers=headers))


def test_cookies_are_never_read(shop: Shop) -> None:
    """API routes take no cookie for a caller."""
    headers = shop.headers() | {"Cookie": f"X-CAP-UI-AUTH-TOKEN={shop.token(MAKER)}"}
    assert_refused(shop.http.post(CREATE, json=shop.body(), headers=headers), 403, 2001)


def test_headers_sent_twice(shop: Shop) -> None:
    """A second one could mean another caller to a proxy on the way."""
    for name in ("Authorization", "X-CAP-API-AUTH-ORG-ID", "X-CAP-UI-AUTH-TOKEN", "Idempotency-Key"):
        headers = [*shop.headers(MAKER).items(), ("Idempotency-Key", "a"), (name, "b")]
        assert_refused(shop.http.post(CREATE, json=shop.body(), headers=headers), 400, 2008, name.lower())


def test_no_person(make_shop: Callable[..., Shop]) -> None:
    """Without a token the calling client itself must hold the right; a decision always needs a person."""
    shop = make_shop()
    assert_refused(shop.submit(by=None), 403, 2001, "X-CAP-UI-AUTH-TOKEN")
    assert_refused(shop.submit(by=None, X_CAP_UI_AUTH_TOKEN=""), 403, 2001)
    shop.content["credentials"][0]["person"] = "E-1001"
    shop.apply()
    data = data_of(shop.submit(by=None, X_CAP_UI_AUTH_TOKEN=""))
    assert (data["userName"], data["userId"]) == (shop.till, 50682289)
    assert_refused(shop.decide(data["requestId"], by=None), 403, 2001, "person")
    # The person behind the credential is the maker, whatever login is used.
    shop.content["grants"].append({"person": "E-1001", "right": "CanCheckRequest", "unit": 50682286})
    shop.apply()
    assert_refused(shop.decide(data["requestId"], by=MAKER), 403, 2001, "maker")


# The token call, which is ours.


def test_a_token(shop: Shop) -> None:
    answer = shop.sign_in(MAKER, f"{shop.password}-{MAKER}")
    assert answer.status_code == 200
    body = answer.json()
    assert list(body) == ["data", "errors"]
    assert body["errors"] is None
    assert list(body["data"]) == ["token", "ttlSeconds"]
    assert body["data"]["ttlSeconds"] == 24 * 3600
    shop.serve.secrets.add(body["data"]["token"])
    for name in (MAKER.upper(), MAKER):
        assert shop.sign_in(name, f"{shop.password}-{MAKER}").status_code == 200


@pytest.mark.parametrize("org_id", ["600000", 600000])
def test_the_organisation_of_a_token_as_text_or_number(shop: Shop, org_id: object) -> None:
    body = {"orgId": org_id, "userName": MAKER, "password": f"{shop.password}-{MAKER}"}
    assert shop.http.post("/counterfoil/v1/ui-token", json=body).status_code == 200


def test_wrong_sign_ins(guessed: Shop) -> None:
    """One answer, whatever was wrong."""
    password = f"{guessed.password}-{CHECKER}"
    found = {
        guessed.sign_in(name, secret).content
        for name, secret in ((CHECKER, "wrong"), ("nobody@x", password), (CHECKER, password.upper()))
    }
    found |= {
        guessed.http.post(
            "/counterfoil/v1/ui-token", json={"orgId": org_id, "userName": CHECKER, "password": password}
        ).content
        for org_id in (1, 2**62)
    }
    assert len(found) == 1
    assert b"2013" in found.pop()


def test_guesses_are_slowed_down(make_shop: Callable[..., Shop]) -> None:
    """After a few failures this login has to wait; the others, and who is known already, do not."""
    shop = make_shop()
    shop.create()
    answers = guesses(partial(shop.sign_in, CHECKER))
    assert len(answers) > 3
    assert answers[-1].status_code == 429
    assert answers[-1].json()["errors"][0]["code"] == 2907
    wait = int(answers[-1].headers["retry-after"])
    assert 1 <= wait <= 60
    assert shop.sign_in(MAKER, f"{shop.password}-{MAKER}").status_code == 200
    tried = guesses(lambda guess: shop.submit(Authorization=basic(shop.till, md5(guess))))
    assert tried[-1].status_code == 429
    data_of(shop.submit())
    time.sleep(wait)
    assert shop.sign_in(CHECKER, f"{shop.password}-{CHECKER}").status_code == 200


def test_every_secret_is_watched(service: Serve, shop: Shop) -> None:
    """The watch of this suite over errors and logs knows what to look for, and would find it."""
    assert {md5(shop.password), shop.basic} <= service.secrets
    assert {f"{shop.password}-{name}" for _, _, name, _ in PEOPLE} <= service.secrets
    assert shop.token(MAKER) in service.secrets
    assert service.log.stat().st_size > 0
    assert service.logged_secrets() == []


def test_refusals_at_the_points_api(shop: Shop) -> None:
    """The v1.1 form of a wrong token and of a wrong organisation."""
    for headers, status in (
        ({"Authorization": shop.box, "X-CAP-API-AUTH-ORG-ID": "1"}, 400),
        ({"Authorization": shop.box, "X-CAP-UI-AUTH-TOKEN": "x"}, 401),
    ):
        answer = shop.http.post(REDEEM, json={}, headers=headers)
        assert answer.status_code == status
        assert list(answer.json()) == ["response"]
