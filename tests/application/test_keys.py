"""The keys file, and what its keys do."""

from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest

from counterfoil.application.keys import (
    KeysInUse,
    KeysUnusable,
    add_sealing_key,
    create_keys,
    drop_sealing_keys,
    load_keys,
    load_or_create_keys,
    rotate_signing_key,
)

NOW = 1_790_000_000
REQUEST = UUID("01a206ef-7248-715f-8562-25d4f61d3898")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "keys.json"


def test_what_is_sealed_opens(path: Path) -> None:
    keyring = load_or_create_keys(path)
    sealed = keyring.seal(1, REQUEST, "Authorization", "Basic dGlsbA==", now=NOW)
    assert b"Basic" not in sealed
    assert keyring.open(1, REQUEST, "authorization", sealed) == "Basic dGlsbA=="
    assert sealed != keyring.seal(1, REQUEST, "Authorization", "Basic dGlsbA==", now=NOW)


@pytest.mark.parametrize(
    ("org_id", "request_id", "name"),
    [(2, REQUEST, "Authorization"), (1, UUID(int=5), "Authorization"), (1, REQUEST, "Cookie")],
)
def test_it_opens_for_its_own_place_only(path: Path, org_id: int, request_id: UUID, name: str) -> None:
    keyring = load_or_create_keys(path)
    sealed = keyring.seal(1, REQUEST, "Authorization", "secret", now=NOW)
    with pytest.raises(KeysUnusable, match="altered"):
        keyring.open(org_id, request_id, name, sealed)


def test_an_altered_byte_is_noticed(path: Path) -> None:
    keyring = load_or_create_keys(path)
    sealed = bytearray(keyring.seal(1, REQUEST, "x", "secret", now=NOW))
    sealed[-1] ^= 1
    with pytest.raises(KeysUnusable, match="altered"):
        keyring.open(1, REQUEST, "x", bytes(sealed))


def test_old_encryption_keys_still_open(path: Path) -> None:
    sealed = load_or_create_keys(path).seal(1, REQUEST, "x", "secret", now=NOW)
    content = json.loads(path.read_text())
    content["encryption"] = {"00000001": "11" * 32, **content["encryption"]}
    path.write_text(json.dumps(content))
    rotated = load_keys(path)
    assert rotated.open(1, REQUEST, "x", sealed) == "secret"
    assert rotated.seal(1, REQUEST, "x", "secret", now=NOW)[:4] == bytes.fromhex("00000001")


def test_a_missing_encryption_key_is_named(path: Path, tmp_path: Path) -> None:
    sealed = load_or_create_keys(path).seal(1, REQUEST, "x", "secret", now=NOW)
    with pytest.raises(KeysUnusable, match=sealed[:4].hex()):
        load_or_create_keys(tmp_path / "other.json").open(1, REQUEST, "x", sealed)


def test_a_new_key_seals_from_its_moment_on(path: Path) -> None:
    create_keys(path)
    [(first, _)] = load_keys(path).sealing
    second = bytes.fromhex(add_sealing_key(path, seals_from=1000))
    ring = load_keys(path)
    assert [ring.sealing_key(now) for now in (0, 999.9, 1000, 2e9)] == [first, first, second, second]
    third = bytes.fromhex(add_sealing_key(path, seals_from=500))
    ring = load_keys(path)
    assert [ring.sealing_key(now) for now in (499, 500, 1000)] == [first, third, third], "the newest of all counts"
    late = add_sealing_key(path, seals_from=NOW + 3600)
    assert load_keys(path).seal(1, REQUEST, "x", "secret", now=NOW)[:4] == third
    drop_sealing_keys(path, [first.hex(), second.hex()])
    assert [key_id for key_id, _ in load_keys(path).sealing] == [bytes.fromhex(late), third]
    assert json.loads(path.read_text())["seals_from"].keys() == {late, third.hex()}
    with pytest.raises(AssertionError, match="is a bug"):
        drop_sealing_keys(path, [late, third.hex()])
    assert len(load_keys(path).sealing) == 2


def test_a_running_process_takes_up_a_new_key(path: Path, tmp_path: Path) -> None:
    create_keys(path)
    told: list[str] = []
    in_use = KeysInUse(path, told.append)
    before = in_use.current(10.0)
    key_id = add_sealing_key(path, seals_from=0)
    assert in_use.current(10.5) is before, "it looks once in a second"
    sealed = in_use.current(11.0).seal(1, REQUEST, "x", "secret", now=NOW)
    assert sealed[:4].hex() == key_id
    assert in_use.current(11.5).open(1, REQUEST, "x", before.seal(1, REQUEST, "x", "old", now=NOW)) == "old"
    # The file of another installation: nothing that is stored could be compared or opened any more.
    good = path.read_bytes()
    create_keys(tmp_path / "other.json")
    path.write_bytes((tmp_path / "other.json").read_bytes())
    assert in_use.current(20.0).sealing_key(1).hex() == key_id
    assert ["of another installation" in each for each in told] == [True]
    path.write_bytes(good)
    assert in_use.current(22.0).sealing_key(1).hex() == key_id
    assert len(told) == 1


