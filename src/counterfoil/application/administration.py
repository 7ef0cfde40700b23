"""Applying an organisation file: lock, load, compare, write, in one transaction with its audit events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from counterfoil.application import ids, issuers, passwords
from counterfoil.application.caller_sections import KEY_BYTES_MAX
from counterfoil.application.executing import seal_credential
from counterfoil.application.keys import Keyring
from counterfoil.application.organisation_files import Draft
from counterfoil.application.passwords import SECRET_BYTES_MAX, Passwords
from counterfoil.domain import (
    caller_entries,
    change_lines,
    dual_control,
    member_entries,
    organisation_changes,
    organisation_files,
    policy_problems,
)
from counterfoil.domain.member_entries import MemberChange
from counterfoil.domain.organisation_changes import Difference
from counterfoil.domain.organisation_files import Current, OrganisationFile, Password, Problem
from counterfoil.domain.payloads import points_text
from counterfoil.domain.seals import Event, canonical, make_event
from counterfoil.storage import administration
from counterfoil.storage.database import Tx

EVENT_KIND: Final = "organisation_applied"
MEMBERS_PER_EVENT: Final = 500
PROPOSE_IT: Final = (
    "the organisation is under dual control: sign in as an administrator with `counterfoil login` and apply the file "
    "again, which proposes it to another administrator"
)
# Whoever reads the trail of an organisation need not know who these people are.
_PERSONAL: Final = frozenset({"person", "user", "credential", "oauthClient", "group", "grant"})


class CannotApply(Exception):
    """The file has problems, and nothing was changed."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(f"{problem.path}: {problem.message}" for problem in problems))
        self.problems = problems


class PasswordSources(Struct, frozen=True):
    """Where passwords that are not in the file come from. `ask` is None where nobody can be asked.

    `keyring` opens the keys of the installation, which only the secret of an issuer and the credential of a host need.
    """

    environment: Mapping[str, str]
    folder: Path
    ask: Callable[[str], str] | None
    keyring: Callable[[], Keyring] | None = None


async def apply_to(url: str, draft: Draft, sources: PasswordSources, *, operator: str, dry_run: bool) -> Difference:
    """Apply a file to the database and return what that changed; raises CannotApply.

    A dry run does the very same and then takes it back.
    """
    if draft.file is None:
        raise CannotApply(draft.problems)
    secrets = resolve_passwords(draft, draft.file, sources)
    async with administration.transaction(url, keep=not dry_run) as tx:
        difference = await apply_file(
            tx, draft.file, secrets, operator=operator, problems=draft.problems, keyring=sources.keyring
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
    keyring: Callable[[], Keyring] | None = None,
) -> Difference:
    """Make the organisation what the file says. `secrets` are the passwords by the place that has them.

    `problems` are those found on the way here: with them, or with one found now, nothing is changed.
    """
    is_new = await administration.lock(tx, file.settings)
    current, now = await administration.load(tx, file, is_new=is_new)
    found = list(problems)
    if current.settings is not None and current.settings.control == "dual":
        found.append(Problem("organisation.control", PROPOSE_IT))
    difference = await difference_of(file, current, secrets, now, found, keyring)
    if not difference:
        return difference
    try:
        await administration.write(tx, file.settings, difference, now, ids.uuid7)
    except administration.LoginTaken as taken:
        raise CannotApply(
            [
                Problem(
                    f"{path}.{'key' if each.is_client else 'login'}",
                    f"the login {each.login} belongs to another organisation: use another",
                )
                for path, each in file.credentials.items()
                if each.login in taken.logins
            ]
        ) from None
    personal = {"operator": operator}
    await administration.append_events(
        tx, file.settings.org_id, events(file.settings.org_id, difference, now, {}, personal)
    )
    return difference


def _is_unreadable(problems: Sequence[Problem]) -> bool:
    """Whether the policy itself could not be read, so that nothing more can be said about it."""
    return any(problem.path.startswith("policy") for problem in problems)


