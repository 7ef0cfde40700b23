"""An organisation with its callers, as a client of the contract sees it."""

from __future__ import annotations

import asyncio
import base64
import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from counterfoil.application import administration
from counterfoil.application.administration import PasswordSources
from counterfoil.application.keys import load_keys
from counterfoil.application.organisation_files import read
from counterfoil.http.app import RESOURCES
from tests.contract.serving import Serve

WORKFLOW = "/api_gateway/v2/request-workflow"
CREATE = f"{WORKFLOW}/POINTS-REDEMPTION"
REDEEM = "/v1.1/points/redeem"
HOST = "<https://crm-nightly-new.cc.capillarytech.com>"
ZONE, CONCEPT, STORE, TILL = 50682286, 50678331, 50682288, 50682289
OTHER_ZONE, OTHER_CONCEPT, OTHER_STORE, OTHER_TILL = 60682286, 60678331, 60682288, 60682289
MAKER_ID, CHECKER_ID = 232134, 232135
TASK = "payload.IntouchAPITask-Payload"
ITEM = f"{TASK}.body.root.redeem"
# Staff id, user id, user name, and the rights that each has in the zone of the till.
PEOPLE: tuple[tuple[str, int, str, tuple[str, ...]], ...] = (
    ("E-1001", MAKER_ID, "tomswayer@tipent.com", ("CanMakeRequest",)),
    ("E-1002", CHECKER_ID, "checker@tipent.com", ("CanCheckRequest",)),
    ("E-1003", 232136, "second@tipent.com", ("CanCheckRequest",)),
    ("E-1004", 232137, "both@tipent.com", ("CanMakeRequest", "CanCheckRequest")),
    ("E-1005", 232138, "nobody@tipent.com", ()),
)
MAKER, CHECKER, SECOND, BOTH, NOBODY = (name for _, _, name, _ in PEOPLE)


@dataclass(frozen=True)
class Member:
    """A member as the organisation file lists it."""

    member_id: int
    mobile: str
    points: object = 1000
    email: str = ""
    external_id: str = ""

    @property
    def wire_mobile(self) -> str:
        """The mobile with the country's code, as answers show it."""
        return self.mobile if len(self.mobile) > 10 else f"91{self.mobile}"


def document(org_id: int, till: str, password: str, members: list[Member]) -> dict[str, Any]:
    """An organisation file. Two zones; the people act in the first one."""
    return {
        "organisation": {"id": org_id, "name": f"Shop {org_id}", "timeZone": "Asia/Kolkata", "countryCode": 91},
        "units": {
            "zones": [{"id": ZONE, "name": "North"}, {"id": OTHER_ZONE, "name": "South"}],
            "concepts": [{"id": CONCEPT, "name": "Apparel"}, {"id": OTHER_CONCEPT, "name": "Shoes"}],
            "stores": [
                {"id": STORE, "name": "Store", "zone": ZONE, "concept": CONCEPT},
                {"id": OTHER_STORE, "name": "Other store", "zone": OTHER_ZONE, "concept": OTHER_CONCEPT},
            ],
            "tills": [
                {"id": TILL, "name": "Till", "code": till, "store": STORE},
                {"id": OTHER_TILL, "name": "Other till", "code": f"o.{till}", "store": OTHER_STORE},
            ],
        },
        "people": [
            {
                "staffId": staff_id,
                "name": staff_id,
                "users": [{"id": user_id, "userName": name, "password": f"{password}-{name}"}],
            }
            for staff_id, user_id, name, _ in PEOPLE
        ],
        "credentials": [
            {"login": till, "id": TILL, "till": TILL, "passwordMd5": md5(password)},
            {"login": f"box.{till}", "id": 1, "passwordMd5": md5(password), "rights": ["CanMovePointsDirectly"]},
        ],
        "grants": [
            {"person": staff_id, "right": right, "unit": ZONE} for staff_id, _, _, rights in PEOPLE for right in rights
        ],
        "hosts": [{"id": "crm", "url": HOST.strip("<>"), "target": "ledger"}],
        "policy": {"approvals": 1},
        "programme": {"id": 1001, "name": "Points"},
        "members": [_member_entry(member) for member in members],
    }


def _member_entry(member: Member) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": member.member_id, "mobile": member.mobile}
    entry |= {name: value for name, value in (("email", member.email), ("externalId", member.external_id)) if value}
    if member.points:
        entry["lots"] = [{"reference": f"L-{member.member_id}", "points": member.points, "awardedAt": "2024-01-15"}]
    return entry


def md5(password: str) -> str:
    return hashlib.md5(password.encode(), usedforsecurity=False).hexdigest()


def basic(login: str, password_md5: str) -> str:
    return "Basic " + base64.b64encode(f"{login}:{password_md5}".encode()).decode()


def apply_document(url: str, content: Mapping[str, Any], keys: Path | None = None) -> None:
    """What `counterfoil org apply` does, without starting a process for it."""
    draft = read(json.dumps(content).encode(), RESOURCES)  # JSON is YAML
    sources = PasswordSources({}, Path(), None, (lambda: load_keys(keys)) if keys else None)
    work = administration.apply_to(url, draft, sources, operator="test", dry_run=False)
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()


