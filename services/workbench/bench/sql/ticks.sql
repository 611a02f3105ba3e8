-- create --
-- What the database shapes write.
CREATE TABLE IF NOT EXISTS tick (
    number bigint, account text, symbol text, side text, quantity bigint, price float8, venue text, note text
)

-- empty --
-- Every run starts with empty tables.
TRUNCATE tick, eventing.inbox

-- maintain --
-- The inbox's partitions of today, which a consumer makes as it starts.
SELECT eventing.inbox_maintain(14, 3)

-- checkpoint --
-- What the run before wrote is not this run's work.
CHECKPOINT

-- insert --
-- One event.
INSERT INTO tick VALUES ($1, $2, $3, $4, $5, $6, $7, $8)

-- insert_many --
-- A batch of them.
INSERT INTO tick SELECT * FROM unnest(
    $1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::float8[], $7::text[], $8::text[]
)

-- claim_many --
-- The inbox rows of a batch, for the bare loop; our own statement for it belongs to the runtime.
INSERT INTO eventing.inbox (day, grp, event_id) SELECT day, $1, id FROM unnest($2::date[], $3::text[]) AS given (day, id)
ON CONFLICT DO NOTHING RETURNING event_id
