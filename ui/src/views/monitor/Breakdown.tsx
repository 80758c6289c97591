// Who and what: a row for each agent, model, user, tool or status, which leads to its runs.

import { useQuery } from "@tanstack/react-query";
import { to } from "../../address";
import { usage } from "../../api/insight";
import type { RunFilters } from "../../api/queries";
import type { UsageRow } from "../../api/types";
import { Cost, IconButton, Skeleton, Trouble } from "../../parts/basics";
import { saveBlob } from "../../parts/saving";
import { count, plain, seconds, short } from "../../shown";
import { t } from "../../texts";
import { csvOf, MEASURES } from "./series";

type Links = Record<string, string | undefined>;
type Props = { group: string; filters: RunFilters; links: Links };

const SHOWN = 100;

export function Breakdown({ group, filters, links }: Props) {
  const found = useQuery(usage([group], filters));
  if (found.data === undefined)
    return found.error === null ? (
      <Skeleton lines={4} />
    ) : (
      <Trouble error={found.error} onRetry={() => found.refetch()} />
    );
  const rows = found.data.rows.toSorted((a, b) => MEASURES.cost(b) - MEASURES.cost(a) || b.runs - a.runs);
  const title = t.monitor.groups[group] ?? group;
  const head = [
    title,
    t.monitor.runs,
    t.monitor.errors,
    t.monitor.tokens,
    t.monitor.cost,
    t.monitor.percentiles.p50 ?? "",
    t.monitor.percentiles.p95 ?? "",
    t.monitor.firstTokenHalf,
  ];
  const csv = () =>
    csvOf(
      head,
      rows.map((row) => [
        nameIn(row, group),
        row.runs,
        row.errors,
        MEASURES.tokens(row),
        row.known_cost,
        row.p50,
        row.p95,
        row.first_token_p50,
      ]),
    );
  return (
    <section
      className={found.isPlaceholderData ? "card older" : "card"}
      aria-label={t.monitor.breakdown}
      aria-busy={found.isPlaceholderData}
    >
      <header className="card-head">
        <h2>
          {t.monitor.breakdown} <span className="muted">{title}</span>
        </h2>
        <IconButton
          icon="download"
          label={`${t.monitor.csv}: ${t.monitor.breakdown}`}
          onPress={() => saveBlob(new Blob([csv()], { type: "text/csv" }), `${title}.csv`)}
        />
      </header>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keys */}
      <section className="table-scroll" tabIndex={0} aria-label={`${t.monitor.breakdown}: ${t.monitor.table}`}>
        <table className="figures">
          <thead>
            <tr>
              {head.map((one, index) => (
                <th key={one} scope="col" className={index === 0 ? undefined : "end"}>
                  {one}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.slice(0, SHOWN).map((row) => (
              <Row key={nameIn(row, group)} row={row} group={group} links={links} />
            ))}
          </tbody>
          <tfoot>
            <Cells name={t.monitor.total} row={found.data.total} links={links} />
          </tfoot>
        </table>
      </section>
    </section>
  );
}

const nameIn = (row: UsageRow, group: string) => (typeof row[group] === "string" ? row[group] : t.monitor.noName);

function Row({ row, group, links }: { row: UsageRow; group: string; links: Links }) {
  const name = nameIn(row, group);
  const shown = group === "status" ? (t.status[name as keyof typeof t.status] ?? name) : name;
  if (typeof row[group] !== "string") return <Cells name={name} row={row} />;
  return <Cells name={shown} row={row} links={{ ...links, [group]: name }} />;
}

/** A row, whose figures lead to the runs that they are of. */
function Cells({ name, row, links }: { name: string; row: UsageRow; links?: Links }) {
  const figure = (shown: string, more: Record<string, string | number | null> = {}) =>
    links === undefined || shown === "–" || shown === "0" ? (
      shown
    ) : (
      <a href={to(["runs"], { ...links, ...more })}>{shown}</a>
    );
  return (
    <tr>
      <th scope="row" dir="auto">
        {links === undefined ? plain(name) : <a href={to(["runs"], links)}>{plain(name)}</a>}
      </th>
      <td className="end number">{figure(count(row.runs))}</td>
      <td className="end number">{figure(count(row.errors), { failed: "true" })}</td>
      <td className="end number">{short(MEASURES.tokens(row))}</td>
      <td className="end">
        <Cost usage={row.usage} />
      </td>
      <td className="end number">{row.p50 === null ? "–" : figure(seconds(row.p50), { min_duration: row.p50 })}</td>
      <td className="end number">{row.p95 === null ? "–" : figure(seconds(row.p95), { min_duration: row.p95 })}</td>
      <td className="end number">{row.first_token_p50 === null ? "–" : figure(seconds(row.first_token_p50))}</td>
    </tr>
  );
}
