// Two runs side by side: of one session, or of a fork and its origin, whose same beginning is passed over.

import { useQuery } from "@tanstack/react-query";
import { useEffect, useMemo, useState } from "react";
import { Button, Input, Label, TextField } from "react-aria-components";
import { change, to, useAddress } from "../../address";
import { run, session } from "../../api/queries";
import type { Run } from "../../api/types";
import { modelsOf, textOf } from "../../messages";
import { Cost, IconButton, Skeleton, StatusBadge, Tokens, Trouble } from "../../parts/basics";
import { durationOf, plain, seconds } from "../../shown";
import { t } from "../../texts";
import { Body, Failed } from "../session/RunCard";
import { differences } from "./differences";

export default function Compare() {
  const { query } = useAddress();
  const a = query.get("a") ?? "";
  const b = query.get("b") ?? "";
  const left = useSide(a, Number(query.get("ra")) || null);
  const right = useSide(b, Number(query.get("rb")) || null);
  const isWaiting = left.isPending || right.isPending; // both come at once, so that nothing moves
  return (
    <div className="page wide compare">
      <div className="page-head">
        <h1>{t.work.compareTitle}</h1>
        <Pager left={left.number} right={right.number} />
      </div>
      <div className="columns choosers">
        <Chooser name="a" id={a} number={left.number} />
        <Chooser name="b" id={b} number={right.number} />
      </div>
      <div className="columns" key={isWaiting ? "waiting" : "there"}>
        <Side name="a" id={a} side={left} other={right.data} isWaiting={isWaiting} />
        <Side name="b" id={b} side={right} other={left.data} isWaiting={isWaiting} />
      </div>
      {left.data !== undefined && right.data !== undefined ? <Changes left={left.data} right={right.data} /> : null}
    </div>
  );
}

function useSide(id: string, number: number | null) {
  const head = useQuery({ ...session(id), enabled: id !== "" && number === null });
  const which = number ?? head.data?.tip ?? 0;
  const found = useQuery({ ...run(id, which), enabled: id !== "" && which > 0 });
  return {
    data: found.data,
    error: found.error ?? head.error,
    isPending: id !== "" && found.isPending && found.error === null && head.error === null,
    refetch: found.refetch,
    number: which,
  };
}

/** Both sides a run on, or back. */
function Pager({ left, right }: { left: number; right: number }) {
  const move = (by: number) => change({ ra: left + by, rb: right + by });
  if (left === 0 || right === 0) return null;
  return (
    <>
      <IconButton
        icon="left"
        label={t.work.compareBefore}
        isDisabled={Math.min(left, right) < 2}
        onPress={() => move(-1)}
      />
      <IconButton icon="right" label={t.work.compareAfter} onPress={() => move(1)} />
    </>
  );
}

type SideProps = {
  name: "a" | "b";
  id: string;
  side: ReturnType<typeof useSide>;
  other: Run | undefined;
  isWaiting: boolean;
};

function Side({ name, id, side, other, isWaiting }: SideProps) {
  const found = isWaiting ? undefined : side.data;
  return (
    <section className="card" aria-label={`${t.work.compareTitle} ${name}`}>
      <h2 className="hidden">{`${t.work.compareTitle} ${name}`}</h2>
      {side.error === null ? null : <Trouble error={side.error} onRetry={() => side.refetch()} />}
      {isWaiting && side.error === null ? <Skeleton lines={8} /> : null}
      {found === undefined ? null : (
        <>
          <p className="facts">
            <a href={to(["session", id], { run: found.number })}>{t.session.run(found.number)}</a>
            <StatusBadge status={found.status} quiet />
            <span>{modelsOf(found).map(plain).join(", ")}</span>
            <span className={isLess(found, other) ? "number better" : "number"}>
              {seconds(durationOf(found, Date.now()))}
            </span>
            <Tokens usage={found.usage} />
            <Cost usage={found.usage} />
          </p>
          <Body key={found.run_id} run={found} prefix="" />
          {found.error === null ? null : <Failed run={found} />}
        </>
      )}
    </section>
  );
}

function isLess(one: Run, other: Run | undefined): boolean {
  return (
    other !== undefined && one.ended_at !== null && other.ended_at !== null && durationOf(one, 0) < durationOf(other, 0)
  );
}

function Chooser({ name, id, number }: { name: "a" | "b"; id: string; number: number }) {
  const [session, setSession] = useState(id);
  const [typed, setTyped] = useState<string | null>(null);
  useEffect(() => setSession(id), [id]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: where another run is shown, what was typed is over
  useEffect(() => setTyped(null), [id, number]);
  return (
    <form
      className="chooser"
      aria-label={`${t.work.compareTitle} ${name}`}
      onSubmit={(event) => {
        event.preventDefault();
        change({ [name]: session.trim(), [`r${name}`]: typed ?? (session.trim() === id ? number || null : null) });
        setTyped(null);
      }}
    >
      <TextField className="field" value={session} onChange={setSession}>
        <Label>{t.work.compareWith}</Label>
        <Input />
      </TextField>
      <TextField className="field number" value={typed ?? (number === 0 ? "" : String(number))} onChange={setTyped}>
        <Label>{t.work.compareRun}</Label>
        <Input inputMode="numeric" />
      </TextField>
      <Button className="button" type="submit">
        {t.work.compareNow}
      </Button>
    </form>
  );
}

function Changes({ left, right }: { left: Run; right: Run }) {
  const [one, other] = [textOf(left.output), textOf(right.output)];
  const pieces = useMemo(() => differences(one, other), [one, other]);
  if (pieces === null || one === "" || other === "" || pieces.every((one) => one.side === "both")) return null;
  return (
    <section className="card differences" aria-label={t.work.changes}>
      <h2>{t.work.changes}</h2>
      <p dir="auto">
        {pieces.map((one, index) => {
          const Tag = one.side === "both" ? "span" : one.side === "left" ? "del" : "ins";
          // biome-ignore lint/suspicious/noArrayIndexKey: pieces have no other names
          return <Tag key={index}>{one.text}</Tag>;
        })}
      </p>
    </section>
  );
}
