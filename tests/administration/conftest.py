"""One running service for all tests of administration in a process; each takes an organisation of its own."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import httpx
import pytest

from tests.administration.town import Town
from tests.contract.conftest import http, service  # noqa: F401 - fixtures
from tests.contract.serving import Serve

_org_ids = count(800_000)


@pytest.fixture(scope="session")
def make_town(service: Serve, http: httpx.Client) -> Callable[..., Town]:  # noqa: F811 - the fixtures above
    """An organisation of the test's own, under dual control unless its sections say otherwise."""

    def make(**sections: object) -> Town:
        return Town(service, http, next(_org_ids)).open(**sections)

    return make


@pytest.fixture
def town(make_town: Callable[..., Town]) -> Town:
    return make_town()
