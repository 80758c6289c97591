// One run: what was asked, all that was done, what came of it, and what people say about it.

import { memo, useMemo, useState } from "react";
import { Button, Disclosure, DisclosurePanel, Heading } from "react-aria-components";
import type { Json, Run, Session } from "../../api/types";
import { type Item, isOutputSaid, itemsOf, modelsOf, textOf } from "../../messages";
import { Cost, StatusBadge, Tokens, tokensOf, useNow } from "../../parts/basics";
import { Icon } from "../../parts/Icon";
import { Prose } from "../../parts/Prose";
import { Value } from "../../parts/Value";
import { dollars, durationOf, moment, plain, seconds, short, wholeTime } from "../../shown";
import { t } from "../../texts";
import { RunMenu } from "../work/RunMenu";
import { Feedback } from "./Feedback";

import { Items, Said } from "./Items";
import { Log } from "./Log";
import { Pending } from "./Pending";
import { Steps } from "./Steps";

type Props = { run: Run; session: Session; isMarked?: boolean; live?: React.ReactNode };

export const RunCard = memo(function RunCard({ run, session, isMarked = false, live }: Props) {
  const [isLogOpen, setLogOpen] = useState(false);
  return (
    <article
      id={`run-${run.number}`}
      data-number={run.number}
      className={isMarked ? "run marked" : "run"}
      aria-labelledby={`run-title-${run.number}`}
      tabIndex={-1}
    >
      <header className="run-head">
        <h2 id={`run-title-${run.number}`}>{t.session.run(run.number)}</h2>
        <StatusBadge status={run.status} quiet />
        <Facts run={run} agent={session.agent} />
        <span className="run-tools">
          <Feedback run={run} />
          <RunMenu run={run} session={session} onLog={() => setLogOpen(!isLogOpen)} />
        </span>
      </header>
      <div className="run-body">
        <Body run={run} prefix="" />
        {live}
      </div>
      <Ending run={run} session={session} />
      {isLogOpen ? <Log sessionId={run.session_id} number={run.number} /> : null}
    </article>
  );
}, isSame);

/** A run that was read again is drawn again only if it has changed. */
function isSame(one: Props, two: Props): boolean {
  return (
    one.isMarked === two.isMarked &&
    one.live === two.live &&
    one.session.agent === two.session.agent &&
    (one.run === two.run || (one.run.ended_at !== null && JSON.stringify(one.run) === JSON.stringify(two.run)))
  );
}

/** `agent` is the session's, of which a run says nothing new. */
function Facts({ run, agent }: { run: Run; agent: string | null }) {
  const now = useNow();
  const models = useMemo(() => modelsOf(run), [run]);
  const first = run.first_token === null ? null : t.run.firstToken(seconds(run.first_token));
  return (
    <span className="facts">
      {run.agent === null ? null : (
        <span className={run.agent === agent ? "spare" : undefined} dir="auto">
          {plain(run.agent)}
        </span>
      )}
      {run.answered_by === null ? null : <span dir="auto">{t.run.answeredBy(plain(run.answered_by))}</span>}
      {models.length === 0 ? null : <span title={t.run.model}>{plain(models.join(", "))}</span>}
      <time dateTime={run.started_at} title={wholeTime(run.started_at)}>
        {moment(run.started_at, now)}
      </time>
      {run.ended_at === null && run.status !== "running" ? null : (
        <span className="number" title={first ?? undefined}>
          {seconds(durationOf(run, now))}
        </span>
      )}
      {first === null ? null : <span className="number spare">{first}</span>}
      {tokensOf(run.usage) === 0 ? null : <Tokens usage={run.usage} />}
      {tokensOf(run.usage) === 0 && run.usage.cost === "0" ? null : <Cost usage={run.usage} />}
      <Own run={run} />
    </span>
  );
}

/** What a run has used itself, where others have worked for it. */
function Own({ run }: { run: Run }) {
  if (run.children.length === 0 || tokensOf(run.usage) === tokensOf(run.own_usage)) return null;
  const cost = dollars(run.own_usage.cost) ?? t.unit.unknownCost;
  return (
    <span className="number" title={t.common.ownLong}>
      {t.common.own(`${short(tokensOf(run.own_usage))} tok, ${cost}`)}
    </span>
  );
}

