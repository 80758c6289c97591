-- Version 1. The tables may stand in a database file of the application's own: all names begin with sessile_.

-- One row per session: what lists filter by as columns, the rest as JSON text in body.
CREATE TABLE sessile_sessions (
    session_id  TEXT PRIMARY KEY,
    incarnation TEXT NOT NULL,
    revision    INTEGER NOT NULL,
    kind        TEXT NOT NULL,
    owner       TEXT,
    user_id     TEXT,
    name        TEXT,
    status      TEXT,
    created_at  INTEGER NOT NULL,   -- microseconds UTC, as all times
    updated_at  INTEGER NOT NULL,
    expires_at  INTEGER,
    hidden      INTEGER NOT NULL,
    metadata    TEXT NOT NULL,      -- JSON object
    body        TEXT NOT NULL       -- JSON object
);

CREATE INDEX sessile_sessions_updated ON sessile_sessions (updated_at, session_id);
CREATE INDEX sessile_sessions_created ON sessile_sessions (created_at, session_id);
CREATE INDEX sessile_sessions_user ON sessile_sessions (user_id, updated_at, session_id) WHERE user_id IS NOT NULL;
CREATE INDEX sessile_sessions_owner ON sessile_sessions (owner, updated_at, session_id) WHERE owner IS NOT NULL;
CREATE INDEX sessile_sessions_expires ON sessile_sessions (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX sessile_sessions_hidden ON sessile_sessions (updated_at) WHERE hidden;

-- The log: written once, never changed.
CREATE TABLE sessile_commits (
    session_id  TEXT NOT NULL REFERENCES sessile_sessions (session_id) ON DELETE CASCADE,
    incarnation TEXT NOT NULL,
    seq         INTEGER NOT NULL,
    commit_id   TEXT NOT NULL,
    run         INTEGER NOT NULL,   -- 0: belongs to no run
    time        INTEGER NOT NULL,
    body        TEXT NOT NULL,      -- JSON object with the entries
    PRIMARY KEY (session_id, incarnation, seq)
);

CREATE INDEX sessile_commits_run ON sessile_commits (session_id, incarnation, run, seq) WHERE run > 0;

-- Small values beside the log: leases, cancel requests, media.
CREATE TABLE sessile_records (
    session_id  TEXT NOT NULL REFERENCES sessile_sessions (session_id) ON DELETE CASCADE,
    incarnation TEXT NOT NULL,
    key         TEXT NOT NULL,
    value       BLOB NOT NULL,
    PRIMARY KEY (session_id, incarnation, key)
) WITHOUT ROWID;

-- What the database has: one row. A program uses it if it knows version `oldest`.
CREATE TABLE sessile_schema (
    version INTEGER NOT NULL,
    oldest  INTEGER NOT NULL
);
