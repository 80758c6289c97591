import { useQueries, useQuery, useQueryClient } from "@tanstack/react-query";
import { useVirtualizer } from "@tanstack/react-virtual";
import { memo, useEffect, useRef, useState } from "react";
import { Button } from "react-aria-components";
import { go, to } from "../../address";
import { type SessionFilters, sessions } from "../../api/queries";
import { PAGE } from "../../api/sizes";
import type { Session } from "../../api/types";
import { Ago, Cost, Empty, Score, Skeleton, StatusBadge, Trouble } from "../../parts/basics";
import { useCommands } from "../../shell/commands";
import { plain, seconds, short, titleOf, wholeTime } from "../../shown";
import { t } from "../../texts";
import { useChanges } from "./changes";
import { MORE } from "./Filters";

const ROW = 60;
const NARROW_ROW = 106;

/** Pages are asked for as they come into view: each knows where the next one begins. */
function usePages(filters: SessionFilters) {
  const [cursors, setCursors] = useState<(string | null)[]>([null]);
  const [range, setRange] = useState<[number, number]>([0, 0]);
  const key = JSON.stringify(filters);
  const [known, setKnown] = useState(key);
  if (known !== key) {
    setKnown(key);
    setCursors([null]);
    setRange([0, 0]);
  }
  const [from, until] = known === key ? range : [0, 0];
  const first = Math.max(0, Math.min(from, cursors.length - 1));
  const wanted = cursors.slice(first, until + 2);
  const pages = useQueries({ queries: wanted.map((cursor) => sessions(filters, cursor)) });
  const last = pages.at(-1)?.data;
  const next = last?.next_cursor ?? null;
  const isLast = first + wanted.length === cursors.length;
  useEffect(() => {
    if (isLast && next !== null) setCursors((now) => (now.at(-1) === next ? now : [...now, next]));
  }, [isLast, next]);
  return { pages, first, cursors, setRange, isComplete: isLast && last !== undefined && next === null, last };
}

