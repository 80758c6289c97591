import { useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { Button, ToggleButton, ToggleButtonGroup } from "react-aria-components";
import { steps as stepsQuery } from "../../api/queries";
import type { Run } from "../../api/types";
import { Skeleton, Trouble, useNow } from "../../parts/basics";
import { Value } from "../../parts/Value";
import { plain, seconds } from "../../shown";
import { t } from "../../texts";
import { layout, type Step, stepsOf } from "./steps";

/** Steps that are shown at once. */
const SHOWN = 200;

/** A workflow's run as steps in time, or as a graph. */
export function Steps({ run }: { run: Run }) {
  const found = useQuery({
    ...stepsQuery(run.session_id, run.number),
    refetchInterval: run.status === "running" ? 1500 : false,
  });
  const now = useNow();
  const all = useMemo(() => stepsOf(found.data ?? [], Math.max(now, Date.now())), [found.data, now]);
  const [many, setMany] = useState(SHOWN);
  const steps = useMemo(() => all.slice(0, many), [all, many]);
  const [view, setView] = useState<"waterfall" | "graph">("waterfall");
  const [opened, setOpened] = useState<string | null>(null);
  if (found.isPending) return <Skeleton lines={2} />;
  if (found.error !== null && found.data === undefined)
    return <Trouble error={found.error} onRetry={() => found.refetch()} />;
  if (steps.length === 0) return null;
  const shown = steps.find((step) => step.path === opened);
  return (
    <section className="steps" aria-label={`${t.run.steps}, ${t.session.run(run.number)}`}>
      <div className="steps-head">
        <h3>{t.run.steps}</h3>
        <ToggleButtonGroup
          className="toggles"
          aria-label={t.run.steps}
          selectionMode="single"
          disallowEmptySelection
          selectedKeys={[view]}
          onSelectionChange={(keys) => setView([...keys][0] as typeof view)}
        >
          <ToggleButton id="waterfall" className="toggle">
            {t.run.waterfall}
          </ToggleButton>
          <ToggleButton id="graph" className="toggle">
            {t.run.graph}
          </ToggleButton>
        </ToggleButtonGroup>
      </div>
      {view === "waterfall" ? (
        <Waterfall steps={steps} opened={opened} onOpen={setOpened} />
      ) : (
        <Graph steps={steps} onOpen={setOpened} />
      )}
      {all.length <= many ? null : (
        <Button className="link" onPress={() => setMany(many + SHOWN)}>
          {t.run.moreSteps(many, all.length)}
        </Button>
      )}
      {shown === undefined ? null : <Opened step={shown} />}
    </section>
  );
}

type Opening = { steps: readonly Step[]; opened: string | null; onOpen: (path: string | null) => void };

function Waterfall({ steps, opened, onOpen }: Opening) {
  const begin = Math.min(...steps.flatMap((step) => step.attempts.map((one) => one.begin)));
  const end = Math.max(...steps.flatMap((step) => step.attempts.map((one) => one.end)));
  const whole = Math.max(end - begin, 1);
  const percent = (value: number) => `${(100 * value) / whole}%`;
  return (
    <ol className="waterfall">
      {steps.map((step) => {
        const last = step.attempts.at(-1);
        return (
          <li key={step.path}>
            <Button
              className="waterfall-row"
              aria-expanded={step.path === opened}
              onPress={() => onOpen(step.path === opened ? null : step.path)}
            >
              <span className="waterfall-name" style={{ paddingInlineStart: step.depth * 14 }}>
                {plain(step.name)}
                {step.attempts.length > 1 ? <em>{t.run.attempt(last?.number ?? step.attempts.length)}</em> : null}
                {step.isCached ? <em>{t.run.cached}</em> : null}
                {last?.isAtWork ? <em>{t.status.running}</em> : null}
              </span>
              <span className="waterfall-track" aria-hidden="true">
                {step.attempts.map((one) => (
                  <span
                    key={one.number}
                    className={`attempt${one.failed ? " failed" : one.isAtWork ? " at-work" : one.cached ? " cached" : ""}`}
                    style={{ left: percent(one.begin - begin), width: `max(3px, ${percent(one.end - one.begin)})` }}
                  />
                ))}
              </span>
              <span className="number muted">
                {seconds(((last?.end ?? 0) - (step.attempts[0]?.begin ?? 0)) / 1000)}
              </span>
            </Button>
          </li>
        );
      })}
    </ol>
  );
}

const WIDTH = 150;
const HEIGHT = 40;
const GAP_X = 44;
const GAP_Y = 16;

function Graph({ steps, onOpen }: Pick<Opening, "steps" | "onOpen">) {
  const { nodes, edges, columns, rows } = useMemo(() => layout(steps), [steps]);
  const x = (column: number) => 4 + column * (WIDTH + GAP_X);
  const y = (row: number) => 4 + row * (HEIGHT + GAP_Y);
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keys
    <div className="graph" tabIndex={0} role="group" aria-label={t.run.graph}>
      <div className="graph-box" style={{ width: x(columns) - GAP_X + 4, height: y(rows) - GAP_Y + 4 }}>
        <svg aria-hidden="true" width="100%" height="100%">
          {edges.map(([from, to]) => {
            const begin = [x(from.column) + WIDTH, y(from.row) + HEIGHT / 2] as const;
            const end = [x(to.column), y(to.row) + HEIGHT / 2] as const;
            const middle = (begin[0] + end[0]) / 2;
            return (
              <path
                key={`${from.step.path}-${to.step.path}`}
                d={`M${begin[0]} ${begin[1]}C${middle} ${begin[1]} ${middle} ${end[1]} ${end[0]} ${end[1]}`}
              />
            );
          })}
        </svg>
        {nodes.map(({ step, column, row }) => (
          <Button
            key={step.path}
            className={step.hasFailed ? "node failed" : step.isCached ? "node cached" : "node"}
            style={{ left: x(column), top: y(row), width: WIDTH, height: HEIGHT }}
            onPress={() => onOpen(step.path)}
          >
            <span>{plain(step.name)}</span>
            <small>
              {seconds(((step.attempts.at(-1)?.end ?? 0) - (step.attempts[0]?.begin ?? 0)) / 1000)}
              {step.attempts.length > 1 ? ` · ${t.run.attempt(step.attempts.length)}` : ""}
              {step.isCached ? ` · ${t.run.cached}` : ""}
            </small>
          </Button>
        ))}
      </div>
    </div>
  );
}

function Opened({ step }: { step: Step }) {
  return (
    <div className="step-opened">
      {step.attempts.map((one) => (
        <div key={one.number}>
          <p className="label">
            {plain(step.name)} · {t.run.attempt(one.number)} · {seconds((one.end - one.begin) / 1000)}
          </p>
          <Value value={one.failed ? one.error : one.output} />
        </div>
      ))}
    </div>
  );
}
