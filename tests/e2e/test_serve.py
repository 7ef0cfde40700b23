"""`counterfoil serve` as an operator meets it: workers, changes, the end, probes."""

import base64
import json
import re
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import psutil
import pytest

from counterfoil.storage import embedded
from tests.contract.serving import Serve, broken_rules, command, environment_of, fetch
from tests.contract.shop import BOTH, CHECKER, CREATE, MAKER, WORKFLOW, Member, Shop, data_of, decision, encoded

WORKERS = 3
EFFECTIVE_SECONDS = 1.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path of its own, which the account of an embedded database may pass through."""
    path = Path(tempfile.mkdtemp(prefix="e2e-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def serve(folder: Path, database_url: str) -> Iterator[Serve]:
    """Several workers on a database of the test's own. They end well."""
    running = Serve(folder, database_url=database_url, COUNTERFOIL_WORKERS=WORKERS)
    running.start()
    try:
        yield running
    finally:
        ended = running.stop()
    assert ended == 0
    assert running.logged_faults() == []
    assert running.logged_secrets() == []
    assert broken_rules(running) == []


@pytest.fixture
def http(serve: Serve) -> Iterator[httpx.Client]:
    with serve.client() as client:
        yield client


def open_shop(serve: Serve, http: httpx.Client, members: int = 20) -> Shop:
    chosen = [Member(3_000_000 + number, f"96765{number:05d}", 100_000) for number in range(members)]
    return Shop(serve, http, 800_000, "till.8", members=chosen).open()


@pytest.fixture
def shop(serve: Serve, http: httpx.Client) -> Shop:
    return open_shop(serve, http)


def workers_of(serve: Serve) -> list[psutil.Process]:
    return psutil.Process(serve.pid).children()


class Line:
    """One connection that stays with the worker that took it."""

    def __init__(self, serve: Serve) -> None:
        url = urlsplit(serve.url)
        self.connection = HTTPConnection(str(url.hostname), url.port, timeout=30)
        self.connection.connect()
        self.port = self.connection.sock.getsockname()[1]

    def ask(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> tuple[int, Any]:
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read())


@pytest.fixture
def lines(serve: Serve) -> Iterator[list[Line]]:
    """At least one connection to each worker; who has which, the kernel says."""
    opened: list[Line] = []
    taken: set[int] = set()
    while len(taken) < WORKERS:
        assert len(opened) < 400, "some worker never takes a connection"
        # Asked at the same time, so that one worker cannot take them all.
        fresh = [Line(serve) for _ in range(12)]
        with ThreadPoolExecutor(len(fresh)) as threads:
            list(threads.map(lambda line: line.ask("GET", "/healthz", {}), fresh))
        ports = {
            connection.raddr.port: worker.pid
            for worker in workers_of(serve)
            for connection in worker.net_connections("tcp4")
            if connection.status == psutil.CONN_ESTABLISHED
        }
        for line in fresh:
            pid = ports.get(line.port)
            if pid is not None and pid not in taken:
                taken.add(pid)
                opened.append(line)
            else:
                line.connection.close()
    yield opened
    for line in opened:
        line.connection.close()


