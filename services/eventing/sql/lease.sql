-- heartbeat --
-- Say that this relay lives, and forget those that have been silent for ten leases.
WITH gone AS (DELETE FROM eventing.outbox_relay WHERE seen_at < clock_timestamp() - $2 * interval '10 second')
INSERT INTO eventing.outbox_relay (id, seen_at) VALUES ($1, clock_timestamp())
ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at

-- alive --
-- How many relays have been heard within a lease of $1 seconds; the database's clock is the only clock.
SELECT count(*) FROM eventing.outbox_relay WHERE seen_at > clock_timestamp() - $1 * interval '1 second'

-- renew --
-- Keep what is ours and has not been taken.
UPDATE eventing.outbox_lease SET expires_at = clock_timestamp() + $2 * interval '1 second'
WHERE owner = $1 RETURNING bucket

-- release --
-- Give buckets up, at once or as a surplus.
UPDATE eventing.outbox_lease SET owner = NULL, expires_at = '-infinity' WHERE owner = $1 AND bucket = ANY ($2::smallint[])

-- claim --
-- Take up to $3 buckets that nobody holds. SKIP LOCKED only between relays that claim at the same moment.
UPDATE eventing.outbox_lease SET owner = $1, epoch = epoch + 1, expires_at = clock_timestamp() + $2 * interval '1 second'
WHERE bucket IN (
    SELECT bucket FROM eventing.outbox_lease WHERE owner IS NULL OR expires_at < clock_timestamp()
    ORDER BY random() LIMIT $3 FOR UPDATE SKIP LOCKED
) RETURNING bucket

-- leave --
-- Stop counting as alive, so that the others' shares grow at once.
DELETE FROM eventing.outbox_relay WHERE id = $1
