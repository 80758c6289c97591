// A chart, its table, and both to take along.

import { useEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import { ToggleButton, ToggleButtonGroup } from "react-aria-components";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { go } from "../../address";
import { IconButton } from "../../parts/basics";
import { saveBlob } from "../../parts/saving";
import { plain } from "../../shown";
import { t } from "../../texts";
import { csvOf, type Line, type Step, stacked } from "./series";

const COLOURS = ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7"];

type Props = {
  title: string;
  times: readonly number[];
  lines: readonly Line[];
  step: Step;
  kind: "bars" | "lines";
  shown: (value: number) => string;
  onBrush: (since: number, until: number) => void;
  /** The address of a step's runs, and of those of one line in it. */
  href: (index: number, line?: Line) => string;
};

export const nameOf = (line: Line, title: string) =>
  line.isOthers ? t.monitor.others : line.name === null ? title : plain(line.name);

export function ChartCard(props: Props) {
  const { title, times, lines, shown } = props;
  const [isTable, setTable] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  const names = lines.map((line) => nameOf(line, lines.length === 1 ? title : t.monitor.noName));
  const when = (time: number) =>
    new Date(time).toLocaleString(
      undefined,
      props.step === "hour" ? { dateStyle: "medium", timeStyle: "short" } : { dateStyle: "medium" },
    );
  const csv = () =>
    csvOf(
      [t.monitor.when, ...names],
      times.map((time, index) => [new Date(time).toISOString(), ...lines.map((line) => line.values[index] ?? null)]),
    );
  return (
    <section className="card" aria-label={title}>
      <header className="card-head">
        <h2>{title}</h2>
        <ToggleButtonGroup
          className="toggles"
          aria-label={title}
          selectedKeys={[isTable ? "table" : "chart"]}
          disallowEmptySelection
          onSelectionChange={(keys) => setTable(keys.has("table"))}
        >
          <ToggleButton id="chart" className="toggle">
            {t.monitor.chart}
          </ToggleButton>
          <ToggleButton id="table" className="toggle">
            {t.monitor.table}
          </ToggleButton>
        </ToggleButtonGroup>
        <IconButton
          icon="download"
          label={`${t.monitor.csv}: ${title}`}
          onPress={() => saveBlob(new Blob([csv()], { type: "text/csv" }), `${title}.csv`)}
        />
        {isTable ? null : (
          <IconButton
            icon="copy"
            label={`${t.monitor.png}: ${title}`}
            onPress={() => savePicture(box.current, `${title}.png`)}
          />
        )}
      </header>
      {isTable ? (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keys
        <section className="chart-table" tabIndex={0} aria-label={`${title}: ${t.monitor.table}`}>
          <table className="figures">
            <thead>
              <tr>
                <th scope="col">{t.monitor.when}</th>
                {names.map((name) => (
                  <th key={name} scope="col" className="end">
                    {name}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {times.map((time, index) =>
                lines.every((line) => !line.values[index]) ? null : (
                  <tr key={time}>
                    <th scope="row">
                      <a href={props.href(index)}>{when(time)}</a>
                    </th>
                    {lines.map((line, number) => (
                      <td key={names[number]} className="end number">
                        {line.values[index] ? (
                          <a href={props.href(index, line)}>{shown(line.values[index])}</a>
                        ) : line.values[index] == null ? (
                          "–"
                        ) : (
                          shown(line.values[index])
                        )}
                      </td>
                    ))}
                  </tr>
                ),
              )}
            </tbody>
          </table>
        </section>
      ) : (
        <Chart {...props} box={box} />
      )}
      {lines.length < 2 ? null : (
        <ul className="legend">
          {names.map((name, index) => (
            <li key={name}>
              <i style={{ background: `var(${COLOURS[index % COLOURS.length]})` }} />
              {name}
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

/** Drawn anew when the page's colours change. */
function useLook(): string {
  return useSyncExternalStore(
    (changed) => {
      const watcher = new MutationObserver(changed);
      watcher.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme", "data-contrast"] });
      return () => watcher.disconnect();
    },
    () => `${document.documentElement.dataset.theme} ${document.documentElement.dataset.contrast}`,
  );
}

/** A point of time under a chart, as the viewer writes it: the hour, or at midnight the day. */
const written = (second: number) => {
  const date = new Date(second * 1000);
  const isDay = date.getHours() === 0 && date.getMinutes() === 0;
  return isDay
    ? date.toLocaleDateString(undefined, { day: "numeric", month: "short" })
    : date.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
};

/** Seconds for which the last bar needs room. */
const STEPS: Record<Step, number> = { hour: 3600, day: 86_400, week: 604_800 };

function Chart({
  title,
  times,
  lines,
  kind,
  step,
  shown,
  onBrush,
  href,
  box,
}: Props & { box: React.RefObject<HTMLDivElement | null> }) {
  const look = useLook();
  const brush = useRef(onBrush);
  brush.current = onBrush;
  const address = useRef(href);
  address.current = href;
  const [told, setTold] = useState("");
  const data = useMemo<uPlot.AlignedData>(() => {
    const x = times.map((time) => time / 1000);
    return [x, ...(kind === "bars" ? stacked(lines).toReversed() : lines.map((line) => line.values))];
  }, [times, lines, kind]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: `look` stands for the colours
  useEffect(() => {
    const place = box.current;
    if (place === null) return;
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const order = lines.map((_, index) => (kind === "bars" ? lines.length - 1 - index : index));
    const axis = {
      stroke: colour("--muted"),
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { show: false },
      font: "11px sans-serif",
    };
    const chart = new uPlot(
      {
        width: place.clientWidth,
        height: place.clientHeight,
        legend: { show: false },
        padding: [10, 24, 0, 0],
        cursor: { drag: { x: true, y: false, setScale: false }, points: { show: kind === "lines" } },
        scales: {
          x: { range: (_, first, last) => [first, last + (kind === "bars" ? STEPS[step] : 0)] },
          y: { range: (_, __, most) => [0, most > 0 ? most * 1.08 : 1] },
        },
        axes: [
          { ...axis, size: 30, space: 64, values: (_, ticks) => ticks.map(written) },
          { ...axis, size: 62, values: (_, ticks) => ticks.map(shown) },
        ],
        series: [
          {},
          ...order.map((index): uPlot.Series => {
            const own = colour(COLOURS[index % COLOURS.length] ?? "--c1");
            return kind === "bars"
              ? {
                  stroke: own,
                  fill: own,
                  width: 0,
                  paths: uPlot.paths.bars?.({ size: [0.75, 60], align: 1 }),
                  points: { show: false },
                }
              : { stroke: own, width: 2, spanGaps: true, points: { show: true, size: 5, fill: own } };
          }),
        ],
        hooks: {
          setSelect: [
            (self) => {
              if (self.select.width < 4) return;
              const at = (pixel: number) => Math.round(self.posToVal(pixel, "x") * 1000);
              brush.current(at(self.select.left), at(self.select.left + self.select.width));
            },
          ],
          setCursor: [
            (self) => {
              const index = self.cursor.idx;
              const time = index == null ? undefined : times[index];
              if (index == null || time === undefined) return setTold("");
              const parts = lines.flatMap((line) =>
                line.values[index] == null
                  ? []
                  : [`${lines.length > 1 ? `${nameOf(line, t.monitor.noName)} ` : ""}${shown(line.values[index])}`],
              );
              setTold(
                `${new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" })}: ${parts.join(" · ")}`,
              );
            },
          ],
        },
      },
      data,
      place,
    );
    // The end of dragging is no click: the library keeps that to itself.
    chart.over.addEventListener("click", () => {
      if (chart.cursor.idx != null) go(address.current(chart.cursor.idx), { replace: false });
    });
    const watcher = new ResizeObserver(() => chart.setSize({ width: place.clientWidth, height: place.clientHeight }));
    watcher.observe(place);
    return () => {
      watcher.disconnect();
      chart.destroy();
    };
  }, [data, look, kind, step]);
  return (
    <>
      <div ref={box} className="chart" role="img" aria-label={t.monitor.describe(title, times.length)} />
      <p className="told muted" aria-hidden="true">
        {told}
      </p>
    </>
  );
}

function savePicture(place: HTMLElement | null, name: string) {
  const drawn = place?.querySelector("canvas");
  if (!drawn) return;
  const sheet = document.createElement("canvas");
  sheet.width = drawn.width;
  sheet.height = drawn.height;
  const pen = sheet.getContext("2d");
  if (pen === null) return;
  pen.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--surface").trim();
  pen.fillRect(0, 0, sheet.width, sheet.height);
  pen.drawImage(drawn, 0, 0);
  sheet.toBlob((blob) => blob !== null && saveBlob(blob, name));
}