@dataclass
class Shop:
    """An organisation. Tests that share one take members of their own from `member()`."""

    serve: Serve
    http: httpx.Client
    org_id: int
    till: str
    password: str = "long password of a till"
    programme_id: int = 1001
    members: list[Member] = field(default_factory=list)
    content: dict[str, Any] = field(default_factory=dict)
    _tokens: dict[str, str] = field(default_factory=dict)
    _next: Iterator[int] = field(default_factory=count)

    def open(self) -> Shop:
        """Create the organisation."""
        self.content = document(self.org_id, self.till, self.password, self.members)
        self.content["programme"]["id"] = self.programme_id
        self.serve.secrets |= {md5(self.password), self.basic, self.basic.split()[1]}
        self.serve.secrets |= {f"{self.password}-{name}" for _, _, name, _ in PEOPLE}
        self.apply()
        return self

    def apply(self) -> None:
        """Make the organisation what `content` says now."""
        assert self.serve.database_url is not None
        apply_document(self.serve.database_url, self.content, self.serve.folder / "keys.json")

    def change(self, **sections: Any) -> None:
        """Replace sections of the file (dictionaries are merged) and apply it."""
        for name, value in sections.items():
            self.content[name] = self.content[name] | value if isinstance(value, dict) else value
        self.apply()

    def member(self) -> Member:
        """A member that no other test has touched."""
        return self.members[next(self._next)]

    @property
    def basic(self) -> str:
        return basic(self.till, md5(self.password))

    @property
    def box(self) -> str:
        """The credentials that may move points directly."""
        return basic(f"box.{self.till}", md5(self.password))

    def token(self, name: str) -> str:
        if name not in self._tokens:
            answer = self.sign_in(name, f"{self.password}-{name}")
            assert answer.status_code == 200, answer.text
            self._tokens[name] = answer.json()["data"]["token"]
            self.serve.secrets.add(self._tokens[name])
        return self._tokens[name]

    def sign_in(self, name: str, password: str) -> httpx.Response:
        body = {"orgId": self.org_id, "userName": name, "password": password}
        return self.http.post("/counterfoil/v1/ui-token", json=body)

    def access_token(self, key: str, secret: str | None = None) -> httpx.Response:
        """What an OAuth client is answered."""
        body = {"key": key, "secret": secret or self.secret(key)}
        return self.http.post("/v3/oauth/token/generate", json=body)

    def secret(self, key: str) -> str:
        """The secret of each client of this organisation."""
        return f"{self.password}-{key}"

    def client(self, name: str, **changes: Any) -> dict[str, Any]:
        """A client as the organisation file lists it; its key is the name and the organisation's number."""
        key = f"{name}.{self.org_id}"
        self.serve.secrets.add(self.secret(key))
        number = 900 + len(self.content.get("oauthClients", ()))
        client = {"key": key, "id": number, "person": "E-1001", "secret": self.secret(key)} | changes
        self.content.setdefault("oauthClients", []).append(client)
        return client

    def by_client(self, name: str, by: str | None = None, **changes: str | None) -> dict[str, str]:
        """The headers of a call by a client of this name."""
        key = f"{name}.{self.org_id}"
        if key not in self._tokens:
            answer = self.access_token(key)
            assert answer.status_code == 200, answer.text
            self._tokens[key] = answer.json()["data"]["accessToken"]
            self.serve.secrets.add(self._tokens[key])
        return self.headers(by, Authorization=None, X_CAP_API_OAUTH_TOKEN=self._tokens[key], **changes)

    def headers(self, by: str | None = None, **changes: str | None) -> dict[str, str]:
        """The contract's headers; a change to None leaves one out."""
        found: dict[str, str | None] = {"Authorization": self.basic, "X-CAP-API-AUTH-ORG-ID": str(self.org_id)}
        if by:
            found["X-CAP-UI-AUTH-TOKEN"] = self.token(by)
        found |= {name.replace("_", "-"): value for name, value in changes.items()}
        return {name: value for name, value in found.items() if value is not None}

    def raw_headers(self, by: str | None = None, **changes: bytes | str | None) -> dict[bytes, bytes]:
        """The same as bytes, for values that are no ASCII."""
        raw = {name: value for name, value in changes.items() if isinstance(value, bytes)}
        found = self.headers(by, **{name: value for name, value in changes.items() if not isinstance(value, bytes)})
        headers = {name.encode(): value.encode() for name, value in found.items()}
        return headers | {name.replace("_", "-").encode(): value for name, value in raw.items()}

    def body(self, member: Member | None = None, points: object = "100", **item: Any) -> dict[str, Any]:
        """A create body in the form of the contract's sample."""
        member = member or self.member()
        redeem = {"points_redeemed": points, "customer": {"mobile": member.mobile}} | item
        if "external_reference_number" not in redeem:
            redeem["external_reference_number"] = f"ACR-{uuid4().hex}"
        return {
            "entityInfo": {
                "tillId": str(TILL),
                "storeId": str(STORE),
                "zoneId": str(ZONE),
                "conceptId": str(CONCEPT),
            },
            "payload": {
                "IntouchAPITask-Payload": {
                    "hostname": HOST,
                    "path": REDEEM,
                    "method": "POST",
                    "pathParams": {},
                    "queryParams": {"skip_validation": "true", "format": "json"},
                    "body": {"root": {"redeem": redeem}},
                    "headers": {
                        "Authorization": self.basic,
                        "content-type": "application/json",
                        "X-CAP-CLIENT-SIGNATURE": "jatin",
                    },
                }
            },
        }

    def submit(
        self, body: object = None, by: str | None = MAKER, path: str = CREATE, **changes: str | None
    ) -> httpx.Response:
        """Send a create call; text or bytes go as they are."""
        headers = {"Content-Type": "application/json"} | self.headers(by, **changes)
        raw = body if isinstance(body, bytes) else encoded(self.body() if body is None else body)
        return self.http.post(path, content=raw, headers=headers)

    def create(self, body: object = None, *, by: str | None = MAKER, **changes: str | None) -> dict[str, Any]:
        """A request that was accepted: its data, numbers exact."""
        return data_of(self.submit(body, by, CREATE, **changes))

    def decide(
        self,
        request_id: str,
        verdict: str = "approved",
        *,
        by: str | None = CHECKER,
        path: str = CREATE,
        **changes: str | None,
    ) -> httpx.Response:
        return self.http.put(path, json=decision(request_id, verdict), headers=self.headers(by, **changes))

    def approve(self, request_id: str, *, by: str = CHECKER) -> dict[str, Any]:
        return data_of(self.decide(request_id, by=by))

    def get(self, request_id: str, **changes: str | None) -> httpx.Response:
        return self.http.get(f"{WORKFLOW}/requests/{request_id}", headers=self.headers(**changes))

    def state(self, request_id: str) -> str:
        return str(data_of(self.get(request_id))["state"])

    def page(self, **query: object) -> httpx.Response:
        return self.http.get(f"{WORKFLOW}/requests", params={**query}, headers=self.headers())  # type: ignore[dict-item]

    def points(self, member: Member) -> tuple[Decimal | int, Decimal | int]:
        """Available and held points."""
        answer = self.http.get(f"/v2/customers/{member.member_id}/points/balance", headers=self.headers())
        found = exact(answer.text)
        return found["mainPoints"], found["totalPoints"] - found["mainPoints"]

    def redeem(self, item: object, authorization: str | None = None) -> httpx.Response:
        """Redeem directly at the points API."""
        headers = {"Authorization": authorization or self.box}
        return self.http.post(REDEEM, json={"root": {"redeem": item}}, headers=headers)


