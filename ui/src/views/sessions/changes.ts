// Sessions that have changed since the list was read: counted, and shown when somebody asks for them.

import { useEffect, useRef, useState } from "react";
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

/** `loaded` gives the sessions that are shown; it is asked only when something has changed. */
export function useChanges(filters: SessionFilters, loaded: () => readonly Session[]) {
  const [changed, setChanged] = useState<ReadonlySet<string>>(new Set());
  const now = useRef({ filters, loaded });
  now.current = { filters, loaded };
  const user = filters.user_id;
  useEffect(() => {
    const ended = new AbortController();
    follow("changes", { user_id: user }, ended.signal, {
      onEvent: ({ event, data }) => {
        if (event !== "sessions") return;
        const found = JSON.parse(data) as { items: Session[]; first: boolean };
        const known = new Map(now.current.loaded().map((one) => [one.session_id, one.revision]));
        const fresh = found.items.filter(
          (one) =>
            fits(one, now.current.filters) &&
            known.get(one.session_id) !== one.revision &&
            (!found.first || known.size > 0),
        );
        // What had changed before this list was read is in it.
        if (fresh.length > 0 && !found.first)
          setChanged((before) => new Set([...before, ...fresh.map((one) => one.session_id)]));
      },
    }).catch(() => undefined); // without it the list is only not told
    return () => ended.abort();
  }, [user]);
  return { count: changed.size, forget: () => setChanged(new Set()) };
}
