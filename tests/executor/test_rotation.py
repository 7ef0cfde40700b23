"""The sealing key changes while the service runs: credentials of before are sent, and the old key goes at last."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from subprocess import CompletedProcess
from typing import Any

import httpx
import msgspec
import pytest

from counterfoil.application.keys import load_keys
from tests.administration.town import ADA, BEN, Town
from tests.contract.serving import Serve, command
from tests.contract.shop import MAKER_ID, Shop
from tests.contract.test_ui_token_issuers import BY_SECRET, SECRET, of_the_original
from tests.executor.conftest import a_service, a_shop
from tests.executor.hosts import IntouchHost

OWN = "Basic b3duIGNyZWRlbnRpYWwgb2YgdGhlIGVudHJ5"
_org_ids = count(870_000)


@pytest.fixture(scope="module")
def service(server: Any) -> Iterator[Serve]:
    """One whose keys change."""
    with a_service(server) as serve:
        serve.secrets |= {OWN, SECRET}
        yield serve


@pytest.fixture
def client(service: Serve) -> Iterator[httpx.Client]:
    with service.client() as found:
        yield found


def keys(serve: Serve, *arguments: str) -> CompletedProcess[str]:
    done = command("keys", *arguments, environment=serve.environment)
    assert "Traceback" not in done.stderr
    return done


def sealing(serve: Serve) -> list[str]:
    """The ids of the sealing keys, the newest first."""
    return [key_id.hex() for key_id, _ in load_keys(serve.folder / "keys.json").sealing]


def age(serve: Serve, seconds: int = 601) -> None:
    """As if the newest sealing key had been made so long before."""
    path = serve.folder / "keys.json"
    content = json.loads(path.read_text())
    content["seals_from"] = {key_id: moment - seconds for key_id, moment in content["seals_from"].items()}
    path.write_text(json.dumps(content))


def key_of(serve: Serve, request_id: str) -> set[str]:
    [row] = serve.rows("SELECT sealed_headers FROM request WHERE request_id = $1::text::uuid", request_id)
    return {value[:4].hex() for value in msgspec.msgpack.decode(row[0], type=dict[str, bytes]).values()}


@contextmanager
def steady_work(shop: Shop) -> Iterator[list[str]]:
    """Requests that are made and approved all the time."""
    made: list[str] = []
    failed: list[BaseException] = []
    ended = threading.Event()

    def work() -> None:
        try:
            while not ended.is_set():
                request_id = shop.create(shop.body(shop.members[0]))["requestId"]
                assert shop.approve(request_id)["state"] == "approved"
                made.append(request_id)
        except BaseException as error:  # noqa: BLE001 - told by the test's own thread
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield made
    finally:
        ended.set()
        thread.join()
    assert not failed, failed


@pytest.mark.slow
def test_the_service_runs_through_a_rotation(service: Serve, client: httpx.Client, host: IntouchHost) -> None:
    shop, with_own = a_shop(service, client, host), a_shop(service, client, host, authorization=OWN)
    shop.change(uiTokenIssuers=[BY_SECRET])
    waiting, finished = shop.create()["requestId"], shop.create()["requestId"]
    at_own = with_own.create()["requestId"]
    assert shop.approve(finished)["state"] == "approved"
    [old] = sealing(service)
    with steady_work(shop) as made:
        done = keys(service, "rotate", "--only-node")
        assert (done.returncode, done.stderr) == (0, "")
        assert "nothing is sealed with an older key" in done.stdout
        before_the_end = len(made)
    assert before_the_end > 3
    new, also_old = sealing(service)
    assert (also_old, new != old) == (old, True)
    assert {key for each in (waiting, finished, at_own, *made) for key in key_of(service, each)} == {new}
    age(service)
    done = keys(service, "reseal", "--drop-old")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"dropped {old}" in done.stdout
    assert sealing(service) == [new]
    time.sleep(1.1)  # by then the service has seen it: no value can be opened with the old key any more
    # What was submitted before is executed with the payload's credential, or with the entry's own.
    for each, request_id, sent in ((shop, waiting, shop.basic), (with_own, at_own, OWN)):
        assert each.approve(request_id)["state"] == "approved"
        assert host.redeemed[-1].headers["authorization"] == sent
    token = of_the_original(shop, MAKER_ID)
    service.secrets.add(token)
    assert shop.submit(by=None, X_CAP_UI_AUTH_TOKEN=token).status_code == 200
    # And again: nothing is left to do.
    assert "0 values sealed anew" in keys(service, "reseal").stdout
    assert "no older key" in keys(service, "reseal", "--drop-old").stdout


@pytest.mark.slow
def test_a_proposal_keeps_the_key_that_its_value_is_sealed_with(
    service: Serve, client: httpx.Client, host: IntouchHost
) -> None:
    """What was signed off is not touched; the old key stays until the proposal is decided."""
    town = Town(service, client, next(_org_ids)).open()
    entry = {"id": "crm", "url": "https://crm.example.com", "target": "external", "baseUrl": host.url,
             "plainHttp": True, "private": True}  # fmt: skip
    change = town.proposed(town.part(hosts=[entry | {"authorization": OWN}]), ADA)["id"]
    old = sealing(service)[0]
    done = keys(service, "rotate", "--only-node")
    assert done.returncode == 2
    assert f"organisation {town.org_id}: the proposed change {change} carries such a value" in done.stdout
    age(service)
    done = keys(service, "reseal", "--drop-old")
    assert (done.returncode, old in sealing(service)) == (2, True)
    # Approved, it is applied as it was signed off; the entry's value is sealed anew by the next run.
    answer = town.decide(change, by=BEN)
    assert answer.status_code == 200, answer.text
    done = keys(service, "reseal", "--drop-old")
    assert (done.returncode, sealing(service)) == (0, [sealing(service)[0]]), done.stdout
    assert "1 values sealed anew" in done.stdout
    # A proposal that touches the entry keeps it as its maker saw it.
    change = town.proposed(town.part(hosts=[entry | {"authorization": OWN, "attemptSeconds": 3}]), ADA)["id"]
    assert keys(service, "rotate", "--only-node").returncode == 2
    assert town.decide(change, by=BEN).status_code == 200
    assert keys(service, "reseal").returncode == 0


def test_a_new_key_waits_until_every_node_can_have_it(service: Serve) -> None:
    before = sealing(service)
    done = keys(service, "rotate")
    assert done.returncode == 0
    assert f"copy {service.folder / 'keys.json'} to every node before that" in done.stdout
    ring = load_keys(service.folder / "keys.json")
    assert [ring.sealing_key(time.time() + at).hex() for at in (590, 601)] == [before[0], sealing(service)[0]]
    done = keys(service, "reseal")
    assert done.returncode == 1
    assert "run this again then" in done.stderr
    age(service, 600)
    done = keys(service, "reseal", "--drop-old")
    assert done.returncode == 2
    assert "no key was dropped: run this again at" in done.stdout
    assert sealing(service)[1:] == before


def test_without_the_right_keys_nothing_is_touched(service: Serve, client: httpx.Client, host: IntouchHost) -> None:
    shop = a_shop(service, client, host)
    request_id = shop.create()["requestId"]
    path = service.folder / "elsewhere.json"
    environment = service.environment | {"COUNTERFOIL_KEYS_FILE": str(path)}
    for name in ("rotate", "reseal"):
        told = command("keys", name, environment=environment)
        assert (told.returncode, "there is no keys file" in told.stderr) == (1, True)
    assert command("keys", "create", environment=environment).returncode == 0
    before = key_of(service, request_id)
    told = command("keys", "reseal", environment=environment)
    assert told.returncode == 2
    assert "cannot be opened: put keys that the file lacks back from a backup" in told.stdout
    assert key_of(service, request_id) == before
    told = command("keys", "reseal", environment=service.environment | {"DATABASE_URL": "postgresql://127.0.0.1:1/x"})
    assert (told.returncode, "cannot connect" in told.stderr) == (1, True)
