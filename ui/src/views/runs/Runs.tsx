// Runs of all sessions, by what the index knows of them. What the monitor counts is here one by one.

import { useInfiniteQuery } from "@tanstack/react-query";
import { Button } from "react-aria-components";
import { change, to, useAddress } from "../../address";
import { get } from "../../api/client";
import type { RunFilters } from "../../api/queries";
import { PAGE } from "../../api/sizes";
import type { FoundPage, FoundRun } from "../../api/types";
import { Ago, Cost, Empty, Score, Skeleton, StatusBadge, Tokens, Trouble, tokensOf } from "../../parts/basics";
import { Choice, Foldable, Named, Numbered } from "../../parts/fields";
import { dollars, plain, seconds, short } from "../../shown";
import { t } from "../../texts";

const HOURS: Record<string, number> = { "1h": 1, "24h": 24, "7d": 168, "30d": 720 };
const STATUSES = ["running", "paused", "completed", "failed", "cancelled", "interrupted"] as const;
const NUMBERS = ["min_score", "min_cost", "max_cost", "min_duration", "max_duration"] as const;
const NAMES = [
  "status",
  "rated",
  "agent",
  "user",
  "model",
  "tool",
  "label",
  "error",
  "since",
  "until",
  "time",
  "failed",
  ...NUMBERS,
] as const;

/** What of the address the API understands. */
export function runFiltersOf(query: URLSearchParams, now: number): RunFilters {
  const hours = HOURS[query.get("time") ?? ""];
  const minute = 60_000;
  const found: Record<string, string> = {};
  for (const name of NAMES) {
    const value = query.get(name);
    if (value !== null && value !== "" && name !== "time") found[name === "user" ? "user_id" : name] = value;
  }
  if (hours !== undefined)
    found.since = new Date(Math.floor(now / minute) * minute - hours * 60 * minute).toISOString();
  return found;
}

export default function Runs() {
  const { query } = useAddress();
  const filters = runFiltersOf(query, Date.now());
  const found = useInfiniteQuery({
    queryKey: ["found", "pages", filters],
    queryFn: ({ pageParam, signal }) =>
      get<FoundPage<FoundRun>>("runs", { ...filters, cursor: pageParam, limit: PAGE }, signal),
    initialPageParam: null as string | null,
    getNextPageParam: (last) => last.next_cursor,
  });
  const runs = found.data?.pages.flatMap((page) => page.items) ?? [];
  return (
    <div className="page wide">
      <h1>{t.runs.title}</h1>
      <Asked query={query} />
      {found.isPending ? <Skeleton lines={8} /> : null}
      {found.error !== null && found.data === undefined ? (
        <Trouble error={found.error} onRetry={() => found.refetch()} />
      ) : null}
      {found.data !== undefined && runs.length === 0 ? (
        <Empty icon="filter" title={t.runs.empty} hint={t.runs.emptyHint} />
      ) : null}
      {runs.length === 0 ? null : (
        <>
          <p className="muted" role="status">
            {t.runs.shown(runs.length, found.hasNextPage)}
          </p>
          {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keys */}
          <section className="table-scroll" tabIndex={0} aria-label={t.runs.title}>
            <table className="figures">
              <Head />
              <tbody>
                {runs.map((run) => (
                  <Row key={`${run.session_id}#${run.run_id}`} run={run} />
                ))}
              </tbody>
            </table>
          </section>
          {found.hasNextPage ? (
            <Button className="button" onPress={() => found.fetchNextPage()} isDisabled={found.isFetchingNextPage}>
              {t.common.more}
            </Button>
          ) : null}
        </>
      )}
    </div>
  );
}

