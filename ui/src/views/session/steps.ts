// The steps of a workflow's run: when each ran, how often, and inside which.

import type { Json, StepRecord } from "../../api/types";

export type Attempt = {
  number: number;
  begin: number;
  end: number;
  failed: boolean;
  isAtWork: boolean;
  error: Json;
  output: Json;
  cached: boolean;
};

export type Step = {
  path: string;
  name: string;
  depth: number;
  attempts: Attempt[];
  isCached: boolean;
  hasFailed: boolean;
};

/** Steps by their places, each with its attempts; one at work has lasted until `now`. */
export function stepsOf(records: readonly StepRecord[], now: number): Step[] {
  const byPath = new Map<string, Step>();
  for (const one of records) {
    const { path, name } = one;
    const depth = path.split(".").length - 1;
    const step = byPath.get(path) ?? { path, name, depth, attempts: [], isCached: false, hasFailed: false };
    byPath.set(path, step);
    const failed = one.status === "failed" || one.status === "retrying";
    const begin = Date.parse(one.started_at);
    step.attempts.push({
      number: one.attempt,
      begin,
      end: one.ended_at === null ? Math.max(begin, now) : Date.parse(one.ended_at),
      failed,
      isAtWork: one.status === "running",
      error: one.error as Json,
      output: one.data,
      cached: one.cached,
    });
    step.isCached = one.cached;
    step.hasFailed = failed;
  }
  return [...byPath.values()].sort((a, b) => byPosition(a.path, b.path));
}

/** `3.10` comes after `3.9`. */
export function byPosition(one: string, two: string): number {
  const a = one.split(".");
  const b = two.split(".");
  for (let place = 0; place < Math.max(a.length, b.length); place += 1) {
    if (a[place] === undefined) return -1;
    if (b[place] === undefined) return 1;
    const difference = Number(a[place]) - Number(b[place]);
    const order = Number.isNaN(difference) ? (a[place] as string).localeCompare(b[place] as string) : difference;
    if (order !== 0) return order;
  }
  return 0;
}

export type Node = { step: Step; column: number; row: number };

/** Steps in columns by when they began: those that ran at the same time stand below each other. */
export function layout(steps: readonly Step[]): {
  nodes: Node[];
  edges: [Node, Node][];
  columns: number;
  rows: number;
} {
  const outer = steps.filter((step) => step.depth === 0 && step.attempts.length > 0);
  const begin = (step: Step) => Math.min(...step.attempts.map((one) => one.begin));
  const end = (step: Step) => Math.max(...step.attempts.map((one) => one.end));
  const ordered = [...outer].sort((a, b) => begin(a) - begin(b));
  const columns: Step[][] = [];
  for (const step of ordered) {
    const last = columns.at(-1);
    if (last?.some((other) => begin(step) < end(other) && end(step) > begin(other))) last.push(step);
    else columns.push([step]);
  }
  const nodes = columns.map((column, x) => column.map((step, y): Node => ({ step, column: x, row: y })));
  const edges = nodes
    .slice(1)
    .flatMap((column, x) => (nodes[x] ?? []).flatMap((from) => column.map((to): [Node, Node] => [from, to])));
  return {
    nodes: nodes.flat(),
    edges,
    columns: nodes.length,
    rows: Math.max(0, ...nodes.map((column) => column.length)),
  };
}
