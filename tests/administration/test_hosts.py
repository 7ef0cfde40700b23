"""A host's own credential is proposed, approved and used by nobody's eyes."""

from __future__ import annotations

import json

from tests.administration.town import BEN, Town, lines_of
from tests.contract.shop import HOST

SECRET = "Basic b3duOnNlY3JldC1vZi1ob3N0"


def test_the_credential_of_a_host_is_shown_to_nobody(town: Town) -> None:
    town.serve.secrets.add("b3duOnNlY3JldC1vZi1ob3N0")
    entry = {"id": "crm", "url": HOST.strip("<>"), "target": "external", "authorization": SECRET}
    dry = town.propose(town.part(hosts=[entry]), dryRun=True)
    proposed = town.propose(town.part(hosts=[entry]))
    change = proposed.json()["data"]
    assert any("authorization: none → set (" in line for line in lines_of(change)), lines_of(change)
    seen = [dry.text, proposed.text, town.get(change["id"]).text, town.page().text]
    decided = town.decide(change["id"], by=BEN)
    assert decided.status_code == 200, decided.text
    seen += [decided.text, json.dumps(town.guarded())]
    seen += [str([*row]) for row in town.rows("SELECT payload, requirement, outcome FROM request WHERE org_id = $1")]
    seen += [str([*row]) for row in town.rows("SELECT facts, personal FROM event WHERE org_id = $1")]
    for text in seen:
        assert "b3duOnNl" not in text
        assert "secret-of-host" not in text
    unchanged = town.propose(town.part(hosts=[entry]), dryRun=True)
    assert unchanged.json()["data"] is None, unchanged.text
