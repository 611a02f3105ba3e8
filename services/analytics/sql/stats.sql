-- snapshot --
-- Everything the statistics say, read at one moment.
SELECT
    (SELECT count(*) FROM audit_log) AS events,
    (SELECT count(*) FROM member WHERE registered_at IS NOT NULL AND deleted_at IS NULL) AS active_users,
    coalesce((SELECT json_agg(json_build_object('day', day, 'count', total) ORDER BY day DESC) FROM (
        SELECT day, sum(count) AS total FROM registrations GROUP BY day ORDER BY day DESC LIMIT $1
    ) AS days), '[]') AS registrations_per_day

-- history --
-- One page of what is known of a user, in the order it was recorded.
SELECT seq, event_id, type, version, happened_at, recorded_at, topic, partition, "offset", body
FROM audit_log WHERE user_id = $1 AND seq > $2 ORDER BY seq LIMIT $3
