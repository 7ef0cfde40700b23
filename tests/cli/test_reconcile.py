"""Which addresses `counterfoil reconcile --sandbox` asks."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from counterfoil.application.reconciliation import CannotReconcile
from counterfoil.cli.reconcile import reconcile
from counterfoil.cli.remote import RemoteError

DAY = date(2026, 11, 23)


@pytest.mark.parametrize(
    "url", ["http://sandbox.example.com:8641", "https://127.0.0.1:8641", "http://127.0.0.1.example.com", "http://[",
            "http://127.0.0.1:x", "127.0.0.1:8641", "http://me@example.com"],
)  # fmt: skip
def test_only_a_sandbox_on_this_machine_is_asked(url: str) -> None:
    with pytest.raises(CannotReconcile, match="on this machine only"):
        reconcile("crm", org=1, since=DAY, until=DAY, sandbox=url)


def test_a_sandbox_that_is_not_there_is_told() -> None:
    with pytest.raises(RemoteError, match="does not answer"):
        reconcile("crm", org=1, since=DAY, until=DAY, sandbox="http://127.0.0.1:1")


def test_there_is_one_source_of_redemptions() -> None:
    with pytest.raises(CannotReconcile, match="not both"):
        reconcile("crm", org=1, since=DAY, until=DAY, sandbox="http://127.0.0.1:1", csv=Path("export.csv"))
