"""One running service for all contract tests of a process, on each PostgreSQL version."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.contract.serving import Serve, broken_rules, fetch
from tests.contract.shop import HOST, Member, Shop, md5

MEMBERS = 1500
_org_ids = count(700_000)


@pytest.fixture(scope="session")
def service(server: Any) -> Iterator[Serve]:
    """`counterfoil serve` on a migrated database of its own.

    It must end well, with a sound ledger and no secret in its log.
    """
    name = f"contract_{uuid4().hex}"
    fetch(server.url, f'CREATE DATABASE "{name}" TEMPLATE "{server.template}"')
    folder = Path(tempfile.mkdtemp(prefix="contract-"))
    serve = Serve(folder, database_url=server.url_of(name), COUNTERFOIL_POOL_SIZE=2)
    try:
        serve.start()
        try:
            yield serve
        finally:
            ended = serve.stop()
        assert ended == 0
        assert serve.logged_faults() == []
        assert serve.logged_secrets() == []
        assert broken_rules(serve) == []
    finally:
        fetch(server.url, f'DROP DATABASE "{name}" WITH (FORCE)')
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def http(service: Serve) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


@pytest.fixture(scope="session")
def shop(service: Serve, http: httpx.Client) -> Shop:
    """The organisation that tests share which leave its settings alone; they take members of their own."""
    members = [Member(1_000_000 + number, f"98765{number:05d}") for number in range(MEMBERS)]
    return Shop(service, http, 600_000, "shared.1", members=members).open()


@pytest.fixture(scope="session")
def original(service: Serve, http: httpx.Client) -> Shop:
    """The organisation of the contract's samples, with the tills and hosts that their payloads name."""
    members = [
        Member(382332518, "919887766554", 500, "tomswayer@mail.com", "XYPZ0063"),
        Member(382332519, "919780375690"),
    ]
    shop = Shop(service, http, 51250, "ind.1", password="123", programme_id=2739, members=members).open()
    tills = [
        {"login": login, "id": number, "passwordMd5": md5(password)}
        for number, (login, password) in enumerate((("pun.01", "123"), ("cm.2", "123"), ("ab124", "12345678")), start=2)
    ]
    shop.change(
        credentials=[*shop.content["credentials"], *tills],
        programme={"goodwillExpiryDays": 365},
        hosts=[
            {"id": "crm", "url": HOST.strip("<>"), "target": "ledger"},
            {"id": "eu", "url": "https://eu.api.capillarytech.com", "target": "ledger"},
            {"id": "internal", "url": "http://internal-intouch-api.default:1900", "target": "ledger"},
        ],
    )
    return shop


@pytest.fixture(scope="session")
def make_shop(service: Serve, http: httpx.Client) -> Callable[..., Shop]:
    """An organisation of the test's own, with sections of its file replaced."""

    def make(members: int = 25, **sections: Any) -> Shop:
        org_id = next(_org_ids)
        chosen = [Member(2_000_000 + number, f"97765{number:05d}") for number in range(members)]
        shop = Shop(service, http, org_id, f"till.{org_id}", members=chosen).open()
        if sections:
            shop.change(**sections)
        return shop

    return make