@pytest.mark.slow
def test_the_signing_key_changes_while_every_worker_serves(serve: Serve, shop: Shop, lines: list[Line]) -> None:
    """Old tokens stay good, new ones have the new key on every worker at once; a dropped key ends its tokens."""
    shop.client("app")
    apply_by_hand(shop)
    key = f"app.{shop.org_id}"
    body = encoded({"key": key, "secret": shop.secret(key)})
    plain = {"Content-Type": "application/json"}

    def generate(line: Line) -> str:
        token: str = line.ask("POST", "/v3/oauth/token/generate", plain, body)[1]["data"]["accessToken"]
        serve.secrets.add(token)
        return token

    def read(line: Line, token: str) -> tuple[int, int]:
        return code_of(line.ask("GET", f"{WORKFLOW}/requests", {"X-CAP-API-OAUTH-TOKEN": token}))

    def kid_of(token: str) -> str:
        return str(json.loads(base64.urlsafe_b64decode(token.partition(".")[0] + "=="))["kid"])

    def rotate(*options: str) -> str:
        done = command("keys", "rotate", *options, environment=serve.environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()[1]

    before = [generate(line) for line in lines]
    new = rotate("--after-minutes", "0")
    # At once, whichever worker has looked into the file already: an unknown key makes the others look.
    early = [generate(line) for line in lines]
    assert {read(line, token) for line in lines for token in (*before, *early)} == {(200, 0)}
    time.sleep(EFFECTIVE_SECONDS)
    after = [generate(line) for line in lines]
    assert {kid_of(token) for token in after} == {new}
    assert {read(line, token) for line in lines for token in (*before, *early, *after)} == {(200, 0)}
    for line in lines:
        published = line.ask("GET", "/.well-known/jwks.json", {})[1]["keys"]
        assert [each["kid"] for each in published] == [kid_of(before[0]), new]
    last = rotate("--drop-old")
    for old in (before[0], after[0]):
        assert_soon(lines, partial(read, token=old), (401, 2013))
    fresh = [generate(line) for line in lines]
    assert {kid_of(token) for token in fresh} == {last}
    assert {read(line, token) for line in lines for token in fresh} == {(200, 0)}


def test_a_client_that_ends_ends_on_every_worker(shop: Shop, lines: list[Line]) -> None:
    client = shop.client("app")
    apply_by_hand(shop)
    headers = shop.by_client("app")

    def read(line: Line) -> tuple[int, int]:
        return code_of(line.ask("GET", f"{WORKFLOW}/requests", headers))

    assert [read(line) for line in lines] == [(200, 0)] * WORKERS
    client["active"] = False
    apply_by_hand(shop)
    assert [read(line) for line in lines] == [(401, 2013)] * WORKERS


def apply_by_hand(shop: Shop, **sections: Any) -> None:
    """`counterfoil org apply`, as an operator runs it."""
    for name, value in sections.items():
        shop.content[name] = value
    file = shop.serve.folder / "organisation.yaml"
    file.write_text(json.dumps(shop.content))
    done = command("org", "apply", file, environment=shop.serve.environment)
    assert done.returncode == 0, done.stderr
    assert "the organisation is at version" in done.stdout
    assert [secret for secret in shop.serve.secrets if secret in done.stdout + done.stderr] == []


def assert_soon(lines: list[Line], ask: Callable[[Line], tuple[int, int]], wanted: tuple[int, int]) -> None:
    """Every worker answers so whoever asks a second after the change."""
    due_at = time.monotonic() + EFFECTIVE_SECONDS
    for line in lines:
        asked_at = time.monotonic()
        while (found := ask(line)) != wanted:
            assert asked_at < due_at, found
            asked_at = time.monotonic()


def code_of(answer: tuple[int, Any]) -> tuple[int, int]:
    """Status and code; 0 for an answer without an error."""
    status, body = answer
    return status, body["errors"][0]["code"] if body.get("errors") else 0


def test_changes_count_on_every_worker_at_once(shop: Shop, lines: list[Line]) -> None:
    """A right that is taken away or given, a user that ends, a password that changes, a till that ends."""
    pending = {name: iter([shop.create(by=MAKER)["requestId"] for _ in range(WORKERS * 3)]) for name in ("a",)}["a"]
    by_maker, by_both, by_checker = shop.headers(MAKER), shop.headers(BOTH), shop.headers(CHECKER)
    plain = shop.headers()

    def create(headers: dict[str, str]) -> Callable[[Line], tuple[int, int]]:
        return lambda line: code_of(line.ask("POST", CREATE, headers, encoded(shop.body(shop.members[0], "1"))))

    def approve(line: Line) -> tuple[int, int]:
        return code_of(line.ask("PUT", CREATE, by_checker, encoded(decision(next(pending)))))

    def read(line: Line) -> tuple[int, int]:
        return code_of(line.ask("GET", f"{WORKFLOW}/requests", plain))

    for ask in (create(by_maker), create(by_both), approve, read):  # every worker knows all callers
        assert [ask(line) for line in lines] == [(200, 0)] * WORKERS
    grants = shop.content["grants"]
    apply_by_hand(shop, grants=[each for each in grants if each["person"] != "E-1001"])
    assert_soon(lines, create(by_maker), (403, 2001))
    assert_soon(lines, create(by_both), (200, 0))
    apply_by_hand(shop, grants=grants)
    assert_soon(lines, create(by_maker), (200, 0))
    people = json.loads(json.dumps(shop.content["people"]))
    people[0]["users"][0]["active"] = False
    people[1]["users"][0]["password"] = "another password of the checker"
    apply_by_hand(shop, people=people)
    assert_soon(lines, create(by_maker), (401, 2013))
    assert_soon(lines, approve, (401, 2013))  # the token was for the old password
    assert_soon(lines, create(by_both), (200, 0))
    credentials = json.loads(json.dumps(shop.content["credentials"]))
    credentials[0]["passwordMd5"] = "0" * 32
    apply_by_hand(shop, credentials=credentials)
    assert_soon(lines, read, (401, 2013))


def test_an_old_password_and_a_new_one(shop: Shop, lines: list[Line]) -> None:
    """Signing in: at once by the new one, no more by the old one, on every worker."""

    def sign_in(password: str) -> Callable[[Line], tuple[int, int]]:
        body = encoded({"orgId": shop.org_id, "userName": MAKER, "password": password})
        return lambda line: code_of(line.ask("POST", "/counterfoil/v1/ui-token", {}, body))

    old = f"{shop.password}-{MAKER}"
    assert [sign_in(old)(line) for line in lines] == [(200, 0)] * WORKERS
    people = json.loads(json.dumps(shop.content["people"]))
    people[0]["users"][0]["password"] = "a new password"
    apply_by_hand(shop, people=people)
    assert_soon(lines, sign_in("a new password"), (200, 0))
    assert_soon(lines, sign_in(old), (401, 2013))


def test_a_token_of_one_worker_is_good_for_all(shop: Shop, lines: list[Line]) -> None:
    headers = shop.headers(MAKER)
    for line in lines:
        status, body = line.ask("POST", CREATE, headers, encoded(shop.body()))
        assert status == 200
        for other in lines:
            assert other.ask("GET", f"{WORKFLOW}/requests/{body['data']['requestId']}", headers)[0] == 200


def test_what_is_in_flight_is_answered(folder: Path, database_url: str) -> None:
    """SIGTERM while requests wait for a locked row: each gets its good answer, then the service ends with 0."""
    serve = Serve(folder, database_url=database_url, COUNTERFOIL_WORKERS=WORKERS, COUNTERFOIL_LOCK_TIMEOUT_MS=20_000)
    serve.start()
    family = [psutil.Process(serve.pid), *psutil.Process(serve.pid).children(recursive=True)]
    with serve.client() as http:
        shop = open_shop(serve, http)
        bodies = [shop.body(shop.members[0], "1") for _ in range(24)]
        shop.create()
        with _locked_member(database_url, shop.members[0].member_id) as release, ThreadPoolExecutor(24) as threads:
            sent = [threads.submit(_submit_alone, serve, shop.headers(MAKER), body) for body in bodies]
            _wait_until(lambda: _accepted(http) == len(bodies) + 1)  # one came before
            assert serve.process is not None
            serve.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            assert not any(future.done() for future in sent)
            release()
            answers = [future.result() for future in sent]
    assert [answer.status_code for answer in answers] == [200] * len(bodies)
    assert serve.wait() == 0
    assert [process for process in family if process.is_running()] == []
    stored = fetch(database_url, "SELECT count(*) FROM request WHERE state = 'pending'")[0][0]
    assert stored == len(bodies) + 1
    assert broken_rules(serve) == []


def _submit_alone(serve: Serve, headers: dict[str, str], body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{serve.url}{CREATE}", json=body, headers=headers, timeout=30, trust_env=False)


class _locked_member:  # noqa: N801 - used as a function
    """Holds the row of a member until `release`."""

    def __init__(self, url: str, member_id: int) -> None:
        self._url, self._member_id = url, member_id
        self._locked, self._released = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold)

    def __enter__(self) -> Callable[[], None]:
        self._thread.start()
        assert self._locked.wait(10)
        return self._released.set

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._thread.join()

    def _hold(self) -> None:
        import asyncio  # noqa: PLC0415 - for this thread only

        async def run() -> None:
            connection = await asyncpg.connect(self._url)
            async with connection.transaction():
                await connection.execute("SELECT 1 FROM member WHERE member_id = $1 FOR UPDATE", self._member_id)
                self._locked.set()
                await asyncio.to_thread(self._released.wait)
            await connection.close()

        asyncio.run(run())


def _accepted(http: httpx.Client) -> float:
    """How many create calls the workers have taken: those that wait, and those that are with the database."""
    text = http.get("/metrics").text
    return _sum(text, "counterfoil_queue_depth", 'verb="submit"') + _sum(
        text, "counterfoil_group_size_sum", 'verb="submit"'
    )


def _wait_until(true: Callable[[], bool], seconds: float = 20) -> None:
    give_up_at = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_nothing_is_left_behind(folder: Path, number: int) -> None:
    """With the embedded database, under load: every process of it is gone, and it ends with 0."""
    serve = Serve(folder, COUNTERFOIL_WORKERS=2)
    serve.start()
    with suppress(FileNotFoundError):
        postmaster = int((folder / "cluster" / "postmaster.pid").read_text().split()[0])
    family = [psutil.Process(serve.pid), *psutil.Process(serve.pid).children(recursive=True)]
    family += [psutil.Process(postmaster), *psutil.Process(postmaster).children(recursive=True)]
    stop = threading.Event()

    def load() -> None:
        with httpx.Client(base_url=serve.url, trust_env=False) as client:
            while not stop.is_set():
                with suppress(httpx.HTTPError):
                    client.get("/readyz")

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    ended = serve.stop(number)
    stop.set()
    for thread in threads:
        thread.join()
    assert ended == 0
    gone, alive = psutil.wait_procs(family, timeout=5)
    assert (len(gone) > 4, alive) == (True, [])
    assert not (folder / "cluster" / "postmaster.pid").exists()
    assert not list(Path(tempfile.gettempdir()).glob(f"counterfoil-metrics-*/*_{serve.pid}.db"))


@pytest.mark.slow
def test_ready_tells_of_the_database(folder: Path, data_dir: Path) -> None:
    """503 with the reason while it is away, and 200 again without a restart of the service."""
    database = embedded.start(data_dir)
    serve = Serve(folder, database_url=database.url, COUNTERFOIL_WORKERS=1)
    try:
        migrated = command("migrate", environment=serve.environment)
        assert migrated.returncode == 0, migrated.stderr
        serve.start()
        with serve.client() as http:
            shop = open_shop(serve, http, members=2)
            assert http.get("/readyz").json() == {"status": "ready", "paused": None}
            shop.create()
            embedded.stop(database)
            # The answer is kept for a second.
            _wait_until(lambda: http.get("/readyz").status_code == 503)
            answer = http.get("/readyz")
            assert answer.status_code == 503
            [error] = answer.json()["errors"]
            assert error["code"] == 2903
            assert "database" in error["message"]
            assert int(answer.headers["retry-after"]) >= 1
            assert http.get("/healthz").status_code == 200
            read = shop.page()
            assert (read.status_code, read.json()["errors"][0]["code"]) == (503, 2903)
            assert "retry-after" in read.headers
            scraped = http.get("/metrics")
            assert scraped.status_code == 200
            assert "counterfoil_oldest_pending_seconds{" not in scraped.text
            database = embedded.start(data_dir)
            _wait_until(lambda: http.get("/readyz").status_code == 200)
            shop.create()
    finally:
        if serve.process is not None:
            serve.stop()
        embedded.stop(database)


def test_metrics(shop: Shop, http: httpx.Client) -> None:
    """Of all workers together, with the names that the documentation promises."""
    for _ in range(6):
        shop.create()
    for _ in range(4):
        shop.submit({})
    # The wait for a connection is sampled, so it takes a moment to appear.
    _wait_until(lambda: _sum(http.get("/metrics").text, "counterfoil_pool_wait_seconds_count", "") > 0)
    text = http.get("/metrics").text
    assert (
        _sum(text, "counterfoil_http_requests_total", 'route="POST /api_gateway/v2/request-workflow/{request_type}"')
        == 10
    )
    assert _sum(text, "counterfoil_refusals_total", 'code="2008"') == 4
    assert _sum(text, "counterfoil_group_size_count", 'verb="submit"') == 6
    assert _sum(text, "counterfoil_group_size_sum", 'verb="submit"') == 6
    assert _sum(text, "counterfoil_queue_depth", 'verb="submit"') == 0
    assert 0 <= _sum(text, "counterfoil_oldest_pending_seconds", f'org_id="{shop.org_id}"') < 60
    assert _sum(text, "counterfoil_http_request_seconds_count", "") > 10
    assert http.get("/metrics").headers["content-type"].startswith("text/plain")
    for line in text.splitlines():
        assert re.fullmatch(r"#.*|[a-z_]+(\{[^{}]*(\{[a-z_]+\}[^{}]*)*\})? [0-9.e+-]+|.* \+?(Inf|NaN)", line), line


def _sum(text: str, name: str, label: str) -> float:
    found = [
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith((f"{name}{{", f"{name} ")) and label in line
    ]
    assert found, name
    return sum(found)


def test_the_same_port_twice(serve: Serve, folder: Path) -> None:
    """Told in one line, at once, without touching anything."""
    second = command("serve", environment=serve.environment)
    assert second.returncode == 1
    assert second.stdout == ""
    assert re.fullmatch(r"counterfoil: port \d+ of 127\.0\.0\.1 is in use: .*COUNTERFOIL_PORT\n", second.stderr)
    assert httpx.get(f"{serve.url}/readyz", trust_env=False).status_code == 200
    assert sorted(each.name for each in folder.iterdir()) == ["keys.json", "serve.log"]


@pytest.mark.slow
def test_the_demo_on_a_taken_port(folder: Path) -> None:
    """`make demo ARGS=--once` with 8640 in use, by us or by somebody else."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            taken.bind(("127.0.0.1", 8640))
            taken.listen()
        environment = environment_of(folder, None)
        del environment["COUNTERFOIL_PORT"], environment["COUNTERFOIL_KEYS_FILE"]
        done = command("demo", "--once", environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every step was right" in done.stdout
    assert "http://127.0.0.1:8640" not in done.stdout
    assert list(folder.iterdir()) == []


def test_logs_are_json_with_the_request_id(shop: Shop, serve: Serve) -> None:
    answer = shop.submit()
    data_of(answer)
    correlation = answer.headers["x-cap-request-id"]
    _wait_until(lambda: correlation in serve.log.read_text())  # it is written after the answer
    lines = [json.loads(line) for line in serve.log.read_text().splitlines()]
    [line] = [line for line in lines if line.get("id") == correlation]
    assert (line["status"], line["event"]) == (200, "request")
    assert line["route"] == "POST /api_gateway/v2/request-workflow/{request_type}"


def test_documentation_is_served(serve: Serve, http: httpx.Client) -> None:
    page = http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    document = http.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert all(path in page.text for path in ("/api_gateway/v2/request-workflow/", "/counterfoil/v1/ui-token"))
