"""What must always hold (design.md §10), asked of the database itself, for every organisation in it.

Each question is one SELECT of the rows that break the rule. The ledger is recomputed from the postings alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

# Every question may use `moved`, each lot as its postings tell it, and `external`.
_MOVED: Final = """
WITH external AS (  -- what is executed on a host of its own, not on the ledger
    SELECT DISTINCT org_id, subject_id AS request_id FROM event WHERE kind = 'approved'
), moved AS (
    SELECT p.org_id, j.member_id, p.lot_id,
        coalesce(sum(p.points) FILTER (WHERE p.source = 'issued'), 0) AS issued,
        coalesce(sum(p.points) FILTER (WHERE p.destination = 'redeemed'), 0)
            - coalesce(sum(p.points) FILTER (WHERE p.source = 'redeemed'), 0) AS redeemed,
        coalesce(sum(p.points) FILTER (WHERE p.destination = 'expired'), 0) AS expired,
        coalesce(sum(p.points) FILTER (WHERE p.destination = 'available'), 0)
            - coalesce(sum(p.points) FILTER (WHERE p.source = 'available'), 0) AS available,
        coalesce(sum(p.points) FILTER (WHERE p.destination = 'held'), 0)
            - coalesce(sum(p.points) FILTER (WHERE p.source = 'held'), 0) AS held
    FROM posting p JOIN journal j USING (org_id, journal_id)
    GROUP BY p.org_id, j.member_id, p.lot_id
)
"""

QUESTIONS: Final[Mapping[str, str]] = {
    "lots are what their postings say": """
        SELECT l.org_id, l.lot_id, l.points, l.remaining, l.held, m.issued, m.available, m.held AS held_by_postings
        FROM lot l FULL JOIN moved m USING (org_id, member_id, lot_id)
        WHERE l.lot_id IS NULL OR m.lot_id IS NULL OR l.points <> m.issued OR l.held <> m.held
           OR l.remaining <> m.available + m.held
        """,
    "balances are what the postings say": """
        SELECT m.org_id, m.member_id, m.available, m.held, t.available AS by_postings, t.held AS held_by_postings
        FROM member m LEFT JOIN (
            SELECT org_id, member_id, sum(available) AS available, sum(held) AS held FROM moved GROUP BY 1, 2
        ) t USING (org_id, member_id)
        WHERE m.available <> coalesce(t.available, 0) OR m.held <> coalesce(t.held, 0)
        """,
    "issued = redeemed + expired + available + held": """
        SELECT m.org_id, m.member_id, sum(t.issued) AS issued
        FROM member m JOIN moved t USING (org_id, member_id)
        GROUP BY m.org_id, m.member_id, m.available, m.held
        HAVING sum(t.issued) <> sum(t.redeemed) + sum(t.expired) + m.available + m.held
        """,
    "points move along known ways only": """
        SELECT p.* FROM posting p WHERE (p.source, p.destination) NOT IN (
            ('issued', 'available'), ('available', 'held'), ('held', 'available'), ('held', 'redeemed'),
            ('available', 'redeemed'), ('available', 'expired'))
        """,
    "held = the open holds": """
        SELECT m.org_id, m.member_id, m.held, coalesce(sum(h.points), 0) AS open_holds
        FROM member m LEFT JOIN hold h ON h.org_id = m.org_id AND h.member_id = m.member_id AND h.state = 'open'
        GROUP BY m.org_id, m.member_id, m.held
        HAVING m.held <> coalesce(sum(h.points), 0)
        """,
    "what is held of a lot = the open holds that pin it": """
        SELECT l.org_id, l.lot_id, l.held, coalesce(sum(p.points), 0) AS pinned
        FROM lot l LEFT JOIN (
            SELECT p.* FROM hold_lot p JOIN hold h USING (org_id, request_id) WHERE h.state = 'open'
        ) p USING (org_id, lot_id)
        GROUP BY l.org_id, l.lot_id, l.held
        HAVING l.held <> coalesce(sum(p.points), 0)
        """,
    "a hold is the sum of what it pins": """
        SELECT h.org_id, h.request_id, h.points, coalesce(sum(p.points), 0) AS pinned
        FROM hold h LEFT JOIN hold_lot p USING (org_id, request_id)
        GROUP BY h.org_id, h.request_id, h.points
        HAVING h.points <> coalesce(sum(p.points), 0)
        """,
    "a hold is placed once and closed once, by the journal of its end": """
        SELECT h.org_id, h.request_id, h.state FROM hold h LEFT JOIN LATERAL (
            SELECT count(*) FILTER (WHERE j.kind = 'place') AS placed,
                count(*) FILTER (WHERE j.kind = 'capture') AS captured,
                count(*) FILTER (WHERE j.kind = 'release') AS released,
                bool_and(h.points = (SELECT sum(p.points) FROM posting p
                                     WHERE p.org_id = j.org_id AND p.journal_id = j.journal_id)) AS whole
            FROM journal j WHERE j.org_id = h.org_id AND j.request_id = h.request_id
              AND j.kind IN ('place', 'capture', 'release')
        ) j ON true
        WHERE j.placed <> 1 OR NOT j.whole OR j.captured <> (h.state = 'captured')::integer
           OR j.released <> (h.state IN ('released', 'expired'))::integer
        """,
    "only a pending request holds points, only a succeeded one has captured them": """
        SELECT h.org_id, h.request_id, h.state, r.state AS request_state
        FROM hold h LEFT JOIN request r USING (org_id, request_id)
        WHERE r.request_id IS NULL OR r.member_id <> h.member_id OR r.points <> h.points
           OR (h.state = 'open' AND r.state <> 'pending') OR (h.state = 'captured' AND r.state <> 'succeeded')
        """,
    "a succeeded request has exactly one redemption, and no other has any": """
        SELECT r.org_id, r.request_id, r.state, count(x.redemption_id) AS redemptions
        FROM request r LEFT JOIN redemption x USING (org_id, request_id)
        WHERE r.request_type = 'POINTS-REDEMPTION'
        GROUP BY r.org_id, r.request_id, r.state
        HAVING count(x.redemption_id)
            <> (r.state = 'succeeded' AND (r.org_id, r.request_id) NOT IN (SELECT * FROM external))::integer
        """,
    "a redemption is the one that was asked for": """
        SELECT x.org_id, x.redemption_id FROM redemption x LEFT JOIN request r USING (org_id, request_id)
        WHERE x.request_id IS NOT NULL AND (r.request_id IS NULL OR x.points <> r.points
            OR x.member_id IS DISTINCT FROM r.member_id
            OR x.external_reference IS DISTINCT FROM r.external_reference)
        """,
    "a redemption moved its points once": """
        SELECT x.org_id, x.redemption_id, x.points, sum(p.points) AS posted
        FROM redemption x
        LEFT JOIN journal j ON j.org_id = x.org_id AND j.request_id = x.request_id
            AND j.kind IN ('capture', 'redeem')
        LEFT JOIN posting p ON p.org_id = j.org_id AND p.journal_id = j.journal_id
            AND p.destination = 'redeemed'
        WHERE x.request_id IS NOT NULL
        GROUP BY x.org_id, x.redemption_id, x.points
        HAVING x.points IS DISTINCT FROM sum(p.points) OR count(DISTINCT j.journal_id) <> 1
        """,
    "goodwill that was given is in a goodwill of its request, and no other request has any": """
        SELECT r.org_id, r.request_id, r.state, count(g.request_id) AS goodwills
        FROM request r LEFT JOIN goodwill g USING (org_id, request_id)
        GROUP BY r.org_id, r.request_id, r.state, r.request_type
        HAVING count(g.request_id) <> (r.request_type = 'GOODWILL-POINTS' AND r.state = 'succeeded'
            AND (r.org_id, r.request_id) NOT IN (SELECT * FROM external))::integer
        """,
    "a goodwill is the one that was asked for": """
        SELECT g.org_id, g.request_id FROM goodwill g LEFT JOIN request r USING (org_id, request_id)
        WHERE r.request_id IS NULL OR g.points <> r.points OR g.member_id IS DISTINCT FROM r.member_id
           OR g.reference IS DISTINCT FROM r.external_reference OR g.awarded_at <> r.ended_at
        """,
    "a goodwill gave its points once, as the lot of its name": """
        SELECT g.org_id, g.request_id, g.points, count(p.line) AS postings
        FROM goodwill g
        LEFT JOIN lot l ON l.org_id = g.org_id AND l.member_id = g.member_id AND l.lot_id = g.request_id
            AND l.points = g.points AND l.awarded_at = g.awarded_at AND l.expires_at IS NOT NULL
        LEFT JOIN journal j ON j.org_id = g.org_id AND j.request_id = g.request_id AND j.kind = 'award'
        LEFT JOIN posting p ON p.org_id = j.org_id AND p.journal_id = j.journal_id
        GROUP BY g.org_id, g.request_id, g.points, l.lot_id
        HAVING count(p.line) <> 1 OR min(p.points) <> g.points OR l.lot_id IS NULL
            OR bool_or(p.lot_id <> g.request_id OR p.source <> 'issued')
        """,
    "a status label is that of the last status change that succeeded": """
        SELECT s.org_id, s.member_id, s.request_id FROM member_status s LEFT JOIN request r USING (org_id, request_id)
        WHERE r.request_id IS NULL OR r.state <> 'succeeded' OR r.request_type <> 'CUSTOMER-STATUS-CHANGE'
           OR r.member_id <> s.member_id OR s.changed_at <> r.ended_at
           OR s.label <> btrim(convert_from(r.payload, 'UTF8')::json -> 'body' ->> 'label')
           OR EXISTS (SELECT FROM request later WHERE later.org_id = s.org_id AND later.member_id = s.member_id
                      AND later.request_type = 'CUSTOMER-STATUS-CHANGE' AND later.state = 'succeeded'
                      AND later.ended_at > s.changed_at
                      AND (later.org_id, later.request_id) NOT IN (SELECT * FROM external))
        """,
    "what was redeemed of a member is in its redemptions": """
        SELECT m.org_id, m.member_id, posted.points, asked.points AS redeemed
        FROM member m
        LEFT JOIN LATERAL (
            SELECT coalesce(sum(p.points), 0) AS points
            FROM journal j JOIN posting p USING (org_id, journal_id)
            WHERE j.org_id = m.org_id AND j.member_id = m.member_id AND p.destination = 'redeemed'
        ) posted ON true
        LEFT JOIN LATERAL (
            SELECT coalesce(sum(x.points), 0) AS points FROM redemption x
            WHERE x.org_id = m.org_id AND x.member_id = m.member_id
        ) asked ON true
        WHERE posted.points <> asked.points
        """,
    "a direct redemption has its audit line": """
        SELECT x.org_id, x.redemption_id FROM redemption x
        WHERE x.request_id IS NULL AND 1 <> (
            SELECT count(*) FROM event e WHERE e.org_id = x.org_id AND e.kind = 'redeemed_directly'
              AND (convert_from(e.facts, 'UTF8')::json ->> 'redemption') = x.redemption_id)
        """,
    "the maker's person never decides": """
        SELECT d.* FROM decision d LEFT JOIN request r USING (org_id, request_id)
        WHERE r.request_id IS NULL OR d.person_id IN (r.maker_person_id, d.maker_person_id)
           OR d.maker_person_id <> r.maker_person_id
        """,
    "an executed request has its approvals, a rejected one its rejection": """
        SELECT r.org_id, r.request_id, r.state FROM request r LEFT JOIN LATERAL (
            SELECT count(*) FILTER (WHERE d.verdict = 'approved' AND NOT EXISTS (
                    SELECT FROM decision l  -- a later voice of either person has taken its place
                    WHERE l.org_id = d.org_id AND l.request_id = d.request_id AND l.number > d.number
                      AND (d.person_id IN (l.person_id, l.on_behalf_of)
                           OR d.on_behalf_of IN (l.person_id, l.on_behalf_of)))) AS approved,
                count(*) FILTER (WHERE d.verdict = 'rejected') AS rejected
            FROM decision d WHERE d.org_id = r.org_id AND d.request_id = r.request_id
        ) d ON true
        WHERE r.state IN ('succeeded', 'failed') AND (
                d.approved < CASE WHEN r.auto_rule IS NULL THEN r.approvals_required ELSE 0 END OR d.rejected > 0)
           OR r.state = 'rejected' AND d.rejected <> 1
           OR r.state IN ('pending', 'withdrawn', 'expired') AND d.rejected <> 0
           OR r.auto_rule IS NOT NULL AND (r.state <> 'succeeded' OR d.approved + d.rejected > 0 OR r.flags <> '{}')
        """,
    "a counter has the points of the requests that are open or have succeeded": """
        SELECT org_id, cap, subject, day, c.points, u.points AS used
        FROM cap_counter c FULL JOIN (
            SELECT u.org_id, u.cap, u.subject, u.day, sum(u.points) AS points
            FROM cap_use u JOIN request r USING (org_id, request_id)
            WHERE r.state IN ('pending', 'approved', 'unknown', 'succeeded')
            GROUP BY u.org_id, u.cap, u.subject, u.day
        ) u USING (org_id, cap, subject, day)
        WHERE coalesce(c.points, 0) <> coalesce(u.points, 0)
        """,
    "a counted request is counted with its points": """
        SELECT u.* FROM cap_use u LEFT JOIN request r USING (org_id, request_id)
        WHERE r.request_id IS NULL OR coalesce(r.points, 0) <> u.points
        """,
    "what is required is what is frozen": """
        SELECT r.org_id, r.request_id FROM request r
        WHERE json_typeof(convert_from(r.requirement, 'UTF8')::json) = 'object' AND r.approvals_required <> (
            SELECT sum((need ->> 'count')::integer)
            FROM json_array_elements(convert_from(r.requirement, 'UTF8')::json -> 'needs') need)
        """,
    "a request has facts of its execution when it was executed": """
        SELECT r.org_id, r.request_id, r.state, r.outcome FROM request r
        WHERE (r.state IN ('succeeded', 'failed')) <> (r.outcome IS NOT NULL)
           OR r.request_type <> 'ADMIN-CHANGE' AND (r.state = 'succeeded') <> coalesce(
                 (convert_from(r.outcome, 'UTF8')::json ->> 'succeeded')::boolean,
                 (convert_from(r.outcome, 'UTF8')::json ->> 'code') = CASE r.request_type
                     WHEN 'POINTS-REDEMPTION' THEN '800' WHEN 'GOODWILL-POINTS' THEN '201' ELSE '200' END, false)
        """,
    "an approved change of the organisation made exactly one version": """
        SELECT r.org_id, r.request_id, r.outcome FROM request r JOIN organisation o USING (org_id)
        LEFT JOIN LATERAL (
            SELECT count(*) AS n FROM event e
            WHERE e.org_id = r.org_id AND e.kind = 'organisation_applied'
              AND convert_from(e.facts, 'UTF8')::json ->> 'request' = r.request_id::text
              AND (convert_from(e.facts, 'UTF8')::json ->> 'changes') IS NOT NULL
        ) applied ON true
        WHERE r.request_type = 'ADMIN-CHANGE' AND (applied.n <> (r.state = 'succeeded')::integer
           OR (convert_from(r.outcome, 'UTF8')::json ->> 'version')::bigint > o.version)
        """,
    "every state change and every voice has exactly one event": """
        SELECT r.org_id, r.request_id, r.state, e.kinds FROM request r LEFT JOIN LATERAL (
            SELECT array_agg(e.kind ORDER BY e.at, e.event_id) AS kinds,
                count(*) FILTER (WHERE e.kind = 'submitted') AS submitted,
                count(*) FILTER (WHERE e.kind = r.state) AS ended,
                count(*) FILTER (WHERE e.kind IN ('voice', 'succeeded', 'failed', 'rejected')) AS voices,
                count(*) FILTER (WHERE e.kind IN ('succeeded', 'failed')
                    AND convert_from(e.facts, 'UTF8')::json ->> 'by' IS NOT NULL) AS without_voice
            FROM event e WHERE e.org_id = r.org_id AND e.subject_id = r.request_id
        ) e ON true
        WHERE (r.org_id, r.request_id) NOT IN (SELECT * FROM external) AND (
           e.submitted <> 1 OR e.ended <> (r.state <> 'pending')::integer
           OR e.voices - e.without_voice <> (SELECT count(*) FROM decision d
                           WHERE d.org_id = r.org_id AND d.request_id = r.request_id)
           OR r.version <> 1 + e.voices + (r.state IN ('withdrawn', 'expired'))::integer)
        """,
    "each state change outside has exactly one event, in an order that the table of transitions allows": """
        SELECT r.org_id, r.request_id, r.state, e.kinds FROM request r JOIN external USING (org_id, request_id)
        LEFT JOIN LATERAL (
            SELECT array_agg(e.kind ORDER BY e.at, e.event_id) AS kinds,
                string_agg(e.kind, '>' ORDER BY e.at, e.event_id) AS way, count(*) AS n,
                count(*) FILTER (WHERE e.kind = 'voice') AS voices,
                count(*) FILTER (WHERE e.kind = 'approved'
                    AND convert_from(e.facts, 'UTF8')::json ->> 'by' IS NOT NULL) AS without_voice
            FROM event e WHERE e.org_id = r.org_id AND e.subject_id = r.request_id
              AND e.kind IN ('submitted', 'voice', 'approved', 'unknown', 'succeeded', 'failed', 'rejected')
        ) e ON true
        WHERE e.way !~ '^submitted>(voice>)*approved(>unknown(>approved)?)*(>succeeded|>failed)?$'
           OR e.kinds[array_upper(e.kinds, 1)] <> r.state OR r.version <> e.n
           OR e.voices + 1 - e.without_voice <> (SELECT count(*) FROM decision d
                               WHERE d.org_id = r.org_id AND d.request_id = r.request_id)
        """,
    "what is open outside is due some time or waits for people, and nothing else is": """
        SELECT r.org_id, r.request_id, r.state, r.due_at FROM request r
        LEFT JOIN incident i ON i.org_id = r.org_id AND i.request_id = r.request_id AND i.settled_at IS NULL
        WHERE (r.state IN ('approved', 'unknown')) <> (r.due_at IS NOT NULL OR i.incident_id IS NOT NULL)
           OR r.due_at IS NOT NULL AND i.incident_id IS NOT NULL
           OR (r.lease_owner IS NULL) <> (r.lease_until IS NULL) OR r.due_at IS NULL AND r.lease_owner IS NOT NULL
        """,
    "a settled success outside has its reference to itself, a failure has given it back": """
        SELECT r.org_id, r.request_id, r.state, count(k.reference) AS claims
        FROM request r JOIN external USING (org_id, request_id) LEFT JOIN reference_claim k USING (org_id, request_id)
        GROUP BY r.org_id, r.request_id, r.state
        HAVING count(k.reference) > 1 OR r.state = 'failed' AND count(k.reference) > 0
            OR count(k.reference) = 0 AND r.state = 'succeeded'
               AND EXISTS (SELECT FROM attempt a WHERE a.org_id = r.org_id AND a.request_id = r.request_id)
        """,
    "an attempt is answered once, with its times in order": """
        SELECT a.org_id, a.request_id, a.number, a.state FROM attempt a
        WHERE (a.state = 'answered') <> (a.response IS NOT NULL) OR a.sent_at > a.answered_at
        """,
    "an incident is settled by people who agree, never by the maker": """
        SELECT i.org_id, i.incident_id, i.settled_as FROM incident i
        JOIN organisation o USING (org_id) JOIN request r USING (org_id, request_id)
        WHERE i.settled_as IS NOT NULL AND (
            NOT EXISTS (SELECT FROM incident_voice v WHERE v.org_id = i.org_id AND v.incident_id = i.incident_id
                        AND v.settled_as = i.settled_as AND v.person_id <> r.maker_person_id)
            OR r.state <> CASE i.settled_as WHEN 'executed' THEN 'succeeded' ELSE 'failed' END)
        """,
    "an event belongs to something": """
        SELECT e.org_id, e.subject_id, e.kind FROM event e LEFT JOIN request r
            ON r.org_id = e.org_id AND r.request_id = e.subject_id
        WHERE r.request_id IS NULL
          AND e.kind IN ('submitted', 'voice', 'approved', 'unknown', 'succeeded', 'failed', 'rejected', 'withdrawn',
                         'expired', 'commented', 'incident_opened')
        """,
    "the maker neither speaks nor lends the right to, and voices are numbered in their order": """
        SELECT d.org_id, d.request_id, d.number FROM decision d
        WHERE d.maker_person_id IN (d.person_id, d.on_behalf_of) OR d.number <> 1 + (
            SELECT count(*) FROM decision b WHERE b.org_id = d.org_id AND b.request_id = d.request_id
              AND b.number < d.number AND b.decided_at < d.decided_at)
        """,
    "a lent right was lent when it was used": """
        SELECT d.* FROM decision d WHERE d.on_behalf_of IS NOT NULL AND NOT EXISTS (
            SELECT FROM delegation l WHERE l.org_id = d.org_id AND l.delegator_id = d.on_behalf_of
              AND l.delegate_id = d.person_id AND l.valid_from <= d.decided_at AND d.decided_at < l.valid_until
              AND (l.ended_at IS NULL OR d.decided_at <= l.ended_at))
        """,
    "another try is the same maker's, of a request that ended unexecuted": """
        SELECT r.org_id, r.request_id FROM request r LEFT JOIN request b
            ON b.org_id = r.org_id AND b.request_id = r.resubmission_of
        WHERE r.resubmission_of IS NOT NULL AND (
            b.request_id IS NULL OR b.maker_person_id <> r.maker_person_id OR b.request_type <> r.request_type
            OR b.state NOT IN ('rejected', 'withdrawn', 'expired', 'failed')
               AND NOT (b.state = 'pending' AND b.expires_at <= r.started_at)
            OR b.ended_at > r.started_at)
        """,
    "what expired did so at its time and not before": """
        SELECT r.org_id, r.request_id FROM request r
        WHERE r.state = 'expired' AND r.ended_at IS DISTINCT FROM r.expires_at
           OR r.state NOT IN ('expired', 'pending') AND coalesce(r.decided_at, r.ended_at) > r.expires_at
        """,
    "a comment, a delegation and a freeze have their events": """
        SELECT c.org_id, c.comment_id AS id FROM request_comment c LEFT JOIN event e
            ON e.org_id = c.org_id AND e.subject_id = c.request_id AND e.event_id = c.comment_id
        WHERE e.kind IS DISTINCT FROM 'commented'
        UNION ALL
        SELECT d.org_id, d.delegation_id FROM delegation d LEFT JOIN LATERAL (
            SELECT count(*) FILTER (WHERE e.kind = 'delegated') AS made,
                count(*) FILTER (WHERE e.kind = 'delegation_ended') AS ended
            FROM event e WHERE e.org_id = d.org_id AND e.subject_id = d.delegation_id
        ) e ON true
        WHERE e.made <> 1 OR e.ended <> (d.ended_at IS NOT NULL)::integer
        UNION ALL
        SELECT f.org_id, f.freeze_id FROM freeze_order f LEFT JOIN LATERAL (
            SELECT count(*) FILTER (WHERE e.kind = 'frozen') AS placed,
                count(*) FILTER (WHERE e.kind = 'unfreezing_proposed') AS proposed,
                count(*) FILTER (WHERE e.kind = 'unfrozen') AS lifted
            FROM event e WHERE e.org_id = f.org_id AND e.subject_id = f.freeze_id
        ) e ON true
        WHERE e.placed <> 1 OR e.lifted <> (f.lifted_at IS NOT NULL)::integer
           OR (e.proposed > 0) <> (f.lift_proposed_at IS NOT NULL)
        """,
    "a freeze is lifted by two people": """
        SELECT f.* FROM freeze_order f
        WHERE f.lifted_at IS NOT NULL AND (f.lifted_by = f.lift_proposed_by OR f.lift_proposed_by IS NULL)
        """,
    "a key belongs to a request": """
        SELECT k.* FROM idempotency_key k LEFT JOIN request r USING (org_id, request_id)
        WHERE r.request_id IS NULL
        """,
}


_ALL: Final = _MOVED + " UNION ALL ".join(
    f"SELECT $rule${rule}$rule$ AS rule, to_json(broken)::text AS row FROM ({question}) broken"  # noqa: S608
    for rule, question in QUESTIONS.items()
)


async def broken(connection: Any) -> list[str]:
    """One line for every row that breaks a rule."""
    found = [f"{row['rule']}: {row['row']}" for row in await connection.fetch(_ALL)]
    for row in await connection.fetch("SELECT * FROM event"):
        found.extend(f"{problem}: {row['kind']} of {row['subject_id']}" for problem in _forged(row))
    return found


def _forged(event: Mapping[str, Any]) -> list[str]:
    """What an auditor with the row alone finds wrong; written without the program's own code."""
    problems = []
    if sha256(b"\x00counterfoil event 1\x00" + event["facts"]).digest() != event["leaf_hash"]:
        problems.append("a leaf hash is that of its facts")
    facts = json.loads(event["facts"])
    if facts["event"] != str(event["event_id"]) or facts["subject"] != str(event["subject_id"]):
        problems.append("the facts name their event")
    if facts["kind"] != event["kind"] or facts["at"] != event["at"].isoformat():
        problems.append("the facts say what happened and when")
    if event["personal"] is not None:
        kept = json.loads(event["personal"])
        salt = bytes.fromhex(kept.pop("salt"))
        for field, value in kept.items():
            own_salt = sha256(salt + b"\x00" + field.encode()).digest()
            if facts.get(f"{field}#") != sha256(own_salt + value.encode()).hexdigest():
                problems.append(f"the commitment to {field} opens")
    return problems


async def check(connection: Any) -> None:
    """Fail with everything that is broken."""
    found = await broken(connection)
    assert not found, "\n".join(found)
