// The runs of a session, oldest first, opened at the run of the address, or at the newest.

import { useQueries, useQueryClient } from "@tanstack/react-query";
import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";
import { Button } from "react-aria-components";
import { change } from "../../address";
import { steps } from "../../api/queries";
import type { Run, Session } from "../../api/types";
import { Empty, Skeleton, Trouble } from "../../parts/basics";
import { useCommands } from "../../shell/commands";
import { t } from "../../texts";
import { Composer } from "../work/Composer";
import { LiveRun } from "./LiveRun";
import { Log } from "./Log";
import { RunCard } from "./RunCard";
import { Scrubber } from "./Scrubber";
import { useRunWindow } from "./useRunWindow";

export function Timeline({ session, at }: { session: Session; at: number | null }) {
  // The window stays where it is while one reads; it moves when the address asks for a run that is not in it.
  const [begin, setBegin] = useState(at);
  const window = useRunWindow(session, begin);
  const hasSteps = useFirstSteps(session, window.runs);
  const runs = hasSteps ? window.runs : NONE;
  const box = useRef<HTMLDivElement>(null);
  const here = useRef<number | null>(at);
  const client = useQueryClient();
  const wanted = useRef<number | "end" | null>(at ?? "end");

  const goTo = useCallback((number: number | null) => {
    wanted.current = number ?? "end";
    here.current = number;
    change({ run: number });
    const isHere = number !== null && box.current?.querySelector(`#run-${number}`) != null;
    if (isHere) show(box.current, number, wanted.current);
    else setBegin(number);
  }, []);

  useEffect(() => {
    if (at !== null && at !== here.current) goTo(at);
  }, [at, goTo]);

  useKeptPlace(box, runs[0]?.number, wanted);
  useHeld(box, begin, wanted, runs);
  useNewer(session, runs.at(-1)?.number ?? 0, begin, window.hasNextPage, () =>
    client.invalidateQueries({ queryKey: ["window", session.session_id] }),
  );

  const step = (by: number) => {
    const cards = [...(box.current?.querySelectorAll<HTMLElement>(".run") ?? [])];
    const focused = document.activeElement?.closest(".run");
    const top = (box.current?.getBoundingClientRect().top ?? 0) + 80;
    const current =
      focused != null
        ? cards.indexOf(focused as HTMLElement)
        : cards.findIndex((card) => card.getBoundingClientRect().bottom > top);
    const next = cards[Math.max(0, Math.min(cards.length - 1, current + by))];
    next?.focus({ preventScroll: true });
    next?.scrollIntoView({ block: "start" });
  };
  useCommands([
    { id: "next", title: t.keys.next, icon: "down", keys: "j", run: () => step(1), isKeyOnly: true },
    { id: "previous", title: t.keys.previous, icon: "up", keys: "k", run: () => step(-1), isKeyOnly: true },
    { id: "first-run", title: t.session.first, icon: "up", keys: "g g", run: () => goTo(1) },
    { id: "last-run", title: t.session.last, icon: "down", keys: "G", run: () => goTo(null) },
  ]);

  if (window.isPending || !hasSteps) return <Skeleton lines={8} />;
  if (window.error !== null && runs.length === 0)
    return <Trouble error={window.error} onRetry={() => window.refetch()} />;
  const working =
    session.status === "running" && begin === null ? runs.findLast((run) => run.status === "running") : undefined;
  return (
    <>
      {session.tip > 1 ? <Scrubber tip={session.tip} runs={runs} box={box} at={at} onGo={goTo} /> : null}
      <div
        className="timeline"
        ref={box}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keys
        tabIndex={0}
        role="feed"
        aria-label={t.session.timeline}
        aria-busy={window.isFetching}
      >
        <Edge
          isThere={window.hasPreviousPage}
          isBusy={window.isFetchingPreviousPage}
          label={t.session.older}
          onReached={window.fetchPreviousPage}
        />
        {runs.length === 0 ? <Without session={session} /> : null}
        {runs.map((run) =>
          run === working ? (
            <LiveRun key={run.run_id} run={run} session={session} />
          ) : (
            <RunCard key={run.run_id} run={run} session={session} isMarked={run.number === at} />
          ),
        )}
        {window.unreadable.map((number) => (
          <p key={number} className="note">
            {t.session.unreadableRun(number)}
          </p>
        ))}
        <Edge
          isThere={window.hasNextPage}
          isBusy={window.isFetchingNextPage}
          label={t.session.newer}
          onReached={window.fetchNextPage}
        />
      </div>
      <Composer
        session={session}
        onBegun={() => {
          setBegin(null);
          wanted.current = "end";
          change({ run: null });
          client.invalidateQueries({ queryKey: ["window", session.session_id] });
        }}
      />
    </>
  );
}

const NONE: Run[] = [];

