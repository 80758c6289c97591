-- Version 2. The name of the agent, team or workflow is called agent; a commit may carry a key, by which it is found.
-- oldest: 2 (a program of version 1 asks for the column by its old name)

ALTER TABLE {sessions} RENAME COLUMN owner TO agent;
ALTER INDEX {namespace_dot}"{prefix}sessions_owner" RENAME TO "{prefix}sessions_agent";

-- Neither rewrites the table: the column has no default, and no row of before is in the index.
ALTER TABLE {commits} ADD COLUMN key text COLLATE "C";
CREATE INDEX "{prefix}commits_key" ON {commits} (session_id, incarnation, key, seq) WHERE key IS NOT NULL;