function Asked({ query }: { query: URLSearchParams }) {
  const value = (name: string) => query.get(name) ?? "";
  const isFiltered = NAMES.some((name) => query.has(name));
  return (
    <Foldable active={NAMES.filter((name) => query.has(name)).length}>
      <Choice
        label={t.sessions.status}
        any={t.sessions.anyStatus}
        value={query.get("status")}
        options={STATUSES.map((one) => [one, t.status[one]])}
        onChange={(status) => change({ status })}
      />
      <Choice
        label={t.runs.time}
        any={t.sessions.anyTime}
        value={query.get("time")}
        options={Object.entries(t.sessions.times)}
        onChange={(time) => change({ time, since: null, until: null })}
      />
      <Choice
        label={t.runs.rated}
        any={t.runs.anyRated}
        value={query.get("rated")}
        options={Object.entries(t.runs.ratedOnes)}
        onChange={(rated) => change({ rated })}
      />
      <Named label={t.sessions.agent} field="agent" value={value("agent")} onChange={(agent) => change({ agent })} />
      <Named label={t.sessions.user} field="user" value={value("user")} onChange={(user) => change({ user })} />
      <Named label={t.sessions.model} field="model" value={value("model")} onChange={(model) => change({ model })} />
      <Named label={t.sessions.tool} field="tool" value={value("tool")} onChange={(tool) => change({ tool })} />
      <Named label={t.run.label} field="label" value={value("label")} onChange={(label) => change({ label })} />
      <Named label={t.runs.error} field="error" value={value("error")} onChange={(error) => change({ error })} />
      {NUMBERS.map((name) => (
        <Numbered
          key={name}
          label={t.sessions.numbers[name]}
          value={value(name)}
          onChange={(now) => change({ [name]: now })}
        />
      ))}
      {isFiltered ? (
        <Button className="link" onPress={() => change(Object.fromEntries(NAMES.map((name) => [name, null])))}>
          {t.sessions.clear}
        </Button>
      ) : null}
    </Foldable>
  );
}

function Head() {
  const c = t.sessions.columns;
  return (
    <thead>
      <tr>
        <th scope="col">{t.runs.columns.run}</th>
        <th scope="col">{t.sessions.status}</th>
        <th scope="col">{c.agent}</th>
        <th scope="col">{c.who}</th>
        <th scope="col">{t.runs.columns.model}</th>
        <th scope="col" className="end">
          {t.runs.columns.tokens}
        </th>
        <th scope="col" className="end">
          {c.cost}
        </th>
        <th scope="col" className="end">
          {t.monitor.latency}
        </th>
        <th scope="col" className="end">
          {c.score}
        </th>
        <th scope="col" className="end">
          {t.runs.columns.started}
        </th>
      </tr>
    </thead>
  );
}

function Row({ run }: { run: FoundRun }) {
  const score = Object.values(run.ratings).findLast((one) => one.score !== null)?.score ?? null;
  const isTeam = run.total_tokens !== tokensOf(run.usage);
  const own = t.common.own(`${short(tokensOf(run.usage))} tok, ${dollars(run.usage.cost) ?? t.unit.unknownCost}`);
  return (
    <tr>
      <th scope="row">
        <a href={to(["session", run.session_id], { run: run.number })} dir="auto">
          {plain(run.session_name ?? run.session_id)}
        </a>{" "}
        <span className="muted">{t.session.run(run.number)}</span>
        {run.error === null ? null : <span className="row-error">{plain(run.error)}</span>}
      </th>
      <td>
        <StatusBadge status={run.status} quiet />
      </td>
      <td dir="auto">{run.agent === null ? "–" : plain(run.agent)}</td>
      <td dir="auto">{run.user_id === null ? "–" : plain(run.user_id)}</td>
      <td>{run.model === null ? "–" : plain(run.model)}</td>
      <td className="end">
        {isTeam ? <span className="number">{short(run.total_tokens)} tok</span> : <Tokens usage={run.usage} />}
      </td>
      <td className="end" title={isTeam ? own : undefined}>
        <Cost usage={{ cost: run.cost }} />
        {isTeam ? <span className="row-own muted">{own}</span> : null}
      </td>
      <td
        className="end number"
        title={run.first_token === null ? undefined : t.run.firstToken(seconds(run.first_token))}
      >
        {run.duration === null ? "–" : seconds(run.duration)}
      </td>
      <td className="end">
        <Score value={score} />
      </td>
      <td className="end">
        <Ago time={run.started_at} />
      </td>
    </tr>
  );
}
