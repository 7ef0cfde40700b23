"""Who is calling: the system by Basic, the person by token, both in one organisation."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from counterfoil.application import passwords, throttle
from counterfoil.application.passwords import hash_secret, till_form
from counterfoil.application.throttle import FREE_FAILURES, SOURCE_FREE_FAILURES
from tests.builders import MAKER, SECRET_MD5
from tests.http.conftest import (
    BASIC,
    CHECKER_NAME,
    MAKER_NAME,
    ORG_ID,
    PASSWORD,
    PASSWORD_HASH,
    SECRET_HASH,
    WORKFLOW,
    Service,
    create_body,
    decide_body,
    error_of,
)

REQUESTS = f"{WORKFLOW}/requests"


def basic(login: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{login}:{secret}".encode()).decode()


def read(service: Service, **headers: str) -> httpx.Response:
    return service.client.get(REQUESTS, headers=headers)


def add_organisation(service: Service, login: str) -> None:
    """Organisation 7 with one login."""
    service.sql("INSERT INTO organisation SELECT 7, name, time_zone, wire_time_zone, country_code, profile, control, "
                "echo_credentials FROM organisation")  # fmt: skip
    service.sql("INSERT INTO credential SELECT 7, $1, kind, user_id, NULL, NULL, secret_hash FROM credential", login)


def assert_not_verified(answer: httpx.Response) -> None:
    assert answer.status_code == 401, answer.text
    assert error_of(answer)["code"] == 2013
    assert "www-authenticate" not in answer.headers


@pytest.mark.parametrize(
    "authorization",
    [BASIC, BASIC.replace("Basic", "basic"), basic("ind.1", SECRET_MD5.upper()), BASIC.replace(" ", "  ")],
)
def test_the_contracts_header_is_taken(service: Service, authorization: str) -> None:
    assert read(service, Authorization=authorization).status_code == 200


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic !!!",
        "Bearer " + BASIC[6:],
        basic("ind.1", "123"),  # the password itself instead of its md5
        basic("ind.1", SECRET_MD5[:-1]),
        basic("ind.1", ""),
        basic("IND.1", SECRET_MD5),
        basic("nobody", SECRET_MD5),
        basic("", SECRET_MD5),
        basic("ind.1\x00", SECRET_MD5),
        basic("x" * 300, SECRET_MD5),
        "Basic " + base64.b64encode(b"\xff\xfe:x").decode(),
        "Basic " + base64.b64encode(b"ind.1").decode(),
    ],
)
def test_wrong_credentials_are_not_verified(service: Service, authorization: str) -> None:
    assert_not_verified(read(service, Authorization=authorization))


def test_no_credentials_at_all(service: Service) -> None:
    assert_not_verified(service.client.get(REQUESTS))
    assert_not_verified(service.client.post(f"{WORKFLOW}/POINTS-REDEMPTION", json={}))


def test_the_points_apis_say_it_in_their_own_way(service: Service) -> None:
    body = {"root": {"redeem": {"points_redeemed": 1, "customer": {"mobile": "9988776655"}}}}
    answer = service.client.post("/v1.1/points/redeem", json=body)
    assert answer.status_code == 401
    assert answer.json()["response"]["status"] == {"success": "true", "code": "401", "message": "Unauthorized"}


@pytest.mark.parametrize("number", ["0", "51251", "x", "+51250", "51250 1", "5125\uff10", "9" * 30, "51250.0"])
def test_another_organisations_number_is_refused(service: Service, number: str) -> None:
    headers = {b"Authorization": BASIC.encode(), b"X-CAP-API-AUTH-ORG-ID": number.encode()}
    answer = service.client.get(REQUESTS, headers=headers)
    assert answer.status_code == 400
    assert error_of(answer)["code"] == 2005
    assert "X-CAP-API-AUTH-ORG-ID" in error_of(answer)["message"]


def test_the_organisations_number_is_needed_to_change_something_only(service: Service) -> None:
    token = service.token()
    headers = {"Authorization": BASIC, "X-CAP-UI-AUTH-TOKEN": token}
    request_id = service.create(token).json()["data"]["requestId"]
    answer = service.client.post(f"{WORKFLOW}/POINTS-REDEMPTION", json=create_body(), headers=headers)
    assert error_of(answer)["code"] == 2005
    answer = service.client.put(f"{WORKFLOW}/POINTS-REDEMPTION", json=decide_body(request_id), headers=headers)
    assert error_of(answer)["code"] == 2005
    assert read(service, **headers).status_code == 200
    answer = service.create(token, **{"X-CAP-API-AUTH-ORG-ID": ""})
    assert error_of(answer)["code"] == 2005
    assert "send the number" in error_of(answer)["message"]
    assert read(service, **headers, **{"X-CAP-API-AUTH-ORG-ID": ""}).status_code == 200
    assert read(service, **headers, **{"X-CAP-API-AUTH-ORG-ID": "0051250"}).status_code == 200


def test_a_result_is_never_taken_for_another_set_of_headers(service: Service) -> None:
    """What is remembered is remembered under all headers together, lengths included."""
    assert read(service, Authorization=BASIC).status_code == 200
    assert read(service, Authorization=BASIC, **{"X-CAP-API-AUTH-ORG-ID": "-"}).status_code == 400
    assert read(service, Authorization=BASIC, **{"X-CAP-API-AUTH-ORG-ID": "="}).status_code == 400
    assert read(service, Authorization=BASIC, **{"X-CAP-UI-AUTH-TOKEN": "="}).status_code == 401
    assert read(service, Authorization=BASIC[:-1], **{"X-CAP-UI-AUTH-TOKEN": BASIC[-1]}).status_code == 401


def test_the_person_is_the_tokens(service: Service) -> None:
    created = service.create(service.token())
    assert created.json()["data"]["userId"] == 232134
    assert created.json()["data"]["userName"] == MAKER_NAME


@pytest.mark.parametrize("token", [None, ""])
def test_without_a_token_the_system_acts_for_itself(service: Service, token: str | None) -> None:
    refused = service.create(token)
    assert refused.status_code == 403
    assert error_of(refused)["code"] == 2001
    service.administer("UPDATE credential SET person_id = $1", MAKER)
    created = service.create(token)
    assert created.status_code == 200, created.text
    assert created.json()["data"]["userId"] == 9
    assert created.json()["data"]["userName"] == "ind.1"


@pytest.mark.parametrize("token", ["x", "a.b.c", "eyJhbGciOiJub25lIn0.e30."])
def test_a_forged_token_is_not_verified(service: Service, token: str) -> None:
    assert_not_verified(service.create(token))


def test_another_organisations_token_is_not_verified(service: Service) -> None:
    token = service.token()
    add_organisation(service, "seven")
    service.sql("INSERT INTO directory VALUES ('seven', 7)")
    answer = read(service, Authorization=basic("seven", SECRET_MD5))
    assert answer.status_code == 200, answer.text
    headers = {"Authorization": basic("seven", SECRET_MD5), "X-CAP-UI-AUTH-TOKEN": token}
    assert_not_verified(read(service, **headers))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE app_user SET epoch = epoch + 1",
        "UPDATE app_user SET active = false",
        "UPDATE person SET active = false",
        "UPDATE credential SET active = false",
        "UPDATE credential SET secret_hash = 'changed'",
    ],
)
def test_what_was_taken_away_is_gone_with_the_next_call(service: Service, change: str) -> None:
    token = service.token()
    assert service.create(token).status_code == 200
    service.administer(change)
    assert_not_verified(service.create(token))


def test_a_revoked_grant_counts_with_the_next_call(service: Service) -> None:
    token = service.token()
    assert service.create(token).status_code == 200
    service.administer("DELETE FROM access_grant WHERE person_id = $1", MAKER)
    assert error_of(service.create(token))["code"] == 2001


def test_a_new_secret_works_at_once_and_the_old_one_no_more(service: Service) -> None:
    assert read(service, Authorization=BASIC).status_code == 200
    service.administer("UPDATE credential SET secret_hash = $1, epoch = 2", hash_secret(till_form("new")))
    assert read(service, Authorization=basic("ind.1", till_form("new"))).status_code == 200
    assert_not_verified(read(service, Authorization=BASIC))


def test_a_new_user_is_known_at_once(service: Service) -> None:
    old = service.token()
    assert service.create(old).status_code == 200
    service.administer("UPDATE app_user SET epoch = 2, password_hash = $1", hash_secret("new password"))
    assert service.create(service.token(password="new password")).status_code == 200
    assert_not_verified(service.create(old))


def test_a_login_that_moved_is_found(service: Service) -> None:
    """Also where this process looked it up after the old organisation had lost it, and saw no change since."""
    service.sql("INSERT INTO directory VALUES ('moving', 51250)")
    assert_not_verified(read(service, Authorization=basic("moving", SECRET_MD5)))
    add_organisation(service, "moving")
    service.sql("UPDATE directory SET org_id = 7 WHERE login = 'moving'")
    assert read(service, Authorization=basic("moving", SECRET_MD5)).status_code == 200


def test_a_login_in_use_that_moved_is_found(service: Service) -> None:
    assert read(service, Authorization=BASIC).status_code == 200
    add_organisation(service, "ind.1")
    service.sql("UPDATE directory SET org_id = 7 WHERE login = 'ind.1'")
    service.administer("DELETE FROM credential WHERE org_id = 51250 AND login = 'ind.1'")
    for _ in range(2):
        answer = read(service, Authorization=BASIC, **{"X-CAP-API-AUTH-ORG-ID": "7"})
        assert answer.status_code == 200, answer.text
    assert read(service, Authorization=BASIC, **{"X-CAP-API-AUTH-ORG-ID": "51250"}).status_code == 400


@pytest.mark.usefixtures("long_delays")
def test_guessing_gets_slow_and_the_right_ones_pass(service: Service) -> None:
    assert read(service, Authorization=BASIC).status_code == 200
    for number in range(FREE_FAILURES):
        assert_not_verified(read(service, Authorization=basic("ind.1", f"guess {number}")))
    answer = read(service, Authorization=basic("ind.1", "another guess"))
    assert answer.status_code == 429
    assert error_of(answer)["code"] == 2907
    assert int(answer.headers["retry-after"]) >= 1
    assert read(service, Authorization=BASIC).status_code == 200, "who was verified before must not suffer"
    assert read(service, Authorization=basic("other", "guess")).status_code == 401


def test_no_secret_is_logged(logged: io.BytesIO, service: Service) -> None:
    token = service.token()
    service.create(token)
    read(service, Authorization=basic("ind.1", "wrong secret"))
    service.create("forged.token.here")
    lines = logged.getvalue()
    assert lines.count(b"\n") >= 4
    for secret in (token, SECRET_MD5, BASIC[6:], PASSWORD, "wrong secret", "forged", "9988776655", MAKER_NAME):
        assert secret.encode() not in lines


def test_the_tills_credential_in_a_payload_is_checked_by_the_same_means(service: Service) -> None:
    """Approving executes with the stored credential: the right one redeems (dossier §2.8)."""
    created = service.create(service.token()).json()["data"]
    answer = service.client.put(
        f"{WORKFLOW}/POINTS-REDEMPTION", json=decide_body(created["requestId"]),
        headers=service.headers(service.token(CHECKER_NAME)),
    )  # fmt: skip
    assert answer.json()["data"]["state"] == "approved", answer.text
    assert answer.json()["data"]["details"]["IntouchAPITask_Output"]["headers"]["org_id"] == [str(ORG_ID)]


@pytest.fixture
def verified(long_delays: None, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The secrets that were verified against a hash; quick, so that many can be."""
    seen: list[bytes] = []

    def matches(stored_hash: str, secret: bytes) -> bool:
        seen.append(secret)
        time.sleep(0.005)
        return {SECRET_HASH: SECRET_MD5, PASSWORD_HASH: PASSWORD}.get(stored_hash, "").encode() == secret

    monkeypatch.setattr(passwords, "_matches", matches)
    return seen


