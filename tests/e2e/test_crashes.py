"""`kill -9` under load: what was answered is true, nothing is doubled, nothing is stuck (design.md §10 no. 6)."""

import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest

from counterfoil.storage import embedded
from tests.contract.serving import Serve, broken_rules
from tests.contract.shop import CHECKER, CREATE, MAKER, Member, Shop, decision

CLIENTS = 8
RETRY_SECONDS = 0.05
PATIENCE_SECONDS = 60


@dataclass
class Life:
    """One request as its client knows it: each answer is None until it was received."""

    key: str
    body: dict[str, Any]
    created: bytes | None = None
    request_id: str = ""
    decided: bytes | None = None
    lost_decisions: int = 0
    done: bool = False


@dataclass
class Load:
    """Clients that submit and approve until they are told to stop, and come again where an answer was lost."""

    shop: Shop
    lives: list[Life] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    lost: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        self.shop.token(MAKER)
        self.shop.token(CHECKER)
        threads = [threading.Thread(target=self._client, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def count_done(self) -> int:
        return sum(life.done for life in self.lives)

    def _client(self, number: int) -> None:
        choose = random.Random(number)  # noqa: S311 - which member, no secret
        with httpx.Client(base_url=self.shop.serve.url, timeout=30, trust_env=False) as http:
            while not self._stop.is_set():
                # One member in ten has too few points: those requests fail, and must fail once only.
                member = choose.choice(self.shop.members)
                life = Life(uuid4().hex, self.shop.body(member, str(choose.randint(1, 20))))
                self.lives.append(life)
                with suppress(StopIteration):
                    self._live(http, life)

    def _live(self, http: httpx.Client, life: Life) -> None:
        headers = self.shop.headers(MAKER) | {"Idempotency-Key": life.key}
        answer = self._until_answered(http, "POST", headers, life.body)
        if answer.status_code != 200:
            self.problems.append(f"create: {answer.status_code} {answer.text[:300]}")
            return
        life.created = answer.content
        life.request_id = answer.json()["data"]["requestId"]
        before = self.lost
        answer = self._until_answered(http, "PUT", self.shop.headers(CHECKER), decision(life.request_id), life)
        if answer.status_code == 200:
            life.decided = answer.content
        elif not life.lost_decisions or "2002" not in answer.text:
            self.problems.append(f"decide: {answer.status_code} {answer.text[:300]} (lost before: {before})")
        life.done = True

    def _until_answered(
        self, http: httpx.Client, method: str, headers: dict[str, str], body: object, life: Life | None = None
    ) -> httpx.Response:
        """The first answer that is one: 503 and a lost connection are none."""
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < give_up_at:
            try:
                answer = http.request(method, CREATE, json=body, headers=headers)
            except httpx.HTTPError:
                self.lost += 1
                if life is not None:
                    life.lost_decisions += 1
            else:
                if answer.status_code != 503:
                    return answer
                if life is not None:
                    life.lost_decisions += 1  # also said when nobody knows whether the commit arrived
            time.sleep(RETRY_SECONDS)
        self.problems.append(f"{method}: no answer for {PATIENCE_SECONDS} s")
        raise StopIteration


def assert_true(load: Load) -> None:
    """Everything that a client was told is still so, and all the rest comes to an end."""
    shop, serve = load.shop, load.shop.serve
    assert load.problems == [], serve.logged_faults()
    lives = [life for life in load.lives if life.created is not None]
    assert len(lives) > 50
    with serve.client() as http:
        shop.http = http
        for life in lives:
            again = shop.submit(life.body, idempotency_key=life.key)
            assert again.content == life.created
            read = shop.get(life.request_id)
            if life.decided is not None:
                assert read.content == life.decided
            elif life.done:
                assert read.json()["data"]["state"] in ("approved", "failed")
            elif read.json()["data"]["state"] == "AdminTask":
                assert shop.decide(life.request_id).status_code == 200
        for life in load.lives:  # who never got an answer may come again
            answer = shop.submit(life.body, idempotency_key=life.key)
            assert answer.status_code == 200
            shop.decide(answer.json()["data"]["requestId"])
        waiting = shop.page(states="AdminTask").json()
        assert waiting["pagination"]["totalElements"] == 0
        counted = shop.page(limit=1).json()["pagination"]["totalElements"]
    assert counted == len({life.key for life in load.lives})
    handle = embedded.start(serve.folder)
    try:
        serve.database_url = handle.url
        doubled = serve.rows("SELECT request_id FROM redemption GROUP BY request_id HAVING count(*) > 1")
        states = dict(serve.rows("SELECT state, count(*) FROM request GROUP BY state"))
        redemptions = serve.rows("SELECT count(*) FROM redemption")[0][0]
        assert doubled == []
        assert set(states) <= {"succeeded", "failed"}
        assert redemptions == states["succeeded"]
        assert broken_rules(serve) == []
    finally:
        embedded.stop(handle)
    assert serve.logged_secrets() == []


@pytest.fixture
def load() -> Iterator[Load]:
    """Clients of a service on an embedded database, as safe as it is by default."""
    folder = Path(tempfile.mkdtemp(prefix="crash-"))
    folder.chmod(0o711)
    # A service that is killed cannot clear its metrics away.
    serve = Serve(folder, COUNTERFOIL_WORKERS=2, PROMETHEUS_MULTIPROC_DIR=folder / "metrics")
    try:
        serve.start()
        members = [
            Member(4_000_000 + number, f"95765{number:05d}", 10 if number % 10 == 0 else 10**6) for number in range(40)
        ]
        with serve.client() as http:
            shop = Shop(serve, http, 900_000, "till.9", members=members)
            handle = embedded.start(folder)
            serve.database_url = handle.url
            shop.open()
            embedded.stop(handle)
            yield Load(shop)
        serve.stop()
        assert postmaster_of(serve) is None
    finally:
        if serve.process is not None and serve.process.poll() is None:
            kill_all(serve, database=True)
            serve.wait()
        shutil.rmtree(folder)


def postmaster_of(serve: Serve) -> psutil.Process | None:
    try:
        pid = int((serve.folder / "cluster" / "postmaster.pid").read_text().split()[0])
        process = psutil.Process(pid)
        return process if process.status() != psutil.STATUS_ZOMBIE else None
    except (OSError, ValueError, IndexError, psutil.NoSuchProcess):
        return None


def workers_of(serve: Serve) -> list[psutil.Process]:
    return [each for each in psutil.Process(serve.pid).children() if "counterfoil.cli.worker" in each.cmdline()]


def kill_all(serve: Serve, *, database: bool) -> None:
    victims = [psutil.Process(serve.pid), *psutil.Process(serve.pid).children(recursive=True)]
    postmaster = postmaster_of(serve)
    if database and postmaster is not None:
        victims += [postmaster, *postmaster.children(recursive=True)]
    for victim in victims:
        with suppress(psutil.NoSuchProcess):
            victim.send_signal(signal.SIGKILL)


def wait_for_more(load: Load, count: int) -> None:
    """Until so many more lives have come to their end."""
    wanted = load.count_done() + count
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while load.count_done() < wanted:
        assert time.monotonic() < give_up_at, f"stuck: {load.problems[:3]}"
        time.sleep(0.02)


def kill_a_worker(load: Load) -> None:
    [victim, *_] = random.sample(workers_of(load.shop.serve), 1)
    os.kill(victim.pid, signal.SIGKILL)


def kill_the_database(load: Load) -> None:
    postmaster = postmaster_of(load.shop.serve)
    assert postmaster is not None
    os.kill(postmaster.pid, signal.SIGKILL)


@pytest.mark.slow
def test_killed_workers(load: Load) -> None:
    with load.running():
        for _ in range(4):
            wait_for_more(load, 40)
            kill_a_worker(load)
        wait_for_more(load, 60)
    assert load.lost > 0
    assert_true(load)


@pytest.mark.slow
def test_a_killed_database(load: Load) -> None:
    """The service starts it again by itself, and it recovers."""
    with load.running():
        for _ in range(3):
            wait_for_more(load, 40)
            kill_the_database(load)
        wait_for_more(load, 60)
    assert_true(load)


@pytest.mark.slow
def test_everything_at_once(load: Load) -> None:
    """A worker and the database in the same moment."""
    with load.running():
        for _ in range(2):
            wait_for_more(load, 40)
            kill_a_worker(load)
            kill_the_database(load)
        wait_for_more(load, 60)
    assert_true(load)


@pytest.mark.slow
@pytest.mark.parametrize("database", [False, True], ids=["database survives", "database too"])
def test_the_whole_service(load: Load, database: bool) -> None:  # noqa: FBT001
    """Parent and workers die without a word; who starts it again finds everything as it was told."""
    serve = load.shop.serve
    with load.running():
        for _ in range(2):
            wait_for_more(load, 40)
            kill_all(serve, database=database)
            serve.wait()
            serve.start()
        wait_for_more(load, 60)
    assert load.lost > 0
    assert_true(load)


def test_one_of_each(load: Load) -> None:
    """The short form of the above."""
    with load.running():
        wait_for_more(load, 20)
        kill_a_worker(load)
        wait_for_more(load, 20)
        kill_the_database(load)
        wait_for_more(load, 20)
    assert_true(load)
