// Runs that nobody has rated, one after another, by keys: the queue stays as it was asked for, so that nothing jumps.

import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import { Button, Input, Label, TextArea, TextField } from "react-aria-components";
import { change, to, useAddress } from "../../address";
import { part, send } from "../../api/client";
import { foundRuns, run as oneRun, session as oneSession } from "../../api/queries";
import type { FoundRun, Json, Run } from "../../api/types";
import { textOf } from "../../messages";
import { Ago, Empty, Score, Skeleton, said, Trouble } from "../../parts/basics";
import { Named } from "../../parts/fields";
import { useCommands } from "../../shell/commands";
import { plain } from "../../shown";
import { t } from "../../texts";
import { RunCard } from "../session/RunCard";
import { Ask } from "../work/windows";

type Said = { score?: number | null; label?: string | null; comment?: string | null; correction?: Json };

const keyOf = (run: FoundRun) => `${run.session_id}#${run.number}`;
const NAMES = ["agent", "user", "model", "label"] as const;

export default function Review() {
  const { query } = useAddress();
  const value = (name: string) => query.get(name) ?? "";
  const filters = {
    ...Object.fromEntries(
      NAMES.filter((name) => query.has(name)).map((name) => [name === "user" ? "user_id" : name, value(name)]),
    ),
    rated: "false",
    members: "false",
    status: ["completed", "failed"],
  };
  const found = useQuery({ ...foundRuns(filters, null), queryKey: ["review", filters], gcTime: 0 });
  return (
    <div className="page wide">
      <div className="page-head">
        <h1>{t.review.title}</h1>
      </div>
      <div className="asked">
        <Named label={t.sessions.agent} field="agent" value={value("agent")} onChange={(agent) => change({ agent })} />
        <Named label={t.sessions.user} field="user" value={value("user")} onChange={(user) => change({ user })} />
        <Named label={t.sessions.model} field="model" value={value("model")} onChange={(model) => change({ model })} />
      </div>
      {found.isPending ? <Skeleton lines={8} /> : null}
      {found.error !== null && found.data === undefined ? (
        <Trouble error={found.error} onRetry={() => found.refetch()} />
      ) : null}
      {found.data === undefined ? null : found.data.items.length === 0 ? (
        <Empty
          icon="check"
          title={NAMES.some((name) => query.has(name)) ? t.review.noMatch : t.review.empty}
          hint={t.review.emptyHint}
        />
      ) : (
        <Queue
          key={found.dataUpdatedAt}
          runs={found.data.items}
          hasMore={found.data.next_cursor !== null}
          onAgain={() => found.refetch()}
        />
      )}
    </div>
  );
}

type QueueProps = { runs: readonly FoundRun[]; hasMore: boolean; onAgain: () => void };

