-- relax --
-- Wait for no disk: a crash that forgets a renewal ends a lease early, which costs duplicates at most.
SET LOCAL synchronous_commit = off

-- heartbeat --
-- Say that this relay lives, and forget those that have been silent for ten leases.
WITH gone AS (DELETE FROM eventing.outbox_relay WHERE seen_at < clock_timestamp() - $2 * interval '10 second')
INSERT INTO eventing.outbox_relay (id, seen_at) VALUES ($1, clock_timestamp())
ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at

-- alive --
-- How many relays have been heard within a lease of $1 seconds; the database's clock is the only clock.
SELECT count(*) FROM eventing.outbox_relay WHERE seen_at > clock_timestamp() - $1 * interval '1 second'

-- renew --
-- Keep what is ours and has not been taken, and note how far each bucket is done if this is the server of which we
-- learned it. A floor above the sequence came here without it (logical replication, a reset), and is void.
UPDATE eventing.outbox_lease AS l SET
    expires_at = clock_timestamp() + $2 * interval '1 second',
    floor = CASE
        WHEN greatest(l.floor, known.floor) > (SELECT last_value FROM eventing.outbox_seq_seq) THEN 0
        WHEN pg_postmaster_start_time() = $3::timestamptz THEN greatest(l.floor, known.floor)
        ELSE l.floor
    END
FROM eventing.outbox_lease AS mine
LEFT JOIN unnest($4::smallint[], $5::bigint[]) AS known (bucket, floor) USING (bucket)
WHERE l.bucket = mine.bucket AND l.owner = $1
RETURNING l.bucket, l.floor

-- release --
-- Give buckets up, at once or as a surplus.
UPDATE eventing.outbox_lease SET owner = NULL, expires_at = '-infinity' WHERE owner = $1 AND bucket = ANY ($2::smallint[])

-- claim --
-- Take up to $3 buckets that nobody holds. SKIP LOCKED only between relays that claim at the same moment.
UPDATE eventing.outbox_lease AS l SET owner = $1, epoch = epoch + 1,
    expires_at = clock_timestamp() + $2 * interval '1 second',
    floor = CASE WHEN l.floor > (SELECT last_value FROM eventing.outbox_seq_seq) THEN 0 ELSE l.floor END
WHERE l.bucket IN (
    SELECT bucket FROM eventing.outbox_lease WHERE owner IS NULL OR expires_at < clock_timestamp()
    ORDER BY random() LIMIT $3 FOR UPDATE SKIP LOCKED
) RETURNING l.bucket, l.floor

-- server --
-- Which server this is, and since when: a standby that was promoted, and a restart, have another time.
SELECT pg_postmaster_start_time()

-- leave --
-- Stop counting as alive, so that the others' shares grow at once.
DELETE FROM eventing.outbox_relay WHERE id = $1

-- call --
-- Let the other relays look at the leases now; delivered when this transaction commits.
SELECT pg_notify('eventing_outbox', 'leases')
