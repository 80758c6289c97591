-- Version 1. Every statement may be run again: MySQL commits each by itself, so an interrupted migration is repeated.
-- {collation} compares ids byte by byte, trailing spaces included; its name differs between MySQL and MariaDB.

CREATE TABLE IF NOT EXISTS {schema_state} (
    version INT NOT NULL PRIMARY KEY,  -- servers in a cluster take only tables with a primary key
    oldest  INT NOT NULL
) ENGINE = InnoDB;

-- One row per session: what lists filter by as columns, the rest as JSON text in body.
CREATE TABLE IF NOT EXISTS {sessions} (
    session_id  VARCHAR(255) NOT NULL PRIMARY KEY,
    incarnation VARCHAR(32) NOT NULL,
    revision    BIGINT NOT NULL,
    kind        VARCHAR(255) NOT NULL,
    owner       VARCHAR(255),
    user_id     VARCHAR(255),
    name        VARCHAR(255),
    status      VARCHAR(32),
    created_at  BIGINT NOT NULL,    -- microseconds UTC, as all times
    updated_at  BIGINT NOT NULL,
    expires_at  BIGINT,
    hidden      BOOLEAN NOT NULL,
    metadata    LONGTEXT NOT NULL,  -- JSON object
    body        LONGTEXT NOT NULL,  -- JSON object
    filterable  LONGTEXT CHARACTER SET ascii COLLATE ascii_bin NOT NULL,  -- a token for each filter that matches
    INDEX {prefix}sessions_updated (updated_at, session_id),
    INDEX {prefix}sessions_created (created_at, session_id),
    INDEX {prefix}sessions_user (user_id, updated_at, session_id),
    INDEX {prefix}sessions_owner (owner, updated_at, session_id),
    INDEX {prefix}sessions_expires (expires_at),
    INDEX {prefix}sessions_hidden (hidden, updated_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE {collation};

-- The log: written once, never changed. Removed with its session in one transaction, so it needs no foreign key.
CREATE TABLE IF NOT EXISTS {commits} (
    session_id  VARCHAR(255) NOT NULL,
    incarnation VARCHAR(32) NOT NULL,
    seq         BIGINT NOT NULL,
    commit_id   VARCHAR(255) NOT NULL,
    run         BIGINT NOT NULL,    -- 0: belongs to no run
    time        BIGINT NOT NULL,
    body        LONGTEXT NOT NULL,  -- JSON object with the entries
    PRIMARY KEY (session_id, incarnation, seq),
    INDEX {prefix}commits_run (session_id, incarnation, run, seq)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE {collation};

-- Small values beside the log: leases, cancel requests, media. Written at any time, so they need the foreign key.
CREATE TABLE IF NOT EXISTS {records} (
    session_id  VARCHAR(255) NOT NULL,
    incarnation VARCHAR(32) NOT NULL,
    `key`       VARCHAR(255) NOT NULL,
    value       LONGBLOB NOT NULL,
    PRIMARY KEY (session_id, incarnation, `key`),
    CONSTRAINT {prefix}records_session FOREIGN KEY (session_id) REFERENCES {sessions} (session_id) ON DELETE CASCADE
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE {collation};
