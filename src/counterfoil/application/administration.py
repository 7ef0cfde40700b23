"""Applying an organisation file: lock, load, compare, write, in one transaction with its audit events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

from counterfoil.application import ids, passwords
from counterfoil.application.executing import seal_credential
from counterfoil.application.keys import Keyring
from counterfoil.application.organisation_files import Draft
from counterfoil.application.passwords import SECRET_BYTES_MAX, Passwords
from counterfoil.domain import change_lines, member_entries, organisation_changes, organisation_files, policy_problems
from counterfoil.domain.member_entries import MemberChange
from counterfoil.domain.organisation_changes import Difference
from counterfoil.domain.organisation_files import Current, OrganisationFile, Password, Problem
from counterfoil.domain.payloads import points_text
from counterfoil.domain.seals import Event, canonical, make_event
from counterfoil.storage import administration
from counterfoil.storage.database import Tx

EVENT_KIND: Final = "organisation_applied"
MEMBERS_PER_EVENT: Final = 500
# Whoever reads the trail of an organisation need not know who these people are.
_PERSONAL: Final = frozenset({"person", "user", "credential", "group", "grant"})


class CannotApply(Exception):
    """The file has problems, and nothing was changed."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(f"{problem.path}: {problem.message}" for problem in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class PasswordSources:
    """Where passwords that are not in the file come from. `ask` is None where nobody can be asked."""

    environment: Mapping[str, str]
    folder: Path
    ask: Callable[[str], str] | None


async def apply_to(
    url: str, draft: Draft, sources: PasswordSources, *, operator: str, dry_run: bool, keyring: Keyring | None = None
) -> Difference:
    """Apply a file to the database and return what that changed; raises CannotApply.

    A dry run does the very same and then takes it back. The keyring seals the credentials of hosts.
    """
    if draft.file is None:
        raise CannotApply(draft.problems)
    secrets = resolve_passwords(draft, draft.file, sources)
    async with administration.transaction(url, keep=not dry_run) as tx:
        difference = await apply_file(
            tx, draft.file, secrets, operator=operator, problems=draft.problems, keyring=keyring
        )
    if not dry_run and len(difference.members) >= administration.ANALYSE_FROM_MEMBERS:
        await administration.analyse(url)
    return difference


async def apply_file(
    tx: Tx,
    file: OrganisationFile,
    secrets: Mapping[str, str],
    *,
    operator: str,
    problems: Sequence[Problem] = (),
    keyring: Keyring | None = None,
) -> Difference:
    """Make the organisation what the file says. `secrets` are the passwords by the place that has them.

    `problems` are those found on the way here: with them, or with one found now, nothing is changed.
    """
    is_new = await administration.lock(tx, file.settings)
    current, now = await administration.load(tx, file, is_new=is_new)
    found = [
        *problems,
        *organisation_files.problems(file, current),
        *([] if _is_unreadable(problems) else policy_problems.problems(file, current)),
        *member_entries.problems(file, current, now),
    ]
    found = found or list(_without_password(file, current, secrets))
    if found:
        raise CannotApply(found)
    hashes = await _new_hashes(file, current, secrets)
    difference = organisation_changes.difference(file, current, hashes, _sealed(file, secrets, keyring))
    if not difference:
        return difference
    try:
        await administration.write(tx, file.settings, difference, now, ids.uuid7)
    except administration.LoginTaken as taken:
        raise CannotApply(
            [
                Problem(f"{path}.login", f"the login {each.login} belongs to another organisation: use another")
                for path, each in file.credentials.items()
                if each.login in taken.logins
            ]
        ) from None
    await administration.append_events(
        tx, file.settings.org_id, _events(file.settings.org_id, difference, operator, now)
    )
    return difference


def _is_unreadable(problems: Sequence[Problem]) -> bool:
    """Whether the policy itself could not be read, so that nothing more can be said about it."""
    return any(problem.path.startswith("policy") for problem in problems)


def resolve_passwords(draft: Draft, file: OrganisationFile, sources: PasswordSources) -> dict[str, str]:
    """The passwords by the place that has them, credentials' in the md5 form; problems go to the draft.

    Nobody is asked as long as there is a problem. An empty answer leaves the password as it is.
    """
    secrets: dict[str, str] = {}
    waiting: list[tuple[str, Password]] = []
    for path, password in {**file.passwords, **file.host_credentials}.items():
        if password.source == "prompt":
            waiting.append((path, password))
            continue
        kind = "authorization" if path in file.host_credentials else "password"
        told = _read_password(password, sources, kind)
        if isinstance(told, Problem):
            draft.problems.append(Problem(f"{path}.{told.path}", told.message))
        else:
            secrets[path] = _secret(file, path, told, password)
    for path, password in waiting:
        if sources.ask is None:
            draft.problems.append(Problem(f"{path}.passwordPrompt", "there is no terminal to ask on: run it in one"))
        elif not draft.problems:
            told = sources.ask(f"Password of {_whose(file, path)} (empty: leave as it is): ")
            if told and not _is_usable(told):
                draft.problems.append(Problem(f"{path}.passwordPrompt", _UNUSABLE))
            elif told:
                secrets[path] = _secret(file, path, told, password)
    return secrets


_UNUSABLE: Final = f"is no usable password: it must have 1 to {SECRET_BYTES_MAX} bytes of UTF-8"


