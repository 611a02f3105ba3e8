-- insert --
-- A new user, version 1.
INSERT INTO users (id, name, email) VALUES ($1, $2, $3)

-- select --
-- One user.
SELECT id, name, email, version FROM users WHERE id = $1

-- lock --
-- One user, locked until the transaction ends: the order of its versions is the order of commits.
SELECT id, name, email, version FROM users WHERE id = $1 FOR UPDATE

-- update --
-- New values and the next version.
UPDATE users SET name = $2, email = $3, version = version + 1 WHERE id = $1 RETURNING id, name, email, version

-- delete --
-- Forget a user; returns the version that the deletion has.
DELETE FROM users WHERE id = $1 RETURNING version + 1 AS version
