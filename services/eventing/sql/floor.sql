-- drawn --
-- The last number drawn. In a statement of its own: read together with a snapshot, a writer could draw a number after
-- the one and before the other, and its row would be passed over.
SELECT pg_postmaster_start_time() AS server, last_value FROM eventing.outbox_seq_seq

-- running --
-- Which transactions may still be running: every one below `lowest` is over, none at or above `next` has begun to write.
SELECT pg_postmaster_start_time() AS server, pg_snapshot_xmin(now)::text::bigint AS lowest,
    pg_snapshot_xmax(now)::text::bigint AS next
FROM pg_current_snapshot() AS now
