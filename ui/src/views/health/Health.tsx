// How the server and its database are: what may be lost, how far the index is behind, what the storage has counted.

import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Button } from "react-aria-components";
import { to } from "../../address";
import { Problem } from "../../api/client";
import { doctor, serverState } from "../../api/insight";
import type { Doctor, ServerState } from "../../api/types";
import { Ago, Empty, Skeleton, Trouble, useNow } from "../../parts/basics";
import { Icon } from "../../parts/Icon";
import { bytes, count, plain, seconds } from "../../shown";
import { t } from "../../texts";

export default function Health() {
  const state = useQuery(serverState());
  const [wanted, setWanted] = useState(20);
  const examined = useQuery(doctor(wanted));
  if (state.data === undefined) return <Nothing error={state.error} onRetry={() => state.refetch()} />;
  const wrong = Object.keys(examined.data?.wrong ?? {}).length;
  const found = state.data.storage.warnings.length + wrong + (state.data.index.error === null ? 0 : 1);
  return (
    <div className="page">
      <h1>{t.health.title}</h1>
      <p className={found === 0 ? "verdict ok" : "verdict warn"} role="status">
        <Icon name={found === 0 ? "check" : "warning"} />
        {found === 0 ? t.health.well : t.health.notWell(found)}
        {state.data.stopping ? ` ${t.health.stopping}` : null}
      </p>
      <div className="cards">
        <div className="stack">
          <Warnings warnings={state.data.storage.warnings} />
          <IndexCard state={state.data} />
          <StorageCard state={state.data} />
        </div>
        <div className="stack">
          <Looked
            examined={examined.data}
            error={examined.error}
            isBusy={examined.isFetching}
            onMore={() => (wanted === 1000 ? examined.refetch() : setWanted(1000))}
          />
          <ServerCard state={state.data} />
          <section className="card">
            <h2>{t.health.limits}</h2>
            <Facts of={Object.entries(state.data.limits).map(limitShown)} />
          </section>
        </div>
      </div>
      <p>
        <a href="./NOTICES.txt">{t.health.licences}</a>
      </p>
    </div>
  );
}

/** A limit, with what it counts. */
function limitShown([name, value]: [string, number]): [string, string] {
  const title = name.replace(/_seconds$/, "").replaceAll("_", " ");
  if (name === "body") return [title, bytes(value)];
  return [title, name.endsWith("_seconds") ? seconds(value) : count(value)];
}

function Nothing({ error, onRetry }: { error: unknown; onRetry: () => void }) {
  if (error === null) return <Skeleton lines={6} />;
  const isDenied = error instanceof Problem && (error.status === 403 || error.status === 404);
  return isDenied ? (
    <Empty icon="health" title={t.health.denied} hint={t.health.deniedHint} />
  ) : (
    <Trouble error={error} onRetry={onRetry} />
  );
}

function Warnings({ warnings }: { warnings: readonly string[] }) {
  return (
    <section className="card">
      <h2>{t.health.warnings}</h2>
      {warnings.length === 0 ? <p className="muted">{t.health.noWarnings}</p> : null}
      <ul className="warnings">
        {warnings.map((one) => (
          <li key={one} className="note">
            {plain(one)}
          </li>
        ))}
      </ul>
    </section>
  );
}

type LookedProps = { examined: Doctor | undefined; error: unknown; isBusy: boolean; onMore: () => void };

function Looked({ examined, error, isBusy, onMore }: LookedProps) {
  const wrong = Object.entries(examined?.wrong ?? {});
  return (
    <section className="card looked">
      <h2>{t.health.sessions}</h2>
      {examined === undefined ? (
        error === null ? (
          <Skeleton lines={1} />
        ) : (
          <Trouble error={error} onRetry={onMore} />
        )
      ) : null}
      {examined === undefined ? null : (
        <p className={wrong.length === 0 ? "muted" : ""}>{t.health.sound(examined.sound)}</p>
      )}
      {wrong.length === 0 ? null : <p className="wrong">{t.health.wrong(wrong.length)}</p>}
      <ul className="warnings">
        {wrong.map(([id, what]) => (
          <li key={id}>
            <a href={to(["session", id])} dir="auto">
              {plain(id)}
            </a>
            <p className="muted">{plain(Array.isArray(what) ? what.join("; ") : String(what))}</p>
          </li>
        ))}
      </ul>
      <div>
        <Button className="button small" onPress={onMore} isDisabled={isBusy}>
          {isBusy ? t.health.checking : t.health.checkMore}
        </Button>
      </div>
    </section>
  );
}

function IndexCard({ state }: { state: ServerState }) {
  const { index } = state;
  return (
    <section className="card">
      <h2>{t.health.index}</h2>
      <Facts
        of={[
          [t.health.inBackground, index.in_background ? t.health.background : t.health.asked],
          [t.health.behind, index.seconds === null ? t.health.noIndex : seconds(index.seconds)],
        ]}
      />
      {index.error === null ? null : (
        <p className="wrong">
          {t.health.indexError}: {plain(index.error)}
        </p>
      )}
    </section>
  );
}

function ServerCard({ state }: { state: ServerState }) {
  const began = new Date(useNow() - state.seconds * 1000).toISOString();
  return (
    <section className="card">
      <h2>{t.health.server}</h2>
      <Facts
        of={[
          [t.health.version, state.version],
          [t.health.running, <Ago key="began" time={began} />],
          [t.health.atWork, count(state.runs.at_work)],
          [t.health.queued, count(state.runs.waiting)],
          [t.health.resumed, count(state.runs.resumed)],
          [t.health.streams, count(state.streams)],
          [t.health.agents, state.agents.length === 0 ? t.common.none : plain(state.agents.join(", "))],
        ]}
      />
    </section>
  );
}

function StorageCard({ state }: { state: ServerState }) {
  const { storage } = state;
  const counts = Object.entries(storage.counts);
  const shown = (value: unknown) =>
    value === true
      ? t.health.yes
      : value === false
        ? t.health.no
        : typeof value === "number"
          ? count(value)
          : String(value);
  return (
    <section className="card">
      <h2>{t.health.storage}</h2>
      <Facts of={[[t.health.kind, storage.type]]} />
      <h3>{t.health.counts}</h3>
      {counts.length === 0 ? (
        <p className="muted">{t.health.noCounts}</p>
      ) : (
        <Facts of={counts.map(([name, value]) => [name.replaceAll("_", " "), count(value)])} />
      )}
      <h3>{t.health.can}</h3>
      <Facts
        of={Object.entries(storage.capabilities).map(([name, value]) => [name.replaceAll("_", " "), shown(value)])}
      />
    </section>
  );
}

function Facts({ of }: { of: [string, React.ReactNode][] }) {
  return (
    <dl className="table">
      {of.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
