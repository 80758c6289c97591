// A run that is at work: what is stored of it, and what it says and does, as it comes.

import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { Button } from "react-aria-components";
import { part, send } from "../../api/client";
import { follow } from "../../api/events";
import { isObject, type Json, type Run, type Session } from "../../api/types";
import { Icon } from "../../parts/Icon";
import { Prose } from "../../parts/Prose";
import { plain } from "../../shown";
import { t } from "../../texts";
import { line } from "./Items";
import { RunCard } from "./RunCard";

export type Live = {
  text: string;
  doing: { id: string; title: string; about: string; done: boolean }[];
  ended: boolean;
};

export const BEGIN: Live = { text: "", doing: [], ended: false };

/** What is shown after one more event. */
export function after(live: Live, event: string, data: Json): Live {
  if (!isObject(data)) return live;
  const text = (name: string) => (typeof data[name] === "string" ? (data[name] as string) : "");
  if (event === "text") return { ...live, text: live.text + text("text") };
  if (event === "text.restarted") {
    const keep = typeof data.keep === "number" ? data.keep : 0;
    return { ...live, text: [...live.text].slice(0, keep).join("") };
  }
  if (event === "tool.called") {
    const one = { id: text("tool_call_id"), title: text("tool_name"), about: line(data.args ?? null), done: false };
    return { ...live, doing: [...live.doing.filter((other) => other.id !== one.id), one] };
  }
  if (event === "tool.returned") {
    return {
      ...live,
      doing: live.doing.map((one) => (one.id === text("tool_call_id") ? { ...one, done: true } : one)),
    };
  }
  if (event === "member.started" || event === "step.started") {
    const id = text("run_id") || text("path") || text("name") || text("member");
    return {
      ...live,
      doing: [...live.doing, { id, title: text("agent") || text("member") || text("name"), about: "", done: false }],
    };
  }
  if (event === "member.ended" || event === "step.finished" || event === "step.ended") {
    const id = text("run_id") || text("path") || text("name") || text("member");
    return { ...live, doing: live.doing.map((one) => (one.id === id ? { ...one, done: true } : one)) };
  }
  return event === "run.ended" ? { ...live, ended: true } : live;
}

export function LiveRun({ run, session }: { run: Run; session: Session }) {
  const client = useQueryClient();
  const [live, setLive] = useState(BEGIN);
  const [isConnected, setConnected] = useState(true);
  const [isStopping, setStopping] = useState(false);
  const path = `sessions/${part(run.session_id)}/runs/${run.number}`;
  useEffect(() => {
    const ended = new AbortController();
    setLive(BEGIN);
    const renew = () => {
      client.invalidateQueries({ queryKey: ["session", run.session_id] });
      client.invalidateQueries({ queryKey: ["window", run.session_id] });
    };
    follow(`${path}/events`, {}, ended.signal, {
      onConnected: setConnected,
      onEvent: ({ event, data }) => {
        setLive((before) => after(before, event, JSON.parse(data) as Json));
        if (event === "run.ended") renew();
      },
    }).then(renew, renew);
    return () => ended.abort();
  }, [path, run.session_id, client]);
  return (
    <RunCard
      run={{ ...run, messages: [], children: [] }}
      session={session}
      live={
        <div className="live" aria-live="polite" aria-busy={!live.ended}>
          {live.doing.map((one) => (
            <p key={one.id} className="doing">
              <Icon name={one.done ? "check" : "tool"} size={14} /> <span className="mono">{plain(one.title)}</span>{" "}
              <span className="muted mono">{one.about}</span>
            </p>
          ))}
          {live.text === "" ? null : (
            <div className="item said agent">
              <Prose text={live.text} />
            </div>
          )}
          <p className="working">
            {isConnected ? t.run.working : t.trouble.lost}
            <Button
              className="button small"
              isDisabled={isStopping}
              onPress={() => {
                setStopping(true);
                send("POST", `${path}/cancel`).catch(() => setStopping(false));
              }}
            >
              <Icon name="stop" /> {isStopping ? t.run.stopping : t.run.stop}
            </Button>
          </p>
        </div>
      }
    />
  );
}
