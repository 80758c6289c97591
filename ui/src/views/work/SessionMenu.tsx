import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Button, Menu, MenuItem, MenuTrigger, Popover } from "react-aria-components";
import { go, to } from "../../address";
import { session as sessionQuery } from "../../api/queries";
import type { Session } from "../../api/types";
import { CopyButton, useIsHere } from "../../parts/basics";
import { Icon } from "../../parts/Icon";
import { useCommands } from "../../shell/commands";
import { t } from "../../texts";
import { DeleteWindow, GiveWindow, RenameWindow } from "./windows";

export function SessionMenu({ session }: { session: Session }) {
  const [opened, setOpened] = useState<"rename" | "delete" | "give" | null>(null);
  const origin = session.forked_from?.session_id;
  const client = useQueryClient();
  const isHere = useIsHere();
  /** At the first run after the fork, if both have gone on. */
  const compare = async () => {
    const at = (session.forked_from?.run ?? session.forked_from?.at ?? 0) + 1;
    const first = await client.fetchQuery(sessionQuery(origin ?? "")).catch(() => undefined);
    const [ra, rb] = [Math.min(at, first?.tip ?? 0), Math.min(at, session.tip)];
    if (isHere()) go(to(["compare"], { a: origin, ra: ra || null, b: session.session_id, rb: rb || null }));
  };
  useCommands([
    { id: "back", title: t.keys.back, icon: "left", keys: "u", run: () => go(to(["sessions"])) },
    { id: "rename", title: t.work.renameTitle, icon: "edit", run: () => setOpened("rename") },
    { id: "delete", title: t.work.remove, icon: "trash", run: () => setOpened("delete") },
  ]);
  return (
    <div className="session-tools">
      <CopyButton text={() => location.href} label={t.run.link} />
      <MenuTrigger>
        <Button className="icon-button" aria-label={t.run.actions}>
          <Icon name="more" />
        </Button>
        <Popover className="popover" placement="bottom end">
          <Menu
            className="menu"
            onAction={(key) => {
              if (key === "compare") void compare();
              else setOpened(key as typeof opened);
            }}
          >
            <MenuItem id="rename" className="menu-item">
              <Icon name="edit" /> {t.work.rename}
            </MenuItem>
            {origin === undefined ? null : (
              <MenuItem id="compare" className="menu-item">
                <Icon name="compare" /> {t.work.compareOrigin}
              </MenuItem>
            )}
            {session.user_id === null ? (
              <MenuItem id="give" className="menu-item">
                <Icon name="user" /> {t.work.give}
              </MenuItem>
            ) : null}
            <MenuItem id="delete" className="menu-item danger">
              <Icon name="trash" /> {t.work.remove}
            </MenuItem>
          </Menu>
        </Popover>
      </MenuTrigger>
      {opened === "rename" ? <RenameWindow session={session} onClose={() => setOpened(null)} /> : null}
      {opened === "give" ? <GiveWindow session={session} onClose={() => setOpened(null)} /> : null}
      {opened === "delete" ? <DeleteWindow session={session} onClose={() => setOpened(null)} /> : null}
    </div>
  );
}
