-- name: load_head
SELECT {head}, {now} FROM {sessions} WHERE session_id = :session_id;

-- name: load
-- The head and its newest commits in one statement, and so in one snapshot. Commits come without a session_id, their
-- columns where the head has some of the same types: commit_id, seq, key, time, run, body. The log is dense up to the head's
-- revision, so they are a range: for ORDER BY and LIMIT the planner, who cannot know that a session has one incarnation,
-- might sort the whole log. What a body has is known without reading it.
SELECT {head}, {now} AS now FROM {sessions} WHERE session_id = :session_id
UNION ALL
SELECT NULL, commit_id, seq, '', key, NULL, NULL, NULL, time, run, NULL, false, '', body, 0 FROM (
    SELECT {commit}, sum(octet_length(body)) OVER (
        ORDER BY seq DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS newer FROM {commits}
    WHERE session_id = :session_id
        AND incarnation = (SELECT incarnation FROM {sessions} WHERE session_id = :session_id)
        AND seq > (SELECT revision FROM {sessions} WHERE session_id = :session_id) - :newest
) AS counted WHERE coalesce(newer, 0) < :max_bytes;

-- name: load_few
-- The same of so few commits that their size does not matter: the head is looked for once, and nothing is added up.
WITH head AS MATERIALIZED (
    SELECT {head} FROM {sessions} WHERE session_id = :session_id
)
SELECT {head}, {now} AS now FROM head
UNION ALL
SELECT NULL, commit_id, seq, '', log.key, NULL, NULL, NULL, time, run, NULL, false, '', log.body, 0
FROM head JOIN {commits} AS log ON log.session_id = :session_id AND log.incarnation = head.incarnation
    AND seq > head.revision - :newest;

-- name: load_many
-- The same of several sessions. The rows of commits have the session's id in the place of the kind.
WITH heads AS MATERIALIZED (
    SELECT {head} FROM {sessions} WHERE session_id = ANY (:session_ids::text[])
)
SELECT {head}, {now} AS now FROM heads
UNION ALL
SELECT NULL, commit_id, seq, session_id, counted.key, NULL, NULL, NULL, time, run, NULL, false, '', counted.body, 0
FROM heads CROSS JOIN LATERAL (
    SELECT {commit}, sum(octet_length(body)) OVER (
        ORDER BY seq DESC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS size FROM {commits} AS log
    WHERE log.session_id = heads.session_id AND log.incarnation = heads.incarnation AND seq > heads.revision - :newest
) AS counted WHERE size <= :max_bytes;

-- name: create
WITH created AS (
    INSERT INTO {sessions} ({head}, filterable)
    VALUES (:session_id, :incarnation, :revision, :kind, :agent, :user_id, :name, :status, :created_at, :updated_at,
        :expires_at, :hidden, :metadata, :body, :filterable::jsonb)
    ON CONFLICT (session_id) DO NOTHING
    RETURNING 1
), logged AS (
    INSERT INTO {commits} (session_id, incarnation, {commit})
    SELECT :session_id, :incarnation, row.seq, row.commit_id, row.run, row.time, row.body, row.key
    FROM created, (VALUES {rows}) AS row ({commit})
)
SELECT 1 FROM created;

-- name: advance
-- Compare and set: the log grows only if the head was at the expected revision. The announcement is part of the
-- transaction, and made only if somebody follows: NOTIFY lets commits of a whole database wait for each other.
WITH advanced AS (
    UPDATE {sessions} SET revision = :revision, kind = :kind, agent = :agent, user_id = :user_id, name = :name,
        status = :status, updated_at = :updated_at, expires_at = :expires_at, hidden = :hidden, metadata = :metadata, body = :body,
        filterable = :filterable::jsonb
    WHERE session_id = :session_id AND incarnation = :incarnation AND revision = :expected
        AND body = coalesce(:was_body::text, body) AND updated_at = coalesce(:was_updated_at::bigint, updated_at)
    RETURNING followed_until
), logged AS (
    INSERT INTO {commits} (session_id, incarnation, {commit})
    SELECT :session_id, :incarnation, row.seq, row.commit_id, row.run, row.time, row.body, row.key
    FROM advanced, (VALUES {rows}) AS row ({commit})
)
SELECT CASE WHEN followed_until > {now} THEN pg_notify(:channel, :incarnation) END FROM advanced;

-- name: advance_many
-- The same for one commit of each of several sessions. It waits for no lock that it meets, so that it is neither held up
-- by others nor locks them out; a session that is not among the rows was not changed. Each head is looked for by itself:
-- for a join the planner, who expects a hundred rows in any JSON, reads all heads of a table that has a few thousand.
-- The conditions stand there twice: inside, so that only what is changed is locked, and outside, because without them the
-- planner expects a head for each of the hundred rows, and reads all of them for the UPDATE.
WITH wanted AS (
    SELECT * FROM json_to_recordset(:rows::json) AS row (
        session_id text, incarnation text, revision bigint, kind text, agent text, user_id text, name text, status text,
        updated_at bigint, expires_at bigint, hidden boolean, metadata text, body text, filterable text,
        expected bigint, was_body text, was_updated_at bigint,
        seq bigint, commit_id text, run bigint, time bigint, commit_body text, key text
    )
), held AS (
    SELECT wanted.* FROM wanted CROSS JOIN LATERAL (
        SELECT incarnation, revision, body, updated_at FROM {sessions} AS head WHERE head.session_id = wanted.session_id
            AND head.incarnation = wanted.incarnation AND head.revision = wanted.expected
            AND head.body = coalesce(wanted.was_body, head.body)
            AND head.updated_at = coalesce(wanted.was_updated_at, head.updated_at)
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS there
    WHERE there.incarnation = wanted.incarnation AND there.revision = wanted.expected
        AND there.body = coalesce(wanted.was_body, there.body)
        AND there.updated_at = coalesce(wanted.was_updated_at, there.updated_at)
), advanced AS (
    UPDATE {sessions} AS there SET revision = held.revision, kind = held.kind, agent = held.agent,
        user_id = held.user_id, name = held.name, status = held.status, updated_at = held.updated_at,
        expires_at = held.expires_at, hidden = held.hidden, metadata = held.metadata, body = held.body,
        filterable = held.filterable::jsonb
    FROM held WHERE there.session_id = held.session_id AND there.incarnation = held.incarnation
        AND there.revision = held.expected
    RETURNING held.session_id, held.incarnation, seq, commit_id, run, time, commit_body, key, followed_until
), logged AS (
    INSERT INTO {commits} (session_id, incarnation, seq, commit_id, run, time, body, key)
    SELECT session_id, incarnation, seq, commit_id, run, time, commit_body, key FROM advanced
)
SELECT session_id, CASE WHEN followed_until > {now} THEN pg_notify(:channel, incarnation) END FROM advanced;

-- name: entries
SELECT {commit} FROM {commits}
WHERE session_id = :session_id AND incarnation = :incarnation AND seq BETWEEN :first AND :last
ORDER BY seq {direction} LIMIT :limit;

-- name: entries_of_runs
SELECT {commit} FROM {commits}
WHERE session_id = :session_id AND incarnation = :incarnation AND seq BETWEEN :first AND :last
    AND run > 0 AND run BETWEEN :first_run AND :last_run
ORDER BY seq {direction} LIMIT :limit;

-- name: entries_of_few_runs
-- Ordered by an expression, because for the order the planner might take the primary key, and read the whole log.
SELECT {commit} FROM {commits}
WHERE session_id = :session_id AND incarnation = :incarnation AND seq BETWEEN :first AND :last
    AND run > 0 AND run BETWEEN :first_run AND :last_run
ORDER BY seq + 0 {direction} LIMIT :limit;

-- name: entries_of_run
-- Of one run the index has the order, too: the commits of a long one are not sorted anew for each page.
SELECT {commit} FROM {commits}
WHERE session_id = :session_id AND incarnation = :incarnation AND run > 0 AND run = :first_run
    AND seq BETWEEN :first AND :last
ORDER BY seq {direction} LIMIT :limit;

-- name: entries_of_key
-- Ordered by an expression for the same reason.
SELECT {commit} FROM {commits}
WHERE session_id = :session_id AND incarnation = :incarnation AND key = :key AND seq BETWEEN :first AND :last
    AND run BETWEEN :first_run AND :last_run
ORDER BY seq + 0 {direction} LIMIT :limit;

-- name: within
-- As much of one of these as ends with so many bytes. What a body has is known without reading it.
SELECT {commit} FROM (
    SELECT {commit}, sum(octet_length(body)) OVER (
        ORDER BY seq {direction} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS before FROM ({page}) AS page
) AS counted WHERE coalesce(before, 0) < :max_bytes ORDER BY seq {direction};

-- name: newest
SELECT number, {commit} FROM unnest(:session_ids::text[], :incarnations::text[])
    WITH ORDINALITY AS wanted (session_id, incarnation, number)
CROSS JOIN LATERAL (
    SELECT {commit} FROM {commits}
    WHERE session_id = wanted.session_id AND incarnation = wanted.incarnation ORDER BY seq DESC LIMIT :count
) AS newest;

-- name: rewrite
-- All of them or none, and with the head held, so that no deletion comes between.
WITH wanted AS (
    SELECT * FROM unnest(:seqs::bigint[], :commit_ids::text[], :runs::bigint[], :times::bigint[], :bodies::text[],
        :keys::text[]) AS row ({commit})
), held AS (
    SELECT 1 FROM {sessions} WHERE session_id = :session_id AND incarnation = :incarnation FOR KEY SHARE
), there AS (
    SELECT count(*) AS number FROM {commits} JOIN wanted USING (seq, commit_id, run, time)
    WHERE session_id = :session_id AND incarnation = :incarnation
)
UPDATE {commits} AS commits SET body = wanted.body, key = wanted.key FROM held, there, wanted
WHERE session_id = :session_id AND incarnation = :incarnation AND commits.seq = wanted.seq
    AND number = (SELECT count(*) FROM wanted);

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
SELECT count(*) FROM {sessions} WHERE {where};

-- name: delete
WITH deleted AS (
    DELETE FROM {sessions} WHERE session_id = :session_id AND incarnation = :incarnation
)
DELETE FROM {commits} WHERE session_id = :session_id AND incarnation = :incarnation;

-- name: get_record
SELECT value FROM {records} WHERE session_id = :session_id AND incarnation = :incarnation AND key = :key;

-- name: get_records
SELECT number, value FROM unnest(:session_ids::text[], :incarnations::text[], :keys::text[])
    WITH ORDINALITY AS wanted (session_id, incarnation, key, number) JOIN {records} USING (session_id, incarnation, key);

-- name: record_keys
SELECT key FROM {records} WHERE session_id = :session_id AND incarnation = :incarnation
    AND key > :after AND key BETWEEN :prefix AND :last
ORDER BY key LIMIT :limit;

-- name: put_record
INSERT INTO {records} (session_id, incarnation, key, value)
SELECT session_id, incarnation, :key, :value FROM {sessions}
WHERE session_id = :session_id AND incarnation = :incarnation FOR KEY SHARE
ON CONFLICT (session_id, incarnation, key) DO UPDATE SET value = excluded.value;

-- name: remove_record
DELETE FROM {records} WHERE session_id = :session_id AND incarnation = :incarnation AND key = :key;

-- name: follow
-- Ask for announcements, and see whether there is something new already.
UPDATE {sessions} SET followed_until = GREATEST(followed_until, {now} + :microseconds)
WHERE session_id = :session_id AND incarnation = :incarnation
RETURNING revision;

-- name: lock_migrations
SELECT pg_advisory_xact_lock({lock});

-- name: namespace_exists
SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = '{namespace}');

-- name: schema_exists
-- A query, and not to_regclass, which may answer out of a cache what was true before the lock was waited for.
SELECT EXISTS (
    SELECT 1 FROM pg_catalog.pg_class AS tables JOIN pg_catalog.pg_namespace ON relnamespace = pg_namespace.oid
    WHERE relname = '{prefix}schema' AND nspname = {namespaces}
);

-- name: schema_state
SELECT version, oldest FROM {schema_state};
