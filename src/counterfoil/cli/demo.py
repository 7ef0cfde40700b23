"""`counterfoil demo`: the contract's own request, from the maker's call to the points in the ledger."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException
from importlib.resources import files
from pathlib import Path
from types import FrameType
from typing import Any, Final

from msgspec import Struct
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from counterfoil.settings import load_settings

ORG_ID: Final = 51250
MEMBER_ID: Final = 382332518
WORKFLOW: Final = "/api_gateway/v2/request-workflow"
CREATE: Final = f"{WORKFLOW}/POINTS-REDEMPTION"
BASIC: Final = base64.b64encode(b"ind.1:202cb962ac59075b964b07152d234b70").decode()
START_SECONDS: Final = 60
HTTP_SECONDS: Final = 30


class DemoFailed(Exception):
    """A step did not do what it should; the message says which."""


class Answered(Struct, frozen=True):
    """An HTTP answer, its body decoded."""

    status: int
    body: Any


class Service(Struct, frozen=True):
    """The running service of the demo and where to print."""

    port: int
    console: Console

    def call(
        self, method: str, path: str, *, token: str = "", body: object = None, organisation: bool = True
    ) -> Answered:
        """Send one request as the till ind.1, with a person's token where one is given."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if organisation:
            headers |= {"Authorization": f"Basic {BASIC}", "X-CAP-API-AUTH-ORG-ID": str(ORG_ID)}
        if token:
            headers["X-CAP-UI-AUTH-TOKEN"] = token
        connection = HTTPConnection("127.0.0.1", self.port, timeout=HTTP_SECONDS)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        return Answered(answer.status, json.loads(text) if text.startswith((b"{", b"[")) else text.decode())

    def step(self, title: str) -> None:
        """Print the head of a step."""
        self.console.print()
        self.console.rule(f"[bold]{title}", align="left")

    def show_curl(self, method: str, path: str, token_name: str = "", body: object = None) -> None:
        """Print the request as a command that can be copied."""
        lines = [
            f"curl -s -X {method} http://127.0.0.1:{self.port}{path}",
            f"-H 'Authorization: Basic {BASIC}'",
            f"-H 'X-CAP-API-AUTH-ORG-ID: {ORG_ID}'",
        ]
        if token_name:
            lines.append(f'-H "X-CAP-UI-AUTH-TOKEN: ${token_name}"')
        if body is not None:
            lines += ["-H 'Content-Type: application/json'", f"-d '{json.dumps(body, indent=2)}'"]
        self.show_command(" \\\n  ".join(lines))

    def show_command(self, command: str) -> None:
        """Print a command without wrapping it: it must survive being copied."""
        self.console.print(Text(command, style="cyan"), soft_wrap=True)

    def show(self, answered: Answered) -> None:
        """Print an answer."""
        self.console.print(f"[dim]HTTP {answered.status}")
        self.console.print_json(json.dumps(answered.body), indent=2)


def demo(*, once: bool = False) -> int:
    """Show the main job: a request is made, approved and executed, on a database made for this.

    Parameters
    ----------
    once
        Stop after the last step; the exit status is 0 only if every step was right.
    """
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    signal.signal(signal.SIGTERM, _end)
    try:
        with _folder() as folder, _serving(folder, console) as service:
            _walk(service)
            if once:
                return 0
            _invite(service)
            with contextlib.suppress(KeyboardInterrupt):
                while True:
                    signal.pause()
            return 0
    except DemoFailed as failed:
        console.print(f"[red]the demo failed: {escape(str(failed))}")
        return 1
    except KeyboardInterrupt:
        return 130


def _end(_signal: int, _frame: FrameType | None) -> None:
    """SIGTERM unwinds like Ctrl-C does, so that the service and its folder go too."""
    raise SystemExit(143)


def _check(right: bool, what: str) -> None:  # noqa: FBT001 - reads like assert
    if not right:
        raise DemoFailed(what)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A data folder of the demo's own, made anew each time and removed at the end."""
    base = Path(tempfile.mkdtemp(prefix="counterfoil-demo-"))
    base.chmod(0o711)  # as root the database runs under an account of its own, which must pass through
    try:
        yield base / "data"
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise DemoFailed("no TCP port is free on 127.0.0.1")