def at_once(service: Service, authorizations: Sequence[str]) -> list[int]:
    """The statuses of reads with these, sent together."""
    with ThreadPoolExecutor(30) as threads:
        calls = threads.map(lambda each: read(service, Authorization=each).status_code, authorizations)
        return list(calls)


def test_each_unknown_login_is_verified(verified: list[bytes], service: Service) -> None:
    """As often as one that exists, with a secret that was sent before too: who is refused faster does not exist."""
    for login in ("nobody0", "ind.1", "nobody1"):
        verified.clear()
        assert_not_verified(read(service, Authorization=basic(login, "guess")))
        assert verified == [b"guess"]


def test_guesses_sent_at_once_are_counted(verified: list[bytes], service: Service) -> None:
    statuses = at_once(service, [basic("ind.1", f"guess {number}") for number in range(60)])
    assert sorted(statuses) == [401] * FREE_FAILURES + [429] * (60 - FREE_FAILURES)
    assert len(verified) == FREE_FAILURES


def test_the_same_wrong_secret_again_is_slowed_down(verified: list[bytes], service: Service) -> None:
    """Each such call asks the database whether the secret is a new one."""
    statuses = [read(service, Authorization=basic("ind.1", "guess")).status_code for _ in range(FREE_FAILURES + 3)]
    assert statuses == [401] * FREE_FAILURES + [429] * 3
    assert len(verified) == 1


