-- snapshot --
-- Everything the statistics say, read at one moment.
SELECT
    coalesce(sum(events), 0)::bigint AS events,
    coalesce(sum(joined) - sum(gone), 0)::bigint AS active_users,
    coalesce((SELECT json_agg(json_build_object('day', day, 'count', total) ORDER BY day DESC) FROM (
        SELECT day, sum(joined) AS total FROM daily GROUP BY day HAVING sum(joined) > 0 ORDER BY day DESC LIMIT $1
    ) AS days), '[]') AS registrations_per_day,
    clock_timestamp() AS as_of
FROM daily

-- history --
-- One page of what is known of a user, in the order it was recorded.
SELECT seq, event_id, type, version, happened_at, recorded_at, topic, partition, "offset", body
FROM audit_log WHERE user_id = $1 AND seq > $2 ORDER BY seq LIMIT $3
