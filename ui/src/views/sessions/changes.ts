// Sessions that have changed since the list was read: counted, and shown when somebody asks for them.

import { useEffect, useMemo, useState } from "react";
import { follow } from "../../api/events";
import type { SessionFilters } from "../../api/queries";
import type { Session } from "../../api/types";

/** Whether a session is one of those that the filters let through, as far as a browser can say. */
export function fits(session: Session, filters: SessionFilters): boolean {
  return (
    (filters.agent === undefined || session.agent === filters.agent) &&
    (filters.kind === undefined || session.kind === filters.kind) &&
    (filters.status === undefined || session.status === filters.status) &&
    (filters.user_id === undefined || session.user_id === filters.user_id) &&
    (filters.name_prefix === undefined || (session.name ?? "").startsWith(filters.name_prefix))
  );
}

/** What `fits` can say something about, or what all that is new fits. */
const JUDGED = new Set(["agent", "kind", "status", "user_id", "name_prefix", "since"]);

/** A session as it was told: as one of the newest when the page began to listen, or because it has changed since. */
export type Told = { session: Session; isFirst: boolean };

/**
 * How many of the told sessions a list with these filters would show otherwise than `top` does, its newest ones.
 *
 * Counted from what is shown, whenever that was read: a list that was kept while one was elsewhere lacks more.
 */
export function changedSince(
  told: ReadonlyMap<string, Told>,
  top: readonly Session[],
  filters: SessionFilters,
): number {
  const shown = new Map(top.map((one) => [one.session_id, one.revision]));
  const newest = top[0]?.updated_at ?? "";
  const isUnsure = top.length === 0 || Object.keys(filters).some((name) => !JUDGED.has(name));
  const isNews = ({ session: one, isFirst }: Told) => {
    const revision = shown.get(one.session_id);
    if (revision === undefined) return one.updated_at > newest && fits(one, filters) && !(isFirst && isUnsure);
    return one.revision > revision || (one.revision < revision && one.updated_at > newest); // it was made anew
  };
  return [...told.values()].filter(isNews).length;
}

const NOTHING: ReadonlyMap<string, Told> = new Map();

/** `top` are the newest sessions that are shown; undefined until they are there. */
export function useChanges(filters: SessionFilters, top: readonly Session[] | undefined) {
  const [told, setTold] = useState(NOTHING);
  const user = filters.user_id;
  useEffect(() => {
    const ended = new AbortController();
    setTold(NOTHING);
    follow("changes", { user_id: user }, ended.signal, {
      onEvent: ({ event, data }) => {
        if (event !== "sessions") return;
        const found = JSON.parse(data) as { items: Session[]; gone: string[]; first: boolean };
        setTold((before) => {
          const now = new Map(found.first ? NOTHING : before);
          for (const session of found.items) now.set(session.session_id, { session, isFirst: found.first });
          for (const id of found.gone) now.delete(id);
          return now;
        });
      },
    }).catch(() => undefined); // without it the list is only not told
    return () => ended.abort();
  }, [user]);
  const key = JSON.stringify(filters);
  const count = useMemo(() => (top === undefined ? 0 : changedSince(told, top, JSON.parse(key))), [told, top, key]);
  return { count, forget: () => setTold(NOTHING) };
}
