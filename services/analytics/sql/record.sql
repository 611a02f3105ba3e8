-- audit --
-- Keep the event as it came.
INSERT INTO audit_log (event_id, type, user_id, version, happened_at, topic, partition, "offset", body)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- registered --
-- Count a user once, on the day of the first registration; the member's row is locked before the counter's, and no
-- transaction locks two of either, so none can wait in a circle.
WITH joined AS (
    INSERT INTO member AS m (user_id, registered_at, version) VALUES ($1, $2, coalesce($3, 0))
    ON CONFLICT (user_id) DO UPDATE SET registered_at = $2, version = greatest(m.version, coalesce($3, 0))
    WHERE m.registered_at IS NULL
    RETURNING 1
)
INSERT INTO registrations AS r (day, shard, count)
SELECT ($2::timestamptz AT TIME ZONE 'UTC')::date, $4, 1 FROM joined
ON CONFLICT (day, shard) DO UPDATE SET count = r.count + 1

-- deleted --
-- A member leaves; an older event that comes later cannot bring it back.
INSERT INTO member AS m (user_id, deleted_at, version) VALUES ($1, $2, coalesce($3, 0))
ON CONFLICT (user_id) DO UPDATE SET deleted_at = $2, version = greatest(m.version, coalesce($3, 0))
