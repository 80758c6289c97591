-- name: load_head
SELECT {small}, body FROM {sessions} WHERE session_id = :session_id;

-- name: load
-- The head and its newest commits in one statement, and so in one snapshot, as rows of two columns: the body, and all
-- others as one JSON array, with the clock in that of the head. The clients, written in Python, take longer for each
-- column than the server. No derived table: MariaDB would write it to disk, because it has long text. A commit that has
-- more than its share of what may come comes without its body, but for the newest one: to sum up what they have would
-- take as long as all the rest.
SELECT {small}, body FROM {sessions} WHERE session_id = :session_id
UNION ALL
(SELECT {fixed},
    IF(LENGTH(body) <= :share OR seq = (SELECT revision FROM {sessions} WHERE session_id = :session_id), body, NULL)
FROM {commits}
WHERE session_id = :session_id
    AND incarnation = (SELECT incarnation FROM {sessions} WHERE session_id = :session_id)
ORDER BY seq DESC LIMIT :newest);

-- name: load_few
-- The same of so few commits that their size does not matter.
SELECT {small}, body FROM {sessions} WHERE session_id = :session_id
UNION ALL
(SELECT {fixed}, body FROM {commits}
WHERE session_id = :session_id
    AND incarnation = (SELECT incarnation FROM {sessions} WHERE session_id = :session_id)
ORDER BY seq DESC LIMIT :newest);

-- name: load_many
-- The same of several sessions, with as many commits each: a row for each number back from the revision, so that each
-- commit is found by the whole primary key. The first of them has the head.
SELECT head.session_id, IF(back.n = 0, head.revision, NULL), IF(back.n = 0, {small_of_head}, NULL),
    IF(back.n = 0, head.body, NULL), {fixed_of_log}, IF(LENGTH(log.body) <= :share, log.body, NULL)
FROM {sessions} AS head STRAIGHT_JOIN ({numbers}) AS back
LEFT JOIN {commits} AS log
    ON log.session_id = head.session_id AND log.incarnation = head.incarnation AND log.seq = head.revision - back.n
WHERE head.session_id IN ({session_ids});

-- name: create
INSERT INTO {sessions} ({head}, filterable)
VALUES (:session_id, :incarnation, :revision, :kind, :agent, :user_id, :name, :status, :created_at, :updated_at,
    :expires_at, :hidden, :metadata, :body, :filterable);

-- name: first_commits
INSERT INTO {commits} (session_id, incarnation, {commit}) VALUES {rows};

-- name: next_commit
-- Compare and set, its first half, once for each commit: the row of the head is locked, and a commit is added only at
-- the expected revision. Not the head first, and then a commit if ROW_COUNT() is 1, which would spare a look at the head:
-- when connections were cut in the middle of it (MariaDB 10.11), a head went on without its commit.
INSERT INTO {commits} (session_id, incarnation, {commit})
SELECT session_id, incarnation, {row} FROM {sessions}
WHERE session_id = :session_id AND incarnation = :incarnation AND revision = :expected {as_seen} FOR UPDATE;

-- name: advance
-- Its second half. If the first one found the expected revision, so does this, behind the same lock.
UPDATE {sessions} SET revision = :revision, kind = :kind, agent = :agent, user_id = :user_id, name = :name,
    status = :status, updated_at = :updated_at, expires_at = :expires_at, hidden = :hidden, metadata = :metadata, body = :body,
    filterable = :filterable
WHERE session_id = :session_id AND incarnation = :incarnation AND revision = :expected {as_seen};

-- name: as_seen
-- What is compared besides if the head is a remembered one. Else it is left out, for MariaDB would read the body.
AND body = coalesce(:was_body, body) AND updated_at = coalesce(:was_updated_at, updated_at);

-- name: hold_many
-- Compare and set for several sessions, in one transaction of four statements. The heads that are as expected are locked,
-- and remembered as bits of a number. What somebody else has locked is passed over: so nobody is held up by the session
-- of another, and no two lock each other out.
SELECT COALESCE(BIT_OR(CASE session_id {bits} END), 0) INTO @sessile_won FROM {sessions}
WHERE {expected} FOR UPDATE SKIP LOCKED;

-- name: log_many
INSERT INTO {commits} (session_id, incarnation, {commit})
SELECT session_id, incarnation, {row} FROM {sessions} WHERE session_id IN ({won});

-- name: advance_many
UPDATE {sessions} SET {changes} WHERE session_id IN ({won});

-- name: won
SELECT CAST(@sessile_won AS UNSIGNED);

