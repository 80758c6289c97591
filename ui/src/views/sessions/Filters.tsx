import { useQuery } from "@tanstack/react-query";
import { useRef, useState } from "react";
import { Button } from "react-aria-components";
import { agents, type SessionFilters } from "../../api/queries";
import { useLater } from "../../parts/basics";
import { Choice, Named, Numbered, Typed } from "../../parts/fields";
import { Icon } from "../../parts/Icon";
import { useCommands } from "../../shell/commands";
import { t } from "../../texts";
import { SavedViews } from "./SavedViews";

const STATUSES = ["running", "paused", "completed", "failed", "cancelled", "interrupted"] as const;
const HOURS: Record<string, number> = { "1h": 1, "24h": 24, "7d": 168, "30d": 720 };

/** Names in the address, which are those of the API but for `time`. */
export const NAMES = [
  "q",
  "status",
  "kind",
  "agent",
  "user",
  "time",
  "model",
  "tool",
  "label",
  "min_score",
  "min_cost",
  "max_cost",
  "min_duration",
  "max_duration",
  "metadata",
] as const;

/** Those that only the index answers. */
const NUMBERS = ["min_score", "min_cost", "max_cost", "min_duration", "max_duration"] as const;
export const MORE = ["model", "tool", "label", ...NUMBERS, "metadata"] as const;

export function filtersOf(query: URLSearchParams): SessionFilters {
  const time = HOURS[query.get("time") ?? ""];
  const minute = 60_000;
  const filters: Record<string, string | null | undefined> = {
    status: query.get("status"),
    kind: query.get("kind"),
    agent: query.get("agent"),
    user_id: query.get("user"),
    ...Object.fromEntries(MORE.map((name) => [name, query.get(name)])),
    // To the minute, so that the same question is the same for a while.
    since:
      time === undefined ? null : new Date(Math.floor(Date.now() / minute) * minute - time * 60 * minute).toISOString(),
  };
  return Object.fromEntries(Object.entries(filters).filter(([, value]) => value !== null && value !== ""));
}

type Props = { query: URLSearchParams; onChange: (values: Record<string, string | null>) => void };

export function Filters({ query, onChange }: Props) {
  const served = useQuery({ ...agents(), enabled: useLater() }).data ?? [];
  const isFiltered = NAMES.some((name) => query.has(name));
  const input = useRef<HTMLInputElement>(null);
  const [isOpen, setOpen] = useState(false);
  const [isMore, setMore] = useState(MORE.some((name) => query.has(name)));
  useCommands([
    { id: "search-here", title: t.sessions.search, icon: "search", keys: "s", run: () => input.current?.focus() },
  ]);
  const active = NAMES.filter((name) => name !== "q" && query.has(name)).length;
  return (
    <div className="filters">
      <div className="filters-first">
        <Typed
          value={query.get("q") ?? ""}
          onChange={(q) => onChange({ q: q === "" ? null : q })}
          label={t.sessions.search}
          inputRef={input}
        />
        <Button className="button filters-toggle" onPress={() => setOpen(!isOpen)} aria-expanded={isOpen}>
          <Icon name="filter" />
          {t.sessions.filters}
          {active > 0 ? <span className="count">{active}</span> : null}
        </Button>
      </div>
      <div className={isOpen ? "filters-more open" : "filters-more"}>
        <Choice
          label={t.sessions.status}
          any={t.sessions.anyStatus}
          value={query.get("status")}
          options={STATUSES.map((one) => [one, t.status[one]])}
          onChange={(status) => onChange({ status })}
        />
        <Choice
          label={t.sessions.kind}
          any={t.sessions.anyKind}
          value={query.get("kind")}
          options={Object.entries(t.kind)}
          onChange={(kind) => onChange({ kind })}
        />
        <Choice
          label={t.sessions.time}
          any={t.sessions.anyTime}
          value={query.get("time")}
          options={Object.entries(t.sessions.times)}
          onChange={(time) => onChange({ time })}
        />
        <Named
          label={t.sessions.agent}
          value={query.get("agent") ?? ""}
          choices={served.map((one) => one.name)}
          onChange={(agent) => onChange({ agent })}
        />
        <Named
          label={t.sessions.user}
          field="user"
          value={query.get("user") ?? ""}
          onChange={(user) => onChange({ user })}
        />
        {isMore ? (
          <>
            <Named
              label={t.sessions.model}
              field="model"
              value={query.get("model") ?? ""}
              onChange={(model) => onChange({ model })}
            />
            <Named
              label={t.sessions.tool}
              field="tool"
              value={query.get("tool") ?? ""}
              onChange={(tool) => onChange({ tool })}
            />
            <Named
              label={t.run.label}
              field="label"
              value={query.get("label") ?? ""}
              onChange={(label) => onChange({ label })}
            />
            {NUMBERS.map((name) => (
              <Numbered
                key={name}
                label={t.sessions.numbers[name]}
                value={query.get(name) ?? ""}
                onChange={(value) => onChange({ [name]: value })}
              />
            ))}
            <Named
              label={t.sessions.metadata}
              value={query.get("metadata") ?? ""}
              onChange={(metadata) => onChange({ metadata })}
            />
          </>
        ) : (
          <Button className="button quiet" onPress={() => setMore(true)}>
            <Icon name="plus" /> {t.sessions.moreFilters}
          </Button>
        )}
        {isFiltered ? (
          <Button className="link" onPress={() => onChange(Object.fromEntries(NAMES.map((name) => [name, null])))}>
            {t.sessions.clear}
          </Button>
        ) : null}
        <SavedViews query={query} onChoose={onChange} />
      </div>
    </div>
  );
}
