// The state now, and what a run has changed in it.

import { useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { log } from "../../api/queries";
import { type Entry, isObject, type Json, type Session } from "../../api/types";
import { IconButton, Skeleton, Trouble } from "../../parts/basics";
import { Value } from "../../parts/Value";
import { plain } from "../../shown";
import { t } from "../../texts";
import { line } from "./Items";

export type Change = { path: string; before?: Json; after?: Json };

/** What the patches of a run have changed, by the places in the state: what stood there before, and after. */
export function changesOf(entries: readonly Entry[]): Change[] {
  const found = new Map<string, Change>();
  for (const { kind, data } of entries) {
    if (kind !== "state.patched" || !isObject(data)) continue;
    const undo = new Map(operations(data.undo).map((one) => [one.path, one]));
    for (const one of operations(data.patch)) {
      const change: Change = found.get(one.path) ?? { path: one.path, before: undo.get(one.path)?.value };
      change.after = one.value;
      found.set(one.path, change);
    }
  }
  return [...found.values()];
}

function operations(value: Json | undefined): { path: string; value?: Json }[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((one) => {
    if (!Array.isArray(one) || !Array.isArray(one[1])) return [];
    const path = one[1].map(String).join(" › ");
    return one[0] === "set" ? [{ path, value: one[2] ?? null }] : [{ path }];
  });
}

export function StateTab({ session, at }: { session: Session; at: number | null }) {
  const [number, setNumber] = useState(at ?? session.tip);
  const isEmpty = !isObject(session.state) || Object.keys(session.state).length === 0;
  return (
    <div className="columns">
      <section className="card" aria-label={t.session.stateNow}>
        <h2>{t.session.stateNow}</h2>
        {isEmpty ? <p className="muted">{t.session.noState}</p> : <Value value={session.state ?? null} />}
      </section>
      {session.tip === 0 ? null : (
        <section className="card" aria-label={t.session.stateOf(number)}>
          <div className="card-head">
            <h2>{t.session.stateOf(number)}</h2>
            <IconButton
              icon="left"
              label={t.keys.previous}
              isDisabled={number <= 1}
              onPress={() => setNumber(number - 1)}
            />
            <IconButton
              icon="right"
              label={t.keys.next}
              isDisabled={number >= session.tip}
              onPress={() => setNumber(number + 1)}
            />
          </div>
          <Changes session={session} number={number} />
        </section>
      )}
    </div>
  );
}

function Changes({ session, number }: { session: Session; number: number }) {
  const found = useQuery(log(session.session_id, number, 0));
  const changes = useMemo(() => changesOf(found.data?.items ?? []), [found.data]);
  if (found.error !== null) return <Trouble error={found.error} onRetry={() => found.refetch()} />;
  if (found.data === undefined) return <Skeleton />;
  if (changes.length === 0) return <p className="muted">{t.session.stateSame}</p>;
  return (
    <dl className="changes">
      {changes.map((one) => (
        <div key={one.path}>
          <dt className="mono">{plain(one.path)}</dt>
          {one.before === undefined ? null : (
            <dd className="before">
              <span aria-hidden="true">−</span> <del>{line(one.before)}</del>
            </dd>
          )}
          {one.after === undefined ? null : (
            <dd className="after">
              <span aria-hidden="true">+</span> <ins>{line(one.after)}</ins>
            </dd>
          )}
        </div>
      ))}
    </dl>
  );
}
