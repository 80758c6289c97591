import { useQuery } from "@tanstack/react-query";
import { to } from "../../address";
import { type SessionFilters, search } from "../../api/queries";
import type { Hit, Snippet } from "../../api/types";
import { Ago, Empty, Skeleton, StatusBadge, Trouble } from "../../parts/basics";
import { plain } from "../../shown";
import { t } from "../../texts";

export function Hits({ text, filters }: { text: string; filters: SessionFilters }) {
  const found = useQuery(search(text, filters));
  // What was found for other words stays until the answer is there, but it is not said that there is nothing.
  const isOlder = found.isPlaceholderData;
  if (found.isPending || (isOlder && found.data?.items.length === 0)) return <Skeleton lines={8} />;
  if (found.error !== null && found.data === undefined)
    return <Trouble error={found.error} onRetry={() => found.refetch()} />;
  if (found.data?.items.length === 0)
    return <Empty icon="search" title={t.sessions.noHit(text)} hint={t.sessions.noHitHint} />;
  return (
    <section className={isOlder ? "hits older" : "hits"} aria-label={t.sessions.hits} aria-busy={isOlder}>
      <ol>
        {found.data?.items.map((hit) => (
          <HitShown key={`${hit.session_id}#${hit.run?.run_id ?? ""}`} hit={hit} />
        ))}
      </ol>
    </section>
  );
}

function HitShown({ hit }: { hit: Hit }) {
  const run = hit.run;
  return (
    <li className="hit">
      <a href={to(["session", hit.session_id], { run: run?.number })}>
        <span className="hit-head">
          <strong dir="auto">{plain(hit.session_name ?? hit.session_id)}</strong>
          {run === null ? null : <span className="muted">{t.sessions.inRun(run.number)}</span>}
          {run === null ? null : <StatusBadge status={run.status} quiet />}
          <span className="muted" dir="auto">
            {[run?.agent, hit.user_id]
              .filter((one) => one != null)
              .map((one) => plain(one ?? ""))
              .join(" · ")}
          </span>
          {run === null ? null : (
            <span className="muted end">
              <Ago time={run.started_at} />
            </span>
          )}
        </span>
        {hit.snippets.map((snippet) => (
          <Marked key={`${snippet.where}${snippet.text}`} snippet={snippet} />
        ))}
      </a>
    </li>
  );
}

function Marked({ snippet }: { snippet: Snippet }) {
  // Marks count characters of Unicode, as the server does, not halves of them.
  const characters = [...snippet.text];
  const pieces: React.ReactNode[] = [];
  let last = 0;
  for (const [begin, end] of together(snippet.marks)) {
    pieces.push(plain(characters.slice(last, begin).join("")));
    pieces.push(<mark key={begin}>{plain(characters.slice(begin, end).join(""))}</mark>);
    last = end;
  }
  pieces.push(plain(characters.slice(last).join("")));
  return (
    <span className="snippet" dir="auto">
      <span className="where">{snippet.where}</span> {pieces}
    </span>
  );
}

/** Marks that touch are one: of a language without blanks each character is marked by itself. */
export function together(marks: readonly [number, number][]): [number, number][] {
  const found: [number, number][] = [];
  for (const [begin, end] of marks) {
    const last = found.at(-1);
    if (last !== undefined && begin <= last[1]) last[1] = Math.max(last[1], end);
    else found.push([begin, end]);
  }
  return found;
}
