"""Reads one organisation for an operator who asks about access."""

from __future__ import annotations

from counterfoil.domain.organisations import Organisation
from counterfoil.storage import administration, organisations


class NoOrganisation(Exception):
    """There is no such organisation, or it is not clear which one is meant; the message says what to do."""


async def load_organisation(url: str, org_id: int | None) -> Organisation:
    """The organisation as it stands; the only one there is where no number is given. Raises NoOrganisation."""
    async with administration.transaction(url, keep=False) as tx:
        known = await organisations.list_organisations(tx)
        if org_id is None and len(known) != 1:
            listed = ", ".join(map(str, known)) or "none"
            raise NoOrganisation(f"say which organisation with --org; there are: {listed}")
        found = await organisations.find_organisation(tx, known[0] if org_id is None else org_id)
        if found is None:
            raise NoOrganisation(f"there is no organisation {org_id}")
        return found
