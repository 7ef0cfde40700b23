"""OAuth clients, access groups and trusted issuers under dual control: proposed, decided, and never a way around it."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import OctKey, RSAKey

from counterfoil.domain.dual_control import NEEDED_CALLS
from counterfoil.http.app import RESOURCES
from tests.administration.test_command_line import Run, login, run, write  # noqa: F401 - run is a fixture
from tests.administration.test_suspension import let_time_pass, until_of
from tests.administration.town import ADA, BEN, CAL, CHANGES, CLEO, KIM, MIA, Town, error_of, grant, lines_of
from tests.contract.shop import CREATE, REDEEM, decision

SECRET = "the secret of a client or an issuer, long enough"
OWN = "/counterfoil/v1"
BALANCE = "/v2/customers/1/points/balance"
KEY = RSAKey.generate_key(2048)
GROUP = {"name": "balances", "resources": ["v2"]}
ISSUER = {
    "issuer": "sso.example", "algorithm": "HS256", "secret": SECRET, "userNameClaim": "email",
    "organisationClaim": "org",
}  # fmt: skip


def client(town: Town, person: str = MIA, **more: Any) -> dict[str, Any]:
    town.serve.secrets.add(SECRET)
    return {"key": f"app.{town.org_id}", "id": 900, "person": person, "secret": SECRET} | more


def as_client(town: Town, by: str | None = None) -> dict[str, str]:
    """The headers of a call by the client."""
    body = {"key": f"app.{town.org_id}", "secret": SECRET}
    answer = town.http.post("/v3/oauth/token/generate", json=body)
    assert answer.status_code == 200, answer.text
    token = answer.json()["data"]["accessToken"]
    town.serve.secrets.add(token)
    headers = {name: value for name, value in town.headers(by).items() if name != "Authorization"}
    return headers | {"X-CAP-API-OAUTH-TOKEN": token}


def by_issuer(town: Town, person: str, secret: str = SECRET) -> dict[str, str]:
    """The headers of a call with a token that the issuer has made for a person."""
    claims = {
        "iss": "sso.example", "email": f"{person}@example.com", "org": town.org_id, "exp": int(time.time()) + 600,
    }  # fmt: skip
    key = OctKey.import_key(secret.encode())
    token = jws.serialize_compact({"alg": "HS256"}, json.dumps(claims).encode(), key, ["HS256"])
    town.serve.secrets.add(token)
    return town.headers(None) | {"X-CAP-UI-AUTH-TOKEN": token}


def test_they_are_proposed_and_applied_with_everything_else(town: Town) -> None:
    content = town.part(oauthClients=[client(town, accessGroup="balances")], accessGroups=[GROUP])
    content |= {"uiTokenIssuers": [ISSUER]}
    before = town.guarded()
    change = town.proposed(content)
    assert lines_of(change) == [
        f"+ oauthClient app.{town.org_id}: id 900, person mia, accessGroup balances, ttlSeconds 300, secret set",
        "+ accessGroup balances: resources v2",
        "+ uiTokenIssuer sso.example: algorithm HS256, userNameClaim email, organisationClaim org, keys set",
    ]
    assert town.guarded() == before
    assert town.decide(change["id"]).status_code == 200
    headers = as_client(town)
    assert town.http.get(BALANCE, headers=headers).status_code == 200
    error_of(town.http.get(CREATE.rpartition("/")[0] + "/requests", headers=headers), 403, 4000)
    assert town.http.get(CHANGES, headers=by_issuer(town, ADA)).status_code == 200
    assert town.propose(content).json()["data"] is None
    gone = town.part(accessGroups=[GROUP], uiTokenIssuers=[]) | {"oauthClients": [client(town, active=False)]}
    town.change(gone)
    assert town.http.get(BALANCE, headers=headers).status_code == 401
    error_of(town.http.get(CHANGES, headers=by_issuer(town, ADA)), 401, 2013)


def test_their_secrets_rest_hashed_or_sealed(town: Town) -> None:
    public = KEY.as_pem(private=False).decode()
    other = {"issuer": "keys.example", "algorithm": "RS256", "key": public, "userIdClaim": "id",
             "organisationClaim": "org"}  # fmt: skip
    change = town.proposed(town.part(oauthClients=[client(town)], uiTokenIssuers=[ISSUER, other]))
    [payload] = town.rows("SELECT convert_from(payload, 'UTF8') FROM request WHERE org_id = $1")[0]
    trail = "".join(str(dict(each)) for each in town.rows("SELECT * FROM event WHERE org_id = $1"))
    for text in (payload, trail, json.dumps(change)):
        assert SECRET not in text
        assert SECRET.encode().hex() not in text
    assert "argon2" not in json.dumps(change)
    stored = json.loads(payload)
    assert stored["credentials"][0]["after"]["secret_hash"].startswith("$argon2id$")
    sealed, keys = (each["after"]["keys"] for each in stored["issuers"])
    assert len(bytes.fromhex(sealed)) > len(SECRET)
    assert [sorted(each) for each in json.loads(keys)["keys"]] == [["e", "kty", "n"]]


def test_each_of_them_is_watched(town: Town) -> None:
    """Two proposals on the same record: the second one comes too late."""
    pairs: dict[str, list[dict[str, Any]]] = {
        "oauthClient": [{"oauthClients": [client(town, ttlSeconds=each)]} for each in (60, 61)],
        "accessGroup": [{"accessGroups": [GROUP | {"resources": [each]}]} for each in ("v1", "v2")],
        "uiTokenIssuer": [{"uiTokenIssuers": [ISSUER | {"audience": each}]} for each in ("a", "b")],
    }
    for what, sections in pairs.items():
        first, second = (town.proposed(town.part() | each)["id"] for each in sections)
        assert town.decide(first).status_code == 200
        before = town.guarded()
        error_of(town.decide(second), 412, 2902, what)
        assert town.guarded() == before


def test_a_group_does_not_go_from_under_a_client(town: Town) -> None:
    town.change(town.part(accessGroups=[GROUP]))
    late = town.proposed(town.part(accessGroups=[]))["id"]
    town.change(town.part(oauthClients=[client(town, accessGroup="balances")]))
    before = town.guarded()
    error_of(town.decide(late), 412, 2902, "is in the access group balances")
    assert town.guarded() == before


def test_what_the_service_cannot_take(town: Town) -> None:
    where = {name: value for name, value in client(town).items() if name != "secret"}
    issuer = {name: value for name, value in ISSUER.items() if name != "secret"}
    for name, value in (("secretFile", "/etc/hostname"), ("secretEnv", "HOME"), ("secretPrompt", True)):
        for section, entry in (("oauthClients", where), ("uiTokenIssuers", issuer)):
            said = error_of(town.propose(town.part(**{section: [entry | {name: value}]})), 400, 2008, "send secret")
            assert said.startswith(f"{section}[0].{name}: ")
    error_of(
        town.propose(town.part(accessGroups=[{"name": "g", "resources": ["GET /v2/nothing"]}])), 400, 2008, "is no call"
    )
    error_of(town.propose(town.part(uiTokenIssuers=[ISSUER | {"secret": "short"}])), 400, 2008, "at least 32 bytes")
    error_of(town.propose(town.part(oauthClients=[client(town, rights=["CanAdminister"])])), 400, 2008, "is a person's")


def test_a_client_is_no_administrator(town: Town) -> None:
    town.change(town.part(oauthClients=[client(town, CLEO)]))
    let_time_pass(town, CLEO)
    file = town.part(policy={"approvals": 2})
    body = {"file": file, "message": ""}
    error_of(town.http.post(CHANGES, json=body, headers=as_client(town)), 403, 2001, "administration needs a person")
    change_id = town.proposed(file)["id"]
    url = f"{CHANGES}/{change_id}/decisions"
    error_of(town.http.post(url, json={"verdict": "approved"}, headers=as_client(town)), 403, 2001, "needs a person")
    assert town.http.post(url, json={"verdict": "approved"}, headers=as_client(town, BEN)).status_code == 200


def test_whose_client_changes_is_suspended(town: Town) -> None:
    """Whoever has the new secret acts in that person's name; nobody is suspended for what opens nothing."""
    for entry, is_suspended in (
        (client(town, CAL), True),
        (client(town, CAL, ttlSeconds=60), False),
        (client(town, CAL, ttlSeconds=60, active=False), False),
        (client(town, CAL, ttlSeconds=60), True),
        (client(town, CAL, ttlSeconds=60, secret="another secret of it"), True),
        (client(town, MIA, ttlSeconds=60, secret="another secret of it"), False),
    ):
        change = town.proposed(town.part(oauthClients=[entry]))
        assert change["suspended"] == ([CAL] if is_suspended else [MIA] if entry["person"] == MIA else []), entry
        assert town.decide(change["id"]).status_code == 200
        until = until_of(town, CAL)
        assert (until is not None and until > datetime.now(UTC)) is is_suspended, entry
        if is_suspended:
            let_time_pass(town, CAL)
    till = {"login": f"till.{town.org_id}", "id": 2, "person": CAL, "password": "pw of it"}
    assert town.proposed(town.part(credentials=[till]))["suspended"] == [CAL]
    assert town.proposed(town.part(credentials=[till | {"person": "new"}], people=[{"staffId": "new", "name": "N"}]))[
        "suspended"
    ] == []  # fmt: skip