/** What was said and done, members' runs below it. `prefix` is the run's own place in the top-level one. */
export function Body({ run, prefix }: { run: Run; prefix: string }) {
  const items = useMemo(() => itemsOf(run), [run]);
  const place = (pointer: string) => ({ sessionId: run.session_id, number: run.number, pointer: prefix + pointer });
  const isWorkflow = run.durability === "workflow";
  const isSaid = isOutputSaid(items, run.output); // then it is the last of the items
  const hasAsked = items.some((item) => item.what === "said" && item.who === "user");
  return (
    <>
      {hasAsked || run.input === null ? null : <Asked input={run.input} run={run} pointer={`${prefix}/input`} />}
      <Items items={isSaid ? items.slice(0, -1) : items} sessionId={run.session_id} place={place} />
      {isWorkflow ? <Steps run={run} /> : null}
      {run.children.map((child, index) => (
        <Member key={child.run_id} run={child} prefix={`${prefix}/children/${index}`} />
      ))}
      {isSaid ? <Items items={items.slice(-1)} sessionId={run.session_id} place={place} /> : null}
      {isSaid || run.output === null ? null : <Output output={run.output} items={items} place={place("/output")} />}
    </>
  );
}

function Asked({ input, run, pointer }: { input: Json; run: Run; pointer: string }) {
  if (typeof input === "string" || Array.isArray(input)) {
    return (
      <Said
        who="user"
        sessionId={run.session_id}
        content={Array.isArray(input) ? undefined : [{ text: input as string }]}
        raw={input}
      />
    );
  }
  return (
    <div className="item">
      <p className="label">{t.run.arguments}</p>
      <Value value={input} place={{ sessionId: run.session_id, number: run.number, pointer }} />
    </div>
  );
}

function Output({
  output,
  items,
  place,
}: {
  output: Json;
  items: readonly Item[];
  place: { sessionId: string; number: number; pointer: string };
}) {
  if (typeof output === "string" && items.length === 0) {
    return (
      <div className="item said agent">
        <Prose text={output} />
      </div>
    );
  }
  return (
    <div className="item">
      <p className="label">{t.run.output}</p>
      <Value value={output} place={place} />
    </div>
  );
}

function Member({ run, prefix }: { run: Run; prefix: string }) {
  const title = textOf(run.input).split("\n", 1)[0]?.slice(0, 160) ?? "";
  return (
    <Disclosure className="member" defaultExpanded={run.status === "failed" || run.status === "paused"}>
      <Heading level={3}>
        <Button slot="trigger" className="fold">
          <Icon name="right" size={14} />
          <span className="member-name">{plain(run.agent ?? t.run.member)}</span>
          <span className="fold-about" dir="auto">
            {plain(title)}
          </span>
          {run.handoff === null ? null : <span dir="auto">{t.run.handedOver(plain(run.handoff.to))}</span>}
          <StatusBadge status={run.status} quiet />
          {run.ended_at === null ? null : <span className="muted number">{seconds(durationOf(run, 0))}</span>}
          <span className="muted">
            <Cost usage={run.usage} />
          </span>
          <span className="muted">
            <Own run={run} />
          </span>
        </Button>
      </Heading>
      <DisclosurePanel className="member-body">
        <Body run={run} prefix={prefix} />
        {run.handoff === null || run.handoff.reason === "" ? null : (
          <p className="ending off" dir="auto">
            {plain(run.handoff.reason)}
          </p>
        )}
        {run.error === null ? null : <Failed run={run} />}
      </DisclosurePanel>
    </Disclosure>
  );
}

function Ending({ run, session }: { run: Run; session: Session }) {
  if (run.status === "failed") return <Failed run={run} />;
  if (run.status === "paused" || run.status === "interrupted")
    return <Pending run={run} session={session} pause={run.epoch} />;
  if (run.status === "cancelled") return <p className="ending off">{t.run.cancelled}</p>;
  return null;
}

export function Failed({ run }: { run: Run }) {
  const error = run.error ?? {};
  const rest = Object.fromEntries(
    Object.entries(error).filter(([name]) => !["type", "message", "traceback", "stack"].includes(name)),
  );
  const stack =
    typeof error.traceback === "string" ? error.traceback : typeof error.stack === "string" ? error.stack : "";
  return (
    <section className="ending bad" aria-label={`${t.run.error}, ${t.session.run(run.number)} ${run.run_id.slice(-4)}`}>
      <p>
        <Icon name="warning" /> <strong>{plain(String(error.type ?? t.run.error))}</strong>{" "}
        <span dir="auto">{plain(String(error.message ?? ""))}</span>
      </p>
      {stack === "" ? null : (
        <Disclosure>
          <Heading level={3}>
            <Button slot="trigger" className="fold">
              <Icon name="right" size={14} /> {t.run.trace}
            </Button>
          </Heading>
          <DisclosurePanel>
            <Value value={stack} />
          </DisclosurePanel>
        </Disclosure>
      )}
      {Object.keys(rest).length === 0 ? null : <Value value={rest as Json} />}
    </section>
  );
}