async def difference_of(
    file: OrganisationFile,
    current: Current,
    secrets: Mapping[str, str],
    now: datetime,
    problems: Sequence[Problem] = (),
    keyring: Callable[[], Keyring] | None = None,
) -> Difference:
    """What the file changes; raises CannotApply with everything that is wrong with it, `problems` first."""
    found = [
        *problems,
        *organisation_files.problems(file, current),
        *caller_entries.problems(file, current),
        *([] if _is_unreadable(problems) else policy_problems.problems(file, current)),
        *member_entries.problems(file, current, now),
    ]
    found = found or list(_without_password(file, current, secrets))
    keys: dict[str, str] = {}
    if not found:
        keys, found = issuer_keys(file, current, secrets, keyring, now)
    if found:
        raise CannotApply(found)
    hashes = await _new_hashes(file, current, secrets)
    sealed = _sealed(file, secrets, keyring, now)
    difference = organisation_changes.difference(file, current, hashes | keys, sealed)
    after = dual_control.organisation_after(current.organisation, file.settings, difference)
    found = list(dual_control.problems(after, now)) if difference else []
    if found:
        raise CannotApply(found)
    return difference


def resolve_passwords(draft: Draft, file: OrganisationFile, sources: PasswordSources) -> dict[str, str]:
    """The passwords by the place that has them, credentials' in the md5 form; problems go to the draft.

    Nobody is asked as long as there is a problem. An empty answer leaves the password as it is.
    """
    secrets: dict[str, str] = {}
    waiting: list[tuple[str, Password]] = []
    for path, password in file.passwords.items():
        if password.source == "prompt":
            waiting.append((path, password))
            continue
        told = _read_password(password, sources)
        if isinstance(told, Problem):
            draft.problems.append(Problem(f"{path}.{told.path}", told.message))
        else:
            secrets[path] = _secret(file, path, told, password)
    for path, password in waiting:
        if sources.ask is None:
            field = f"{path}.{password.word}Prompt"
            draft.problems.append(Problem(field, "there is no terminal to ask on: run it in one"))
        elif not draft.problems:
            told = sources.ask(f"{password.word.capitalize()} of {_whose(file, path)} (empty: leave as it is): ")
            if told and not _is_usable(told):
                draft.problems.append(Problem(f"{path}.{password.word}Prompt", _UNUSABLE))
            elif told:
                secrets[path] = _secret(file, path, told, password)
    return secrets


_UNUSABLE: Final = f"is no usable password: it must have 1 to {SECRET_BYTES_MAX} bytes of UTF-8"


def _read_password(password: Password, sources: PasswordSources) -> str | Problem:
    match password.source:
        case "env":
            name = f"{password.word}Env"
            if password.value not in sources.environment:
                return Problem(name, f"there is no variable {password.value} in the environment: set it")
            told = sources.environment[password.value]
        case "file":
            name = f"{password.word}File"
            path = sources.folder / password.value
            try:
                told = path.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
                return Problem(name, f"{path} cannot be read: {reason}")
        case _:
            name = "passwordMd5" if password.is_md5 else password.word
            told = password.value
    most = SECRET_BYTES_MAX if password.word in ("password", "secret", "authorization") else KEY_BYTES_MAX
    return told if _is_usable(told, most) else Problem(name, _UNUSABLE)


def _is_usable(told: str, bytes_max: int = SECRET_BYTES_MAX) -> bool:
    try:
        return 0 < len(told.encode()) <= bytes_max
    except UnicodeEncodeError:
        return False


def _secret(file: OrganisationFile, path: str, told: str, password: Password) -> str:
    """What is hashed: a till's password in the form in which it is sent, any other secret itself."""
    credential = file.credentials.get(path)
    return passwords.till_form(told) if credential and not credential.is_client and not password.is_md5 else told


