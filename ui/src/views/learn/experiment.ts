// What an experiment is called: its own name, or, where nobody has given it one, what it runs.

import { isObject, type Json, type Session } from "../../api/types";
import { moment, plain } from "../../shown";
import { t } from "../../texts";

export const PREFIX = "experiment:";

export type AboutExperiment = { name: string; agent: string | null; model: Json; chosen: Json; begun: string };

/** The ids that stand for a name which nobody has given. */
const MADE = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export function aboutSession(session: Session): AboutExperiment {
  const told = isObject(session.metadata) ? session.metadata : {};
  return {
    name: session.name ?? session.session_id.slice(PREFIX.length),
    agent: session.agent,
    model: told.model ?? null,
    chosen: told.chosen ?? null,
    begun: session.created_at,
  };
}

/** Agent, model, and which runs. */
export function whatOf({ agent, model, chosen }: AboutExperiment): string {
  const of = isObject(chosen) ? chosen : {};
  const text = (name: string) => (of[name] === undefined || of[name] === null ? null : plain(String(of[name])));
  const with_ = typeof model === "string" ? plain(model) : null;
  const runs = { label: text("label"), score: text("min_score"), user: text("user_id"), status: text("status") };
  return t.evaluations.what(plain(agent ?? ""), with_, runs);
}

export function titleOf(about: AboutExperiment, now: number): string {
  if (!MADE.test(about.name)) return plain(about.name);
  return `${whatOf(about)}, ${moment(about.begun, now)}`;
}
