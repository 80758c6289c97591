// What has run: how much, how long, what it cost, what failed; over a time that one chooses by dragging.

import { useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { Button, ToggleButton, ToggleButtonGroup } from "react-aria-components";
import { change, to, useAddress } from "../../address";
import { usage, ZONE } from "../../api/insight";
import { type RunFilters, waiting } from "../../api/queries";
import type { UsageRow, UsageTable } from "../../api/types";
import { Empty, Skeleton, Trouble, useNow } from "../../parts/basics";
import { Named } from "../../parts/fields";
import { count, dollars, moment, plain, seconds, short } from "../../shown";
import { t } from "../../texts";
import { Breakdown } from "./Breakdown";
import { ChartCard } from "./ChartCard";
import { type Line, linesOf, MEASURES, percentilesOf, stepOf, timesOf } from "./series";

const HOURS: Record<string, number> = { "24h": 24, "7d": 168, "30d": 720, "90d": 2160, "365d": 8760 };
const GROUPS = ["agent", "model", "user", "tool", "status"] as const;
const MINUTE = 60_000;

/** The time that is looked at; to the minute, so that the same question is the same for a while. */
function timeOf(query: URLSearchParams, now: number): { since: number; until: number; isChosen: boolean } {
  const since = Date.parse(query.get("since") ?? "");
  const until = Date.parse(query.get("until") ?? "");
  if (!Number.isNaN(since) && !Number.isNaN(until) && since < until) return { since, until, isChosen: true };
  const end = Math.ceil(now / MINUTE) * MINUTE;
  return { since: end - (HOURS[query.get("time") ?? ""] ?? 168) * 60 * MINUTE, until: end, isChosen: false };
}

/** Of a line of percentiles: the runs that took at least as long. */
const slowest = (line: Line | undefined, index: number): Links => {
  const least = line?.values[index];
  return least == null ? {} : { min_duration: String(least) };
};

type Answered = {
  since: number;
  until: number;
  group: (typeof GROUPS)[number] | null;
  names: { agent?: string; model?: string; user?: string };
  all: UsageTable;
  rows: readonly UsageRow[];
};

/**
 * What was answered last, with what was asked for it: other figures come while these are read, and must not be drawn
 * with the time, the names and the links of a question that they do not answer.
 */
function useAnswered(asked: Omit<Answered, "all" | "rows">) {
  const { since, until, group, names } = asked;
  const filters = filtersOf(asked);
  const step = stepOf(since, until);
  const all = useQuery(usage([step], filters));
  const parted = useQuery({ ...usage([step, group ?? ""], filters), enabled: group !== null });
  const [answered, setAnswered] = useState<Answered | null>(null);
  const isOlder = all.isPlaceholderData || (group !== null && (parted.isPending || parted.isPlaceholderData));
  const rows = group === null ? all.data?.rows : parted.data?.rows;
  if (!isOlder && all.data !== undefined && rows !== undefined) {
    const isKnown = answered?.all === all.data && answered.rows === rows;
    if (!isKnown || answered.since !== since || answered.until !== until || answered.group !== group)
      setAnswered({ since, until, group, names, all: all.data, rows });
  }
  const error = all.error ?? (group === null ? null : parted.error);
  return { answered: error === null ? answered : null, isOlder, error, refetch: all.refetch };
}

function filtersOf({ since, until, names }: Omit<Answered, "all" | "rows">): RunFilters {
  return { ...spanOf(since, until), agent: names.agent, model: names.model, user_id: names.user };
}

const spanOf = (since: number, until: number) => ({
  since: new Date(since).toISOString(),
  until: new Date(until).toISOString(),
});

const money = (value: number) => dollars(String(value)) ?? "";

export default function Monitor() {
  const { query } = useAddress();
  const now = useNow();
  const { since, until, isChosen } = timeOf(query, now);
  const group = GROUPS.find((one) => one === query.get("by")) ?? null;
  const names = {
    agent: query.get("agent") ?? undefined,
    model: query.get("model") ?? undefined,
    user: query.get("user") ?? undefined,
  };
  const { answered, isOlder, error, refetch } = useAnswered({ since, until, group, names });
  const span = spanOf(since, until);
  return (
    <div className="page wide">
      <div className="page-head">
        <h1>{t.monitor.title}</h1>
        <span className="muted">{t.monitor.zone(ZONE)}</span>
      </div>
      <Asked query={query} isChosen={isChosen} span={`${moment(span.since, now)} – ${moment(span.until, now)}`} />
      {answered === null && error === null ? <Skeleton lines={8} /> : null}
      {error === null ? null : <Trouble error={error} onRetry={refetch} />}
      {answered === null ? null : (
        <div className={isOlder ? "figures-told older" : "figures-told"} aria-busy={isOlder}>
          <Figures {...answered} />
        </div>
      )}
    </div>
  );
}

function Figures({ since, until, group, names, all, rows }: Answered) {
  const step = stepOf(since, until);
  const times = useMemo(() => timesOf(since, until, step), [since, until, step]);
  const lines = useMemo(() => {
    const of = (measure: keyof typeof MEASURES) => linesOf(rows, times, step, group, MEASURES[measure]);
    return { runs: of("runs"), errors: of("errors"), tokens: of("tokens"), cost: of("cost") };
  }, [rows, times, step, group]);
  const [latency, firstToken] = useMemo(
    () => [percentilesOf(all.rows, times, step), percentilesOf(all.rows, times, step, "first_token_")],
    [all, times, step],
  );
  const onBrush = (from: number, end: number) =>
    change({ since: new Date(from).toISOString(), until: new Date(end).toISOString() }, { replace: false });
  const links = { ...spanOf(since, until), ...names };
  /** The runs of a step; of one line in it, if that has a name of its own. */
  const runsOf = (index: number, line?: Line, more: Links = {}) => {
    const [begin, end] = [Math.max(times[index] ?? since, since), Math.min(times[index + 1] ?? until, until)];
    return to(["runs"], {
      ...links,
      ...spanOf(begin, end),
      ...(group === null || line === undefined || line.name === null ? {} : { [group]: line.name }),
      ...more,
    });
  };
  const chart = { times, step, onBrush, href: runsOf };
  if (all.total.runs === 0) {
    return (
      <>
        <Tiles total={all.total} links={links} />
        <Empty icon="monitor" title={t.monitor.empty} hint={t.monitor.emptyHint} />
      </>
    );
  }
  return (
    <>
      <Tiles total={all.total} links={links} />
      <p className="muted small">
        {t.monitor.brush} {group === "tool" ? t.monitor.toolsNote : null}{" "}
        {(all.total.usage.unpriced ?? 0) > 0 ? t.monitor.isPartial : null}
      </p>
      <div className="charts">
        <ChartCard title={t.monitor.runs} lines={lines.runs} kind="bars" shown={short} {...chart} />
        <ChartCard
          title={t.monitor.errors}
          lines={lines.errors}
          kind="bars"
          shown={short}
          {...chart}
          href={(index, line) => runsOf(index, line, { failed: "true" })}
        />
        {group === "tool" ? null : (
          <>
            <ChartCard title={t.monitor.cost} lines={lines.cost} kind="bars" shown={money} {...chart} />
            <ChartCard title={t.monitor.tokens} lines={lines.tokens} kind="bars" shown={short} {...chart} />
          </>
        )}
        <ChartCard
          title={t.monitor.latency}
          lines={latency}
          kind="lines"
          shown={seconds}
          {...chart}
          href={(index, line) => runsOf(index, undefined, slowest(line, index))}
        />
        {all.total.first_token_p50 === null ? null : (
          <ChartCard
            title={t.monitor.firstToken}
            lines={firstToken}
            kind="lines"
            shown={seconds}
            {...chart}
            href={(index) => runsOf(index)}
          />
        )}
      </div>
      <Breakdown
        key={group}
        group={group ?? "agent"}
        filters={filtersOf({ since, until, group, names })}
        links={links}
      />
    </>
  );
}

function Asked({ query, isChosen, span }: { query: URLSearchParams; isChosen: boolean; span: string }) {
  const time = query.get("time") ?? "7d";
  return (
    <div className="asked">
      <ToggleButtonGroup
        className="toggles"
        aria-label={t.monitor.time}
        selectedKeys={isChosen ? [] : [time]}
        onSelectionChange={(keys) =>
          change({ time: ([...keys][0] as string | undefined) ?? time, since: null, until: null })
        }
      >
        {Object.entries(t.monitor.times).map(([key, title]) => (
          <ToggleButton key={key} id={key} className="toggle">
            {title}
          </ToggleButton>
        ))}
      </ToggleButtonGroup>
      <ToggleButtonGroup
        className="toggles"
        aria-label={t.monitor.by}
        selectedKeys={[query.get("by") ?? "all"]}
        disallowEmptySelection
        onSelectionChange={(keys) => change({ by: keys.has("all") ? null : ([...keys][0] as string) })}
      >
        <ToggleButton id="all" className="toggle">
          {t.monitor.all}
        </ToggleButton>
        {GROUPS.map((one) => (
          <ToggleButton key={one} id={one} className="toggle">
            {t.monitor.groups[one]}
          </ToggleButton>
        ))}
      </ToggleButtonGroup>
      <Named
        label={t.sessions.agent}
        field="agent"
        value={query.get("agent") ?? ""}
        onChange={(agent) => change({ agent })}
      />
      <Named
        label={t.sessions.model}
        field="model"
        value={query.get("model") ?? ""}
        onChange={(model) => change({ model })}
      />
      <Named
        label={t.sessions.user}
        field="user"
        value={query.get("user") ?? ""}
        onChange={(user) => change({ user })}
      />
      {isChosen ? (
        <>
          <span className="muted">{span}</span>
          <Button className="link" onPress={() => change({ since: null, until: null })}>
            {t.monitor.zoomOut}
          </Button>
        </>
      ) : null}
    </div>
  );
}

type Links = Record<string, string | undefined>;

function Tiles({ total, links }: { total: UsageRow; links: Links }) {
  const waits = useQuery(waiting()).data?.items.length;
  const share = total.runs === 0 ? 0 : total.errors / total.runs;
  const percent = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 1 });
  return (
    <div className="tiles">
      <Tile name={t.monitor.runs} value={count(total.runs)} href={to(["runs"], links)} />
      <Tile
        name={t.monitor.errors}
        value={count(total.errors)}
        note={t.monitor.ofRuns(percent.format(share))}
        href={to(["runs"], { ...links, failed: "true" })}
      />
      <Tile
        name={t.monitor.cost}
        value={money(MEASURES.cost(total))}
        note={(total.usage.unpriced ?? 0) > 0 ? t.monitor.atLeast : undefined}
        href={to(["runs"], { ...links, min_cost: "0.000001" })}
      />
      <Tile
        name={t.monitor.tokens}
        value={short((total.usage.input_tokens ?? 0) + (total.usage.output_tokens ?? 0))}
        note={`${short(total.usage.input_tokens ?? 0)} ${t.monitor.tokensIn}, ${short(total.usage.output_tokens ?? 0)} ${t.monitor.tokensOut}`}
        href={to(["runs"], links)}
      />
      <Tile name={t.monitor.half} value={total.p50 === null ? "–" : seconds(total.p50)} href={to(["runs"], links)} />
      <Tile
        name={t.monitor.most}
        value={total.p95 === null ? "–" : seconds(total.p95)}
        href={to(["runs"], { ...links, min_duration: total.p95 })}
      />
      <Tile
        name={t.monitor.firstTokenHalf}
        value={total.first_token_p50 === null ? "–" : seconds(total.first_token_p50)}
        note={
          total.first_token_p95 === null
            ? t.monitor.notStreamed
            : t.monitor.firstTokenNote(seconds(total.first_token_p95))
        }
        href={to(["runs"], links)}
      />
      <Tile
        name={t.monitor.waiting}
        value={waits === undefined ? "–" : `${count(waits)}${waits === 100 ? "+" : ""}`}
        href={to(["waiting"])}
      />
    </div>
  );
}

function Tile({ name, value, note, href }: { name: string; value: string; note?: string; href: string }) {
  return (
    <a className="tile" href={href}>
      <span className="tile-name">{name}</span>
      <strong>{plain(value)}</strong>
      <span className="tile-note">{note ?? ""}</span>
    </a>
  );
}
