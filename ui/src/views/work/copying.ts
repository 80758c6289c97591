// A run's request, as another program would send it.

import { addressOf, part } from "../../api/client";
import type { Run } from "../../api/types";

/** Text for a shell, whatever it holds. */
export const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;

export function curlOf(run: Pick<Run, "agent" | "input" | "session_id">): string {
  const body = JSON.stringify({ input: run.input, session_id: run.session_id });
  return [
    `curl ${quoted(addressOf(`agents/${part(run.agent ?? "AGENT")}/runs`))}`,
    "  -H 'Content-Type: application/json' -H 'X-Sessile: 1'",
    `  -d ${quoted(body)}`,
  ].join(" \\\n");
}

export function pythonOf(run: Pick<Run, "agent" | "input" | "session_id" | "number">, userId: string | null): string {
  const user = userId === null ? "" : `, user_id=${literal(userId)}`;
  return [
    "import sessile",
    "",
    'storage = sessile.open("sqlite:///sessions.db")',
    `run = storage.get_run(${literal(run.session_id)}, ${run.number}${user})`,
    "print(run.status, run.input, run.output)",
  ].join("\n");
}

/** A text as Python writes it: JSON's escapes are Python's, too, but for surrogate pairs, which JSON leaves alone. */
export const literal = (text: string) => JSON.stringify(text);

/** The address of a run in this dashboard. */
export function linkOf(run: Pick<Run, "session_id" | "number">): string {
  return `${location.href.split("#")[0]}#/session/${part(run.session_id)}?run=${run.number}`;
}
