-- name: find_incident_requests
-- Whose requests these incidents are of, so that they can be locked.
SELECT i.incident_id, i.request_id FROM incident i WHERE i.org_id = $1 AND i.incident_id = ANY ($2::uuid[])

-- name: read_incidents
-- The incidents with the voices so far, read after the lock of their requests, and whether a command ran before.
SELECT a.voice_id, i.incident_id, i.request_id, i.kind, i.message, i.opened_at, i.settled_as, i.settled_at,
    voices.document AS voices, e.event_id IS NOT NULL AS already_written
FROM unnest($2::uuid[], $3::uuid[]) AS a (voice_id, incident_id)
LEFT JOIN incident i ON i.org_id = $1 AND i.incident_id = a.incident_id
LEFT JOIN event e ON e.org_id = $1 AND e.subject_id = i.request_id AND e.event_id = a.voice_id
LEFT JOIN LATERAL (
    SELECT json_agg(json_build_object(
        'person_id', v.person_id, 'user_id', v.user_id, 'user_name', v.user_name, 'settled_as', v.settled_as,
        'reason', v.reason, 'evidence', v.evidence, 'at', v.at) ORDER BY v.at) AS document
    FROM incident_voice v WHERE v.org_id = $1 AND v.incident_id = i.incident_id
) voices ON true

-- name: fetch_incident
-- One incident with its request.
SELECT o.version AS organisation_version, i.incident_id, i.kind AS incident_kind, i.message, i.opened_at, i.settled_as,
    i.settled_at, voices.document AS voices, r.*, NULL AS decisions
FROM organisation o
LEFT JOIN incident i ON i.org_id = o.org_id AND i.incident_id = $2
LEFT JOIN request r ON r.org_id = i.org_id AND r.request_id = i.request_id
LEFT JOIN LATERAL (
    SELECT json_agg(json_build_object(
        'person_id', v.person_id, 'user_id', v.user_id, 'user_name', v.user_name, 'settled_as', v.settled_as,
        'reason', v.reason, 'evidence', v.evidence, 'at', v.at) ORDER BY v.at) AS document
    FROM incident_voice v WHERE v.org_id = $1 AND v.incident_id = i.incident_id
) voices ON true
WHERE o.org_id = $1

-- name: list_incidents
-- A page of incidents, the oldest first: after $2, all of them or the open ones only.
SELECT o.version AS organisation_version, page.*
FROM organisation o LEFT JOIN LATERAL (
    SELECT i.incident_id, i.request_id, i.kind, i.message, i.opened_at, i.settled_as, i.settled_at, r.request_type,
        r.host_id, r.external_reference
    FROM incident i JOIN request r ON r.org_id = i.org_id AND r.request_id = i.request_id
    WHERE i.org_id = o.org_id AND i.incident_id > $2 AND ($3 OR i.settled_at IS NULL)
      AND ($5::bigint[] IS NULL OR r.unit_id = ANY ($5))
    ORDER BY i.incident_id LIMIT $4
) page ON true
WHERE o.org_id = $1
