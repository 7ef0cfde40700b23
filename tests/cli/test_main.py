"""What a command says when it cannot do its work: what is in the way, in one line."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from counterfoil.cli import main as command_line
from counterfoil.cli.serve import metrics_folder
from counterfoil.settings import load_settings


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/srv/keys.json"), "/srv/keys.json: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), "a file: No space left on device"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "nobody reads the output any more"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed"), "the database cannot be used: "),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), "the database cannot be used: "),  # its socket
        (OSError("Multiple exceptions: [Errno 111], [Errno 111]"), "the database cannot be used: "),
        (TimeoutError(), "the database cannot be used: TimeoutError"),
        (asyncpg.InvalidPasswordError("wrong"), "the database cannot be used: wrong"),
    ],
)
def test_files_are_not_the_database(monkeypatch: pytest.MonkeyPatch, error: Exception, said: str) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(command_line, "app", fail)
    with pytest.raises(SystemExit) as caught:
        command_line.main()
    assert str(caught.value.code).startswith(f"counterfoil: {said}")


def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("COUNTERFOIL_DATA_DIR", str(tmp_path / "file" / "data"))
    with pytest.raises(SystemExit) as caught:
        command_line.main(["keys", "create"])
    assert str(caught.value.code) == f"counterfoil: {tmp_path}/file/data: Not a directory"


def test_only_old_metrics_are_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = ["counter_12.db", "histogram_12.db", "summary_3.db", "gauge_livesum_12.db", "gauge_all_5.db"]
    kept = ["customers.db", "counter_x.db", "counter_12.db.bak", "gauge_12.db", "my_counter_12.db"]
    for name in old + kept:
        (tmp_path / name).touch()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    with metrics_folder(replace(load_settings({}), metrics_dir=str(tmp_path))):
        assert sorted(each.name for each in tmp_path.iterdir()) == sorted(kept)
