"""Whether the OAuth clients, access groups and trusted issuers of a file fit the organisation."""

from __future__ import annotations

from collections.abc import Iterator

from counterfoil.domain.callers import OWN_ISSUER, SECRET_ALGORITHM
from counterfoil.domain.organisation_files import Current, OrganisationFile, Problem, twice


def problems(file: OrganisationFile, current: Current) -> Iterator[Problem]:
    """Everything about them that cannot be applied."""
    yield from _clients(file, current)
    yield from _access_groups(file, current)
    yield from _issuers(file, current)


def _clients(file: OrganisationFile, current: Current) -> Iterator[Problem]:
    clients = {path: each for path, each in file.credentials.items() if each.is_client}
    yield from twice(clients, lambda client: client.login, "key", "key")
    tills = {each.login: path for path, each in file.credentials.items() if not each.is_client}
    for path, client in clients.items():
        if client.login in tills:
            yield Problem(f"{path}.key", f"key {client.login} is also at {tills[client.login]}: keep one of them")
    units = {*current.units, *(unit.unit_id for unit in file.units.values())}
    for path, credential in file.credentials.items():
        known = current.credentials.get(credential.login)
        if known and known.is_client != credential.is_client:
            name, kind = ("key", "a till's login") if credential.is_client else ("login", "the key of an OAuth client")
            yield Problem(f"{path}.{name}", f"{credential.login} is {kind}, which it stays: use another")
        if credential.is_client and credential.unit_id and credential.unit_id not in units:
            yield Problem(f"{path}.unit", f"there is no unit {credential.unit_id}: list it under units")


def _access_groups(file: OrganisationFile, current: Current) -> Iterator[Problem]:
    yield from twice(file.access_groups or {}, lambda group: group.name, "access group", "name")
    listed = current.access_groups if file.access_groups is None else file.access_groups
    names = {group.name for group in listed.values()}
    for path, credential in file.credentials.items():
        if credential.access_group and credential.access_group not in names:
            yield Problem(
                f"{path}.accessGroup", f"there is no access group {credential.access_group}: list it under accessGroups"
            )
    named = {credential.login for credential in file.credentials.values()}
    for login, credential in current.credentials.items():
        if credential.access_group and credential.access_group not in names and login not in named:
            yield Problem(
                "accessGroups",
                f"{login} is in the access group {credential.access_group}: keep the group, or list {login} without it",
            )


def _issuers(file: OrganisationFile, current: Current) -> Iterator[Problem]:
    yield from twice(file.issuers or {}, lambda issuer: issuer.issuer, "issuer", "issuer")
    for path, issuer in (file.issuers or {}).items():
        if issuer.issuer == OWN_ISSUER:
            yield Problem(f"{path}.issuer", f"{OWN_ISSUER} is the issuer of our own tokens, which need no entry")
        known = current.issuers.get(issuer.issuer)
        if issuer.issuer and path not in file.passwords and (known is None or known.algorithm != issuer.algorithm):
            wanted = "secretEnv, secretFile or secretPrompt"
            if issuer.algorithm != SECRET_ALGORITHM:
                wanted = "key, keyFile, jwks or jwksFile"
            yield Problem(path, f"the issuer {issuer.issuer} needs a key for {issuer.algorithm}: add {wanted}")
