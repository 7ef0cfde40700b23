"""`counterfoil policy`: a policy is tried with its examples and proved for all inputs before it is applied."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from counterfoil.application.organisation_files import Draft, read
from counterfoil.cli.output import fail, tell
from counterfoil.domain import policy_problems, proofs
from counterfoil.domain.organisation_files import Current, OrganisationFile, Problem
from counterfoil.domain.organisations import Organisation
from counterfoil.domain.payloads import POINTS_MAX, points_from_wire, points_text
from counterfoil.domain.policies import Policy
from counterfoil.domain.policy_files import PolicyFile
from counterfoil.domain.refusals import Refusal

Json = Annotated[bool, Parameter(name="--json", negative="")]
policy = App(name="policy", help="Try a policy with its examples, and prove it for all inputs; nothing is changed.")


@policy.command
def test(file: Path, *, as_json: Json = False) -> int:  # noqa: PT028 - a command, no test
    """Run the examples that are kept beside the policy; the exit status is 0 if each comes out as expected.

    Parameters
    ----------
    file
        The organisation file; it lists the units and people that the examples name.
    as_json
        Print one JSON document.
    """
    loaded = _load(file)
    if isinstance(loaded, int):
        return loaded
    draft, section, after = loaded
    failed = _located(draft, policy_problems.failed_examples(section, after))
    if as_json:
        told = [
            {"name": each.name, "outcome": policy_problems.outcome_of(after, each).text}
            for each in section.examples
            if each.unit_id in after.units
        ]
        tell(json.dumps({"examples": told, "problems": _plain(failed)}))
        return 1 if failed else 0
    for line, problem in failed:
        fail(f"{file}:{line}: {problem.path}: {problem.message}")
    count = len(section.examples)
    if failed:
        return fail(f"{len({p.path.partition('.expect')[0] for _, p in failed})} of {count} examples fail")
    if not count:
        return fail(f"{file} has no policy.examples: add some")
    tell(f"{count} examples, each as expected")
    return 0


@policy.command
def prove(file: Path, *, above: str | None = None, approvals: int | None = None, as_json: Json = False) -> int:
    """Check a policy for all inputs; the exit status is 0 if nothing is wrong. What is wrong has a counter-example.

    Some rule always applies, no rule is without effect, bands do not overlap, automatic approval is bounded, and the
    claims in the file are true.

    Parameters
    ----------
    file
        The organisation file; it lists the units, people and groups that the policy names.
    above
        With --approvals: prove that nothing above so many points is executed with fewer approvals; above 0 nothing
        at all, also of the types without points.
    approvals
        See --above.
    as_json
        Print one JSON document.
    """
    loaded = _load(file)
    if isinstance(loaded, int):
        return loaded
    draft, section, after = loaded
    bound = _bound(above)
    if bound is None or (above is None) != (approvals is None):
        return fail("--above takes points, and --approvals a number with it")
    if draft.file is None:
        raise AssertionError("a policy was read from the file (this is a bug)")
    located = _located(draft, policy_problems.problems(draft.file, Current()))
    if located:
        return _tell_problems(file, located, json_output=as_json)
    found = proofs.examine(section.policy, after.units)
    broken = proofs.breach(found, bound, approvals or 0)
    if broken is not None:
        told = f"{proofs.describe_example(broken[0], after.units)} ({broken[1].name})"
        problem = Problem("policy", f"fewer than {approvals} approvals are enough for: {told}")
        return _tell_problems(file, _located(draft, [problem]), json_output=as_json)
    _tell_proof(section.policy, found, len(section.claims), json_output=as_json)
    return 0


def _tell_problems(file: Path, located: Sequence[tuple[int, Problem]], *, json_output: bool) -> int:
    if json_output:
        tell(json.dumps({"proved": False, "problems": _plain(located)}))
        return 1
    for line, problem in located:
        fail(f"{file}:{line}: {problem.path}: {problem.message}")
    return 1


def _tell_proof(policy: Policy, found: proofs.Findings, claims: int, *, json_output: bool) -> None:
    least = [
        {"above": points_text(max(0, low)), "upTo": None if high >= POINTS_MAX else points_text(high), "approvals": n}
        for low, high, n in found.least
    ]
    if json_output:
        matrix = policy_problems.matrix(policy)
        automatic = points_text(found.automatic_max)
        tell(json.dumps({"proved": True, "regions": found.regions, "rules": matrix, "leastApprovals": least,
                         "automaticUpTo": automatic, "claims": claims}))  # fmt: skip
        return
    for row in policy_problems.matrix(policy):
        tell(row)
    tell(
        f"proved over {found.regions} regions: a rule always applies, each rule has an effect, {claims} claims are true"
    )
    for band in least:
        upper = f" and up to {band['upTo']}" if band["upTo"] else ""
        which = "without points" if band["upTo"] == "0" else f"above {band['above']}{upper} points"
        tell(f"{which}: at least {band['approvals']} approvals")


def _load(file: Path) -> tuple[Draft, PolicyFile, Organisation] | int:
    """The policy of a file that can be read, in the organisation that the file alone describes."""
    try:
        draft = read(file.read_bytes())
    except OSError as error:
        return fail(f"{file}: cannot be read: {error.strerror}")
    if draft.problems or draft.file is None:
        for line, problem in _located(draft, draft.problems):
            field = f" {problem.path}:" if problem.path else ""
            fail(f"{file}:{line}:{field} {problem.message}")
        return 1
    if draft.file.policy is None:
        return fail(f"{file}:1: policy: is missing: add it")
    return draft, draft.file.policy, _prospect(draft.file)


def _prospect(file: OrganisationFile) -> Organisation:
    return policy_problems.prospect(file, Current())


def _located(draft: Draft, problems: Any) -> list[tuple[int, Problem]]:
    return sorted(((draft.document.line(each.path), each) for each in problems), key=lambda each: each[0])


def _plain(located: Sequence[tuple[int, Problem]]) -> list[dict[str, object]]:
    return [{"line": line, "field": each.path, "message": each.message} for line, each in located]


def _bound(text: str | None) -> int | None:
    if text is None or text == "0":
        return 0
    try:
        return points_from_wire(text, "above")
    except Refusal:
        return None
