"""`counterfoil policy` and `counterfoil access` as an operator runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from counterfoil.cli import access, policy
from counterfoil.cli.main import app
from tests.contract.shop import apply_document, document

FILE = """\
organisation: {id: 7, name: Small, timeZone: Europe/London, countryCode: 44}
units:
  zones: [{id: 1, name: Town}]
  concepts: [{id: 2, name: Books}]
  stores: [{id: 3, name: High Street, zone: 1, concept: 2}]
programme: {id: 1, name: Points}
policy:
  rules:
    - {name: small, when: {points: {upTo: 100}}, require: [{}]}
    - {name: large, require: [{count: 2}]}
  examples:
    - {name: edge, request: {type: POINTS-REDEMPTION, unit: 3, points: 100}, expect: {rule: small}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "organisation.yaml"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_examples_are_tried(file: Path, capsys: Any) -> None:
    assert policy.test(file) == 0
    assert capsys.readouterr().out == "1 examples, each as expected\n"
    file.write_text(FILE.replace("expect: {rule: small}", "expect: {rule: large}"), encoding="utf-8")
    assert policy.test(file) == 1
    assert f"{file}:12: policy.examples[0].expect.rule: edge: expected large" in capsys.readouterr().err
    assert policy.test(file, as_json=True) == 1
    assert json.loads(capsys.readouterr().out)["problems"][0]["line"] == 12


def test_a_proof_and_its_counter_example(file: Path, capsys: Any) -> None:
    assert policy.prove(file, above="100", approvals=2) == 0
    out = capsys.readouterr().out
    assert "above 0 and up to 100 points: at least 1 approvals" in out
    assert "above 100 points: at least 2 approvals" in out
    assert policy.prove(file, above="99", approvals=2) == 1
    assert "99.001 points, unit 3 (small)" in capsys.readouterr().err
    assert policy.prove(file, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["leastApprovals"][1]["approvals"] == 2
    assert policy.prove(file, above="x", approvals=2) == 1
    file.write_text(FILE.replace("- {name: large,", "- {name: large, when: {points: {above: 101}},"), encoding="utf-8")
    assert policy.prove(file) == 1
    assert f"{file}:8: policy.rules: no rule applies to:" in capsys.readouterr().err


def test_a_file_that_cannot_be_read(tmp_path: Path, capsys: Any) -> None:
    assert policy.prove(tmp_path / "none.yaml") == 1
    broken = tmp_path / "broken.yaml"
    broken.write_text("policy: [", encoding="utf-8")
    assert policy.test(broken) == 1
    broken.write_text(FILE.partition("policy:")[0], encoding="utf-8")
    assert policy.test(broken) == 1
    assert "policy: is missing" in capsys.readouterr().err


def test_the_command_line_has_them(file: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        app(["policy", "prove", str(file), "--json"])
    assert ended.value.code in (0, None)
    assert json.loads(capsys.readouterr().out)["proved"] is True


def test_access_is_explained_from_the_database(database_url: str, monkeypatch: Any, capsys: Any) -> None:
    apply_document(database_url, document(7, "town.1", "a long password", []))
    monkeypatch.setenv("DATABASE_URL", database_url)
    assert access.explain("E-1001", unit=50682289, request_type="points-redemption") == 0
    out = capsys.readouterr().out
    assert "E-1001 CanMakeRequest: yes" in out
    assert "E-1001 CanCheckRequest: no" in out
    assert "others who may: E-1002, E-1003, E-1004" in out
    assert access.explain("E-1001", unit=50682289, request_type="POINTS-REDEMPTION", as_json=True) == 0
    assert json.loads(capsys.readouterr().out)[0]["is_allowed"] is True
    assert access.explain("E-1001", unit=1, request_type="CASH") == 1
    assert access.explain("E-1001", unit=1, request_type="POINTS-REDEMPTION", at="2026-01-01T10:00") == 1
    assert access.explain("E-1001", unit=1, request_type="POINTS-REDEMPTION", points="x") == 1
    assert access.report(org=8) == 1
    capsys.readouterr()
    assert access.report() == 0
    assert "E-1004 may both make and decide at 50682286" in capsys.readouterr().out
