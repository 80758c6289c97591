// What is remembered about a user: found, added to, changed, forgotten.

import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useRef, useState } from "react";
import { Button, Label, TextArea, TextField } from "react-aria-components";
import { change, to, useAddress } from "../../address";
import { changeMemory, forget, type Memory, memories, remember } from "../../api/kept";
import { about } from "../../api/queries";
import { Ago, Empty, IconButton, Skeleton, Trouble } from "../../parts/basics";
import { Named, Typed } from "../../parts/fields";
import { plain } from "../../shown";
import { t } from "../../texts";
import { Ask } from "../work/windows";

/** Whose it is stands in it: the address may name somebody else before the window is closed. */
type Asked = { kind: "add"; user: string } | { kind: "edit" | "forget"; memory: Memory };

export default function Memories() {
  const { query } = useAddress();
  const client = useQueryClient();
  const who = useQuery(about()).data;
  const isAdministrator = who?.administrator !== false;
  const user = isAdministrator ? query.get("user") : (who?.user_id ?? null);
  const find = query.get("find") ?? "";
  const found = useQuery(memories(isAdministrator ? user : null, user === null ? "" : find));
  const input = useRef<HTMLInputElement>(null);
  const [asked, setAsked] = useState<Asked | null>(null);
  return (
    <div className="page">
      <div className="page-head">
        <h1>{user === null ? t.memories.title : t.memories.of(plain(user))}</h1>
        {user === null ? null : (
          <Button className="button" onPress={() => setAsked({ kind: "add", user })}>
            {t.memories.add}
          </Button>
        )}
      </div>
      <div className="asked">
        {isAdministrator ? (
          <Named label={t.memories.user} field="user" value={user ?? ""} onChange={(user) => change({ user })} />
        ) : null}
        {user === null ? null : (
          <Typed value={find} label={t.memories.find} inputRef={input} onChange={(find) => change({ find })} />
        )}
      </div>
      {found.isPending ? <Skeleton lines={4} /> : null}
      {found.error !== null && found.data === undefined ? (
        <Trouble error={found.error} onRetry={() => found.refetch()} />
      ) : null}
      {found.data?.length === 0 ? (
        <Empty
          icon="bookmark"
          title={find === "" ? t.memories.empty : t.memories.noMatch}
          hint={user === null ? t.memories.nameHint : t.memories.emptyHint}
        />
      ) : null}
      {(found.data ?? []).map((one) => (
        <One
          key={`${one.user_id}#${one.memory_id}`}
          memory={one}
          isNamed={user === null}
          onEdit={() => setAsked({ kind: "edit", memory: one })}
          onForget={() => setAsked({ kind: "forget", memory: one })}
        />
      ))}
      {asked === null ? null : (
        <Asking
          asked={asked}
          user={isAdministrator ? (asked.kind === "add" ? asked.user : asked.memory.user_id) : null}
          onClose={() => setAsked(null)}
          onDone={() => client.invalidateQueries({ queryKey: ["memories"] })}
        />
      )}
    </div>
  );
}

type OneProps = { memory: Memory; isNamed: boolean; onEdit: () => void; onForget: () => void };

function One({ memory, isNamed, onEdit, onForget }: OneProps) {
  return (
    <article className="run" aria-label={plain(memory.memory)}>
      <header className="run-head">
        <p dir="auto">{plain(memory.memory)}</p>
        <span className="facts">
          {isNamed && memory.user_id !== null ? (
            <a href={to(["memories"], { user: memory.user_id })} dir="auto">
              {plain(memory.user_id)}
            </a>
          ) : null}
          {memory.topics.map((one) => (
            <span key={one} dir="auto">
              {plain(one)}
            </span>
          ))}
          {memory.session_id === null ? null : (
            <a href={to(["session", memory.session_id])}>
              {t.memories.from} {plain(memory.session_id)}
            </a>
          )}
          <Ago time={memory.updated_at} />
          {memory.expires_at === null ? null : (
            <span>
              {t.memories.expires} <Ago time={memory.expires_at} />
            </span>
          )}
          <IconButton icon="edit" label={t.memories.edit} onPress={onEdit} />
          <IconButton icon="trash" label={t.memories.forget} onPress={onForget} />
        </span>
      </header>
    </article>
  );
}

type AskingProps = { asked: Asked; user: string | null; onClose: () => void; onDone: () => void };

function Asking({ asked, user, onClose, onDone }: AskingProps) {
  const text = (form: FormData) => String(form.get("memory") ?? "").trim();
  if (asked.kind === "forget") {
    return (
      <Ask
        title={t.memories.forgetTitle}
        hint={t.memories.forgetHint}
        action={t.memories.forget}
        isDanger
        onClose={onClose}
        onDo={async () => {
          await forget(user, asked.memory.memory_id);
          onDone();
          return undefined;
        }}
      >
        <p dir="auto">{plain(asked.memory.memory)}</p>
      </Ask>
    );
  }
  const isNew = asked.kind === "add";
  return (
    <Ask
      title={isNew ? t.memories.add : t.memories.editTitle}
      hint={isNew ? t.memories.addHint : t.memories.editHint}
      action={isNew ? t.memories.addNow : t.memories.edit}
      onClose={onClose}
      onDo={async (form) => {
        if (asked.kind === "add") await remember(user, text(form));
        else await changeMemory(user, asked.memory.memory_id, text(form));
        onDone();
        return undefined;
      }}
    >
      <TextField
        className="field"
        name="memory"
        defaultValue={asked.kind === "edit" ? asked.memory.memory : ""}
        isRequired
        autoFocus
      >
        <Label>{t.memories.fact}</Label>
        <TextArea rows={3} />
      </TextField>
    </Ask>
  );
}