def test_a_till_that_starts_with_many_calls_is_no_guesser(verified: list[bytes], service: Service) -> None:
    assert set(at_once(service, [BASIC] * 60)) == {200}
    assert len(verified) == 1


@pytest.mark.parametrize("what", ["login", "secret"])
def test_nor_is_one_that_this_process_does_not_know_yet(verified: list[bytes], service: Service, what: str) -> None:
    """Their right secret counts as wrong until the process has looked again: not as many guesses."""
    login = "ind.1"
    if what == "login":
        assert read(service, Authorization=BASIC).status_code == 200
        login = "ind.2"
        service.administer("UPDATE credential SET epoch = epoch")
        add_till(service)
    else:
        service.administer("UPDATE credential SET secret_hash = $1", "of another secret")
        assert_not_verified(read(service, Authorization=BASIC))
        service.administer("UPDATE credential SET secret_hash = $1", SECRET_HASH)
    assert set(at_once(service, [basic(login, SECRET_MD5)] * 60)) == {200}
    assert verified.count(SECRET_MD5.encode()) == 3 - (what == "secret")


def test_another_login_each_time_is_slow_too(verified: list[bytes], start_service: Callable[..., Service]) -> None:
    service = start_service(trusted_proxies=("127.0.0.1",))
    here, there = {"X-Forwarded-For": "10.0.0.1"}, {"X-Forwarded-For": "10.0.0.2"}
    assert read(service, Authorization=BASIC, **here).status_code == 200
    statuses = [
        read(service, Authorization=basic(f"till.{number}", "guess"), **here).status_code
        for number in range(SOURCE_FREE_FAILURES + 20)
    ]
    assert statuses[:SOURCE_FREE_FAILURES] == [401] * SOURCE_FREE_FAILURES
    assert 429 in statuses
    assert len(verified) < SOURCE_FREE_FAILURES + 10
    assert read(service, Authorization=BASIC, **here).status_code == 200, "who is at work must not suffer"
    assert_not_verified(read(service, Authorization=basic("till.1", "another"), **there))


