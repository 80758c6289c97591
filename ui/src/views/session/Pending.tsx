// A run that waits for somebody, or whose process is gone: what it asks, and the answers.

import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Button, Input, Label, TextArea, TextField } from "react-aria-components";
import { part, send } from "../../api/client";
import { agents } from "../../api/queries";
import type { Asked, Json, Run, Session } from "../../api/types";
import { said } from "../../parts/basics";
import { Icon } from "../../parts/Icon";
import { Value } from "../../parts/Value";
import { plain } from "../../shown";
import { t } from "../../texts";

type Decision = boolean | { approved: boolean; message?: string; args?: Json };

export function Pending({
  run,
  session,
  isDecided = false,
}: {
  run: Pick<Run, "session_id" | "number" | "status" | "pending" | "agent">;
  session: Pick<Session, "agent">;
  /** Whether all that it asks was decided before, elsewhere perhaps. */
  isDecided?: boolean;
}) {
  const client = useQueryClient();
  const served = useQuery(agents()).data;
  const [decided, setDecided] = useState<Record<string, Decision>>({});
  const [results, setResults] = useState<Record<string, Json>>({});
  const [isBusy, setBusy] = useState(false);
  const [failed, setFailed] = useState<{ title: string; hint: string } | null>(null);
  const name = run.agent ?? session.agent ?? "";
  const canRun = served === undefined || served.some((one) => one.name === name);
  const calls = run.pending.filter((one) => one.kind !== "event");
  const [isKept, setKept] = useState(false);
  const path = `sessions/${part(run.session_id)}`;

  const tell = async (work: Promise<unknown>) => {
    setBusy(true);
    setFailed(null);
    let isDone = true;
    try {
      await work;
    } catch (error) {
      isDone = false;
      setFailed(said(error));
    }
    await Promise.all(
      ["window", "session", "waiting", "run"].map((key) => client.invalidateQueries({ queryKey: [key] })),
    );
    setBusy(false);
    return isDone;
  };
  const resume = (approvals: Record<string, Decision>, given: Record<string, Json>) =>
    tell(send("POST", `${path}/runs/${run.number}/resume`, { approvals, results: given, background: true }));

  /** Where its agent is not served, what is decided is kept for whoever serves it. */
  const keep = (approvals: Record<string, Decision>, given: Record<string, Json>) =>
    tell(send("POST", `${path}/runs/${run.number}/decisions`, { approvals, results: given })).then(setKept);

  /** The run goes on when all of its calls are answered. */
  const answer = (approvals: Record<string, Decision>, given: Record<string, Json>) => {
    const all = { ...decided, ...approvals };
    const allResults = { ...results, ...given };
    setDecided(all);
    setResults(allResults);
    if (calls.every((call) => call.tool_call_id in all || call.tool_call_id in allResults))
      (canRun ? resume : keep)(all, allResults);
  };

  const died = run.status === "interrupted";
  const canDecide = canRun || (!died && calls.length === run.pending.length);
  return (
    <section
      className="ending warn"
      aria-label={`${died ? t.run.died : t.run.waits} (${run.session_id}, ${t.session.run(run.number)})`}
    >
      {died ? (
        <p>
          <Icon name="warning" /> <strong>{t.run.died}</strong> {t.run.diedHint}
        </p>
      ) : null}
      {run.pending.map((asked) => (
        <Question
          key={asked.kind === "event" ? asked.name : asked.tool_call_id}
          asked={asked}
          isDisabled={isBusy || isKept || !canDecide}
          decided={asked.kind === "event" ? undefined : decided[asked.tool_call_id]}
          onDecide={(decision) => asked.kind !== "event" && answer({ [asked.tool_call_id]: decision }, {})}
          onResult={(value) => {
            if (asked.kind === "event")
              tell(send("POST", `${path}/events`, { name: asked.name, value, run_number: run.number }));
            else answer({}, { [asked.tool_call_id]: value });
          }}
        />
      ))}
      {canRun && !isKept && (isDecided || (died && calls.length === 0)) ? (
        <Button className="button primary" isDisabled={isBusy} onPress={() => resume({}, {})}>
          {isBusy ? t.run.resuming : t.run.resume}
        </Button>
      ) : null}
      {canRun || isKept || isDecided ? null : (
        <p className="muted">{canDecide ? t.run.decidesOnly(name) : t.run.noAgent(name)}</p>
      )}
      {isKept || isDecided ? (
        <p role="status">
          <Icon name="check" /> {t.run.decided}
        </p>
      ) : null}
      {failed === null ? null : (
        <p role="alert" className="wrong">
          {failed.title} {failed.hint}
        </p>
      )}
    </section>
  );
}

