// The runs of a session around a place: pages before and after it come as one scrolls, and far ones are let go.

import { useInfiniteQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { get, part } from "../../api/client";
import { FIRST_RUNS, RUNS } from "../../api/sizes";
import type { Run, RunPage, Session } from "../../api/types";

/** Pages of 20 runs that are kept. */
const KEPT = 5;

/** Which runs: the newest (none of these), or those before, after or around a number. */
type Wanted = { before?: number; after?: number; around?: number };

export function useRunWindow(session: Session, at: number | null) {
  const id = session.session_id;
  const begin: Wanted = at === null ? {} : { around: at };
  const found = useInfiniteQuery({
    queryKey: ["window", id, at],
    queryFn: ({ pageParam, signal }) => {
      const last = pageParam.before === undefined && pageParam.after === undefined ? FIRST_RUNS : RUNS;
      return get<RunPage>(`sessions/${part(id)}/runs`, { last, ...pageParam, messages: true }, signal);
    },
    initialPageParam: begin,
    getPreviousPageParam: (first: RunPage): Wanted | undefined =>
      first.before === null ? undefined : { before: first.before },
    getNextPageParam: (last: RunPage): Wanted | undefined => (last.after === null ? undefined : { after: last.after }),
    maxPages: KEPT,
  });
  const runs = useMemo(() => inOrder(found.data?.pages ?? []), [found.data]);
  const unreadable = useMemo(
    () => [...new Set((found.data?.pages ?? []).flatMap((page) => page.unreadable))],
    [found.data],
  );
  return { ...found, runs, unreadable };
}

/** The runs of overlapping pages, each once. */
export function inOrder(pages: readonly RunPage[]): Run[] {
  const byNumber = new Map<number, Run>();
  for (const page of pages) for (const run of page.items) byNumber.set(run.number, run);
  return [...byNumber.values()].sort((a, b) => a.number - b.number);
}
