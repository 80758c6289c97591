// What the API answers with; docs/server.md and its OpenAPI document say what it means.

export type Status = "running" | "paused" | "completed" | "failed" | "cancelled" | "interrupted";

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

export type Usage = {
  requests?: number;
  input_tokens?: number;
  output_tokens?: number;
  cache_read_tokens?: number;
  cache_write_tokens?: number;
  tool_calls?: number;
  unpriced?: number;
  /** Dollars; null where the price of a request is not known. */
  cost: string | null;
};

/** The newest run of a session, in short. */
export type Last = {
  number: number;
  status: Status;
  input: string | null;
  output: string | null;
  duration: number | null;
  ratings: Record<string, { score: number | null; label: string | null }>;
};

export type Session = {
  session_id: string;
  kind: string;
  agent: string | null;
  user_id: string | null;
  name: string | null;
  revision: number;
  run_count: number;
  status: Status | null;
  last_status: Status | null;
  usage: Usage;
  state?: Json;
  metadata: Json;
  created_at: string;
  updated_at: string;
  ttl: number | null;
  expires_at: string | null;
  forked_from: { session_id?: string; run?: number; at?: number } | null;
  tip: number;
  /** The member of its team to whom the conversation was handed over last. */
  lead: string | null;
  waiting: number[];
  last?: Last | null;
};

export type Page<T> = { items: T[]; next_cursor: string | null; unreadable: string[] };

export type Rating = {
  source: string;
  score: number | null;
  label: string | null;
  comment: string | null;
  by: string | null;
  seq: number;
  time: string;
  correction: Json;
};

export type Message = {
  data: Json;
  format: string | null;
  run: number;
  run_id: string | null;
  agent: string | null;
  seq: number;
  time: string;
};

export type Asked =
  | { kind: "approval" | "call" | "unsure"; tool_name: string; tool_call_id: string; args: Json }
  | ({ kind: "form"; tool_name: string; tool_call_id: string; args: Json } & Form)
  | { kind: "review"; tool_name: string; tool_call_id: string; args: Json; schema?: { [word: string]: Json } }
  | ({ kind: "event"; name: string } & Partial<Form>);

/** What a person is asked to fill in; `problem`: why what was filled in last was refused. */
export type Form = { question: string; schema: { [word: string]: Json }; problem?: string };

export type Grant = {
  grant_id: string;
  tool: string;
  agent: string;
  session_id: string | null;
  user_id: string | null;
  by: string | null;
  granted_at: string;
  expires_at: string | null;
};

export type Failure = { type?: string; message?: string; traceback?: string; [more: string]: unknown };

export type Run = {
  session_id: string;
  number: number;
  run_id: string;
  parent_run_id: string | null;
  status: Status;
  input: Json;
  output: Json;
  error: Failure | null;
  usage: Usage;
  /** Without the runs below it. */
  own_usage: Usage;
  agent: string | null;
  durability: string;
  pending: Asked[];
  started_at: string;
  ended_at: string | null;
  /** Seconds until the first part of an answer came; null where responses were not streamed. */
  first_token: number | null;
  metadata: Json;
  ratings: Rating[];
  epoch: number;
  /** Of a member's run: it answers the user in the place of its team. */
  answers: boolean;
  /** To whom a member has handed over, instead of an output. */
  handoff: { to: string; reason: string } | null;
  /** The member that has answered in the place of its team. */
  answered_by: string | null;
  messages: Message[];
  message_count: number;
  children: Run[];
};

/** Some runs of a session: `before` and `after` are where the next older and newer ones begin. */
export type RunPage = { items: Run[]; before: number | null; after: number | null; unreadable: number[] };

export type FoundRun = {
  session_id: string;
  number: number;
  run_id: string;
  parent_run_id: string | null;
  agent: string | null;
  user_id: string | null;
  session_name: string | null;
  model: string | null;
  status: Status;
  error: string | null;
  started_at: string;
  ended_at: string | null;
  first_token: number | null;
  on_branch: boolean;
  usage: Usage;
  total_tokens: number;
  cost: string | null;
  duration: number | null;
  ratings: Record<string, Rating>;
  tools: Record<string, number>;
};

export type FoundPage<T> = Page<T> & { complete_until: string };