function Queue({ runs, hasMore, onAgain }: QueueProps) {
  const [at, setAt] = useState(0);
  const [done, setDone] = useState<ReadonlyMap<string, Said>>(new Map());
  /** A window stays that of the run for which it was opened. */
  const [opened, setOpened] = useState<{ what: "comment" | "edit"; run: FoundRun } | null>(null);
  const [told, setTold] = useState("");
  const [failed, setFailed] = useState<{ title: string; run: FoundRun } | null>(null);
  const current = runs[at] as FoundRun;
  const move = (place: number) => setAt(Math.max(0, Math.min(runs.length - 1, place)));
  const rate = useRateBeside();
  const saidSoFar = useRef(new Map<string, Said>()); // with what is still on its way
  const last = useRef<Promise<void>>(Promise.resolve());
  const tell = async (run: FoundRun, what: Said) => {
    const all = { ...saidSoFar.current.get(keyOf(run)), ...what };
    saidSoFar.current.set(keyOf(run), all);
    const told = last.current.then(() => rate(run, all)); // in the order in which it was said
    last.current = told.catch(() => undefined);
    await told;
    setDone((before) => new Map(before).set(keyOf(run), all));
    setFailed((now) => (now?.run === run ? null : now));
  };
  const score = (number: number) => {
    const run = current;
    move(at + 1); // the next one at once: what is told arrives meanwhile
    tell(run, { score: number }).then(
      () => setTold(t.review.rated(number)),
      // Whoever rates by keys is at another run by then, and the next key is meant for that one: nothing jumps.
      (error) => setFailed({ title: said(error).title, run }),
    );
  };
  const open = (what: "comment" | "edit") => setOpened({ what, run: current });
  useCommands([
    { id: "next", title: t.keys.next, icon: "down", keys: "j", run: () => move(at + 1), isKeyOnly: true },
    { id: "previous", title: t.keys.previous, icon: "up", keys: "k", run: () => move(at - 1), isKeyOnly: true },
    ...[1, 2, 3, 4, 5].map((n) => ({
      id: `rate-${n}`,
      title: t.review.rateKey(n),
      icon: "review" as const,
      keys: String(n),
      run: () => score(n),
      isKeyOnly: true,
    })),
    { id: "comment", title: t.keys.comment, icon: "edit", keys: "c", run: () => open("comment") },
    { id: "edit", title: t.review.edit, icon: "examples", keys: "e", run: () => open("edit") },
  ]);
  const left = runs.filter((one) => done.get(keyOf(one))?.score == null).length;
  return (
    <>
      <div className="review-tools">
        <span>{t.review.left(left, hasMore)}</span>
        <span className="muted">{t.review.keys}</span>
        {left === 0 ? (
          <Button className="button small" onPress={onAgain}>
            {t.review.again}
          </Button>
        ) : null}
        <span role="status" className="muted">
          {told}
        </span>
        <span role="alert" className={failed === null ? "hidden" : "wrong"}>
          {failed === null ? null : (
            <>
              {failed.title}{" "}
              <Button className="link" onPress={() => move(runs.indexOf(failed.run))}>
                {t.review.notRated(plain(failed.run.session_name ?? failed.run.session_id))}
              </Button>
            </>
          )}
        </span>
      </div>
      <div className="review">
        <List runs={runs} at={at} done={done} onChoose={move} />
        <Reviewed
          key={keyOf(current)}
          found={current}
          onComment={() => open("comment")}
          onEdit={() => open("edit")}
          onScore={score}
          score={done.get(keyOf(current))?.score ?? null}
        />
      </div>
      {opened?.what === "comment" ? (
        <CommentWindow
          before={done.get(keyOf(opened.run))}
          onClose={() => setOpened(null)}
          onSay={(what) => tell(opened.run, what)}
        />
      ) : null}
      {opened?.what === "edit" ? (
        <EditWindow
          found={opened.run}
          onClose={() => setOpened(null)}
          onSay={async (correction) => {
            await tell(opened.run, { score: 5, correction });
            setTold(t.review.corrected);
          }}
        />
      ) : null}
    </>
  );
}

/** A new rating takes the place of the one before, so all that was said goes along. */
function useRateBeside() {
  const client = useQueryClient();
  return async (run: FoundRun, what: Said) => {
    await send("POST", `sessions/${part(run.session_id)}/runs/${run.number}/ratings`, what);
    for (const key of [["found"], ["examples"], ["run", run.session_id], ["window", run.session_id]])
      client.invalidateQueries({ queryKey: key });
  };
}

type ListProps = {
  runs: readonly FoundRun[];
  at: number;
  done: ReadonlyMap<string, Said>;
  onChoose: (index: number) => void;
};

function List({ runs, at, done, onChoose }: ListProps) {
  const box = useRef<HTMLOListElement>(null);
  useEffect(() => {
    box.current?.children[at]?.scrollIntoView({ block: "nearest" });
  }, [at]);
  return (
    <ol ref={box} className="queue" aria-label={t.review.queue}>
      {runs.map((run, index) => (
        <li key={keyOf(run)}>
          <button type="button" className="queue-item" aria-current={index === at} onClick={() => onChoose(index)}>
            <span dir="auto">{plain(run.session_name ?? run.session_id)}</span>
            <span className="muted">
              {t.session.run(run.number)} · {run.agent === null ? "" : `${plain(run.agent)} · `}
              <Ago time={run.started_at} /> <Score value={done.get(keyOf(run))?.score ?? null} />
            </span>
          </button>
        </li>
      ))}
    </ol>
  );
}