def _read_password(password: Password, sources: PasswordSources, kind: str) -> str | Problem:
    match password.source:
        case "env":
            name = f"{kind}Env"
            if password.value not in sources.environment:
                return Problem(name, f"there is no variable {password.value} in the environment: set it")
            told = sources.environment[password.value]
        case "file":
            name = f"{kind}File"
            path = sources.folder / password.value
            try:
                told = path.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
                return Problem(name, f"{path} cannot be read: {reason}")
        case _:
            name = "passwordMd5" if password.is_md5 else kind
            told = password.value
    return told if _is_usable(told) else Problem(name, _UNUSABLE)


def _is_usable(told: str) -> bool:
    try:
        return 0 < len(told.encode()) <= SECRET_BYTES_MAX
    except UnicodeEncodeError:
        return False


def _secret(file: OrganisationFile, path: str, told: str, password: Password) -> str:
    """What is hashed: a person's password itself, a calling system's in the form in which it sends it."""
    return passwords.till_form(told) if path in file.credentials and not password.is_md5 else told


def _whose(file: OrganisationFile, path: str) -> str:
    if path in file.host_credentials and file.hosts:
        return f"host {file.hosts[path].host_id} (its Authorization)"
    if path in file.users:
        return f"user {file.users[path].user_name}"
    return f"credential {file.credentials[path].login}"


def _without_password(file: OrganisationFile, current: Current, secrets: Mapping[str, str]) -> Iterator[Problem]:
    """New credentials whose password was asked for and not given."""
    for path, credential in file.credentials.items():
        if credential.login not in current.credentials and path not in secrets:
            yield Problem(f"{path}.passwordPrompt", f"the new credential {credential.login} needs a password: type one")


def _sealed(file: OrganisationFile, secrets: Mapping[str, str], keyring: Keyring | None) -> dict[str, tuple[str, str]]:
    """The credentials of hosts, sealed."""
    given = {path: secrets[path] for path in file.host_credentials if path in secrets}
    if given and keyring is None:
        raise CannotApply([Problem(path, "its credential cannot be sealed without the keys file") for path in given])
    return {
        path: seal_credential(keyring, file.settings.org_id, (file.hosts or {})[path].host_id, value)
        for path, value in given.items()
        if keyring is not None
    }


async def _new_hashes(file: OrganisationFile, current: Current, secrets: Mapping[str, str]) -> dict[str, str]:
    """A hash for each password that is not the stored one; a few at a time, as each takes 19 MiB."""
    stored: dict[str, str | None] = {}
    for path, user in file.users.items():
        stored_user = current.users.get(user.user_id)
        stored[path] = stored_user.password_hash if stored_user else None
    for path, credential in file.credentials.items():
        stored_credential = current.credentials.get(credential.login)
        stored[path] = stored_credential.secret_hash if stored_credential else None
    secrets = {path: secret for path, secret in secrets.items() if path in stored}
    verifier = Passwords(waiting_max=len(secrets) + 1)
    few = asyncio.Semaphore(passwords.THREADS)

    async def new_hash(path: str, secret: str) -> str | None:
        known = stored.get(path)
        if known is not None and await verifier.verify(secret.encode(), known, now=0.0):
            return None
        async with few:
            return await asyncio.to_thread(passwords.hash_secret, secret)

    try:
        hashes = await asyncio.gather(*(new_hash(path, secret) for path, secret in secrets.items()))
    finally:
        verifier.close()
    return {path: hashed for path, hashed in zip(secrets, hashes, strict=True) if hashed is not None}


def _events(org_id: int, difference: Difference, operator: str, now: datetime) -> list[Event]:
    """One event for the organisation and one for each few hundred members, all of one subject.

    What tells about a person stands in them as a commitment only.
    """
    subject = ids.uuid7()
    changes: list[dict[str, str]] = []
    personal = {"operator": operator}
    for number, change in enumerate(difference.records, start=1):
        lines = [f"{line.sign} {line.text}" for line in change_lines.record_lines(change)]
        fact = {"sign": change.sign, "what": change.what}
        if change.what in _PERSONAL:
            personal[f"change {number}"] = "\n".join(lines)
        else:
            fact["lines"] = "\n".join(lines)
        changes.append(fact)
    facts = {"organisation": org_id, "version": difference.version, "changes": changes}
    events = [make_event(subject, ids.uuid7(), EVENT_KIND, now, ids.salt(), facts, personal)]
    remaining = iter(difference.members)
    while part := list(islice(remaining, MEMBERS_PER_EVENT)):
        facts = {
            "organisation": org_id,
            "version": difference.version,
            "members": [*map(_member_facts, part)],
        }
        events.append(make_event(subject, ids.uuid7(), EVENT_KIND, now, ids.salt(), facts, dict(_member_persons(part))))
    return events


def _member_facts(member: MemberChange) -> dict[str, Any]:
    return {
        "id": member.member_id,
        "new": member.is_new,
        "lots": [[lot.reference, points_text(lot.points)] for lot in member.lots],
    }


def _member_persons(members: Sequence[MemberChange]) -> Iterator[tuple[str, str]]:
    for member in members:
        if member.before != member.after:
            told = canonical({"before": dict(member.before), "after": dict(member.after)})
            yield f"member {member.member_id}", told.decode()