def test_the_digest_depends_on_key_and_value(path: Path, tmp_path: Path) -> None:
    keyring = load_or_create_keys(path)
    assert keyring.mac("a") == load_keys(path).mac("a")
    assert keyring.mac("a") != keyring.mac("b")
    assert keyring.mac("a") != load_or_create_keys(tmp_path / "other.json").mac("a")


def test_no_key_is_shown(path: Path) -> None:
    keyring = load_or_create_keys(path)
    assert repr(keyring) == "Keyring()"


def test_the_file_is_private_and_never_overwritten(path: Path) -> None:
    create_keys(path)
    before = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(KeysUnusable, match="exists already"):
        create_keys(path)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["keys.json"]


def test_file_and_folder_are_on_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bool] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            assert path.exists()
            synced.append(True)
        else:
            synced.append(False)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    create_keys(path)
    assert synced == [False, True]


def test_a_file_that_others_can_read_is_refused(path: Path) -> None:
    create_keys(path)
    path.chmod(0o640)
    with pytest.raises(KeysUnusable, match="chmod 600"):
        load_keys(path)


@pytest.mark.parametrize("content", ["", "{}", '{"encryption":{},"digest":"00","tokens":"00"}', "\xff"])
def test_a_damaged_file_is_refused_without_quoting_it(path: Path, content: str) -> None:
    create_keys(path)
    path.write_text(content)
    with pytest.raises(KeysUnusable, match="is not a keys file") as caught:
        load_keys(path)
    assert caught.value.__cause__ is None


def test_a_missing_file_is_explained(path: Path) -> None:
    with pytest.raises(KeysUnusable, match="counterfoil keys create"):
        load_keys(path)


def kids(path: Path) -> list[str]:
    return [each.kid for each in load_keys(path).signing]


def test_a_signing_key_is_added_and_old_ones_go_when_no_token_can_need_them(path: Path) -> None:
    create_keys(path)
    before = json.loads(path.read_text())
    [first] = kids(path)
    second = rotate_signing_key(path, now=1000, signs_from=1600, drop_old=False)
    assert kids(path) == [first, second]
    assert load_keys(path).signing[0].signs_until == 1600
    late = 1600 + 30 * 24 * 3600
    third = rotate_signing_key(path, now=late - 1, signs_from=late, drop_old=False)
    assert kids(path) == [first, second, third]
    fourth = rotate_signing_key(path, now=late, signs_from=late + 60, drop_old=False)
    assert kids(path) == [second, third, fourth]
    fifth = rotate_signing_key(path, now=late, signs_from=late, drop_old=True)
    assert kids(path) == [fifth]
    after = json.loads(path.read_text())
    assert {**before, "signing": 0} == {**after, "signing": 0}, "the other keys are as they were"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["keys.json"]


def test_a_key_that_never_signed_makes_room(path: Path) -> None:
    create_keys(path)
    [first] = kids(path)
    rotate_signing_key(path, now=0, signs_from=600, drop_old=False)
    at_once = rotate_signing_key(path, now=0, signs_from=0 + 1, drop_old=False)
    assert kids(path) == [first, at_once]


def test_two_rotations_at_once_are_both_kept(path: Path) -> None:
    create_keys(path)
    with ThreadPoolExecutor(4) as threads:
        made = list(
            threads.map(lambda at: rotate_signing_key(path, now=0, signs_from=1000 + at, drop_old=False), (0,) * 4)
        )
    assert len(set(made)) == 4
    assert set(kids(path)) & set(made) == {kids(path)[-1]}, "each replaces the one of the same moment"


def test_a_file_without_a_signing_key_is_explained(path: Path) -> None:
    create_keys(path)
    content = json.loads(path.read_text())
    del content["signing"]
    path.write_text(json.dumps(content))
    with pytest.raises(KeysUnusable, match="counterfoil keys rotate"):
        load_keys(path)
    rotate_signing_key(path, now=0, signs_from=0, drop_old=False)
    assert len(kids(path)) == 1


def test_only_an_existing_file_is_rotated(path: Path) -> None:
    with pytest.raises(KeysUnusable, match="counterfoil keys create"):
        rotate_signing_key(path, now=0, signs_from=0, drop_old=False)
