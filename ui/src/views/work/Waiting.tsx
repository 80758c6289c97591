// What waits for people, in all sessions, with its answers at hand.

import { useQuery } from "@tanstack/react-query";
import { to } from "../../address";
import { waiting } from "../../api/queries";
import { Ago, Empty, Skeleton, Trouble } from "../../parts/basics";
import { plain } from "../../shown";
import { t } from "../../texts";
import { Pending } from "../session/Pending";

export default function Waiting() {
  const found = useQuery(waiting());
  if (found.data === undefined) {
    return found.error === null ? (
      <Skeleton lines={4} />
    ) : (
      <Trouble error={found.error} onRetry={() => found.refetch()} />
    );
  }
  return (
    <div className="page">
      <h1>{t.waiting.title}</h1>
      {found.data.items.length === 0 ? <Empty icon="check" title={t.waiting.empty} hint={t.waiting.emptyHint} /> : null}
      {found.data.next_cursor === null ? null : <p className="note">{t.waiting.more(found.data.items.length)}</p>}
      {found.data.items.map((one) => (
        <article
          key={`${one.session_id}#${one.run_id}`}
          className="run"
          aria-label={plain(one.session_name ?? one.session_id)}
        >
          <header className="run-head">
            <h2>
              <a href={to(["session", one.session_id], { run: one.number })} dir="auto">
                {plain(one.session_name ?? one.session_id)}
              </a>
            </h2>
            <span className="facts">
              <span>{t.session.run(one.number)}</span>
              {one.agent === null ? null : <span dir="auto">{plain(one.agent)}</span>}
              {one.user_id === null ? null : <span dir="auto">{plain(one.user_id)}</span>}
              <Ago time={one.since} />
            </span>
          </header>
          <Pending
            run={{ ...one, status: "paused", pending: one.asked }}
            session={one}
            isDecided={one.is_decided}
            pause={one.epoch ?? one.since}
          />
        </article>
      ))}
    </div>
  );
}
