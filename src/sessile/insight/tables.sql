-- The tables of an index, version 7: a projection of the log, rebuilt whenever that is needed.
-- {id}, {text}, {long} and {real} are types of the database; {counted} are columns of counts, money in nano-dollars.
-- Times are microseconds UTC. Each statement may be run again.

-- Sessions that were deleted and have to be taken out; written by whoever deletes one.
CREATE TABLE IF NOT EXISTS {gone} (
    session_id {text} NOT NULL,
    incarnation {text} NOT NULL,
    PRIMARY KEY (session_id, incarnation)
){ending};

-- Sessions, and up to which revision each is indexed, and when that was committed (committed_at): after a backup was put
-- back, another commit may reach that revision. path: the ranges of runs that are the current branch, JSON.
-- …_facet, name_number, tokens (of the metadata, JSON): see postings.py.
CREATE TABLE IF NOT EXISTS {sessions} (
    id {id} PRIMARY KEY,
    session_id {text} NOT NULL,
    incarnation {text} NOT NULL,
    revision {id} NOT NULL,
    committed_at {id} NOT NULL,
    kind {text} NOT NULL,
    agent {text},
    user_id {text},
    name {text},
    status {text},
    created_at {id} NOT NULL,
    updated_at {id} NOT NULL,
    expires_at {id},
    path {long} NOT NULL,
    user_facet {id} NOT NULL,
    agent_facet {id} NOT NULL,
    status_facet {id} NOT NULL,
    kind_facet {id} NOT NULL,
    name_number {id} NOT NULL,
    tokens {long} NOT NULL,
    UNIQUE (session_id){indexes_of_sessions}
){ending};

-- By what lists of sessions find them: each value, and each pair of values, as a number, in the order of time.
CREATE TABLE IF NOT EXISTS {facets} (
    facet {id} NOT NULL,
    updated_at {id} NOT NULL,
    session {id} NOT NULL,
    name_number {id} NOT NULL,
    PRIMARY KEY (facet, updated_at, session, name_number)
){clustered};

-- Runs, top-level ones and those below them. The order of ids is the order of time. Number 0 is the session itself.
-- Counts are the run's own; total_… are with all runs below it. cut: it had more words than are kept.
CREATE TABLE IF NOT EXISTS {runs} (
    id {id} PRIMARY KEY,
    session {id} NOT NULL,
    number {id} NOT NULL,
    run_id {text} NOT NULL,
    parent_run_id {text},
    kind {text} NOT NULL,
    agent {text},
    user_id {text},
    model {text},
    status {text} NOT NULL,
    error {text},
    started_at {id} NOT NULL,
    ended_at {id},
    duration {id},
    first_token {id},
    on_branch INTEGER NOT NULL,
    cut INTEGER NOT NULL,
    {counted},
    total_tokens {id} NOT NULL,
    total_cost {id} NOT NULL,
    total_unpriced {id} NOT NULL{indexes_of_runs}
){ending};

-- What each run has used of each model; '' stands for what was used without saying by which.
CREATE TABLE IF NOT EXISTS {models} (
    run {id} NOT NULL,
    model {text} NOT NULL,
    {counted},
    PRIMARY KEY (run, model){indexes_of_models}
){ending};

CREATE TABLE IF NOT EXISTS {tools} (
    run {id} NOT NULL,
    tool {text} NOT NULL,
    calls {id} NOT NULL,
    errors {id} NOT NULL,
    PRIMARY KEY (run, tool){indexes_of_tools}
){ending};

-- The newest rating of each source.
CREATE TABLE IF NOT EXISTS {ratings} (
    run {id} NOT NULL,
    source {text} NOT NULL,
    score {real},
    label {text},
    by_whom {text},
    rated_at {id} NOT NULL,
    PRIMARY KEY (run, source){indexes_of_ratings}
){ending};

-- Vectors of what was asked and answered, 32-bit numbers, and by whom they were made; only where meaning is searched.
-- Empty ones stand for runs that have no words. Those of negative ids are of some samples, by each who makes vectors.
CREATE TABLE IF NOT EXISTS {vectors} (
    run {id} NOT NULL,
    model {text} NOT NULL,
    packed {blob} NOT NULL,
    PRIMARY KEY (run, model)
){ending};

-- The hours, and the quarters of a day, in which runs began; those of a day have numbers of their own (see spans.py).
-- changed: how often any of their runs was written. summed: whether {sums} tells what all of these runs are together.
CREATE TABLE IF NOT EXISTS {spans} (
    block {id} PRIMARY KEY,
    changed {id} NOT NULL,
    summed INTEGER NOT NULL
){ending};

-- Sums over the runs of a block. part: 0 of whole runs, 1 by model, 2 by tool (name), 3 of whole runs
-- of all agents and states. nobody: 1 for sessions without a
-- user. below: 1 for runs below others. '' stands for no agent. took: how long the runs took, as a histogram, JSON;
-- first_took: how long it took until the first part of an answer came, of the streamed ones.
CREATE TABLE IF NOT EXISTS {sums} (
    block {id} NOT NULL,
    cell {id} NOT NULL,
    part INTEGER NOT NULL,
    nobody INTEGER NOT NULL,
    below INTEGER NOT NULL,
    agent {text} NOT NULL,
    status {text} NOT NULL,
    name {text} NOT NULL,
    runs {id} NOT NULL,
    errors {id} NOT NULL,
    {counted},
    took {long} NOT NULL,
    first_took {long} NOT NULL,
    PRIMARY KEY (part, block, cell)
){ending};

-- What could not be read, and why. Number 0: the session as a whole.
CREATE TABLE IF NOT EXISTS {problems} (
    session_id {text} NOT NULL,
    number {id} NOT NULL,
    problem {long} NOT NULL,
    PRIMARY KEY (session_id, number)
){ending};

-- How far the index is; one row. It is made last, and says that all the others are there.
CREATE TABLE IF NOT EXISTS {state} (
    id INTEGER PRIMARY KEY,
    version INTEGER NOT NULL,   -- of these tables
    oldest INTEGER NOT NULL,    -- the oldest version whose programs may use them
    worded INTEGER NOT NULL,    -- whether words are entered; 0: the index answers everything but searches
    since {id} NOT NULL,        -- all that changed before is in the index
    round_until {id},           -- of a look at what has changed that is under way: what since becomes at its end,
    after_time {id},            -- and how far it is
    after_id {text}
){ending};
