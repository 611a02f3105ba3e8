-- claim --
-- Note that this group has handled the event; no row comes back when it already had. The day is the event's own,
-- never today's, or a duplicate that comes after midnight would not be recognised.
INSERT INTO eventing.inbox (day, grp, event_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING true