type QuestionProps = {
  asked: Asked;
  isDisabled: boolean;
  decided: Decision | undefined;
  onDecide: (decision: Decision) => void;
  onResult: (value: Json) => void;
};

function Question({ asked, isDisabled, decided, onDecide, onResult }: QuestionProps) {
  const [mode, setMode] = useState<"ask" | "deny" | "edit">("ask");
  if (asked.kind === "event") {
    return (
      <div className="question">
        <p>
          <Icon name="waiting" /> <strong>{t.run.waitsEvent(plain(asked.name))}</strong>
        </p>
        <GivenValue label={t.run.sendEvent} isDisabled={isDisabled} onGive={onResult} />
      </div>
    );
  }
  const title = { approval: t.run.waitsFor, call: t.run.waitsResult, unsure: t.run.unsure }[asked.kind](
    plain(asked.tool_name),
  );
  return (
    <div className="question">
      <p>
        <Icon name="waiting" /> <strong>{title}</strong>
      </p>
      {mode === "edit" ? (
        <EditedArgs
          args={asked.args}
          onCancel={() => setMode("ask")}
          onDone={(args) => onDecide({ approved: true, args })}
          isDisabled={isDisabled}
        />
      ) : (
        <Value value={asked.args} />
      )}
      {asked.kind === "call" ? <GivenValue label={t.run.giveResult} isDisabled={isDisabled} onGive={onResult} /> : null}
      {asked.kind !== "call" && mode === "ask" ? (
        <div className="decisions">
          <Button
            className={decided === true ? "button primary decided" : "button primary"}
            isDisabled={isDisabled}
            onPress={() => onDecide(true)}
          >
            <Icon name="check" /> {t.run.approve}
          </Button>
          <Button className="button danger" isDisabled={isDisabled} onPress={() => setMode("deny")}>
            <Icon name="close" /> {t.run.deny}
          </Button>
          <Button className="button" isDisabled={isDisabled} onPress={() => setMode("edit")}>
            <Icon name="edit" /> {t.run.edit}
          </Button>
        </div>
      ) : null}
      {mode === "deny" ? (
        <form
          className="denial"
          onSubmit={(event) => {
            event.preventDefault();
            const message = String(new FormData(event.currentTarget).get("message") ?? "");
            onDecide(message === "" ? false : { approved: false, message });
          }}
        >
          <TextField className="field" name="message" autoFocus>
            <Label>{t.run.reason}</Label>
            <Input />
          </TextField>
          <div className="decisions">
            <Button className="button danger" type="submit" isDisabled={isDisabled}>
              {t.run.denyNow}
            </Button>
            <Button className="button" onPress={() => setMode("ask")}>
              {t.common.cancel}
            </Button>
          </div>
        </form>
      ) : null}
    </div>
  );
}

function EditedArgs(props: { args: Json; isDisabled: boolean; onCancel: () => void; onDone: (args: Json) => void }) {
  const [text, setText] = useState(JSON.stringify(props.args, null, 2));
  const [isWrong, setWrong] = useState(false);
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        try {
          props.onDone(JSON.parse(text) as Json);
        } catch {
          setWrong(true);
        }
      }}
    >
      <TextField className="field" value={text} onChange={setText} isInvalid={isWrong}>
        <Label>{t.run.arguments}</Label>
        <TextArea className="mono-area" />
      </TextField>
      {isWrong ? (
        <p className="wrong" role="alert">
          {t.run.notJson}
        </p>
      ) : null}
      <div className="decisions">
        <Button className="button primary" type="submit" isDisabled={props.isDisabled}>
          <Icon name="check" /> {t.run.approve}
        </Button>
        <Button className="button" onPress={props.onCancel}>
          {t.common.cancel}
        </Button>
      </div>
    </form>
  );
}

/** JSON where it is that, else the text itself. */
export function jsonOrText(text: string): Json {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return text;
  }
}

function GivenValue({
  label,
  isDisabled,
  onGive,
}: {
  label: string;
  isDisabled: boolean;
  onGive: (value: Json) => void;
}) {
  const [text, setText] = useState("");
  return (
    <form
      className="given"
      onSubmit={(event) => {
        event.preventDefault();
        onGive(text === "" ? null : jsonOrText(text));
      }}
    >
      <TextField className="field" value={text} onChange={setText}>
        <Label>{t.run.value}</Label>
        <Input />
      </TextField>
      <Button className="button primary" type="submit" isDisabled={isDisabled}>
        {label}
      </Button>
    </form>
  );
}
