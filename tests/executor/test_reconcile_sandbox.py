"""`counterfoil reconcile --sandbox`: what a sandbox has done, beside what was approved here."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import httpx
import pytest

from tests.contract.serving import Serve, command
from tests.contract.shop import Shop, code_of
from tests.executor.conftest import a_sandbox, external


def reconcile(serve: Serve, shop: Shop, *arguments: str) -> CompletedProcess[str]:
    today = datetime.now(UTC).date()
    period = ("--from", f"{today - timedelta(days=1)}", "--to", f"{today + timedelta(days=1)}")
    return command("reconcile", "crm", "--org", str(shop.org_id), *period, *arguments, environment=serve.environment)


def approved(shop: Shop, reference: str, points: str) -> dict[str, Any]:
    created = shop.create(shop.body(points=points, external_reference_number=reference))
    data = shop.approve(created["requestId"])
    assert (data["state"], code_of(data)) == ("approved", 800)
    return data


@pytest.mark.slow
def test_a_sandbox_is_compared_effect_by_effect(
    make_shop: Callable[..., Shop], service: Serve, tmp_path: Path, kept_port: int
) -> None:
    journal = tmp_path / "effects.jsonl"
    shop = make_shop()
    with a_sandbox(journal, kept_port) as url:
        entry = external(type("Sandbox", (), {"url": url})())
        shop.change(hosts=[entry])
        for reference, points in (("SAME", "100"), ("GONE", "20.5"), ("MORE", "30")):
            approved(shop, reference, points)
        waiting = shop.create(shop.body(external_reference_number="WAITS"))
        told = reconcile(service, shop, "--sandbox", url, "--json")
        assert (told.returncode, told.stderr) == (0, "")
        assert {**json.loads(told.stdout), "from": "", "to": ""} == {
            "host": "crm", "from": "", "to": "", "pairs": 3, "membersNotComparable": 0, "findings": [],
        }  # fmt: skip
        # Behind our back.
        item = {
            "points_redeemed": "5", "customer": {"mobile": "919800000000"}, "external_reference_number": "STRANGER",
        }  # fmt: skip
        answer = httpx.post(
            f"{url}/v1.1/points/redeem", json={"root": {"redeem": item}}, headers={"Authorization": shop.basic},
            trust_env=False,
        )  # fmt: skip
        assert answer.status_code == 200
    # The host lost one redemption, and has another amount in its books for the second.
    effects = [json.loads(line) for line in journal.read_text().splitlines()]
    kept = [each for each in effects if each["reference"] != "GONE"]
    for each in kept:
        each["points"] += 500 * (each["reference"] == "MORE")
    journal.write_text("".join(json.dumps(each) + "\n" for each in kept))
    with a_sandbox(journal, kept_port) as again:
        told = reconcile(service, shop, "--sandbox", again, "--json")
        assert (told.returncode, told.stderr) == (2, "")
        findings = json.loads(told.stdout)["findings"]
        said = {each["kind"]: [side and (side["reference"], side["points"]) for side in (each["here"], each["there"])]
                for each in findings}  # fmt: skip
        assert said == {
            "only-there": [None, ("STRANGER", "5")],
            "only-here": [("GONE", "20.5"), None],
            "amount-differs": [("MORE", "30"), ("MORE", "30.5")],
        }
        assert len(findings) == 3
        assert waiting["requestId"] not in told.stdout
        [there] = [each["there"] for each in findings if each["kind"] == "only-there"]
        assert there["place"] == f"redemption {there['redemptionId']}"
        assert (there["member"]["mobile"], len(there["redemptionId"])) == ("919800000000", 6)
        told = reconcile(service, shop, "--sandbox", again)
        assert (told.returncode, "3 findings" in told.stdout) == (2, True)
