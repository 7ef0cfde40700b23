"""A real base backup, a real restore to a point in time: nothing is executed until an operator says so, nor twice."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from counterfoil.storage import embedded, migrations
from tests.conftest import VERSIONS, wait_for
from tests.contract.serving import Serve, command, fetch
from tests.contract.shop import Member, Shop
from tests.executor.conftest import FAST, external, settled
from tests.executor.hosts import IntouchHost, Received, a_host

pytestmark = pytest.mark.slow


@pytest.fixture(params=list(VERSIONS))
def programs(request: pytest.FixtureRequest) -> Path:
    return VERSIONS[request.param]


@pytest.fixture
def archive(data_dir: Path) -> Path:
    """Where the server keeps its log for restores; its account must be able to write there."""
    data_dir.chmod(0o711)
    folder = data_dir / "archive"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


@pytest.fixture
def source(data_dir: Path, programs: Path, archive: Path) -> Iterator[embedded.Embedded]:
    settings = {"archive_mode": "on", "archive_command": f"cp %p {archive}/%f", "max_wal_senders": "4"}
    handle = embedded.start(data_dir / "source", programs=programs, settings=settings)
    wait_for(migrations.migrate(handle.url))
    try:
        yield handle
    finally:
        embedded.stop(handle)


def back_up(programs: Path, source: embedded.Embedded, folder: Path) -> Path:
    """A base backup, where `embedded` looks for a cluster, owned by the account that the server runs under."""
    folder.mkdir(mode=0o700)
    cluster = folder / "cluster"
    address = source.url.replace("/postgres?", "/replication?")
    subprocess.run(
        [programs / "pg_basebackup", "-d", address, "-D", cluster, "-X", "stream", "-c", "fast"],
        check=True, timeout=60,
    )  # fmt: skip
    owner = (source.data_dir / "cluster").stat()
    for each in (folder, cluster, *cluster.rglob("*")):
        os.chown(each, owner.st_uid, owner.st_gid)
    return cluster


def test_restored_to_a_point_in_time(
    data_dir: Path, programs: Path, archive: Path, source: embedded.Embedded, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        host = stack.enter_context(a_host())
        serve = Serve(tmp_path, database_url=source.url, **FAST | {"COUNTERFOIL_DECIDE_SECONDS_MAX": 1})
        serve.start()
        stack.callback(serve.stop)
        client = stack.enter_context(serve.client())
        shop = Shop(serve, client, 51250, "till.1", members=[Member(1, "9876500001", points=0)]).open()
        shop.change(hosts=[external(host, overallSeconds=300)])
        member = shop.members[0]
        references = {name: f"REF-{name}" for name in ("before", "lost", "late")}
        created = {
            name: shop.create(shop.body(member, external_reference_number=reference))["requestId"]
            for name, reference in references.items()
        }
        assert shop.approve(created["before"])["state"] == "approved"
        cluster = back_up(programs, source, data_dir / "restored")

        busy = {"lost", "late"}  # both are approved at the moment to which the database will go back …
        host.choose = lambda call: "503" if any(references[each].encode() in call.body for each in busy) else "ok"
        for name in ("lost", "late"):
            assert shop.approve(created[name])["state"] == "AdminTask"
        [row] = fetch(source.url, "SELECT clock_timestamp()::text AS at")
        time.sleep(0.2)
        busy.remove("lost")  # … and one of them is executed after that moment
        assert settled(shop, created["lost"])["state"] == "approved"
        assert serve.stop() == 0
        fetch(source.url, "SELECT pg_switch_wal()")
        embedded.stop(source)

        restored = restore(cluster, archive, row["at"], programs, data_dir / "restored")
        stack.callback(embedded.stop, restored)
        serve.database_url = serve.environment["DATABASE_URL"] = restored.url
        calls = len(host.received)
        serve.start()
        ready = client.get("/readyz").json()
        assert "resume --after-restore" in ready["paused"]
        assert "counterfoil_paused 1" in client.get("/metrics").text
        assert [shop.state(created[name]) for name in ("lost", "late")] == ["AdminTask", "AdminTask"]
        busy.clear()
        time.sleep(1.5)  # many polls
        assert len(host.received) == calls
        assert "executions are paused" in serve.log.read_text()
        resume_and_look(serve, shop, host, created, references)
        assert serve.stop() == 0


def restore(cluster: Path, archive: Path, until: str, programs: Path, folder: Path) -> embedded.Embedded:
    (cluster / "recovery.signal").touch()
    settings = {
        "archive_mode": "off",
        "restore_command": f"cp {archive}/%f %p",
        "recovery_target_time": until,
        "recovery_target_action": "promote",
        "max_wal_senders": "4",
    }
    handle = embedded.start(folder, programs=programs, settings=settings)
    give_up_at = time.monotonic() + 60
    while fetch(handle.url, "SELECT pg_is_in_recovery() AS r")[0]["r"]:
        assert time.monotonic() < give_up_at
        time.sleep(0.2)
    shutil.rmtree(archive, ignore_errors=True)
    return handle


def resume_and_look(
    serve: Serve, shop: Shop, host: IntouchHost, created: dict[str, str], references: dict[str, str]
) -> None:
    refused = command("resume", environment=serve.environment)
    assert (refused.returncode, "--after-restore" in refused.stderr) == (1, True)
    resumed = command("resume", "--after-restore", environment=serve.environment)
    assert resumed.returncode == 0, resumed.stderr
    assert "2 approved requests are being looked up" in resumed.stdout
    assert command("resume", "--after-restore", environment=serve.environment).stdout == "nothing is paused\n"
    for name in ("lost", "late"):
        assert settled(shop, created[name])["state"] == "approved"
    assert host.effects == dict.fromkeys(references.values(), 1)
    assert shop.http.get("/readyz").json() == {"status": "ready", "paused": None}
    kinds = [
        each["kind"]
        for each in shop.http.get(f"/counterfoil/v1/requests/{created['lost']}/events", headers=shop.headers()).json()[
            "data"
        ]
    ]
    assert kinds == ["submitted", "approved", "unknown", "succeeded"]
    assert isinstance(host.received[-1], Received)
