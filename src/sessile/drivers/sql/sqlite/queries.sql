-- name: head
SELECT {head} FROM sessile_sessions WHERE session_id = ?;

-- name: newest
SELECT {commit} FROM sessile_commits
WHERE session_id = ? AND incarnation = ? ORDER BY seq DESC LIMIT ?;

-- name: create
INSERT INTO sessile_sessions ({head})
VALUES (:session_id, :incarnation, :revision, :kind, :agent, :user_id, :name, :status, :created_at, :updated_at,
    :expires_at, :hidden, :metadata, :body)
ON CONFLICT (session_id) DO NOTHING;

-- name: advance
UPDATE sessile_sessions SET revision = ?, kind = ?, agent = ?, user_id = ?, name = ?, status = ?, updated_at = ?,
    expires_at = ?, hidden = ?, metadata = ?, body = ?
WHERE session_id = ? AND incarnation = ? AND revision = ? AND body = coalesce(?, body)
    AND updated_at = coalesce(?, updated_at);

-- name: append
INSERT INTO sessile_commits (session_id, incarnation, {commit}) VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: advance_many
-- The columns of the rows are the parameters of `advance`.
UPDATE sessile_sessions SET revision = column1, kind = column2, agent = column3, user_id = column4, name = column5,
    status = column6, updated_at = column7, expires_at = column8, hidden = column9, metadata = column10, body = column11
FROM (VALUES {rows})
WHERE session_id = column12 AND incarnation = column13 AND revision = column14 AND body = coalesce(column15, body)
    AND updated_at = coalesce(column16, updated_at);

-- name: append_many
INSERT INTO sessile_commits (session_id, incarnation, {commit}) VALUES {rows};

-- name: entries
SELECT {commit} FROM sessile_commits
WHERE session_id = :session_id AND incarnation = :incarnation AND seq BETWEEN :first AND :last
ORDER BY seq {direction} LIMIT :limit;

-- name: entries_of_runs
SELECT {commit} FROM sessile_commits
WHERE session_id = :session_id AND incarnation = :incarnation AND seq BETWEEN :first AND :last
    AND run > 0 AND run BETWEEN :first_run AND :last_run
ORDER BY seq {direction} LIMIT :limit;

-- name: entries_of_few_runs
-- The planner takes the primary key for its order, and would read the whole log.
SELECT {commit} FROM sessile_commits INDEXED BY sessile_commits_run
WHERE session_id = :session_id AND incarnation = :incarnation AND seq BETWEEN :first AND :last
    AND run > 0 AND run BETWEEN :first_run AND :last_run
ORDER BY seq {direction} LIMIT :limit;

-- name: entries_of_run
-- Of one run the index has the order, too: the commits of a long one are not sorted anew for each page.
SELECT {commit} FROM sessile_commits INDEXED BY sessile_commits_run
WHERE session_id = :session_id AND incarnation = :incarnation AND run > 0 AND run = :first_run
    AND seq BETWEEN :first AND :last
ORDER BY seq {direction} LIMIT :limit;

-- name: entries_of_key
SELECT {commit} FROM sessile_commits INDEXED BY sessile_commits_key
WHERE session_id = :session_id AND incarnation = :incarnation AND key = :key AND seq BETWEEN :first AND :last
    AND run BETWEEN :first_run AND :last_run
ORDER BY seq {direction} LIMIT :limit;

-- name: rewrite
UPDATE sessile_commits SET body = :body, key = :key
WHERE session_id = :session_id AND incarnation = :incarnation AND seq = :seq AND commit_id = :commit_id
    AND run = :run AND time = :time;

-- name: list
SELECT {columns} FROM sessile_sessions {page};

-- name: list_places
SELECT {moment}, session_id FROM sessile_sessions {page};

-- name: count
SELECT count(*) FROM sessile_sessions WHERE {where};

-- name: delete
DELETE FROM sessile_sessions WHERE session_id = :session_id AND incarnation = :incarnation;

-- name: discard
DELETE FROM sessile_sessions WHERE session_id = :session_id;

-- name: get_record
SELECT value FROM sessile_records WHERE session_id = :session_id AND incarnation = :incarnation AND key = :key;

-- name: put_record
INSERT INTO sessile_records (session_id, incarnation, key, value)
SELECT session_id, incarnation, :key, :value FROM sessile_sessions
WHERE session_id = :session_id AND incarnation = :incarnation
ON CONFLICT (session_id, incarnation, key) DO UPDATE SET value = excluded.value;

-- name: remove_record
DELETE FROM sessile_records WHERE session_id = :session_id AND incarnation = :incarnation AND key = :key;

-- name: record_keys
SELECT key FROM sessile_records
WHERE session_id = :session_id AND incarnation = :incarnation AND key > :after AND key >= :prefix
    AND substr(key, 1, :length) = :prefix
ORDER BY key LIMIT :limit;

-- name: schema_state
SELECT version, oldest FROM sessile_schema;
