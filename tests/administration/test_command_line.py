"""A person at the command line: signed in, and able to do what the API lets that person do."""

from __future__ import annotations

import io
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from counterfoil.cli import remote
from counterfoil.cli.main import main
from tests.administration.town import ADA, BEN, CAL, CLEO, MIA, ZONE, Town, grant

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """`counterfoil …` in this process, as a user with a configuration folder of their own."""
    monkeypatch.setenv("COUNTERFOIL_SESSION_FILE", str(tmp_path / "config" / "session.json"))
    monkeypatch.setenv("COUNTERFOIL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")

    def command(*arguments: str, said: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(said))
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capsys.readouterr()
        code = ended.value.code
        return (1, out, err + code) if isinstance(code, str) else (int(code or 0), out, err)

    return command


def login(run: Run, town: Town, name: str) -> tuple[int, str, str]:
    return run(
        "login", "--url", town.serve.url, "--organisation", str(town.org_id), "--credential", town.login,
        "--user-name", f"{name}@example.com", said=f"{town.password(town.login)}\n{town.password(name)}\n",
    )  # fmt: skip


def write(path: Path, content: Any) -> str:
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return str(path)


def test_a_change_from_file_to_applied(town: Town, run: Run, tmp_path: Path) -> None:
    file = write(tmp_path / "town.yaml", town.with_grants(grant(CAL, "CanMakeRequest", unit=ZONE)))
    before = town.guarded()
    code, out, err = login(run, town, ADA)
    assert (code, err) == (0, "")
    assert "signed in" in out
    session = tmp_path / "config" / "session.json"
    assert stat.S_IMODE(session.stat().st_mode) == 0o600
    assert town.password(ADA) not in session.read_text()
    code, out, _ = run("org", "apply", file, "--dry-run")
    assert (code, out.splitlines()[-1]) == (0, "dry run, nothing was proposed")
    code, out, _ = run("org", "apply", file, "--message", "Cal helps out")
    assert (code, out.splitlines()[0]) == (0, f"+ grant cal CanMakeRequest at {ZONE} for all types")
    change_id = out.split()[-1]
    assert f"counterfoil admin approve {change_id}" in out
    assert town.guarded() == before
    code, out, err = run("admin", "approve", change_id, "--yes")
    assert (code, town.guarded()) == (1, before)
    assert "whoever proposed a change cannot decide it" in err
    login(run, town, BEN)
    assert change_id in run("admin", "list")[1]
    code, out, _ = run("admin", "show", change_id)
    assert "because: Cal helps out" in out
    assert f"+ grant cal CanMakeRequest at {ZONE}" in out
    assert run("admin", "approve", change_id)[0] == 1  # nobody to ask, and nobody said yes
    assert town.guarded() == before
    code, out, _ = run("admin", "approve", change_id, "--yes", "--message", "seen")
    assert (code, out.splitlines()[-1]) == (0, f"approved and applied: {change_id}")
    assert town.submit(by=CAL).status_code == 200
    assert run("admin", "list")[1] == "nothing there\n"
    assert run("org", "apply", file)[1] == "nothing to change\n"


def test_a_change_is_rejected(town: Town, run: Run, tmp_path: Path) -> None:
    change_id = town.proposed(town.part(policy={"approvals": 2}))["id"]
    login(run, town, CLEO)
    assert run("admin", "reject", change_id)[0] != 0
    code, out, _ = run("admin", "reject", change_id, "--message", "one is enough")
    assert (code, out) == (0, f"rejected and nothing was changed: {change_id}\n")
    assert "one is enough" in run("admin", "show", change_id)[1]
    assert change_id in run("admin", "list", "--state", "rejected")[1]


def test_passwords_go_along_from_wherever_they_are(town: Town, run: Run, tmp_path: Path, monkeypatch: Any) -> None:
    new_till = f"new.{town.org_id}"
    (tmp_path / "till.password").write_text("word of the till\n")
    monkeypatch.setenv("MIA_PASSWORD", "word of mia")
    town.serve.secrets |= {"word of mia", "word of the till"}
    content = town.person(MIA, passwordEnv="MIA_PASSWORD")
    content["credentials"] = [{"login": new_till, "id": 2, "passwordFile": "till.password"}]
    login(run, town, ADA)
    code, out, err = run("org", "apply", write(tmp_path / "town.yaml", content))
    assert (code, err) == (0, "")
    assert "~ user 103 password: changed" in out
    assert "decide nothing for 24 hours after it, as their sign-in changes: mia" in out
    assert town.decide(out.split()[-1]).status_code == 200
    assert town.token(MIA, "word of mia")


def test_problems_have_their_lines(town: Town, run: Run, tmp_path: Path) -> None:
    file = write(tmp_path / "town.yaml", town.part(grants=[grant("nobody", "CanAdminister", unit=ZONE)]))
    login(run, town, ADA)
    code, out, err = run("org", "apply", file)
    assert (code, out) == (1, "")
    lines = Path(file).read_text().splitlines()
    for path, text in (("grants[0].person", "person: nobody"), ("grants[0].unit", f"unit: {ZONE}")):
        line = next(number for number, each in enumerate(lines, start=1) if text in each)
        assert f"{file}:{line}: {path}: " in err
    assert err.splitlines()[-1] == f"2 problems in {file}: nothing has changed"


def test_the_operators_way_ends_at_dual_control(town: Town, run: Run, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("DATABASE_URL", str(town.serve.database_url))
    file = write(tmp_path / "town.yaml", town.part(policy={"approvals": 2}))
    before = town.guarded()
    code, _, err = run("org", "apply", file)
    assert (code, town.guarded()) == (1, before)
    assert "sign in as an administrator with `counterfoil login`" in err


def test_who_cannot_sign_in(town: Town, run: Run, tmp_path: Path) -> None:
    assert "you are not signed in" in run("admin", "list")[2]
    wrong = [town.serve.url, str(town.org_id), town.login, "ada@example.com"]
    said = f"{town.password(town.login)}\n{town.password(ADA)}\n"
    for changes, typed, told in (
        ({}, "x\ny\n", "2013"),
        ({}, f"x\n{town.password(ADA)}\n", f"not through the credential {town.login}"),
        ({0: "http://127.0.0.1:1"}, said, "does not answer"),
        ({0: "http://counterfoil.example.com"}, said, "use https"),
        ({0: "ftp://x"}, said, "no address of a service"),
        ({3: "nobody@example.com"}, said, "2013"),
    ):
        url, org_id, credential, name = (changes.get(number, each) for number, each in enumerate(wrong))
        arguments = ("--url", url, "--organisation", org_id, "--credential", credential, "--user-name", name)
        code, _, err = run("login", *arguments, said=typed)
        assert code == 1
        assert told in err
        assert town.password(ADA) not in err
        assert not (tmp_path / "config").exists()


def test_a_session_is_kept_from_others_and_forgotten(town: Town, run: Run, tmp_path: Path) -> None:
    login(run, town, ADA)
    session = tmp_path / "config" / "session.json"
    assert town.password(ADA) not in repr(remote.find(session))
    session.chmod(0o644)
    assert "can be read by others" in run("admin", "list")[2]
    assert run("logout")[:2] == (0, "signed out\n")
    assert not session.exists()
    assert run("logout")[0] == 0
    session.write_text("{}")
    session.chmod(0o600)
    assert "is not a session" in run("admin", "list")[2]
