// A run that waits for somebody, or whose process is gone: what it asks, and the answers.

import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Button, Input, Label, TextArea, TextField } from "react-aria-components";
import { part, send } from "../../api/client";
import { about, agents } from "../../api/queries";
import type { Asked, Form, Json, Run, Session } from "../../api/types";
import { said } from "../../parts/basics";
import { Choice } from "../../parts/fields";
import { Icon } from "../../parts/Icon";
import { SchemaForm } from "../../parts/SchemaForm";
import { Value } from "../../parts/Value";
import { plain } from "../../shown";
import { t } from "../../texts";

type Decision = boolean | { approved: boolean; message?: string; args?: Json; always?: "session" | "user" };

const only = <T,>(names: ReadonlySet<string>, answers: Record<string, T>): Record<string, T> =>
  Object.fromEntries(Object.entries(answers).filter(([name]) => names.has(name)));

type Props = {
  run: Pick<Run, "session_id" | "number" | "status" | "pending" | "agent">;
  session: Pick<Session, "agent">;
  /** Whether all that it asks was decided before, elsewhere perhaps. */
  isDecided?: boolean;
  /** For the how-manieth time it waits (else since when): what was answered before says nothing about what is asked now. */
  pause: string | number;
};

/** Models use the ids of their calls again, so answers belong to one pause, and go with it. */
export function Pending(props: Props) {
  return <Asking key={props.pause} {...props} />;
}

function Asking({ run, session, isDecided = false, pause }: Props) {
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
  const epoch = typeof pause === "number" ? pause : null;

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
      ["window", "session", "waiting", "run", "approvals"].map((key) => client.invalidateQueries({ queryKey: [key] })),
    );
    setBusy(false);
    return isDone;
  };
  const resume = (approvals: Record<string, Decision>, given: Record<string, Json>) =>
    tell(send("POST", `${path}/runs/${run.number}/resume`, { approvals, results: given, epoch, background: true }));

  /** Where its agent is not served, what is decided is kept for whoever serves it. */
  const keep = (approvals: Record<string, Decision>, given: Record<string, Json>) =>
    tell(send("POST", `${path}/runs/${run.number}/decisions`, { approvals, results: given, epoch })).then((isDone) => {
      setKept(isDone);
      return isDone;
    });

  /** The run goes on when all of its calls are answered. What has gone out answers nothing that is asked later. */
  const answer = (approvals: Record<string, Decision>, given: Record<string, Json>) => {
    // What was asked before, and is answered, may still be here where nobody saw the run go on in between.
    const asked = new Set(calls.map((call) => call.tool_call_id));
    const all = only(asked, { ...decided, ...approvals });
    const allResults = only(asked, { ...results, ...given });
    setDecided(all);
    setResults(allResults);
    if (calls.every((call) => call.tool_call_id in all || call.tool_call_id in allResults))
      (canRun ? resume : keep)(all, allResults).then((isSent) => {
        if (isSent === false) return;
        setDecided({});
        setResults({});
      });
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
  const [always, setAlways] = useState<string | null>(null);
  if (asked.kind === "event") {
    return (
      <div className="question">
        <p>
          <Icon name="waiting" /> <strong>{t.run.waitsEvent(plain(asked.name))}</strong>
        </p>
        {asked.schema === undefined ? (
          <GivenValue label={t.run.sendEvent} isDisabled={isDisabled} onGive={onResult} />
        ) : (
          <Filled form={{ question: "", ...asked, schema: asked.schema }} isDisabled={isDisabled} onDone={onResult} />
        )}
      </div>
    );
  }
  if (asked.kind === "form") {
    return (
      <div className="question">
        <p>
          <Icon name="waiting" /> <strong>{t.form.asks(plain(asked.tool_name))}</strong>
        </p>
        {mode === "deny" ? (
          <Denial
            label={t.run.reason}
            action={t.run.denyNow}
            isDisabled={isDisabled}
            onDone={onDecide}
            onCancel={() => setMode("ask")}
          />
        ) : (
          <Filled form={asked} isDisabled={isDisabled} onDone={onResult}>
            <Button className="button danger" isDisabled={isDisabled} onPress={() => setMode("deny")}>
              <Icon name="close" /> {t.run.deny}
            </Button>
          </Filled>
        )}
      </div>
    );
  }
  if (asked.kind === "review") return <Review asked={asked} isDisabled={isDisabled} onDecide={onDecide} />;
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
            onPress={() => onDecide(always === null ? true : { approved: true, always: always as "session" | "user" })}
          >
            <Icon name="check" /> {t.run.approve}
          </Button>
          {asked.kind === "approval" ? (
            <Choice
              label={t.approvals.always}
              any={t.approvals.once}
              value={always}
              options={[
                ["session", t.approvals.alwaysSession],
                ["user", t.approvals.alwaysUser],
              ]}
              onChange={setAlways}
            />
          ) : null}
          <Button className="button danger" isDisabled={isDisabled} onPress={() => setMode("deny")}>
            <Icon name="close" /> {t.run.deny}
          </Button>
          <Button className="button" isDisabled={isDisabled} onPress={() => setMode("edit")}>
            <Icon name="edit" /> {t.run.edit}
          </Button>
        </div>
      ) : null}
      {mode === "deny" ? (
        <Denial
          label={t.run.reason}
          action={t.run.denyNow}
          isDisabled={isDisabled}
          onDone={onDecide}
          onCancel={() => setMode("ask")}
        />
      ) : null}
    </div>
  );
}