def test_a_client_that_moves_points_directly_has_caps(town: Town) -> None:
    direct = client(town, rights=["CanMovePointsDirectly"])
    error_of(town.propose(town.part(oauthClients=[direct])), 400, 2008, "needs directCapPerCall and directCapPerDay")
    capped = direct | {"directCapPerCall": 30, "directCapPerDay": 50}
    change = town.proposed(town.part(oauthClients=[capped]))
    assert "directCapPerCall 30, directCapPerDay 50" in lines_of(change)[0]
    assert town.decide(change["id"]).status_code == 200

    def redeem(points: int) -> int:
        body = {"root": {"redeem": {"points_redeemed": str(points), "customer": {"mobile": "9000000001"}}}}
        return town.http.post(REDEEM, json=body, headers=as_client(town)).status_code

    assert [redeem(31), redeem(30), redeem(21), redeem(20)] == [403, 200, 403, 200]


def test_nothing_is_decided_with_the_tokens_of_a_new_issuer(town: Town) -> None:
    """Two administrators who know its key could sign in as any checker; before its owner could notice."""
    town.change(town.part(uiTokenIssuers=[ISSUER]))
    request_id = town.request()
    said = error_of(
        town.http.put(CREATE, json=decision(request_id), headers=by_issuer(town, CAL)), 403, 2001, "sign in with a pass"
    )
    [until] = town.rows("SELECT decides_from FROM ui_token_issuer WHERE org_id = $1")[0]
    assert abs(until - datetime.now(UTC) - timedelta(hours=24)) < timedelta(minutes=5)
    assert f"{until:%Y-%m-%dT%H:%M:%SZ}" in said
    file = town.part(policy={"approvals": 2})
    error_of(town.http.post(CHANGES, json={"file": file}, headers=by_issuer(town, ADA)), 403, 2001, "issuer")
    change_id = town.proposed(file)["id"]
    url, voice = f"{CHANGES}/{change_id}/decisions", {"verdict": "approved"}
    error_of(town.http.post(url, json=voice, headers=by_issuer(town, BEN)), 403, 2001, "issuer")
    assert town.check(request_id, by=CAL).status_code == 200  # with a token of ours
    town.rows("UPDATE ui_token_issuer SET decides_from = now() - interval '1 second' WHERE org_id = $1 RETURNING 1")
    let_time_pass(town, CAL)
    assert town.http.post(url, json=voice, headers=by_issuer(town, BEN)).status_code == 200
    request_id = town.request()
    assert town.http.put(CREATE, json=decision(request_id), headers=by_issuer(town, CAL)).status_code == 200
    other = "another secret of the issuer, long enough"
    town.serve.secrets.add(other)
    town.change(town.part(uiTokenIssuers=[ISSUER | {"secret": other}]))
    answer = town.http.post(CHANGES, json={"file": file}, headers=by_issuer(town, ADA, other))
    error_of(answer, 403, 2001, "issuer")


