import { useQuery } from "@tanstack/react-query";
import { to } from "../../address";
import { grants } from "../../api/kept";
import { about, branches } from "../../api/queries";
import type { Session } from "../../api/types";
import { CopyButton, Cost } from "../../parts/basics";
import { Value } from "../../parts/Value";
import { count, plain, wholeTime } from "../../shown";
import { t } from "../../texts";
import { Grants } from "../approvals/Grants";

export function Details({ session }: { session: Session }) {
  const found = useQuery(branches(session.session_id)).data ?? [];
  const approved = useQuery(grants(session.session_id, null)).data ?? [];
  const who = useQuery(about()).data;
  const usage = Object.entries(session.usage).filter(([name, value]) => name !== "cost" && typeof value === "number");
  return (
    <div className="columns">
      <section className="card" aria-label={t.session.details}>
        <h2>{t.session.details}</h2>
        <dl className="table">
          <Line name="ID">
            <code>{plain(session.session_id)}</code> <CopyButton text={() => session.session_id} />
          </Line>
          <Line name={t.sessions.kind}>{t.kind[session.kind] ?? session.kind}</Line>
          {session.agent === null ? null : <Line name={t.sessions.agent}>{plain(session.agent)}</Line>}
          {session.lead === null ? null : <Line name={t.session.answers}>{plain(session.lead)}</Line>}
          <Line name={t.sessions.user}>
            {session.user_id === null ? (
              t.common.anonymous
            ) : (
              <>
                {plain(session.user_id)} · <a href={to(["memories"], { user: session.user_id })}>{t.memories.open}</a> ·{" "}
                <a href={to(["approvals"], { user: session.user_id })}>{t.approvals.title}</a>
              </>
            )}
          </Line>
          <Line name={t.session.created}>{wholeTime(session.created_at)}</Line>
          <Line name={t.sessions.columns.updated}>{wholeTime(session.updated_at)}</Line>
          {session.expires_at === null ? null : <Line name={t.session.expires}>{wholeTime(session.expires_at)}</Line>}
          <Line name={t.session.revision}>{count(session.revision)}</Line>
          <Line name={t.sessions.columns.cost}>
            <Cost usage={session.usage} />
          </Line>
          {usage.map(([name, value]) => (
            <Line key={name} name={name.replaceAll("_", " ")}>
              <span className="number">{count(Number(value))}</span>
            </Line>
          ))}
        </dl>
      </section>
      <section className="card" aria-label={t.session.metadata}>
        <h2>{t.session.metadata}</h2>
        <Value value={session.metadata} />
        {approved.length === 0 ? null : (
          <>
            <h2>{t.approvals.title}</h2>
            <Grants grants={approved} user={who?.administrator === false ? null : session.user_id} />
          </>
        )}
        {found.length < 2 ? null : (
          <>
            <h2>{t.session.branches}</h2>
            <ul className="branches">
              {found.map((one) => (
                <li key={one.tip}>
                  <a href={to(["session", session.session_id], { run: one.tip })}>
                    {t.session.branch(one.tip, one.runs)}
                  </a>
                  {one.current ? <span className="muted"> · {t.session.current}</span> : null}
                </li>
              ))}
            </ul>
          </>
        )}
      </section>
    </div>
  );
}

function Line({ name, children }: { name: string; children: React.ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        <span>{children}</span>
      </dd>
    </div>
  );
}