function Denial(props: {
  label: string;
  action: string;
  isDisabled: boolean;
  onDone: (decision: Decision) => void;
  onCancel: () => void;
}) {
  return (
    <form
      className="denial"
      onSubmit={(event) => {
        event.preventDefault();
        const message = String(new FormData(event.currentTarget).get("message") ?? "");
        props.onDone(message === "" ? false : { approved: false, message });
      }}
    >
      <TextField className="field" name="message" autoFocus>
        <Label>{props.label}</Label>
        <Input />
      </TextField>
      <div className="decisions">
        <Button className="button danger" type="submit" isDisabled={props.isDisabled}>
          {props.action}
        </Button>
        <Button className="button" onPress={props.onCancel}>
          {t.common.cancel}
        </Button>
      </div>
    </form>
  );
}

function Filled(props: { form: Form; isDisabled: boolean; onDone: (value: Json) => void; children?: React.ReactNode }) {
  const { question, schema, problem } = props.form;
  return (
    <>
      {question === "" ? null : <p dir="auto">{plain(question)}</p>}
      {problem === undefined ? null : (
        <p className="wrong" role="alert">
          {t.form.refused} {plain(problem)}
        </p>
      )}
      <SchemaForm schema={schema} label={t.form.fill} isDisabled={props.isDisabled} onDone={props.onDone}>
        {props.children}
      </SchemaForm>
    </>
  );
}

/** An answer that somebody looks at before it is given. */
function Review(props: {
  asked: Extract<Asked, { kind: "review" }>;
  isDisabled: boolean;
  onDecide: (decision: Decision) => void;
}) {
  const { asked, isDisabled, onDecide } = props;
  const [mode, setMode] = useState<"ask" | "deny" | "edit">("ask");
  const isReviewer = useQuery(about()).data?.administrator !== false;
  const output = (asked.args as { output?: Json } | null)?.output ?? null;
  const schema = asked.schema ?? (typeof output === "string" ? { type: "string" } : {});
  return (
    <div className="question">
      <p>
        <Icon name="waiting" /> <strong>{t.reviewed.title}</strong>
      </p>
      {mode === "edit" ? (
        <SchemaForm
          schema={schema}
          value={output}
          label={t.reviewed.give}
          isDisabled={isDisabled}
          onDone={(value) => onDecide({ approved: true, args: { output: value } })}
        >
          <Button className="button" onPress={() => setMode("ask")}>
            {t.common.cancel}
          </Button>
        </SchemaForm>
      ) : (
        <Value value={output} />
      )}
      {isReviewer ? null : <p className="muted">{t.reviewed.others}</p>}
      {mode === "ask" && isReviewer ? (
        <div className="decisions">
          <Button className="button primary" isDisabled={isDisabled} onPress={() => onDecide(true)}>
            <Icon name="check" /> {t.reviewed.accept}
          </Button>
          <Button className="button" isDisabled={isDisabled} onPress={() => setMode("edit")}>
            <Icon name="edit" /> {t.reviewed.change}
          </Button>
          <Button className="button danger" isDisabled={isDisabled} onPress={() => setMode("deny")}>
            <Icon name="rewind" /> {t.reviewed.sendBack}
          </Button>
        </div>
      ) : null}
      {mode === "deny" ? (
        <Denial
          label={t.reviewed.remark}
          action={t.reviewed.sendBackNow}
          isDisabled={isDisabled}
          onDone={onDecide}
          onCancel={() => setMode("ask")}
        />
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
