-- Version 2. The name of the agent, team or workflow is called agent; a commit may carry a key, by which it is found.
-- oldest: 2 (a program of version 1 asks for the column by its old name)

ALTER TABLE sessile_sessions RENAME COLUMN owner TO agent;
DROP INDEX sessile_sessions_owner;
CREATE INDEX sessile_sessions_agent ON sessile_sessions (agent, updated_at, session_id) WHERE agent IS NOT NULL;

ALTER TABLE sessile_commits ADD COLUMN key TEXT;
CREATE INDEX sessile_commits_key ON sessile_commits (session_id, incarnation, key, seq) WHERE key IS NOT NULL;
