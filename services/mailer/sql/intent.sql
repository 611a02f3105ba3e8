-- claim --
-- Decide to send: a row comes back when this attempt is the one that sends. At most one exists per event, template
-- and recipient; one that failed cleanly is pending again, a suppressed address never gets as far as sending.
INSERT INTO mail_intent AS i (event_id, template, recipient, state)
VALUES ($1, $2, $3,
    CASE WHEN EXISTS (SELECT FROM mail_suppression s WHERE s.recipient = lower($3)) THEN 'suppressed'
         WHEN $4::timestamptz < clock_timestamp() THEN 'expired' ELSE 'sending' END)
ON CONFLICT (event_id, template, recipient) DO UPDATE
    SET state = 'sending', claimed_at = clock_timestamp(), attempts = i.attempts + 1
    WHERE i.state = 'pending'
RETURNING state

-- state --
-- What became of an intent, and for how many seconds it has been claimed.
SELECT state, extract(epoch FROM clock_timestamp() - claimed_at)::float8 AS age FROM mail_intent
WHERE event_id = $1 AND template = $2 AND recipient = $3

-- doubt --
-- An attempt ended without anybody knowing whether the server took the mail: decide again ('sending') or hold it.
UPDATE mail_intent SET state = $4, doubts = doubts + 1, claimed_at = clock_timestamp(), attempts = attempts + 1
WHERE event_id = $1 AND template = $2 AND recipient = $3 AND state = 'sending'
RETURNING true

-- settle --
-- Record what the server said.
UPDATE mail_intent SET state = $4, settled_at = clock_timestamp()
WHERE event_id = $1 AND template = $2 AND recipient = $3

-- ambiguous --
-- How many mails wait for a person.
SELECT count(*) FROM mail_intent WHERE state = 'ambiguous'
