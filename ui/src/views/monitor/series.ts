// Rows of usage as lines over time: no gaps, the largest groups by name, the rest together.

import type { UsageRow } from "../../api/types";

export type Step = "hour" | "day" | "week";

const HOUR = 3_600_000;

/** How long the steps of a chart are: between some twenty and a hundred of them. */
export function stepOf(since: number, until: number): Step {
  const hours = (until - since) / HOUR;
  return hours <= 80 ? "hour" : hours <= 24 * 120 ? "day" : "week";
}

function startOf(time: number, step: Step): Date {
  const date = new Date(time);
  if (step === "hour") date.setMinutes(0, 0, 0);
  else date.setHours(0, 0, 0, 0);
  if (step === "week") date.setDate(date.getDate() - ((date.getDay() + 6) % 7));
  return date;
}

/** The steps' beginnings in the viewer's zone, whose days may have 23 or 25 hours. */
export function timesOf(since: number, until: number, step: Step): number[] {
  const found: number[] = [];
  const date = startOf(since, step);
  while (date.getTime() <= until && found.length < 1000) {
    found.push(date.getTime());
    if (step === "hour") date.setTime(date.getTime() + HOUR);
    else date.setDate(date.getDate() + (step === "day" ? 1 : 7));
  }
  return found;
}

export type Measure = (row: UsageRow) => number | null;

export const MEASURES = {
  runs: (row: UsageRow) => row.runs,
  errors: (row: UsageRow) => row.errors,
  tokens: (row: UsageRow) => (row.usage.input_tokens ?? 0) + (row.usage.output_tokens ?? 0),
  cost: (row: UsageRow) => Number(row.known_cost),
} satisfies Record<string, Measure>;

export type Line = { name: string | null; isOthers?: boolean; values: (number | null)[] };

export const MOST = 6;

/** One line for each group: those with the most runs, and one of all others. */
export function linesOf(
  rows: readonly UsageRow[],
  times: readonly number[],
  step: Step,
  group: string | null,
  measure: Measure,
): Line[] {
  const places = new Map(times.map((time, index) => [time, index]));
  const lines = new Map<string | null, number[]>();
  const runs = new Map<string | null, number>();
  for (const row of rows) {
    const place = places.get(Date.parse(String(row[step])));
    if (place === undefined) continue;
    const name = group === null ? null : ((row[group] ?? null) as string | null);
    const values = lines.get(name) ?? times.map(() => 0);
    values[place] = (values[place] ?? 0) + (measure(row) ?? 0);
    lines.set(name, values);
    runs.set(name, (runs.get(name) ?? 0) + row.runs);
  }
  const sorted = [...lines].sort((a, b) => (runs.get(b[0]) ?? 0) - (runs.get(a[0]) ?? 0)); // in all charts the same
  const shown: Line[] = sorted.slice(0, MOST).map(([name, values]) => ({ name, values }));
  const others = sorted.slice(MOST);
  if (others.length > 0) {
    shown.push({
      name: null,
      isOthers: true,
      values: times.map((_, index) => others.reduce((all, [, values]) => all + (values[index] ?? 0), 0)),
    });
  }
  return shown;
}

const SHARES = ["p50", "p95", "p99"] as const;

/** Lines of percentiles, of durations or of times to the first token: where nothing ran there is no point. */
export function percentilesOf(
  rows: readonly UsageRow[],
  times: readonly number[],
  step: Step,
  kind: "" | "first_token_" = "",
): Line[] {
  const byTime = new Map(rows.map((row) => [Date.parse(String(row[step])), row]));
  return SHARES.map((name) => ({ name, values: times.map((time) => byTime.get(time)?.[`${kind}${name}`] ?? null) }));
}

/** Each line on top of those before it. */
export function stacked(lines: readonly Line[]): (number | null)[][] {
  const below: number[] = [];
  return lines.map((line) =>
    line.values.map((value, index) => {
      below[index] = (below[index] ?? 0) + (value ?? 0);
      return below[index] ?? 0;
    }),
  );
}

/** A table as CSV. What a spreadsheet would take for a formula is text in it. */
export function csvOf(head: readonly string[], rows: readonly (readonly (string | number | null)[])[]): string {
  const cell = (value: string | number | null) => {
    if (typeof value === "number") return String(value);
    const text = value === null ? "" : /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [head, ...rows].map((row) => row.map(cell).join(",")).join("\r\n");
}