/** A session without runs: what it holds, as another framework's checkpoints, is shown as it is stored. */
function Without({ session }: { session: Session }) {
  if (session.revision < 2) return <Empty icon="runs" title={t.session.noRuns} />;
  return (
    <article className="run" aria-label={t.session.noRuns}>
      <header className="run-head">
        <p>{t.session.onlyStored}</p>
      </header>
      <Log sessionId={session.session_id} number={null} />
    </article>
  );
}

/** Whether the steps of a workflow's runs are there, which would move what stands below them if they came later. */
function useFirstSteps(session: Session, runs: readonly Run[]): boolean {
  const isDone = useRef(session.kind !== "workflow");
  const wanted = isDone.current ? [] : runs.map((run) => steps(run.session_id, run.number));
  const isThere = useQueries({ queries: wanted, combine: (found) => found.every((one) => !one.isPending) });
  if (isThere && runs.length > 0) isDone.current = true;
  return isDone.current || runs.length === 0;
}

type Wanted = number | "end" | null;

/** Bring a run, or the end, into view if it is there. */
function show(box: HTMLElement | null, begin: number | null, wanted: Wanted) {
  if (box === null || wanted === null) return;
  const card = wanted === "end" ? null : box.querySelector(`#run-${wanted}`);
  if (card !== null) box.scrollTop += card.getBoundingClientRect().top - box.getBoundingClientRect().top - 10;
  else if (wanted !== "end") return;
  else if (begin === null) box.scrollTop = box.scrollHeight;
}

/** Holds what was asked for in view while the page around it still grows, until somebody scrolls. */
function useHeld(
  box: React.RefObject<HTMLDivElement | null>,
  begin: number | null,
  wanted: React.RefObject<Wanted>,
  runs: readonly Run[],
) {
  // biome-ignore lint/correctness/useExhaustiveDependencies: when runs have come
  useLayoutEffect(() => show(box.current, begin, wanted.current), [runs, begin]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the box is there once there are runs
  useEffect(() => {
    const element = box.current;
    if (element === null) return;
    const again = () => show(element, begin, wanted.current);
    const letGo = () => {
      wanted.current = null;
    };
    const grown = new ResizeObserver(again);
    for (const card of element.children) grown.observe(card);
    const ways = ["wheel", "touchmove", "pointerdown", "keydown"];
    for (const way of ways) element.addEventListener(way, letGo, { passive: true });
    return () => {
      grown.disconnect();
      for (const way of ways) element.removeEventListener(way, letGo);
    };
  }, [runs, begin]);
}

/** What is read stays where it is when older runs come in above it. */
function useKeptPlace(
  box: React.RefObject<HTMLDivElement | null>,
  first: number | undefined,
  wanted: React.RefObject<Wanted>,
) {
  const before = useRef<{ first: number | undefined; card: HTMLElement; top: number } | null>(null);
  useLayoutEffect(() => {
    const kept = before.current;
    if (
      kept !== null &&
      wanted.current === null &&
      kept.first !== first &&
      kept.card.isConnected &&
      box.current !== null
    ) {
      box.current.scrollTop += kept.card.getBoundingClientRect().top - kept.top;
    }
  }, [first, box, wanted]);
  useEffect(() => {
    const element = box.current;
    if (element === null) return;
    const note = () => {
      const edge = element.getBoundingClientRect().top;
      for (const card of element.querySelectorAll<HTMLElement>(".run")) {
        const place = card.getBoundingClientRect();
        if (place.bottom > edge) {
          before.current = { first, card, top: place.top };
          return;
        }
      }
    };
    note();
    element.addEventListener("scroll", note, { passive: true });
    return () => element.removeEventListener("scroll", note);
  });
}

/** New runs of the session come by themselves where its end is shown. */
function useNewer(session: Session, last: number, begin: number | null, hasNext: boolean, renew: () => void) {
  const revision = useRef(session.revision);
  // biome-ignore lint/correctness/useExhaustiveDependencies: whenever the session has changed
  useEffect(() => {
    if (revision.current === session.revision) return;
    revision.current = session.revision;
    if (begin === null || !hasNext || session.tip < last) renew();
  }, [session.revision]);
}

function Edge(props: { isThere: boolean; isBusy: boolean; label: string; onReached: () => unknown }) {
  const mark = useRef<HTMLDivElement>(null);
  const { isThere, isBusy, onReached } = props;
  useEffect(() => {
    if (mark.current === null || !isThere || isBusy) return;
    const seen = new IntersectionObserver((entries) => entries.some((one) => one.isIntersecting) && onReached(), {
      rootMargin: "900px",
    });
    seen.observe(mark.current);
    return () => seen.disconnect();
  }, [isThere, isBusy, onReached]);
  if (!isThere) return null;
  return (
    <div ref={mark} className="edge">
      <Button className="link" onPress={() => void onReached()}>
        {isBusy ? t.common.loading : props.label}
      </Button>
    </div>
  );
}
