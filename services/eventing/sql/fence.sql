-- keys --
-- Every parked key of a group, or those of the last seconds.
SELECT topic, key FROM eventing.parked_key
WHERE grp = $1 AND ($2::float8 IS NULL OR since > clock_timestamp() - make_interval(secs => $2))

-- lock --
-- Lock a parked key; no row when it is free.
SELECT true FROM eventing.parked_key WHERE grp = $1 AND topic = $2 AND key = $3 FOR UPDATE

-- park_key --
-- Park a key, and lock it if it was parked before.
INSERT INTO eventing.parked_key (grp, topic, key) VALUES ($1, $2, $3)
ON CONFLICT (grp, topic, key) DO UPDATE SET since = parked_key.since

-- park --
-- Put a record behind its key; once, however often it is delivered.
INSERT INTO eventing.parked (grp, topic, key, partition, "offset") VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING

-- parked --
-- The parked records of a range of a partition.
SELECT key, "offset" FROM eventing.parked
WHERE grp = $1 AND topic = $2 AND partition = $3 AND "offset" >= $4 AND "offset" < $5 ORDER BY "offset"

-- head --
-- The first record behind a key in one partition, and whether the given one is behind it too.
SELECT min("offset"), bool_or("offset" = $5) FROM eventing.parked
WHERE grp = $1 AND topic = $2 AND key = $3 AND partition = $4

-- strike --
-- Take a record away.
DELETE FROM eventing.parked WHERE grp = $1 AND topic = $2 AND key = $3 AND partition = $4 AND "offset" = $5

-- free --
-- Free the key when no record is behind it any more.
DELETE FROM eventing.parked_key k WHERE grp = $1 AND topic = $2 AND key = $3
AND NOT EXISTS (SELECT FROM eventing.parked p WHERE p.grp = k.grp AND p.topic = k.topic AND p.key = k.key)
RETURNING true