@pytest.mark.parametrize("resources", [["v2"], [NEEDED_CALLS[0]]])
def test_administrators_are_never_locked_out_by_a_group(town: Town, resources: list[str]) -> None:
    [only] = town.content["credentials"]
    till = {name: value for name, value in only.items() if name != "password"} | {"accessGroup": "g"}

    def content(*held: str) -> dict[str, Any]:
        return town.part(credentials=[till], accessGroups=[{"name": "g", "resources": [*held]}])

    error_of(town.propose(content(*resources)), 400, 2008, "no administrator could reach the API")
    assert set(NEEDED_CALLS) <= RESOURCES
    town.change(content(*NEEDED_CALLS))
    error_of(town.page(), 403, 4000)
    narrower = town.part(accessGroups=[{"name": "g", "resources": resources}])
    error_of(town.propose(narrower), 400, 2008, "no administrator could reach the API")
    town.change(content("own"))


def test_secrets_go_along_from_wherever_they_are(town: Town, run: Run, tmp_path: Path, monkeypatch: Any) -> None:  # noqa: F811 - the fixture
    town.serve.secrets.add(SECRET)
    (tmp_path / "client.secret").write_text(f"{SECRET}\n")
    (tmp_path / "public.pem").write_bytes(KEY.as_pem(private=False))
    monkeypatch.setenv("ISSUER_SECRET", SECRET)
    entry = client(town)
    del entry["secret"]
    issuer = {name: value for name, value in ISSUER.items() if name != "secret"}
    by_key = issuer | {"issuer": "keys.example", "algorithm": "RS256", "keyFile": "public.pem"}
    jwks = issuer | {"issuer": "jwks.example", "algorithm": "RS256",
                     "jwks": {"keys": [KEY.as_dict(private=False)]}}  # fmt: skip
    content = town.part(
        oauthClients=[entry | {"secretFile": "client.secret"}],
        uiTokenIssuers=[issuer | {"secretEnv": "ISSUER_SECRET"}, by_key, jwks],
    )
    login(run, town, ADA)
    code, out, err = run("org", "apply", write(tmp_path / "town.yaml", content))
    assert (code, err) == (0, "")
    assert town.decide(out.split()[-1]).status_code == 200
    assert as_client(town)
    assert town.http.get(CHANGES, headers=by_issuer(town, ADA)).status_code == 200
    assert run("org", "apply", str(tmp_path / "town.yaml"))[1] == "nothing to change\n"


def test_with_an_issuer_that_was_changed_nothing_is_lent_and_nothing_lifted(town: Town) -> None:
    """Else whoever makes such tokens would decide through somebody else, or lift a freeze alone."""
    town.change(town.with_grants(grant(CAL, "CanFreeze"), grant(KIM, "CanFreeze")))
    town.change(town.part(uiTokenIssuers=[ISSUER]))
    until = (datetime.now(UTC) + timedelta(hours=48)).isoformat()
    lend = {"delegate": KIM, "until": until}
    headers = by_issuer(town, CAL)
    error_of(town.http.post(f"{OWN}/delegations", json=lend, headers=headers), 403, 2001, "issuer of the user token")
    stop = {"scope": "organisation", "reason": "fraud"}
    placed = town.http.post(f"{OWN}/freezes", json=stop, headers=headers)  # stopping is always possible
    assert placed.status_code == 200
    lift = f"{OWN}/freezes/{placed.json()['data']['freezeId']}/lift"
    for person in (CAL, KIM):
        error_of(town.http.post(lift, json={}, headers=by_issuer(town, person)), 403, 2001, "issuer of the user token")
    assert town.rows("SELECT lift_proposed_by FROM freeze_order WHERE org_id = $1")[0][0] is None
