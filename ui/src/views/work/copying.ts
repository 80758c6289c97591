// A run, as another program would ask for it or read it.

import { access, addressOf, part } from "../../api/client";
import type { Run } from "../../api/types";

/** Text for a shell, whatever it holds. */
export const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;

export function curlOf(run: Pick<Run, "agent" | "input" | "session_id">): string {
  const body = JSON.stringify({ input: run.input, session_id: run.session_id });
  return [
    `curl ${quoted(addressOf(`agents/${part(run.agent ?? "AGENT")}/runs`))}`,
    "  -H 'Content-Type: application/json' -H 'X-Sessile: 1'",
    ...(access.has() ? ['  -H "Authorization: Bearer $SESSILE_TOKEN"'] : []),
    `  -d ${quoted(body)}`,
  ].join(" \\\n");
}

/** A program that reads the run from this server, with nothing but Python itself. */
export function pythonOf(run: Pick<Run, "session_id" | "number">): string {
  const address = literal(addressOf(`sessions/${part(run.session_id)}/runs/${run.number}`));
  const token = access.has();
  return [
    "import json",
    ...(token ? ["import os"] : []),
    "from urllib.request import Request, urlopen",
    "",
    token
      ? `request = Request(${address}, headers={"Authorization": f"Bearer {os.environ['SESSILE_TOKEN']}"})`
      : `request = Request(${address})`,
    "run = json.load(urlopen(request))",
    'print(run["status"], run["input"], run["output"], sep="\\n")',
  ].join("\n");
}

/** A text as Python writes it: JSON's escapes are Python's, too, but for surrogate pairs, which JSON leaves alone. */
export const literal = (text: string) => JSON.stringify(text);

/** The address of a run in this dashboard. */
export function linkOf(run: Pick<Run, "session_id" | "number">): string {
  return `${location.href.split("#")[0]}#/session/${part(run.session_id)}?run=${run.number}`;
}