def add_till(service: Service) -> None:
    """A second till of the same organisation, ind.2."""
    service.sql("INSERT INTO credential SELECT org_id, 'ind.2', kind, 10, NULL, NULL, secret_hash FROM credential")
    service.sql("INSERT INTO directory VALUES ('ind.2', 51250)")


def submit(service: Service, token: str, secret: str, login: str = "ind.2") -> httpx.Response:
    """A request whose call carries this credential."""
    body = create_body()
    body["payload"]["IntouchAPITask-Payload"]["headers"]["Authorization"] = basic(login, secret)
    answer = service.client.post(f"{WORKFLOW}/POINTS-REDEMPTION", json=body, headers=service.headers(token))
    assert answer.status_code == 200, answer.text
    return answer


def is_flagged(answer: httpx.Response) -> bool:
    return "till_credential" in answer.headers.get("x-counterfoil-flags", "")


def test_a_maker_cannot_guess_the_secret_of_another_till(verified: list[bytes], service: Service) -> None:
    add_till(service)
    token = service.token()
    assert not is_flagged(submit(service, token, SECRET_MD5, "ind.1"))
    verified.clear()
    assert all(is_flagged(submit(service, token, f"guess {number}")) for number in range(30))
    assert len(verified) == FREE_FAILURES
    assert is_flagged(submit(service, token, SECRET_MD5)), "the right one looks as wrong as the others"
    assert not is_flagged(submit(service, token, SECRET_MD5, "ind.1")), "one that was verified before passes"


def test_the_same_wrong_credential_again_is_no_guess(verified: list[bytes], service: Service) -> None:
    """A till that is set up wrong makes no checker wait: it is known what becomes of its requests."""
    add_till(service)
    token, checker = service.token(), service.token(CHECKER_NAME)
    for _ in range(FREE_FAILURES * 2):
        body = decide_body(submit(service, token, "old secret").json()["data"]["requestId"])
        answer = service.client.put(f"{WORKFLOW}/POINTS-REDEMPTION", json=body, headers=service.headers(checker))
        assert (answer.status_code, answer.json()["data"]["state"]) == (200, "failed")
    assert verified.count(b"old secret") == 1


def test_a_decision_waits_instead_of_ending_a_request_for_nothing(
    verified: list[bytes], service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a credential that may not be verified now nothing is known: the request stays as it is."""
    add_till(service)
    token, checker = service.token(), service.token(CHECKER_NAME)

    def approve(submitted: httpx.Response) -> httpx.Response:
        body = decide_body(submitted.json()["data"]["requestId"])
        return service.client.put(f"{WORKFLOW}/POINTS-REDEMPTION", json=body, headers=service.headers(checker))

    submitted = [submit(service, token, f"guess {number}") for number in range(FREE_FAILURES * 2)]
    right = submit(service, token, SECRET_MD5)
    monkeypatch.setattr(throttle, "FIRST_DELAY_SECONDS", 5.0)
    for each in submitted:  # the later ones have not been verified yet
        assert approve(each).json()["data"]["state"] == "failed"
    assert is_flagged(right)
    answer = approve(right)
    assert answer.status_code == 429, answer.text
    time.sleep(int(answer.headers["retry-after"]))
    assert approve(right).json()["data"]["state"] == "approved"
