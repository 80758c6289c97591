// All sessions, newest first: any number of them, of which only what is seen is kept.

import { change, useAddress } from "../../address";
import { t } from "../../texts";
import type { ViewProps } from "..";
import { Filters, filtersOf } from "./Filters";
import { Hits } from "./Hits";
import { SessionList } from "./SessionList";

export function Sessions(_: ViewProps) {
  const { query } = useAddress();
  const text = query.get("q") ?? "";
  const filters = filtersOf(query);
  return (
    <div className="sessions-view">
      <h1 className="hidden">{t.sessions.title}</h1>
      <Filters query={query} onChange={(values) => change(values)} />
      {text !== "" ? <Hits text={text} filters={filters} /> : <SessionList filters={filters} />}
    </div>
  );
}
