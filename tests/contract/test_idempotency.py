"""Idempotency-Key: ours, opt-in (design.md §7; traps.md B 25-32)."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from tests.contract.shop import (
    BOTH,
    CREATE,
    HOST,
    ITEM,
    MAKER,
    OTHER_ZONE,
    TASK,
    Shop,
    assert_refused,
    data_of,
    encoded,
    set_at,
)


def key() -> str:
    return uuid4().hex


def test_the_first_answer_again(shop: Shop) -> None:
    """With the credentials, marked; whatever became of the request meanwhile; one request, one hold."""
    member = shop.member()
    body, used = shop.body(member, "100"), key()
    first = shop.submit(body, idempotency_key=used)
    assert first.status_code == 200
    assert "idempotent-replayed" not in first.headers
    for step in ("pending", "approved"):
        again = shop.submit(body, idempotency_key=used)
        assert again.status_code == 200
        assert again.content == first.content, step
        assert again.headers["idempotent-replayed"] == "true"
        assert again.headers["etag"] == first.headers["etag"]
        assert shop.basic in again.text
        if step == "pending":
            shop.approve(data_of(first)["requestId"])
    assert shop.points(member) == (900, 0)


def test_flags_are_told_again(shop: Shop) -> None:
    body, used = shop.body(points="5000"), key()
    answers = [shop.submit(body, idempotency_key=used) for _ in range(2)]
    assert [answer.headers["x-counterfoil-flags"] for answer in answers] == ["unfunded", "unfunded"]


@pytest.mark.parametrize("number", ["1.10", "1e2", str(10**30)])
def test_exact_numbers_again(shop: Shop, number: str) -> None:
    raw = encoded(set_at(shop.body(), f"{ITEM}.other", 77777)).replace(b"77777", number.encode())
    used = key()
    first, again = (shop.submit(raw, idempotency_key=used) for _ in range(2))
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"


def test_the_form_does_not_count(shop: Shop) -> None:
    """Blanks, the order of keys, ids as digits or text: the same content (traps.md B 27)."""
    body, used = shop.body(), key()
    first = shop.submit(body, idempotency_key=used)
    forms = [
        json.dumps(body, indent=4).encode(),
        json.dumps(_reversed(body)).encode(),
        encoded(body | {"entityInfo": {name: int(value) for name, value in body["entityInfo"].items()}}),
    ]
    for raw in forms:
        again = shop.submit(raw, idempotency_key=used)
        assert again.status_code == 200, again.text
        assert again.content == first.content


def _reversed(value: Any) -> Any:
    return {name: _reversed(value[name]) for name in reversed(value)} if isinstance(value, dict) else value


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (f"{ITEM}.points_redeemed", "101", f"{ITEM}.points_redeemed"),
        (f"{ITEM}.notes", "new", f"{ITEM}.notes"),
        (f"{ITEM}.notes", None, f"{ITEM}.notes"),
        (f"{ITEM}.customer.mobile", "9000000001", f"{ITEM}.customer.mobile"),
        (f"{ITEM}.external_reference_number", ..., f"{ITEM}.external_reference_number"),
        (ITEM, [{"points_redeemed": "1", "customer": {"mobile": "9000000001"}}], ITEM),
        (f"{TASK}.hostname", HOST.strip("<>"), f"{TASK}.hostname"),
        (f"{TASK}.queryParams", ..., f"{TASK}.queryParams"),
        (f"{TASK}.headers.X-CAP-CLIENT-SIGNATURE", "other", f"{TASK}.headers.X-CAP-CLIENT-SIGNATURE"),
        (f"{TASK}.headers.Authorization", "Basic d3Jvbmc6d3Jvbmc=", f"{TASK}.headers.Authorization"),
        ("entityInfo.zoneId", str(OTHER_ZONE), "entityInfo.zoneId"),
        ("entityInfo.storeId", "", "entityInfo.storeId"),
    ],
)
def test_other_content(shop: Shop, path: str, value: object, named: str) -> None:
    """409, and what differs is named; nothing changes, and the first content still gives the first answer."""
    member = shop.member()
    body, used = shop.body(member, "100"), key()
    first = shop.submit(body, idempotency_key=used)
    refused = shop.submit(set_at(body, path, value), idempotency_key=used)
    assert_refused(refused, 409, 2901, named, "Idempotency-Key")
    assert shop.points(member) == (900, 100)
    assert shop.submit(body, idempotency_key=used).content == first.content


def test_a_refused_call_does_not_use_the_key_up(shop: Shop) -> None:
    """Neither malformed content, nor a missing right, nor wrong credentials (traps.md B 12)."""
    member, used = shop.member(), key()
    body = shop.body(member, "100")
    assert_refused(shop.submit(set_at(body, f"{ITEM}.points_redeemed", "0"), idempotency_key=used), 400, 2008)
    assert_refused(shop.submit(body, by=None, idempotency_key=used), 403, 2001)
    assert_refused(shop.submit(body, idempotency_key=used, Authorization="Basic x"), 401, 2013)
    assert shop.serve.rows("SELECT * FROM idempotency_key WHERE key = $1", used) == []
    answer = shop.submit(body, idempotency_key=used)
    assert answer.status_code == 200
    assert "idempotent-replayed" not in answer.headers


def test_the_scope_of_a_key(shop: Shop, make_shop: Callable[..., Shop]) -> None:
    """Organisation and caller: a key of one answers nobody else (traps.md B 26)."""
    other, used = make_shop(), key()
    first = shop.create(idempotency_key=used)
    for answer in (other.submit(idempotency_key=used), shop.submit(Authorization=shop.box, idempotency_key=used)):
        assert "idempotent-replayed" not in answer.headers
        assert data_of(answer)["requestId"] != first["requestId"]


def test_another_person_at_the_same_till(shop: Shop) -> None:
    """The caller is the calling system; the person must not be handed a request that somebody else made."""
    body, used = shop.body(), key()
    first = shop.submit(body, by=MAKER, idempotency_key=used)
    again = shop.submit(body, by=BOTH, idempotency_key=used)
    assert_refused(again, 409, 2901, "X-CAP-UI-AUTH-TOKEN")
    assert data_of(first)["userName"] == MAKER


@pytest.mark.parametrize("wrong", ["k" * 256, "a\tb", "\u00e9"])
def test_a_wrong_key(shop: Shop, wrong: str) -> None:
    headers = shop.raw_headers(MAKER, Idempotency_Key=wrong.encode())
    answer = shop.http.post(CREATE, json=shop.body(), headers=headers)
    assert_refused(answer, 400, 2008, "Idempotency-Key")


def test_an_empty_key_is_no_key(shop: Shop) -> None:
    """Two requests: an empty text must not join strangers (traps.md B 26)."""
    found = {shop.create(idempotency_key="")["requestId"] for _ in range(2)}
    assert len(found) == 2


def test_the_same_key_at_once(shop: Shop) -> None:
    """Ten at the same moment: one request, ten equal answers."""
    member, used = shop.member(), key()
    body = shop.body(member, "100")
    shop.token(MAKER)
    with ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(lambda _: shop.submit(body, idempotency_key=used), range(10)))
    assert {answer.content for answer in answers} == {answers[0].content}
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert shop.points(member) == (900, 100)


def test_different_content_under_one_key_at_once(shop: Shop) -> None:
    member, used = shop.member(), key()
    bodies = [shop.body(member, str(points)) for points in range(1, 9)]
    shop.token(MAKER)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda body: shop.submit(body, idempotency_key=used), bodies))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
    [(_, held)] = {shop.points(member)}
    winner = next(body for body, answer in zip(bodies, answers, strict=True) if answer.status_code == 200)
    assert held == int(winner["payload"]["IntouchAPITask-Payload"]["body"]["root"]["redeem"]["points_redeemed"])


def test_without_a_key_each_call_is_a_request(shop: Shop) -> None:
    """As the original: a repeated call is another request, marked as a duplicate."""
    body = shop.body()
    first, second = shop.submit(body), shop.submit(body)
    assert data_of(first)["requestId"] != data_of(second)["requestId"]
    assert second.headers["x-counterfoil-flags"] == "duplicate"