type ReviewedProps = {
  found: FoundRun;
  score: number | null;
  onScore: (score: number) => void;
  onComment: () => void;
  onEdit: () => void;
};

function Reviewed({ found, score, onScore, onComment, onEdit }: ReviewedProps) {
  const run = useQuery(oneRun(found.session_id, found.number));
  const session = useQuery({ ...oneSession(found.session_id), refetchInterval: false });
  return (
    <div>
      <div className="review-tools">
        <span className="toggles" role="group" aria-label={t.run.rate}>
          {[1, 2, 3, 4, 5].map((one) => (
            <Button
              key={one}
              className="toggle"
              aria-label={t.run.score(one)}
              aria-pressed={one === score}
              onPress={() => onScore(one)}
            >
              {one}
            </Button>
          ))}
        </span>
        <Button className="button small" onPress={onComment}>
          {t.review.comment}
        </Button>
        <Button className="button small" onPress={onEdit}>
          {t.review.edit}
        </Button>
        <a href={to(["session", found.session_id], { run: found.number })}>{t.review.open}</a>
      </div>
      {run.data === undefined || session.data === undefined ? (
        run.error !== null || session.error !== null ? (
          <Trouble error={run.error ?? session.error} onRetry={() => run.refetch()} />
        ) : (
          <Skeleton lines={6} />
        )
      ) : (
        <RunCard run={run.data} session={session.data} />
      )}
    </div>
  );
}

type CommentProps = { before: Said | undefined; onClose: () => void; onSay: (what: Said) => Promise<void> };

function CommentWindow({ before, onClose, onSay }: CommentProps) {
  const given = (form: FormData, name: string) => String(form.get(name) ?? "").trim() || null;
  return (
    <Ask
      title={t.review.commentTitle}
      hint=""
      action={t.common.save}
      onClose={onClose}
      onDo={async (form) => {
        await onSay({ comment: given(form, "comment"), label: given(form, "label") });
        return undefined;
      }}
    >
      <TextField className="field" name="comment" defaultValue={before?.comment ?? ""} autoFocus>
        <Label>{t.run.comment}</Label>
        <TextArea placeholder={t.run.commentHint} />
      </TextField>
      <TextField className="field" name="label" defaultValue={before?.label ?? ""}>
        <Label>{t.run.label}</Label>
        <Input />
      </TextField>
    </Ask>
  );
}

type EditProps = { found: FoundRun; onClose: () => void; onSay: (correction: Json) => Promise<void> };

function EditWindow({ found, onClose, onSay }: EditProps) {
  const run = useQuery(oneRun(found.session_id, found.number)).data;
  if (run === undefined) return null;
  return (
    <Ask
      title={t.review.editTitle}
      hint={t.review.editHint}
      action={t.common.save}
      onClose={onClose}
      onDo={async (form) => {
        await onSay(correctionOf(run, String(form.get("answer") ?? "")));
        return undefined;
      }}
    >
      <TextField className="field" name="answer" defaultValue={shownOf(run)} autoFocus>
        <Label>{t.review.answer}</Label>
        <TextArea rows={10} />
      </TextField>
    </Ask>
  );
}

const shownOf = (run: Run) =>
  run.output === null || typeof run.output === "string" ? textOf(run.output) : JSON.stringify(run.output, null, 2);

/** An answer of text is corrected by text, one of JSON by JSON. */
function correctionOf(run: Run, text: string): Json {
  if (run.output === null || typeof run.output === "string") return text;
  try {
    return JSON.parse(text) as Json;
  } catch {
    throw new Error(t.review.notJson);
  }
}
