import { to } from "../../address";
import type { Session } from "../../api/types";
import { Ago, Cost, StatusBadge, Tokens, tokensOf } from "../../parts/basics";
import { Icon } from "../../parts/Icon";
import { plain, titleOf } from "../../shown";
import { t } from "../../texts";
import { SessionMenu } from "../work/SessionMenu";

export function SessionHead({ session }: { session: Session }) {
  const origin = session.forked_from?.session_id;
  return (
    <header className="session-head">
      <a className="icon-button back" href={to(["sessions"])} aria-label={t.session.back}>
        <Icon name="left" />
      </a>
      <div className="session-title">
        <h1 dir="auto" title={session.session_id}>
          {plain(titleOf(session))}
        </h1>
        <p className="facts">
          <StatusBadge status={session.status} />
          {session.agent === null ? null : (
            <span dir="auto">
              <Icon name="spark" size={14} /> {plain(session.agent)}
            </span>
          )}
          {session.user_id === null ? null : (
            <a href={to(["sessions"], { user: session.user_id })} dir="auto">
              <Icon name="user" size={14} /> {plain(session.user_id)}
            </a>
          )}
          <span>{t.unit.runs(session.run_count)}</span>
          {tokensOf(session.usage) === 0 ? null : <Tokens usage={session.usage} />}
          <Cost usage={session.usage} />
          <Ago time={session.updated_at} />
          {origin === undefined ? null : (
            <a href={to(["session", origin], { run: session.forked_from?.run ?? session.forked_from?.at })}>
              <Icon name="fork" size={14} /> {t.session.forkedFrom} {plain(origin)}
            </a>
          )}
        </p>
      </div>
      <SessionMenu session={session} />
    </header>
  );
}
