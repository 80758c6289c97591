-- Version 1. session_id leads every primary key, so that Citus and CockroachDB keep a session on one shard.
-- COLLATE "C": ids are compared byte by byte, whatever the database's collation.

CREATE TABLE IF NOT EXISTS {schema_state} (
    version integer NOT NULL,
    oldest  integer NOT NULL
);

-- One row per session: what lists filter by as columns, the rest as JSON text in body.
CREATE TABLE {sessions} (
    session_id     text COLLATE "C" PRIMARY KEY,
    incarnation    text COLLATE "C" NOT NULL,
    revision       bigint NOT NULL,
    kind           text COLLATE "C" NOT NULL,
    owner          text COLLATE "C",
    user_id        text COLLATE "C",
    name           text COLLATE "C",
    status         text COLLATE "C",
    created_at     bigint NOT NULL,           -- microseconds UTC, as all times
    updated_at     bigint NOT NULL,
    expires_at     bigint,
    hidden         boolean NOT NULL,
    metadata       text NOT NULL,             -- JSON object, as it came
    body           text NOT NULL,             -- JSON object
    filterable     jsonb,                     -- metadata for filters, without what jsonb cannot hold; NULL if empty
    followed_until bigint NOT NULL DEFAULT 0  -- until then commits are announced: somebody follows the session
) WITH (fillfactor = 80);

CREATE INDEX "{prefix}sessions_updated" ON {sessions} (updated_at, session_id);
CREATE INDEX "{prefix}sessions_created" ON {sessions} (created_at, session_id);
CREATE INDEX "{prefix}sessions_user" ON {sessions} (user_id, updated_at, session_id) WHERE user_id IS NOT NULL;
CREATE INDEX "{prefix}sessions_owner" ON {sessions} (owner, updated_at, session_id) WHERE owner IS NOT NULL;
CREATE INDEX "{prefix}sessions_expires" ON {sessions} (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX "{prefix}sessions_hidden" ON {sessions} (updated_at) WHERE hidden;
CREATE INDEX "{prefix}sessions_metadata" ON {sessions} USING gin (filterable) WHERE filterable IS NOT NULL;

-- The log: written once, never changed. Removed with its session by one statement, so it needs no foreign key.
CREATE TABLE {commits} (
    session_id  text COLLATE "C" NOT NULL,
    incarnation text COLLATE "C" NOT NULL,
    seq         bigint NOT NULL,
    commit_id   text COLLATE "C" NOT NULL,
    run         bigint NOT NULL,              -- 0: belongs to no run
    time        bigint NOT NULL,
    body        text NOT NULL,                -- JSON object with the entries
    PRIMARY KEY (session_id, incarnation, seq)
);

CREATE INDEX "{prefix}commits_run" ON {commits} (session_id, incarnation, run, seq) WHERE run > 0;

-- Small values beside the log: leases, cancel requests, media. Written at any time, so they need the foreign key.
CREATE TABLE {records} (
    session_id  text COLLATE "C" NOT NULL REFERENCES {sessions} (session_id) ON DELETE CASCADE,
    incarnation text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL,
    value       bytea NOT NULL,
    PRIMARY KEY (session_id, incarnation, key)
);
