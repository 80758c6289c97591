// What came of an experiment: the figures then and now, and each case side by side, with the way to its two runs.

import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { ToggleButton, ToggleButtonGroup } from "react-aria-components";
import { to } from "../../address";
import { experiment } from "../../api/insight";
import type { Json, Replayed, Report, ReportCase } from "../../api/types";
import { textOf } from "../../messages";
import { Cost, Empty, IconButton, Score, Skeleton, Trouble, useNow } from "../../parts/basics";
import { Prose } from "../../parts/Prose";
import { saveBlob } from "../../parts/saving";
import { count, moment, plain, seconds, wholeTime } from "../../shown";
import { t } from "../../texts";
import { csvOf } from "../monitor/series";
import { Progress } from "./Evaluations";
import { titleOf, whatOf } from "./experiment";

export function ReportView({ name }: { name: string }) {
  const found = useQuery(experiment(name));
  const now = useNow();
  const made = found.data;
  const about = made === undefined ? null : { ...made, name, begun: made.started_at };
  const title = about === null ? plain(name) : titleOf(about, now);
  useEffect(() => {
    document.title = `${title} · ${t.product}`;
  }, [title]);
  return (
    <div className="page wide">
      <div className="page-head">
        <h1 dir="auto" title={name}>
          {title}
        </h1>
        <a href={to(["evaluations"])}>{t.evaluations.back}</a>
      </div>
      {about === null ? null : (
        <p className="facts">
          <span dir="auto">{whatOf(about)}</span>
          <span>{t.evaluations.cases(about.total)}</span>
          <time dateTime={about.begun} title={wholeTime(about.begun)}>
            {moment(about.begun, now)}
          </time>
        </p>
      )}
      {made !== undefined ? null : found.error === null ? (
        <Skeleton lines={6} />
      ) : (
        <Trouble error={found.error} onRetry={() => found.refetch()} />
      )}
      {made?.status === "running" ? (
        <section className="card">
          <Progress made={made} />
        </section>
      ) : null}
      {made === undefined || made.error === null ? null : (
        <p className="wrong" role="alert">
          {t.evaluations.failed}: {plain(made.error)}
        </p>
      )}
      {made?.report == null ? null : <Told report={made.report} />}
    </div>
  );
}

const cell = (value: Json) =>
  value === null
    ? "–"
    : typeof value === "number"
      ? Number.isInteger(value)
        ? count(value)
        : value.toFixed(3)
      : textOf(value);

function Told({ report }: { report: Report }) {
  const [shown, setShown] = useState("all");
  const cases = report.cases.filter((one) => shown === "all" || one.change === shown);
  const csv = () =>
    csvOf(
      ["case", "change", "input", "expected", "then", "now", "score then", "score now", "cost then", "cost now"],
      report.cases.map((one) => [
        one.id,
        one.change,
        textOf(one.input),
        textOf(one.expected),
        textOf(one.old.output),
        textOf(one.new.output),
        one.old.score,
        one.new.score,
        one.old.cost,
        one.new.cost,
      ]),
    );
  return (
    <>
      <section className="card totals">
        <table className="figures">
          <thead>
            <tr>
              <th scope="col">{t.evaluations.cases(report.cases.length)}</th>
              <th scope="col" className="end">
                {t.evaluations.before}
              </th>
              <th scope="col" className="end">
                {t.evaluations.now}
              </th>
            </tr>
          </thead>
          <tbody>
            {Object.entries(report.totals).map(([name, [before, now]]) => (
              <tr key={name}>
                <th scope="row">{name}</th>
                <td className="end number">{cell(before)}</td>
                <td className="end number">{cell(now)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </section>
      <div className="asked">
        <ToggleButtonGroup
          className="toggles"
          aria-label={t.evaluations.compare}
          selectedKeys={[shown]}
          disallowEmptySelection
          onSelectionChange={(keys) => setShown(String([...keys][0]))}
        >
          <ToggleButton id="all" className="toggle">
            {t.evaluations.all} {report.cases.length}
          </ToggleButton>
          {Object.entries(t.evaluations.change).map(([key, title]) => (
            <ToggleButton key={key} id={key} className="toggle">
              {title} {report.changes[key] ?? 0}
            </ToggleButton>
          ))}
        </ToggleButtonGroup>
        <IconButton
          icon="download"
          label={t.monitor.csv}
          onPress={() => saveBlob(new Blob([csv()], { type: "text/csv" }), `${report.experiment}.csv`)}
        />
      </div>
      {cases.length === 0 ? <Empty icon="filter" title={t.evaluations.noCases} /> : null}
      <div className="stack">
        {cases.map((one) => (
          <Case key={one.id} of={one} />
        ))}
      </div>
    </>
  );
}

function Case({ of }: { of: ReportCase }) {
  const { old, new: now } = of;
  const both =
    old.session_id === null || now.session_id === null || old.run === null || now.run === null
      ? null
      : to(["compare"], { a: old.session_id, ra: old.run, b: now.session_id, rb: now.run });
  return (
    <article className="card" aria-label={plain(textOf(of.input)).slice(0, 200)}>
      <header className="card-head">
        <h2 dir="auto">{plain(textOf(of.input)).slice(0, 300)}</h2>
        <span className={`change-${of.change}`}>{t.evaluations.change[of.change]}</span>
        {both === null ? null : <a href={both}>{t.evaluations.compare}</a>}
      </header>
      {of.expected === null ? null : (
        <div>
          <h3>{t.evaluations.expected}</h3>
          <Prose text={textOf(of.expected)} />
        </div>
      )}
      <div className="pair">
        <Side title={t.evaluations.before} of={old} />
        <Side title={t.evaluations.now} of={now} />
      </div>
    </article>
  );
}

function Side({ title, of }: { title: string; of: Replayed }) {
  const name =
    of.session_id !== null && of.run !== null ? (
      <a href={to(["session", of.session_id], { run: of.run })}>{title}</a>
    ) : (
      title
    );
  return (
    <div>
      <h3>{name}</h3>
      {of.error === null ? null : <p className="wrong">{plain(textOf(of.error as Json))}</p>}
      {of.output === null ? (
        of.error === null ? (
          <p className="muted">{t.evaluations.noOutput}</p>
        ) : null
      ) : (
        <Prose text={textOf(of.output)} />
      )}
      <p className="facts">
        <Score value={of.score} />
        {of.seconds === null ? null : <span className="number">{seconds(of.seconds)}</span>}
        <span className="number">{t.evaluations.tokens(of.tokens)}</span>
        <Cost usage={{ cost: of.cost }} />
      </p>
    </div>
  );
}
