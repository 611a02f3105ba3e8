-- outbox --
-- Where an event stands before it is on Kafka: rows that wait, and rows behind a blocked key, with the reason.
SELECT o.topic, o.created_at, NULL AS reason, NULL AS aggregateid FROM eventing.outbox AS o WHERE o.id = $1
UNION ALL
SELECT b.topic, b.created_at, k.reason, b.aggregateid FROM eventing.outbox_blocked AS b
LEFT JOIN eventing.outbox_blocked_key AS k USING (aggregatetype, aggregateid) WHERE b.id = $1

-- inbox --
-- Groups that have handled an event in a transaction of this database.
SELECT grp FROM eventing.inbox WHERE event_id = $1 AND day = $2 ORDER BY grp
