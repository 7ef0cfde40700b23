"""User tokens of issuers that an organisation trusts, over raw HTTP (deviation D5)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from joserfc import jws
from joserfc.jwk import OctKey, RSAKey

from counterfoil.application.administration import CannotApply
from tests.contract.shop import CHECKER, CHECKER_ID, MAKER, MAKER_ID, Shop, assert_refused, data_of

SECRET = "the secret of the other sign-in, long enough"
KEY = RSAKey.generate_key(2048)
ENTRY = {"issuer": "capillarytech.com", "userIdClaim": "id", "organisationClaim": "orgID"}
BY_SECRET = ENTRY | {"algorithm": "HS256", "secret": SECRET, "audience": "intouch"}
BY_KEY = {
    "issuer": "sso.example", "algorithm": "RS256", "key": KEY.as_pem(private=False).decode(),
    "userNameClaim": "email", "organisationClaim": "org",
}  # fmt: skip


@pytest.fixture(scope="module")
def shop(make_shop: Callable[..., Shop]) -> Shop:
    shop = make_shop()
    shop.serve.secrets.add(SECRET)
    shop.content["uiTokenIssuers"] = [BY_SECRET, BY_KEY]
    shop.apply()
    return shop


def of_the_original(shop: Shop, user_id: int = MAKER_ID, secret: str = SECRET, **changes: Any) -> str:
    """A token with the claims that the original's pages print (dossier §4)."""
    now = int(time.time())
    claims = {
        "id": [str(user_id)], "orgID": str(shop.org_id), "exp": now + 86400, "iat": now, "iss": "capillarytech.com",
        "aud": "capillary,intouch,arya,reon,apps", "source": "WEBAPP",
    } | changes  # fmt: skip
    header = {"alg": "HS256", "typ": "JWT"}
    return jws.serialize_compact(header, json.dumps(claims).encode(), OctKey.import_key(secret.encode()), ["HS256"])


def of_the_company(shop: Shop, name: str = MAKER, algorithm: str = "RS256", key: Any = KEY, **changes: Any) -> str:
    claims = {"email": name, "org": shop.org_id, "exp": int(time.time()) + 60, "iss": "sso.example"} | changes
    return jws.serialize_compact({"alg": algorithm}, json.dumps(claims).encode(), key, [algorithm])


def create(shop: Shop, token: str) -> httpx.Response:
    shop.serve.secrets.add(token)
    return shop.submit(by=None, X_CAP_UI_AUTH_TOKEN=token)


@pytest.mark.parametrize("make", [of_the_original, of_the_company])
def test_a_whole_life_with_tokens_of_another_issuer(shop: Shop, make: Callable[..., str]) -> None:
    """The user, and so the person, is the organisation's own: four eyes count across all ways to sign in."""
    maker, checker = (MAKER_ID, CHECKER_ID) if make is of_the_original else (MAKER, CHECKER)
    data = data_of(create(shop, make(shop, maker)))
    assert (data["userId"], data["userName"]) == (MAKER_ID, MAKER)
    assert_refused(shop.decide(data["requestId"], by=None, X_CAP_UI_AUTH_TOKEN=make(shop, maker)), 403, 2001, "maker")
    decided = shop.decide(data["requestId"], by=None, X_CAP_UI_AUTH_TOKEN=make(shop, checker))
    assert data_of(decided)["state"] == "approved"


def test_tokens_of_ours_stay_good(shop: Shop) -> None:
    shop.create(by=MAKER)


