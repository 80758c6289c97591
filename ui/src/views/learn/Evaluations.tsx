// Replays: what was run again, how far it is, and the report, then and now side by side.

import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Button, Input, Label, TextField } from "react-aria-components";
import { change, to, useAddress } from "../../address";
import { send } from "../../api/client";
import { experiments } from "../../api/insight";
import { agents } from "../../api/queries";
import type { Experiment } from "../../api/types";
import { Ago, Empty, Skeleton, Trouble, useNow } from "../../parts/basics";
import { Icon } from "../../parts/Icon";
import { plain } from "../../shown";
import { t } from "../../texts";
import type { ViewProps } from "../index";
import { Ask } from "../work/windows";
import { aboutSession, PREFIX, titleOf } from "./experiment";
import { ReportView } from "./ReportView";

export default function Evaluations({ path }: ViewProps) {
  const name = path[0];
  return name === undefined ? <List /> : <ReportView name={name} />;
}

function List() {
  const { query } = useAddress();
  const found = useQuery(experiments());
  const served = useQuery(agents());
  const now = useNow();
  const isOpen = query.has("start");
  if (found.data === undefined)
    return found.error === null ? (
      <Skeleton lines={6} />
    ) : (
      <Trouble error={found.error} onRetry={() => found.refetch()} />
    );
  const { here, items } = found.data;
  const kept = items.filter((one) => !here.some((other) => PREFIX + other.experiment === one.session_id));
  const canStart = (served.data?.length ?? 0) > 0;
  return (
    <div className="page">
      <div className="page-head">
        <h1>{t.evaluations.title}</h1>
        {canStart ? (
          <Button className="button primary" onPress={() => change({ start: 1 })}>
            <Icon name="runs" /> {t.evaluations.start}
          </Button>
        ) : null}
      </div>
      <p className="muted">{t.evaluations.hint}</p>
      {served.data?.length === 0 ? <p className="note">{t.evaluations.noAgents}</p> : null}
      {here.length + kept.length === 0 ? (
        <Empty icon="evaluations" title={t.evaluations.empty} hint={t.evaluations.emptyHint} />
      ) : null}
      <ul className="stack">
        {here.map((one) => (
          <li key={one.experiment} className="card">
            <a href={to(["evaluations", one.experiment])} dir="auto">
              {titleOf({ ...one, name: one.experiment, begun: one.started_at }, now)}
            </a>
            <Progress made={one} />
          </li>
        ))}
        {kept.map((one) => (
          <li key={one.session_id} className="card card-row">
            <a href={to(["evaluations", one.session_id.slice(PREFIX.length)])} dir="auto">
              {titleOf(aboutSession(one), now)}
            </a>
            <span className="muted">
              {one.agent === null ? "" : plain(one.agent)} · <Ago time={one.updated_at} />
            </span>
          </li>
        ))}
      </ul>
      {isOpen && canStart ? (
        <StartWindow
          names={served.data?.map((one) => one.name) ?? []}
          query={query}
          onClose={() => change({ start: null, agent: null, min_score: null, label: null })}
        />
      ) : null}
    </div>
  );
}

export function Progress({ made }: { made: Experiment }) {
  return (
    <>
      <progress
        value={made.done}
        max={Math.max(1, made.total)}
        aria-label={t.evaluations.running(made.done, made.total)}
      />
      <span className="muted">{t.evaluations.running(made.done, made.total)}</span>
    </>
  );
}

type StartProps = { names: readonly string[]; query: URLSearchParams; onClose: () => void };

function StartWindow({ names, query, onClose }: StartProps) {
  const client = useQueryClient();
  const text = (form: FormData, name: string) => String(form.get(name) ?? "").trim();
  const start = async (form: FormData) => {
    const judge = text(form, "judge");
    const score = text(form, "min_score");
    const made = await send<Experiment>("POST", "experiments", {
      agent: text(form, "agent"),
      model: text(form, "model") || null,
      experiment: text(form, "name") || null,
      tools: text(form, "tools"),
      cases: {
        label: text(form, "label") || null,
        min_score: score === "" ? null : Number(score),
        limit: Number(text(form, "limit")) || 50,
      },
      evaluators: judge === "none" ? [] : [{ kind: judge }],
    });
    client.invalidateQueries({ queryKey: ["experiments"] });
    return { address: to(["evaluations", made.experiment]) };
  };
  return (
    <Ask
      title={t.evaluations.startTitle}
      hint={t.evaluations.startHint}
      action={t.evaluations.startNow}
      onClose={onClose}
      onDo={start}
    >
      <Choose
        name="agent"
        label={t.evaluations.agent}
        options={names.map((one) => [one, one])}
        value={query.get("agent") ?? names[0] ?? ""}
      />
      <Field name="model" label={t.evaluations.model} />
      <Field name="min_score" label={t.evaluations.minScore} value={query.get("min_score") ?? ""} type="number" />
      <Field name="label" label={t.evaluations.label} value={query.get("label") ?? ""} />
      <Field name="limit" label={t.evaluations.limit} value="50" type="number" />
      <Choose name="judge" label={t.evaluations.judge} options={Object.entries(t.evaluations.judges)} value="none" />
      <Choose name="tools" label={t.evaluations.tools} options={Object.entries(t.evaluations.toolKinds)} value="log" />
      <Field name="name" label={t.evaluations.name} />
    </Ask>
  );
}

function Field({
  name,
  label,
  value = "",
  type = "text",
}: {
  name: string;
  label: string;
  value?: string;
  type?: string;
}) {
  return (
    <TextField className="field" name={name} defaultValue={value} type={type}>
      <Label>{label}</Label>
      <Input step="any" />
    </TextField>
  );
}

/** The browser's own, which stands well in a form. */
function Choose({
  name,
  label,
  options,
  value,
}: {
  name: string;
  label: string;
  options: readonly (readonly [string, string])[];
  value: string;
}) {
  return (
    <label className="field">
      <span>{label}</span>
      <select className="native" name={name} defaultValue={value}>
        {options.map(([key, title]) => (
          <option key={key} value={key}>
            {title}
          </option>
        ))}
      </select>
    </label>
  );
}
