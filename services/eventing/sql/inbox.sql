-- claim --
-- Note that this group has handled the event; no row comes back when it already had. The day is the event's own,
-- never today's, or a duplicate that comes after midnight would not be recognised.
INSERT INTO eventing.inbox (day, grp, event_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING true

-- claim_many --
-- Note that this group has handled these events; only those it had not come back. In one order for everybody, so that
-- two batches wait for each other instead of deadlocking.
INSERT INTO eventing.inbox (day, grp, event_id)
SELECT day, $1, id FROM unnest($2::date[], $3::text[]) AS given (day, id) ORDER BY day, id
ON CONFLICT DO NOTHING RETURNING event_id