def _whose(file: OrganisationFile, path: str) -> str:
    if file.hosts and path in file.hosts:
        return f"host {file.hosts[path].host_id}"
    if path in file.users:
        return f"user {file.users[path].user_name}"
    if file.issuers and path in file.issuers:
        return f"issuer {file.issuers[path].issuer}"
    return f"credential {file.credentials[path].login}"


def issuer_keys(
    file: OrganisationFile,
    current: Current,
    secrets: Mapping[str, str],
    keyring: Callable[[], Keyring] | None,
    now: datetime,
) -> tuple[dict[str, str], list[Problem]]:
    """The keys of trusted issuers in the form in which they are kept, by place, and what is wrong with them."""
    keys: dict[str, str] = {}
    found: list[Problem] = []
    for path, issuer in (file.issuers or {}).items():
        known = current.issuers.get(issuer.issuer)
        word = file.passwords[path].word if path in secrets else ""
        try:
            if word == "secret":
                before = known.keys if known and known.algorithm == issuer.algorithm else ""
                org_id, at = file.settings.org_id, now.timestamp()
                keys[path] = issuers.stored_secret(issuer, secrets[path], before, org_id, keyring, now=at)
            elif word:
                keys[path] = issuers.stored_jwks(issuer, secrets[path], word)
            elif known is None or known.algorithm != issuer.algorithm:
                found.append(Problem(f"{path}.secretPrompt", f"the issuer {issuer.issuer} needs a secret: type one"))
        except issuers.UnusableKey as error:
            found.append(Problem(f"{path}.{word}", str(error)))
    return keys, found


def _without_password(file: OrganisationFile, current: Current, secrets: Mapping[str, str]) -> Iterator[Problem]:
    """New credentials whose password was asked for and not given."""
    for path, credential in file.credentials.items():
        if credential.login not in current.credentials and path not in secrets:
            word = "secret" if credential.is_client else "password"
            yield Problem(f"{path}.{word}Prompt", f"the new credential {credential.login} needs a {word}: type one")


def _sealed(
    file: OrganisationFile, secrets: Mapping[str, str], keyring: Callable[[], Keyring] | None, now: datetime
) -> dict[str, tuple[str, str]]:
    """The credentials of hosts, sealed, each with the digest to compare it by."""
    given = {path: host.host_id for path, host in (file.hosts or {}).items() if path in secrets}
    if given and keyring is None:
        message = "cannot be stored: there is no keys file here to seal it with"
        raise CannotApply([Problem(f"{path}.authorization", message) for path in given])
    ring = keyring() if given and keyring else None
    return {
        path: seal_credential(ring, file.settings.org_id, host_id, secrets[path], now=now.timestamp())
        for path, host_id in given.items()
        if ring is not None
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


def events(
    org_id: int, difference: Difference, now: datetime, why: Mapping[str, str], who: Mapping[str, str]
) -> list[Event]:
    """One event for the organisation and one for each few hundred members, all of one subject.

    What tells about a person stands in them as a commitment only.
    """
    subject = ids.uuid7()
    changes: list[dict[str, str]] = []
    personal = dict(who)
    for number, change in enumerate(difference.records, start=1):
        lines = [f"{line.sign} {line.text}" for line in change_lines.record_lines(change)]
        fact = {"sign": change.sign, "what": change.what}
        if change.what in _PERSONAL:
            personal[f"change {number}"] = "\n".join(lines)
        else:
            fact["lines"] = "\n".join(lines)
        changes.append(fact)
    facts = {**why, "organisation": org_id, "version": difference.version, "changes": changes}
    found = [make_event(subject, ids.uuid7(), EVENT_KIND, now, ids.salt(), facts, personal)]
    remaining = iter(difference.members)
    while part := list(islice(remaining, MEMBERS_PER_EVENT)):
        facts = {
            **why,
            "organisation": org_id,
            "version": difference.version,
            "members": [*map(_member_facts, part)],
        }
        found.append(make_event(subject, ids.uuid7(), EVENT_KIND, now, ids.salt(), facts, dict(_member_persons(part))))
    return found


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
