// The box in which one goes on with a session, whoever has begun it.

import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useRef, useState } from "react";
import { Button, FileTrigger, TextArea, TextField } from "react-aria-components";
import { part, send } from "../../api/client";
import { agents } from "../../api/queries";
import type { Begun, Json, Session } from "../../api/types";
import { IconButton, said, useIsHere } from "../../parts/basics";
import { Icon } from "../../parts/Icon";
import { useCommands } from "../../shell/commands";
import { plain } from "../../shown";
import { t } from "../../texts";
import { jsonOrText } from "../session/Pending";

const MOST_BYTES = 15_000_000;

type Kept = { name: string; media_type: string; data: string; size: number };

const sizeOf = (files: readonly Kept[]) => files.reduce((sum, file) => sum + file.size, 0);

type Props = { session: Session | null; agent?: string; onBegun: (begun: Begun) => void };

export function Composer({ session, agent, onBegun }: Props) {
  const client = useQueryClient();
  const served = useQuery(agents()).data;
  const input = useRef<HTMLTextAreaElement>(null);
  const [text, setText] = useState("");
  const [files, setFiles] = useState<Kept[]>([]);
  const [isBusy, setBusy] = useState(false);
  const [failed, setFailed] = useState<{ title: string; hint: string } | null>(null);
  // The same key for the same words: sent again after a lost connection, they run once.
  const key = useRef<string | null>(null);
  const isHere = useIsHere();
  useCommands([{ id: "chat", title: t.keys.chat, icon: "send", keys: "r", run: () => input.current?.focus() }]);
  const name = agent ?? session?.agent ?? "";
  const one = served?.find((other) => other.name === name);
  if (served === undefined) return <div className="composer" />;
  if (one === undefined) return null;
  const isWorkflow = one.kind === "workflow";
  const isRunning = session?.status === "running";
  const submit = async () => {
    if (isBusy || (text.trim() === "" && files.length === 0)) return;
    setBusy(true);
    setFailed(null);
    key.current ??= crypto.randomUUID();
    const given: Json = isWorkflow
      ? jsonOrText(text)
      : files.length === 0
        ? text
        : [text, ...files.map(({ media_type, data }) => ({ media_type, data }))].filter((part) => part !== "");
    const body = {
      input: given,
      background: true,
      ...(session === null ? {} : { session_id: session.session_id }),
      ...(session?.user_id == null ? {} : { user_id: session.user_id }),
    };
    try {
      const begun = await send<Begun>("POST", `agents/${part(name)}/runs`, body, { "Idempotency-Key": key.current });
      key.current = null;
      // What was typed meanwhile is not sent, and stays.
      setText((now) => (now === text ? "" : now));
      setFiles((now) => now.filter((file) => !files.includes(file)));
      client.invalidateQueries({ queryKey: ["session", begun.session_id] });
      if (isHere()) onBegun(begun);
    } catch (error) {
      setFailed(said(error));
    }
    setBusy(false);
  };
  const add = async (list: FileList | null) => {
    const read = await Promise.all([...(list ?? [])].map(kept));
    key.current = null;
    setFiles((now) => (sizeOf([...now, ...read]) > MOST_BYTES ? now : [...now, ...read]));
    if (sizeOf([...files, ...read]) > MOST_BYTES) setFailed({ title: t.work.tooLarge, hint: "" });
  };
  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      {failed === null ? null : (
        <p className="wrong" role="alert">
          {failed.title} {failed.hint}
        </p>
      )}
      {files.length === 0 ? null : (
        <ul className="attached">
          {files.map((file) => (
            <li key={file.name} className="file">
              <Icon name="clip" /> {plain(file.name)}
              <IconButton
                icon="close"
                label={t.work.removeFile(file.name)}
                onPress={() => {
                  key.current = null;
                  setFiles((now) => now.filter((other) => other !== file));
                }}
              />
            </li>
          ))}
        </ul>
      )}
      <div className="composer-box">
        {isWorkflow ? null : (
          <FileTrigger allowsMultiple onSelect={add}>
            <Button className="icon-button" aria-label={t.work.attach}>
              <Icon name="clip" />
            </Button>
          </FileTrigger>
        )}
        <TextField
          className="composer-text"
          aria-label={isWorkflow ? t.work.workflowInput : t.work.placeholder}
          value={text}
          onChange={(now) => {
            setText(now);
            key.current = null;
          }}
        >
          <TextArea
            ref={input}
            rows={Math.min(8, text.split("\n").length)}
            placeholder={isWorkflow ? t.work.workflowInput : `${t.work.placeholder} (${name})`}
            onKeyDown={(event) => {
              if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
                event.preventDefault();
                submit();
              }
            }}
          />
        </TextField>
        <Button
          className="button primary"
          type="submit"
          aria-label={t.work.send}
          isDisabled={isBusy || isRunning || (text.trim() === "" && files.length === 0)}
        >
          <Icon name="send" /> <span>{t.work.send}</span>
        </Button>
      </div>
    </form>
  );
}

async function kept(file: File): Promise<Kept> {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 32_768) text += String.fromCharCode(...bytes.subarray(at, at + 32_768));
  return { name: file.name, media_type: file.type || "application/octet-stream", data: btoa(text), size: file.size };
}
