// What is asked before a session is changed.

import { useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import { Button, Checkbox, Input, Label, TextArea, TextField } from "react-aria-components";
import { go, to } from "../../address";
import { get, part, send } from "../../api/client";
import type { Begun, Run, Session } from "../../api/types";
import { textOf } from "../../messages";
import { said, useIsHere, Window } from "../../parts/basics";
import { t } from "../../texts";

type AskProps = {
  title: string;
  hint: string;
  action: string;
  isDanger?: boolean;
  children?: ReactNode;
  onClose: () => void;
  /** Does it; answers where the page then goes, unless somebody has closed the window, or has left, meanwhile. */
  onDo: (form: FormData) => Promise<Next | undefined>;
};

type Next = { address: string; replace?: boolean };

/** A window with a form, whose errors are told in it. */
export function Ask({ title, hint, action, isDanger = false, children, onClose, onDo }: AskProps) {
  const [isBusy, setBusy] = useState(false);
  const [failed, setFailed] = useState<{ title: string; hint: string } | null>(null);
  const isHere = useIsHere();
  return (
    <Window title={title} isOpen onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          setBusy(true);
          setFailed(null);
          const done = (next: Next | undefined) => {
            if (!isHere()) return;
            onClose();
            if (next !== undefined) go(next.address, next);
          };
          onDo(new FormData(event.currentTarget)).then(done, (error) => {
            setFailed(said(error));
            setBusy(false);
          });
        }}
      >
        <p className="muted">{hint}</p>
        {children}
        {failed === null ? null : (
          <p className="wrong" role="alert">
            {failed.title} {failed.hint}
          </p>
        )}
        <div className="window-foot">
          <Button className="button" onPress={onClose}>
            {t.common.cancel}
          </Button>
          <Button className={isDanger ? "button danger" : "button primary"} type="submit" isDisabled={isBusy}>
            {action}
          </Button>
        </div>
      </form>
    </Window>
  );
}

/** All that is kept of a session is asked for again. */
function useRenew(id: string) {
  const client = useQueryClient();
  return () => {
    for (const key of ["session", "window", "branches", "run", "log"])
      client.invalidateQueries({ queryKey: [key, id] });
    client.invalidateQueries({ queryKey: ["sessions"] });
  };
}

const text = (form: FormData, name: string) => String(form.get(name) ?? "").trim();

export function ForkWindow({ run, onClose }: { run: Run; onClose: () => void }) {
  return (
    <Ask
      title={t.work.forkTitle(run.number)}
      hint={t.work.forkHint}
      action={t.work.forkNow}
      onClose={onClose}
      onDo={async (form) => {
        const made = await send<Session>("POST", `sessions/${part(run.session_id)}/fork`, {
          at: run.number,
          name: text(form, "name") || null,
        });
        return { address: to(["session", made.session_id]) };
      }}
    >
      <TextField className="field" name="name" autoFocus>
        <Label>{t.work.name}</Label>
        <Input />
      </TextField>
    </Ask>
  );
}

export function RewindWindow({ run, onClose }: { run: Run; onClose: () => void }) {
  const renew = useRenew(run.session_id);
  const [restore, setRestore] = useState(true);
  return (
    <Ask
      title={t.work.rewindTitle(run.number)}
      hint={t.work.rewindHint}
      action={t.work.rewindNow}
      onClose={onClose}
      onDo={async () => {
        await send("POST", `sessions/${part(run.session_id)}/rewind`, { at: run.number, restore_state: restore });
        renew();
        return { address: to(["session", run.session_id]), replace: true };
      }}
    >
      <Check isSelected={restore} onChange={setRestore}>
        {t.work.restoreState}
      </Check>
    </Ask>
  );
}

function Check({
  isSelected,
  onChange,
  children,
}: {
  isSelected: boolean;
  onChange: (now: boolean) => void;
  children: ReactNode;
}) {
  return (
    <Checkbox className="check" isSelected={isSelected} onChange={onChange}>
      <span className="box" aria-hidden="true">
        {isSelected ? "✓" : ""}
      </span>
      {children}
    </Checkbox>
  );
}

export function AgainWindow({ run, session, onClose }: { run: Run; session: Session; onClose: () => void }) {
  const renew = useRenew(run.session_id);
  const path = `sessions/${part(run.session_id)}`;
  return (
    <Ask
      title={t.work.againTitle(run.number)}
      hint={t.work.againHint}
      action={t.work.againNow}
      onClose={onClose}
      onDo={async (form) => {
        const agent = run.agent ?? session.agent ?? "";
        const { tip } = await get<Session>(path); // where it is now: a card does not follow its session
        await send("POST", `${path}/rewind`, { at: run.number - 1 });
        try {
          await send<Begun>("POST", `agents/${part(agent)}/runs`, {
            input: text(form, "input"),
            session_id: run.session_id,
            background: true,
          });
        } catch (error) {
          await send("POST", `${path}/rewind`, { at: tip }); // nothing has run: the session is as it was
          throw error;
        } finally {
          renew();
        }
        return { address: to(["session", run.session_id]), replace: true };
      }}
    >
      <TextField className="field" name="input" defaultValue={textOf(run.input)} autoFocus>
        <Label>{t.run.you}</Label>
        <TextArea rows={6} />
      </TextField>
    </Ask>
  );
}

export function RenameWindow({ session, onClose }: { session: Session; onClose: () => void }) {
  const renew = useRenew(session.session_id);
  return (
    <Ask
      title={t.work.renameTitle}
      hint=""
      action={t.common.save}
      onClose={onClose}
      onDo={async (form) => {
        await send("PATCH", `sessions/${part(session.session_id)}`, { name: text(form, "name") || null });
        renew();
        return undefined;
      }}
    >
      <TextField className="field" name="name" defaultValue={session.name ?? ""} autoFocus>
        <Label>{t.work.name}</Label>
        <Input />
      </TextField>
    </Ask>
  );
}

export function GiveWindow({ session, onClose }: { session: Session; onClose: () => void }) {
  const renew = useRenew(session.session_id);
  return (
    <Ask
      title={t.work.giveTitle}
      hint={t.work.giveHint}
      action={t.work.giveNow}
      onClose={onClose}
      onDo={async (form) => {
        const path = `sessions/${part(session.session_id)}/claim`;
        const given = await send<Session>("POST", path, { user_id: text(form, "user") });
        renew();
        return { address: to(["session", given.session_id]), replace: true }; // a user's own sessions have other ids
      }}
    >
      <TextField className="field" name="user" isRequired autoFocus>
        <Label>{t.work.giveUser}</Label>
        <Input />
      </TextField>
    </Ask>
  );
}

export function DeleteWindow({ session, onClose }: { session: Session; onClose: () => void }) {
  const client = useQueryClient();
  return (
    <Ask
      title={t.work.removeTitle}
      hint={t.work.removeHint(session.run_count)}
      action={t.work.removeNow}
      isDanger
      onClose={onClose}
      onDo={async () => {
        await send("DELETE", `sessions/${part(session.session_id)}`);
        client.removeQueries({ queryKey: ["sessions"] });
        return { address: to(["sessions"]) };
      }}
    />
  );
}