export type Snippet = { where: string; text: string; marks: [number, number][] };

export type Hit = {
  session_id: string;
  session_name: string | null;
  user_id: string | null;
  run: FoundRun | null;
  score: number;
  snippets: Snippet[];
};

export type Entry = {
  kind: string;
  data: Json;
  run: number | null;
  run_id: string | null;
  parent_run_id: string | null;
  agent: string | null;
  seq: number;
  time: string;
};

/** One attempt of a workflow's step. */
export type StepRecord = {
  name: string;
  path: string;
  attempt: number;
  status: "finished" | "failed" | "retrying" | "running";
  started_at: string;
  ended_at: string | null;
  data: Json;
  error: Failure | null;
  cached: boolean;
};

export type LogPage = { items: Entry[]; next_after: number | null; unreadable: number[] };

export type Waiting = {
  session_id: string;
  session_name: string | null;
  user_id: string | null;
  number: number;
  run_id: string;
  agent: string | null;
  epoch: number | null;
  since: string;
  asked: Asked[];
  /** Whether somebody has decided, and the run waits only for a process that goes on with it. */
  is_decided: boolean;
};

export type Agent = {
  name: string;
  kind: "agent" | "team" | "workflow";
  description: string | null;
  durability: string;
  output_schema: Json;
};

export type About = {
  user_id: string | null;
  administrator: boolean;
  agents: string[];
};

export type Branch = { tip: number; runs: number; current: boolean };

export type Outcome = {
  session_id: string;
  run_id: string;
  number: number;
  agent: string | null;
  status: Status;
  output: Json;
  pending: Asked[];
  error: Failure | null;
  usage: Usage;
};

export type Begun = { session_id: string; run_id: string; number: number; status: string };

export type UsageRow = {
  runs: number;
  errors: number;
  usage: Usage;
  /** Dollars, of the requests whose price is known. */
  known_cost: string;
  p50: number | null;
  p95: number | null;
  p99: number | null;
  /** Seconds until the first part of an answer came, of the runs whose responses were streamed. */
  first_token_p50: number | null;
  first_token_p95: number | null;
  first_token_p99: number | null;
  [group: string]: unknown;
};

export type UsageTable = { rows: UsageRow[]; total: UsageRow; complete_until: string };

export type Example = {
  session_id: string;
  number: number;
  run_id: string;
  question: Json;
  answer: Json;
  corrected: boolean;
};

export type ServerState = {
  version: string;
  seconds: number;
  stopping: boolean;
  storage: { type: string; capabilities: Record<string, Json>; counts: Record<string, number>; warnings: string[] };
  index: { seconds: number | null; in_background: boolean; error: string | null };
  runs: { at_work: number; waiting: number; resumed: number };
  limits: Record<string, number>;
  streams: number;
  agents: string[];
};

export type Doctor = { warnings: string[]; wrong: Record<string, string[]>; sound: number };

export type Replayed = {
  session_id: string | null;
  run: number | null;
  status: string;
  output: Json;
  error: string | null;
  score: number | null;
  verdicts: Record<string, Json>;
  seconds: number | null;
  cost: string | null;
  tokens: number;
};

export type ReportCase = {
  id: string;
  session_id: string | null;
  run: number | null;
  input: Json;
  expected: Json;
  change: "better" | "worse" | "same";
  old: Replayed;
  new: Replayed;
};

export type Report = {
  experiment: string;
  changes: Record<string, number>;
  totals: Record<string, [Json, Json]>;
  cases: ReportCase[];
};

export type Experiment = {
  experiment: string;
  agent: string;
  status: "running" | "completed" | "failed";
  done: number;
  total: number;
  error: string | null;
  model: string | null;
  /** The filters by which its runs were chosen. */
  chosen: Json;
  started_at: string;
  report?: Report | null;
};

export type Experiments = { items: Session[]; next_cursor: string | null; here: Experiment[] };

/** A value over 20 KB, of which only the beginning has come. */
export type Cut = { $cut: { length: number; sha256: string; head: string } };

export function isObject(value: unknown): value is Record<string, Json> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function isCut(value: unknown): value is Cut {
  return isObject(value) && isObject(value.$cut) && typeof value.$cut.head === "string";
}
