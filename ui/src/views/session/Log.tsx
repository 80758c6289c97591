import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Button } from "react-aria-components";
import { log } from "../../api/queries";
import type { Json } from "../../api/types";
import { Skeleton, Trouble } from "../../parts/basics";
import { Value } from "../../parts/Value";
import { plain, wholeTime } from "../../shown";
import { t } from "../../texts";

type Props = { sessionId: string; number: number | null };

/** What is stored of a run, as it is stored; without a number, of the whole session. */
export function Log({ sessionId, number }: Props) {
  const [starts, setStarts] = useState([0]);
  return (
    <section className="log" aria-label={number === null ? t.run.log : `${t.run.log}, ${t.session.run(number)}`}>
      <h3>{t.run.log}</h3>
      {starts.map((after, index) => (
        <Part
          key={after}
          sessionId={sessionId}
          number={number}
          after={after}
          onMore={index === starts.length - 1 ? (next) => setStarts([...starts, next]) : undefined}
        />
      ))}
    </section>
  );
}

function Part({ sessionId, number, after, onMore }: Props & { after: number; onMore?: (next: number) => void }) {
  const found = useQuery(log(sessionId, number, after));
  if (found.error !== null) return <Trouble error={found.error} onRetry={() => found.refetch()} />;
  if (found.data === undefined) return <Skeleton />;
  const next = found.data.next_after;
  return (
    <>
      <ol>
        {found.data.items.map((entry, index) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: a commit's entries have no other names
          <li key={`${entry.seq}.${index}`}>
            <p className="facts">
              <span className="number">{entry.seq}</span>
              <strong className="mono">{plain(entry.kind)}</strong>
              <time dateTime={entry.time} title={wholeTime(entry.time)}>
                {new Date(entry.time).toLocaleTimeString()}
              </time>
              {entry.agent === null ? null : <span>{plain(entry.agent)}</span>}
            </p>
            <Value value={entry.data as Json} />
          </li>
        ))}
      </ol>
      {next !== null && onMore !== undefined ? (
        <Button className="link" onPress={() => onMore(next)}>
          {t.common.more}
        </Button>
      ) : null}
    </>
  );
}
