-- Version 2. The name of the agent, team or workflow is called agent; a commit may carry a key, by which it is found.
-- oldest: 2 (a program of version 1 asks for the column by its old name)
-- One statement for each table and way of altering it, none of which copies a table: two ways in one statement would.
-- Those that an interrupted migration has run already fail, and are passed over.

ALTER TABLE {sessions} RENAME COLUMN owner TO agent, RENAME INDEX {prefix}sessions_owner TO {prefix}sessions_agent;

ALTER TABLE {commits} ADD COLUMN `key` VARCHAR(255);
ALTER TABLE {commits} ADD INDEX {prefix}commits_key (session_id, incarnation, `key`, seq);
