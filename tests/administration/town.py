"""An organisation with three administrators, and what they do over HTTP."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.builders import AT_NOON
from tests.contract.serving import Serve
from tests.contract.shop import CREATE, HOST, apply_document, basic, decision, encoded, md5

CHANGES = "/counterfoil/v1/admin-changes"
ZONE, CONCEPT, STORE, TILL = 11, 12, 13, 14
ADA, BEN, CLEO, MIA, CAL, KIM = "ada", "ben", "cleo", "mia", "cal", "kim"
PEOPLE = (ADA, BEN, CLEO, MIA, CAL, KIM)
RIGHTS = {ADA: "CanAdminister", BEN: "CanAdminister", CLEO: "CanAdminister", MIA: "CanMakeRequest",
          CAL: "CanCheckRequest", KIM: "CanCheckRequest"}  # fmt: skip
# What an organisation may do and own: nothing of it may move by one person alone.
GUARDED = (
    "organisation", "org_unit", "person", "app_user", "credential", "access_grant", "host", "policy", "programme",
    "member", "member_identifier", "lot", "journal", "posting", "redemption", "directory", "direct_use",
    "access_group", "ui_token_issuer", "person_group", "person_group_member", "person_identifier", "reason_code",
    "goodwill", "member_status",
)  # fmt: skip


def grant(person: str, right: str, **more: Any) -> dict[str, Any]:
    return {"person": person, "right": right, **more}


@dataclass
class Town:
    """`content` is the organisation file as it was applied at first."""

    serve: Serve
    http: httpx.Client
    org_id: int
    content: dict[str, Any] = field(default_factory=dict)
    _tokens: dict[str, str] = field(default_factory=dict)

    @property
    def login(self) -> str:
        return f"town.{self.org_id}"

    def password(self, name: str) -> str:
        return f"password of {name} in {self.org_id}"

    def open(self, **sections: Any) -> Town:
        """Create the organisation, as an operator may do with a new one."""
        self.content = self.document() | sections
        self.serve.secrets |= {self.password(name) for name in PEOPLE} | {md5(self.password(self.login))}
        self.operate(self.content)
        return self

    def document(self) -> dict[str, Any]:
        organisation = {"id": self.org_id, "name": "Town", "timeZone": AT_NOON, "countryCode": 91, "control": "dual"}
        return {
            "organisation": organisation,
            "units": {
                "zones": [{"id": ZONE, "name": "Zone"}],
                "concepts": [{"id": CONCEPT, "name": "Concept"}],
                "stores": [{"id": STORE, "name": "Store", "zone": ZONE, "concept": CONCEPT}],
                "tills": [{"id": TILL, "name": "Till", "code": self.login, "store": STORE}],
            },
            "people": [
                {"staffId": name, "name": name.title(),
                 "users": [{"id": 100 + number, "userName": f"{name}@example.com", "password": self.password(name)}]}
                for number, name in enumerate(PEOPLE)
            ],
            "credentials": [{"login": self.login, "id": 1, "till": TILL, "password": self.password(self.login)}],
            "grants": [grant(name, right) for name, right in RIGHTS.items()],
            "hosts": [{"id": "crm", "url": HOST.strip("<>"), "target": "ledger"}],
            "policy": {"approvals": 1},
            "programme": {"id": 1, "name": "Points"},
            "members": [{"id": 1, "mobile": "9000000001", "lots": [
                {"reference": "welcome", "points": 1000, "awardedAt": "2024-01-01"}]}],
        }  # fmt: skip

    def part(self, **sections: Any) -> dict[str, Any]:
        """A file that names the organisation and these sections only: what is not listed stays."""
        return copy.deepcopy({"organisation": self.content["organisation"]} | sections)

    def with_grants(self, *more: dict[str, Any], without: Iterable[str] = ()) -> dict[str, Any]:
        """A file with the grants as they were, those of some people taken away, and more."""
        kept = [each for each in self.content["grants"] if each["person"] not in without]
        return self.part(grants=[*kept, *more])

    def person(self, name: str, **user: Any) -> dict[str, Any]:
        """A file with one person, whose sign-in has these fields changed."""
        [known] = [each for each in self.content["people"] if each["staffId"] == name]
        [sign_in] = known["users"]
        bare = {key: value for key, value in sign_in.items() if key != "password"}
        return self.part(people=[known | {"users": [bare | user]}])

    def operate(self, content: dict[str, Any]) -> None:
        """Apply a file as the operator of the database does."""
        assert self.serve.database_url is not None
        apply_document(self.serve.database_url, content)

    # Calls.

    def headers(self, by: str | None) -> dict[str, str]:
        found = {
            "Authorization": basic(self.login, md5(self.password(self.login))),
            "X-CAP-API-AUTH-ORG-ID": str(self.org_id),
        }
        return found | {"X-CAP-UI-AUTH-TOKEN": self.token(by)} if by else found

    def token(self, name: str, password: str | None = None) -> str:
        if name not in self._tokens or password:
            body = {
                "orgId": self.org_id,
                "userName": f"{name}@example.com",
                "password": password or self.password(name),
            }
            answer = self.http.post("/counterfoil/v1/ui-token", json=body)
            assert answer.status_code == 200, answer.text
            self._tokens[name] = answer.json()["data"]["token"]
            self.serve.secrets.add(self._tokens[name])
        return self._tokens[name]

    def propose(self, content: Any, by: str | None = ADA, **more: Any) -> httpx.Response:
        return self.http.post(CHANGES, json={"file": content, **more}, headers=self.headers(by))

    def proposed(self, content: Any, by: str = ADA, **more: Any) -> dict[str, Any]:
        """A change that was proposed."""
        answer = self.propose(content, by, **more)
        assert answer.status_code == 200, answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data

    def decide(
        self, change_id: str, verdict: str = "approved", *, by: str | None = BEN, message: str = "seen", **headers: str
    ) -> httpx.Response:
        return self.http.post(
            f"{CHANGES}/{change_id}/decisions",
            json={"verdict": verdict, "message": message},
            headers=self.headers(by) | headers,
        )

    def change(self, content: dict[str, Any], *, by: str = ADA, approved_by: str = BEN) -> None:
        """Propose and approve."""
        answer = self.decide(self.proposed(content, by)["id"], by=approved_by)
        assert answer.status_code == 200, answer.text

    def get(self, change_id: str, by: str | None = BEN) -> httpx.Response:
        return self.http.get(f"{CHANGES}/{change_id}", headers=self.headers(by))

    def page(self, by: str | None = BEN, **query: Any) -> httpx.Response:
        return self.http.get(CHANGES, params=query, headers=self.headers(by))

    # Requests for points.

    def submit(self, by: str = MIA, points: int = 10) -> httpx.Response:
        body = {
            "entityInfo": {"tillId": str(TILL)},
            "payload": {
                "IntouchAPITask-Payload": {
                    "hostname": HOST, "path": "/v1.1/points/redeem", "method": "POST",
                    "body": {"root": {"redeem": {"points_redeemed": points, "customer": {"mobile": "9000000001"}}}},
                    "headers": {"Authorization": self.headers(None)["Authorization"]},
                }
            },
        }  # fmt: skip
        headers = self.headers(by) | {"Content-Type": "application/json"}
        return self.http.post(CREATE, content=encoded(body), headers=headers)

    def request(self) -> str:
        """A request for points that waits."""
        answer = self.submit()
        assert answer.status_code == 200, answer.text
        return str(answer.json()["data"]["requestId"])

    def check(self, request_id: str, by: str = CAL) -> httpx.Response:
        return self.http.put(CREATE, json=decision(request_id), headers=self.headers(by))

    # The database.

    def rows(self, sql: str, *arguments: Any) -> list[Any]:
        return self.serve.rows(sql, self.org_id, *arguments)

    def version(self) -> int:
        return int(self.rows("SELECT version FROM organisation WHERE org_id = $1")[0][0])

    def guarded(self) -> dict[str, list[str]]:
        """Every row of the organisation that says who may do what, or who has which points."""
        each = (f"SELECT '{table}' AS name, t::text AS row FROM {table} t WHERE org_id = $1" for table in GUARDED)  # noqa: S608
        found: dict[str, list[str]] = {table: [] for table in GUARDED}
        for row in self.rows(" UNION ALL ".join(each) + " ORDER BY 1, 2"):
            found[row["name"]].append(row["row"])
        return found


def error_of(answer: httpx.Response, status: int, code: int, *said: str) -> str:
    """The message of a refusal, which has this status and code and says these."""
    assert answer.status_code == status, (answer.status_code, answer.text[:800])
    body = answer.json()
    assert list(body) == ["data", "errors", "warnings"]
    error = body["errors"][0]
    assert error["code"] == code, error
    assert [text for text in said if text not in error["message"]] == [], error["message"]
    return str(error["message"])


def lines_of(change: dict[str, Any]) -> list[str]:
    return [f"{line['sign']} {line['text']}" for line in change["lines"]]