-- name: entries
SELECT {commit} FROM {commits}
WHERE session_id = :session_id AND incarnation = :incarnation AND seq BETWEEN :first AND :last
ORDER BY seq {direction} LIMIT :limit;

-- name: entries_of_runs
SELECT {commit} FROM {commits} FORCE INDEX (PRIMARY)
WHERE session_id = :session_id AND incarnation = :incarnation AND seq BETWEEN :first AND :last
    AND run > 0 AND run BETWEEN :first_run AND :last_run
ORDER BY seq {direction} LIMIT :limit;

-- name: entries_of_few_runs
-- For the order the planner might take the primary key, and read the whole log.
SELECT {commit} FROM {commits} FORCE INDEX ({prefix}commits_run)
WHERE session_id = :session_id AND incarnation = :incarnation AND seq BETWEEN :first AND :last
    AND run > 0 AND run BETWEEN :first_run AND :last_run
ORDER BY seq {direction} LIMIT :limit;

-- name: entries_of_run
-- Of one run the index has the order, too: the commits of a long one are not sorted anew for each page.
SELECT {commit} FROM {commits} FORCE INDEX ({prefix}commits_run)
WHERE session_id = :session_id AND incarnation = :incarnation AND run = :first_run AND seq BETWEEN :first AND :last
ORDER BY seq {direction} LIMIT :limit;

-- name: entries_of_key
SELECT {commit} FROM {commits} FORCE INDEX ({prefix}commits_key)
WHERE session_id = :session_id AND incarnation = :incarnation AND `key` = :key AND seq BETWEEN :first AND :last
    AND run BETWEEN :first_run AND :last_run
ORDER BY seq {direction} LIMIT :limit;

-- name: newest
-- Once for each of several sessions, joined by UNION ALL.
(SELECT {number}, {commit} FROM {commits} WHERE session_id = :session_id AND incarnation = :incarnation
ORDER BY seq DESC LIMIT :count);

-- name: fixed
-- What a rewriting leaves of commits.
SELECT seq, commit_id, run, time FROM {commits}
WHERE session_id = :session_id AND incarnation = :incarnation AND seq IN ({seqs});

-- name: hold_head
SELECT 1 FROM {sessions} WHERE session_id = :session_id AND incarnation = :incarnation LOCK IN SHARE MODE;

-- name: rewrite
UPDATE {commits} SET body = :body, `key` = :key
WHERE session_id = :session_id AND incarnation = :incarnation AND seq = :seq;

-- name: head
SELECT {head} FROM {sessions} WHERE session_id = :session_id;

-- name: incarnation
SELECT incarnation FROM {sessions} WHERE session_id = :session_id;

-- name: now
SELECT {now};

-- name: list_places
SELECT {moment}, session_id FROM {sessions} {page};

-- name: list
SELECT {columns} FROM {sessions} {page};

-- name: count
SELECT COUNT(*) FROM {sessions} WHERE {where};

-- name: delete_session
DELETE FROM {sessions} WHERE session_id = :session_id AND incarnation = :incarnation;

-- name: delete_commits
DELETE FROM {commits} WHERE session_id = :session_id AND incarnation = :incarnation;

-- name: get_record
SELECT value FROM {records} WHERE session_id = :session_id AND incarnation = :incarnation AND `key` = :key;

-- name: get_records
-- Once for each of several records, joined by UNION ALL.
SELECT {number}, value FROM {records}
WHERE session_id = :session_id AND incarnation = :incarnation AND `key` = :key;

-- name: record_keys
SELECT `key` FROM {records} WHERE session_id = :session_id AND incarnation = :incarnation
    AND `key` > :after AND `key` BETWEEN :prefix AND :last
ORDER BY `key` LIMIT :limit;

-- name: put_record
-- The head is locked against a removal at the same moment. Counts the row also if the value was the same.
REPLACE INTO {records} (session_id, incarnation, `key`, value)
SELECT session_id, incarnation, :key, UNHEX(:value) FROM {sessions}
WHERE session_id = :session_id AND incarnation = :incarnation LOCK IN SHARE MODE;

-- name: remove_record
DELETE FROM {records} WHERE session_id = :session_id AND incarnation = :incarnation AND `key` = :key;

-- name: lock_migrations
SELECT GET_LOCK({lock}, :seconds);

-- name: unlock_migrations
SELECT RELEASE_LOCK({lock});

-- name: schema_exists
SELECT COUNT(*) > 0 FROM information_schema.tables
WHERE table_schema = DATABASE() AND table_name = '{prefix}schema';

-- name: schema_state
SELECT version, oldest FROM {schema_state};
