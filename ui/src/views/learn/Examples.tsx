// Good runs as examples, and as data sets.

import { useQuery } from "@tanstack/react-query";
import { useRef } from "react";
import { Button } from "react-aria-components";
import { change, to, useAddress } from "../../address";
import { examples } from "../../api/insight";
import type { Example } from "../../api/types";
import { textOf } from "../../messages";
import { CopyButton, Empty, Skeleton, Trouble } from "../../parts/basics";
import { Named, Numbered, Typed } from "../../parts/fields";
import { Icon } from "../../parts/Icon";
import { Prose } from "../../parts/Prose";
import { useSaving } from "../../parts/saving";
import { Value } from "../../parts/Value";
import { plain } from "../../shown";
import { t } from "../../texts";

export default function Examples() {
  const { query } = useAddress();
  const value = (name: string) => query.get(name) ?? "";
  const filters = {
    min_score: query.get("min_score") ?? "4",
    agent: query.get("agent") ?? undefined,
    user_id: query.get("user") ?? undefined,
    label: query.get("label") ?? undefined,
  };
  const found = useQuery(examples(filters, value("like")));
  const isOlder = found.isPlaceholderData; // what fits what was asked before
  const input = useRef<HTMLInputElement>(null);
  const saving = useSaving();
  const save = (format: "json" | "yaml") =>
    saving.save("dataset", { ...filters, limit: 1000, format }, `dataset.${format}`);
  return (
    <div className="page">
      <div className="page-head">
        <h1>{t.examples.title}</h1>
        <Button className="button" onPress={() => save("json")}>
          <Icon name="download" /> {t.examples.json}
        </Button>
        <Button className="button" onPress={() => save("yaml")}>
          <Icon name="download" /> {t.examples.yaml}
        </Button>
        <a
          className="button"
          href={to(["evaluations"], {
            start: 1,
            agent: filters.agent,
            min_score: filters.min_score,
            label: filters.label,
          })}
        >
          <Icon name="evaluations" /> {t.examples.evaluate}
        </a>
      </div>
      <p className="muted">{t.examples.hint}</p>
      {saving.failed}
      <div className="asked">
        <Typed value={value("like")} label={t.examples.like} inputRef={input} onChange={(like) => change({ like })} />
        <Numbered
          label={t.examples.minScore}
          value={filters.min_score}
          onChange={(score) => change({ min_score: score ?? "0" })}
        />
        <Named label={t.sessions.agent} field="agent" value={value("agent")} onChange={(agent) => change({ agent })} />
        <Named label={t.sessions.user} field="user" value={value("user")} onChange={(user) => change({ user })} />
        <Named label={t.run.label} field="label" value={value("label")} onChange={(label) => change({ label })} />
      </div>
      {found.isPending || (isOlder && found.data?.length === 0) ? <Skeleton lines={6} /> : null}
      {found.error !== null && found.data === undefined ? (
        <Trouble error={found.error} onRetry={() => found.refetch()} />
      ) : null}
      {found.data?.length === 0 && !isOlder ? (
        <Empty icon="examples" title={t.examples.empty} hint={t.examples.emptyHint}>
          <a className="button" href={to(["review"])}>
            {t.examples.toReview}
          </a>
        </Empty>
      ) : null}
      <div className={isOlder ? "stack older" : "stack"} aria-busy={isOlder}>
        {found.data?.map((one) => (
          <Shown key={`${one.session_id}#${one.run_id}`} example={one} />
        ))}
      </div>
      {found.isPending ? null : <Code agent={filters.agent ?? ""} score={filters.min_score} />}
    </div>
  );
}

function Shown({ example }: { example: Example }) {
  const place = (pointer: string) => ({ sessionId: example.session_id, number: example.number, pointer });
  return (
    <article className="card example" aria-label={`${plain(example.session_id)} ${t.session.run(example.number)}`}>
      <header className="card-head">
        <h2>
          <a href={to(["session", example.session_id], { run: example.number })} dir="auto">
            {plain(example.session_id)}
          </a>{" "}
          <span className="muted">
            {t.session.run(example.number)} {example.corrected ? `· ${t.examples.corrected}` : ""}
          </span>
        </h2>
        {typeof example.answer === "string" ? <CopyButton text={() => textOf(example.answer)} /> : null}
      </header>
      <div>
        <h3>{t.examples.question}</h3>
        {typeof example.question === "string" ? (
          <Prose text={example.question} />
        ) : (
          <Value value={example.question} place={place("/input")} />
        )}
      </div>
      <div>
        <h3>{t.examples.answer}</h3>
        {typeof example.answer === "string" ? (
          <Prose text={example.answer} />
        ) : (
          <Value value={example.answer} place={place("/output")} />
        )}
      </div>
    </article>
  );
}

function Code({ agent, score }: { agent: string; score: string }) {
  const code = t.examples.codeText(JSON.stringify(agent || "support"), score);
  return (
    <section className="card">
      <header className="card-head">
        <h2>{t.examples.code}</h2>
        <CopyButton text={() => code} />
      </header>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keys */}
      <pre className="code" tabIndex={0}>
        {code}
      </pre>
    </section>
  );
}