def guesses(guess: Callable[[str], httpx.Response]) -> list[httpx.Response]:
    """The answers to wrong secrets up to the first that says to wait: on a slow machine the first delays just pass."""
    answers = [guess("guess 0")]
    while answers[-1].status_code == 401 and len(answers) < 15:
        answers.append(guess(f"guess {len(answers)}"))
    return answers


def encoded(body: object) -> bytes:
    return json.dumps(body).encode()


def exact(text: str) -> Any:
    """JSON with its numbers as they are written."""
    return json.loads(text, parse_float=Decimal)


def data_of(answer: httpx.Response) -> dict[str, Any]:
    """What a good answer carries."""
    assert answer.status_code == 200, answer.text
    body = exact(answer.text)
    assert list(body) == ["data"]
    data: dict[str, Any] = body["data"]
    return data


def decision(request_id: str, verdict: str = "approved", message: str = "approving the request") -> dict[str, Any]:
    task = {"actionDecision": verdict, "actionMessage": message}
    return {"requestId": request_id, "actionName": "AdminTask", "payload": {"AdminTask-Payload": task}}


def item_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """The result of the redemption inside an executed request."""
    item: dict[str, Any] = data["details"]["IntouchAPITask_Output"]["body"]["response"]["responses"]["points"]
    return item


def code_of(data: Mapping[str, Any]) -> int:
    return int(item_of(data)["item_status"]["code"])


def set_at(body: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy of a body with the field at a path replaced, or taken out where the value is `...`."""
    changed = copy.deepcopy(body)
    *above, last = path.split(".")
    target = changed
    for name in above:
        target = target[name]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return changed


def assert_refused(answer: httpx.Response, status: int, code: int, *said: str) -> None:
    """The contract's envelope with this code; the message holds each of the texts."""
    assert answer.status_code == status, (answer.status_code, answer.text[:500])
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert list(body) == ["data", "errors", "warnings"], body
    assert body["data"] is None
    assert body["warnings"] == []
    [error] = body["errors"]
    assert list(error) == ["status", "code", "message"], error
    assert error["status"] is False
    assert error["code"] == code, error
    assert [text for text in said if text not in error["message"]] == [], error["message"]