export function SessionList({ filters }: { filters: SessionFilters }) {
  const client = useQueryClient();
  const { pages, first, cursors, setRange, isComplete, last } = usePages(filters);
  const top = useQuery(sessions(filters, null));
  const box = useRef<HTMLDivElement>(null);
  const isNarrow = useNarrow();
  const [active, setActive] = useState(0);
  const count = isComplete ? (cursors.length - 1) * PAGE + (last?.items.length ?? 0) : cursors.length * PAGE;
  const rows = useVirtualizer({
    count,
    getScrollElement: () => box.current,
    estimateSize: () => (isNarrow ? NARROW_ROW : ROW),
    overscan: 6,
  });
  const items = rows.getVirtualItems();
  const from = Math.floor((items[0]?.index ?? 0) / PAGE);
  const until = Math.floor((items.at(-1)?.index ?? 0) / PAGE);
  useEffect(() => setRange([from, until]), [from, until, setRange]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: rows have another height then
  useEffect(() => rows.measure(), [isNarrow]);
  const at = (index: number): Session | undefined => pages[Math.floor(index / PAGE) - first]?.data?.items[index % PAGE];

  const fresh = useChanges(filters, top.data?.items);
  const refresh = () => {
    fresh.forget();
    client.removeQueries({ queryKey: ["sessions"] });
    box.current?.scrollTo(0, 0);
    top.refetch();
  };
  const move = (to: number) => {
    const index = Math.max(0, Math.min(count - 1, to));
    setActive(index);
    rows.scrollToIndex(index);
  };
  const open = () => {
    const found = at(active);
    if (found !== undefined) go(to(["session", found.session_id]));
  };
  useCommands([
    { id: "next", title: t.keys.next, icon: "down", keys: "j", run: () => move(active + 1), isKeyOnly: true },
    { id: "previous", title: t.keys.previous, icon: "up", keys: "k", run: () => move(active - 1), isKeyOnly: true },
    { id: "open", title: t.keys.open, icon: "right", keys: "o", run: open, isKeyOnly: true },
  ]);

  if (top.isPending) return <Skeleton lines={10} />;
  if (top.error !== null && top.data === undefined) return <Trouble error={top.error} onRetry={() => top.refetch()} />;
  const news =
    fresh.count > 0 ? (
      <Button className="fresh" onPress={refresh}>
        {t.sessions.fresh(fresh.count)}
      </Button>
    ) : null;
  if (top.data?.items.length === 0) {
    return (
      <div className="list">
        {news}
        <NoSessions isFiltered={Object.keys(filters).length > 0} />
      </div>
    );
  }
  const onKeyDown = (event: React.KeyboardEvent) => {
    const page = Math.floor((box.current?.clientHeight ?? ROW) / ROW);
    const moves: Record<string, number> = {
      ArrowDown: active + 1,
      ArrowUp: active - 1,
      PageDown: active + page,
      PageUp: active - page,
      Home: 0,
      End: count - 1,
    };
    const target = moves[event.key];
    if (target !== undefined) move(target);
    else if (event.key === "Enter") open();
    else return;
    event.preventDefault();
  };
  return (
    <div className="list">
      {news}
      {(top.data?.unreadable.length ?? 0) > 0 ? (
        <p className="note">{t.sessions.unreadable(top.data?.unreadable.length ?? 0)}</p>
      ) : null}
      {MORE.some((name) => filters[name] !== undefined) ? <p className="note">{t.sessions.byRuns}</p> : null}
      <div
        ref={box}
        className="list-box"
        role="grid"
        aria-label={t.sessions.title}
        aria-rowcount={isComplete ? count + 1 : -1}
        aria-activedescendant={`row-${active}`}
        tabIndex={0}
        onKeyDown={onKeyDown}
      >
        <Head />
        <div role="rowgroup" className="list-rows" style={{ height: rows.getTotalSize() }}>
          {items.map((item) => (
            <Row
              key={item.index}
              index={item.index}
              top={item.start}
              height={item.size}
              session={at(item.index)}
              isActive={item.index === active}
              isNarrow={isNarrow}
            />
          ))}
        </div>
      </div>
    </div>
  );
}

function Head() {
  const c = t.sessions.columns;
  return (
    <div role="rowgroup" className="list-head">
      <div role="row" aria-rowindex={1} className="row head">
        <span role="columnheader">{c.about}</span>
        <span role="columnheader">{t.sessions.status}</span>
        <span role="columnheader">{c.agent}</span>
        <span role="columnheader">{c.who}</span>
        <span role="columnheader" className="end">
          {c.runs}
        </span>
        <span role="columnheader" className="end">
          {c.cost}
        </span>
        <span role="columnheader" className="end">
          {c.duration}
        </span>
        <span role="columnheader" className="end">
          {c.score}
        </span>
        <span role="columnheader" className="end">
          {c.updated}
        </span>
      </div>
    </div>
  );
}

type RowProps = {
  index: number;
  top: number;
  height: number;
  session: Session | undefined;
  isActive: boolean;
  isNarrow: boolean;
};

/** Drawn once: while one scrolls, only rows that come into view cost anything. */
const Row = memo(function Row({ index, top, height, session, isActive, isNarrow }: RowProps) {
  const place = { transform: `translateY(${top}px)`, height };
  if (session === undefined) {
    return (
      <div role="row" id={`row-${index}`} aria-rowindex={index + 2} className="row waiting" style={place}>
        <span role="gridcell" className="bar">
          <span className="hidden">{t.common.loading}</span>
        </span>
      </div>
    );
  }
  const last = session.last;
  const score = Object.values(last?.ratings ?? {}).findLast((one) => one.score !== null)?.score ?? null;
  const title = titleOf(session);
  const second = session.name === null ? last?.output : last?.input;
  return (
    <div
      role="row"
      id={`row-${index}`}
      aria-rowindex={index + 2}
      className={isActive ? "row active" : "row"}
      style={place}
    >
      <span role="gridcell" className="about">
        <a
          className="title"
          href={to(["session", session.session_id])}
          tabIndex={-1}
          title={session.session_id}
          dir="auto"
        >
          {plain(title)}
        </a>
        <span className="preview" dir="auto">
          {second ? plain(second) : session.session_id}
        </span>
      </span>
      <span role="gridcell" className="cell-status">
        <StatusBadge status={session.status} quiet />
      </span>
      <span role="gridcell" className="cell-agent" dir="auto">
        {plain(session.agent ?? t.kind[session.kind] ?? session.kind)}
      </span>
      <span role="gridcell" className="cell-user" dir="auto">
        {session.user_id === null ? <span className="muted">–</span> : plain(session.user_id)}
      </span>
      <span role="gridcell" className="end number cell-runs" title={t.unit.runs(session.run_count)}>
        {isNarrow ? t.unit.runs(session.run_count) : short(session.run_count)}
      </span>
      <span role="gridcell" className="end cell-cost">
        <Cost usage={session.usage} />
      </span>
      <span role="gridcell" className="end number cell-duration">
        {last?.duration == null ? <span className="muted">–</span> : seconds(last.duration)}
      </span>
      <span role="gridcell" className="end cell-score">
        <Score value={score} />
      </span>
      <span role="gridcell" className="end cell-updated" title={wholeTime(session.updated_at)}>
        <Ago time={session.updated_at} />
      </span>
    </div>
  );
});

function NoSessions({ isFiltered }: { isFiltered: boolean }) {
  if (isFiltered) return <Empty icon="filter" title={t.sessions.noMatch} hint={t.sessions.noMatchHint} />;
  return (
    <Empty icon="sessions" title={t.sessions.empty} hint={t.sessions.emptyHint}>
      <pre className="code">{t.sessions.emptyCode}</pre>
    </Empty>
  );
}

const narrow = matchMedia("(max-width: 960px)");

function useNarrow(): boolean {
  const [is, setIs] = useState(narrow.matches);
  useEffect(() => {
    const onChange = () => setIs(narrow.matches);
    narrow.addEventListener("change", onChange);
    return () => narrow.removeEventListener("change", onChange);
  }, []);
  return is;
}