@contextlib.contextmanager
def _serving(folder: Path, console: Console) -> Iterator[Service]:
    """The service as an operator would run it: apply the organisation file, then serve."""
    port = _free_port(load_settings(os.environ).port)
    environment = {
        # Nothing of an installation that this shell is set up for may reach the demo.
        **{
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("COUNTERFOIL_", "DATABASE_URL", "PROMETHEUS_"))
        },
        "COUNTERFOIL_DATA_DIR": str(folder),
        "COUNTERFOIL_HOST": "127.0.0.1",
        "COUNTERFOIL_PORT": str(port),
        "COUNTERFOIL_LOG_LEVEL": "warning",
    }
    console.rule("[bold]Counterfoil demo", align="left")
    console.print("An embedded PostgreSQL of its own, one organisation, and the service:")
    organisation = files("counterfoil") / "examples" / "demo-organisation.yaml"
    for command in (f"counterfoil org apply {Path(str(organisation)).name}", "counterfoil serve"):
        console.print(f"  [cyan]$ {command}")
    program = [sys.executable, "-m", "counterfoil"]
    applied = subprocess.run(
        [*program, "org", "apply", str(organisation)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    _check(applied.returncode == 0, f"the organisation file was refused:\n{applied.stdout}{applied.stderr}")
    server = subprocess.Popen([*program, "serve"], env=environment, stdout=subprocess.DEVNULL)
    try:
        service = Service(port, console)
        _wait_until_ready(service, server)
        console.print(f"[green]serving on http://127.0.0.1:{port}")
        yield service
    finally:
        server.terminate()
        try:
            server.wait(timeout=START_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()


def _wait_until_ready(service: Service, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        _check(server.poll() is None, "the service stopped; see its messages above")
        with contextlib.suppress(OSError, HTTPException):
            if service.call("GET", "/readyz", organisation=False).status == 200:
                return
        time.sleep(0.1)
    raise DemoFailed(f"the service was not ready within {START_SECONDS} seconds")


def contract_request() -> dict[str, Any]:
    """The request body of the contract page, field for field."""
    return {
        "entityInfo": {
            "tillId": "50682289",
            "storeId": "50682288",
            "zoneId": "50682286",
            "conceptId": "50678331",
        },
        "payload": {
            "IntouchAPITask-Payload": {
                "hostname": "<https://crm-nightly-new.cc.capillarytech.com>",
                "path": "/v1.1/points/redeem",
                "method": "POST",
                "pathParams": {},
                "queryParams": {"skip_validation": "true", "format": "json"},
                "body": {
                    "root": {
                        "redeem": {
                            "points_redeemed": "100",
                            "customer": {"mobile": "9988776655"},
                            "redemption_time": "2020-04-15 23:01:46",
                            "transaction_number": "numbr892723330323421971280",
                            "notes": "Redemption by SMS",
                            "external_reference_number": "ACR-583523332039150121",
                        }
                    }
                },
                "headers": {
                    "Authorization": f"Basic {BASIC}",
                    "content-type": "application/json",
                    "X-CAP-CLIENT-SIGNATURE": "jatin",
                },
            }
        },
    }


def _walk(service: Service) -> None:
    maker = _sign_in(service, "MAKER_TOKEN", "tomswayer@tipent.com", "maker-demo", "1. Two people sign in: the maker …")
    checker = _sign_in(service, "CHECKER_TOKEN", "asha@tipent.com", "checker-demo", "… and the checker")
    service.step("2. The member's points before")
    before = _show_points(service)
    service.step("3. The maker asks to redeem 100 points: the request of the contract page")
    body = contract_request()
    service.show_curl("POST", CREATE, "MAKER_TOKEN", body)
    created = service.call("POST", CREATE, token=maker, body=body)
    service.show(created)
    _check(created.status == 200, "the create call was not answered 200")
    data: Mapping[str, Any] = created.body["data"]
    _check(data["state"] == "AdminTask" and data["endTime"] is None, "the request should wait for a checker")
    sent = body["payload"]["IntouchAPITask-Payload"]
    _check(data["details"]["IntouchAPITask-Payload"] == sent, "the echo should equal what was sent")
    request_id: str = data["requestId"]
    service.step("4. Nothing is spent yet: the points are held")
    during = _show_points(service)
    _check(during == (before[0] - 100, before[1] + 100), "100 points should have moved from available to held")
    service.step("5. Nobody approves their own request")
    decision = _decision(request_id)
    refused = service.call("PUT", CREATE, token=maker, body=decision)
    service.show(refused)
    _check(refused.status == 403 and refused.body["errors"][0]["code"] == 2001, "the maker should be refused")
    service.step("6. The checker approves: the points are redeemed in the same transaction")
    service.show_curl("PUT", CREATE, "CHECKER_TOKEN", decision)
    decided = service.call("PUT", CREATE, token=checker, body=decision)
    service.show(decided)
    _check(
        decided.status == 200 and decided.body["data"]["state"] == "approved",
        "the request should be approved",
    )
    output = decided.body["data"]["details"]["IntouchAPITask_Output"]
    item = output["body"]["response"]["responses"]["points"]
    _check(item["item_status"]["code"] == 800, "the points API should answer 800")
    _finish(service, checker, request_id, decision, before)


def _finish(service: Service, checker: str, request_id: str, decision: object, before: tuple[float, float]) -> None:
    service.step("7. Exactly once: a second decision changes nothing")
    again = service.call("PUT", CREATE, token=checker, body=decision)
    service.show(again)
    _check(again.status == 400 and again.body["errors"][0]["code"] == 2002, "a second decision should be 2002")
    service.step("8. The member's points after")
    after = _show_points(service)
    _check(after == (before[0] - 100, before[1]), "100 points should be spent, none held")
    service.step("9. The audit trail: personal values stand as salted commitments (names ending in #)")
    path = f"/counterfoil/v1/requests/{request_id}/events"
    service.show_curl("GET", path)
    trail = service.call("GET", path)
    service.show(trail)
    kinds = [event["kind"] for event in trail.body["data"]]
    _check(kinds == ["submitted", "decision_refused", "succeeded"], "the trail should tell all three attempts")
    service.console.print()
    service.console.print("[bold green]every step was right")


def _decision(request_id: str) -> dict[str, Any]:
    task = {"actionDecision": "approved", "actionMessage": "approving the request"}
    return {"requestId": request_id, "actionName": "AdminTask", "payload": {"AdminTask-Payload": task}}


def _sign_in(service: Service, name: str, user_name: str, password: str, title: str) -> str:
    service.step(title)
    body = {"orgId": ORG_ID, "userName": user_name, "password": password}
    command = (
        f"{name}=$(curl -s http://127.0.0.1:{service.port}/counterfoil/v1/ui-token \\\n"
        f"  -H 'Content-Type: application/json' -d '{json.dumps(body)}' \\\n"
        '  | python3 -c \'import json, sys; print(json.load(sys.stdin)["data"]["token"])\')'
    )
    service.show_command(command)
    answered = service.call("POST", "/counterfoil/v1/ui-token", body=body, organisation=False)
    _check(answered.status == 200, f"{user_name} could not sign in: {answered.body}")
    token: str = answered.body["data"]["token"]
    return token


def _show_points(service: Service) -> tuple[float, float]:
    """Available and held points, asked for as the points API is."""
    path = f"/v2/customers/{MEMBER_ID}/points/balance"
    answered = service.call("GET", path)
    _check(answered.status == 200, f"the balance could not be read: {answered.body}")
    available, total = answered.body["mainPoints"], answered.body["totalPoints"]
    service.console.print(f"[dim]GET {path}")
    service.console.print(f"available [bold]{available:g}[/bold]   held [bold]{total - available:g}")
    return float(available), float(total - available)


def _invite(service: Service) -> None:
    base = f"http://127.0.0.1:{service.port}"
    service.step("Where to go next")
    service.console.print(f"API docs            {base}/docs   ({base}/openapi.json)")
    service.console.print("your own request    copy the curl commands above; change external_reference_number first")
    service.console.print("the organisation    examples/demo-organisation.yaml: people, tills, grants, members")
    service.console.print("[bold]serving until Ctrl-C")