WRONG: dict[str, Callable[[Shop], str]] = {
    "an unknown user": lambda shop: of_the_original(shop, 99),
    "an unknown name": lambda shop: of_the_company(shop, "nobody@x"),
    "a calling system": lambda shop: of_the_original(shop, 50682289),
    "another organisation": lambda shop: of_the_original(shop, orgID="600000"),
    "another audience": lambda shop: of_the_original(shop, aud="other"),
    "another issuer": lambda shop: of_the_original(shop, iss="sso.example"),
    "our own name": lambda shop: of_the_original(shop, iss="counterfoil", aud="counterfoil", epoch=1),
    "over": lambda shop: of_the_original(shop, exp=int(time.time()) - 1),
    "without an end": lambda shop: of_the_original(shop, exp=None),
    "another secret": lambda shop: of_the_original(shop, secret=SECRET + "x"),
    "another key": lambda shop: of_the_company(shop, key=RSAKey.generate_key(2048)),
    "another algorithm": lambda shop: of_the_company(shop, algorithm="PS256"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_not_believed(shop: Shop, kind: str) -> None:
    assert_refused(create(shop, WRONG[kind](shop)), 401, 2013, "X-CAP-UI-AUTH-TOKEN")


def test_an_organisation_that_does_not_trust(make_shop: Callable[..., Shop]) -> None:
    other = make_shop()
    for token in (of_the_original(other), of_the_company(other)):
        assert_refused(create(other, token), 401, 2013)


def test_trust_that_comes_and_goes_counts_with_the_next_call(make_shop: Callable[..., Shop]) -> None:
    """So does a user, a person, and another key of the issuer."""
    shop = make_shop()
    token = of_the_company(shop)
    assert_refused(create(shop, token), 401, 2013)
    shop.change(uiTokenIssuers=[BY_KEY])
    data_of(create(shop, token))
    shop.change(uiTokenIssuers=[BY_KEY | {"key": RSAKey.generate_key(2048).as_pem(private=False).decode()}])
    assert_refused(create(shop, token), 401, 2013)
    shop.change(uiTokenIssuers=[{name: value for name, value in BY_KEY.items() if name != "key"}])
    assert_refused(create(shop, token), 401, 2013)
    shop.change(uiTokenIssuers=[BY_KEY])
    data_of(create(shop, token))
    shop.content["people"][0]["users"][0]["active"] = False
    shop.apply()
    assert_refused(create(shop, token), 401, 2013)
    shop.content["people"][0]["users"][0]["active"] = True
    shop.content["people"][0]["active"] = False
    shop.apply()
    assert_refused(create(shop, token), 401, 2013)
    shop.content["people"][0]["active"] = True
    shop.apply()
    data_of(create(shop, token))
    shop.change(uiTokenIssuers=[])
    assert_refused(create(shop, token), 401, 2013)


def test_a_secret_is_sealed(shop: Shop) -> None:
    rows = shop.serve.rows("SELECT * FROM ui_token_issuer WHERE org_id = $1 ORDER BY issuer", shop.org_id)
    assert [(row["issuer"], row["algorithm"]) for row in rows] == [
        ("capillarytech.com", "HS256"), ("sso.example", "RS256"),
    ]  # fmt: skip
    assert SECRET not in str(rows)
    assert SECRET.encode().hex() not in str(rows)
    sealed = rows[0]["keys"]
    shop.apply()
    [again] = shop.serve.rows("SELECT keys FROM ui_token_issuer WHERE org_id = $1 AND keys = $2", shop.org_id, sealed)
    assert again
    for row in shop.serve.rows("SELECT convert_from(facts, 'UTF8') AS facts FROM event WHERE org_id = $1", shop.org_id):
        assert SECRET not in row["facts"]
        assert sealed not in row["facts"]


def test_keys_that_cannot_be_used_change_nothing(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(0)
    before = shop.serve.rows("SELECT version FROM organisation WHERE org_id = $1", shop.org_id)
    for wrong in (BY_SECRET | {"secret": "short"}, BY_KEY | {"key": KEY.as_pem(private=True).decode()}):
        shop.content["uiTokenIssuers"] = [wrong]
        with pytest.raises(CannotApply, match=r"uiTokenIssuers\[0\]"):
            shop.apply()
    assert shop.serve.rows("SELECT version FROM organisation WHERE org_id = $1", shop.org_id) == before
