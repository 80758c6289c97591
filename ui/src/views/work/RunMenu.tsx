import { useState } from "react";
import { Button, Menu, MenuItem, MenuTrigger, Popover } from "react-aria-components";
import { go, to } from "../../address";
import type { Run, Session } from "../../api/types";
import { markdownOf } from "../../messages";
import { copy } from "../../parts/basics";
import { Icon, type IconName } from "../../parts/Icon";
import { t } from "../../texts";
import { curlOf, linkOf, pythonOf } from "./copying";
import { AgainWindow, ForkWindow, RewindWindow } from "./windows";

type Opened = "fork" | "rewind" | "again" | null;

export function RunMenu({ run, session, onLog }: { run: Run; session: Session; onLog: () => void }) {
  const [opened, setOpened] = useState<Opened>(null);
  const [told, setTold] = useState("");
  const copied = (text: string) =>
    copy(text).then(
      () => setTold(t.common.copied),
      () => setTold(t.common.copyFailed),
    );
  const actions: Record<string, { title: string; icon: IconName; run: () => void }> = {
    link: { title: t.run.copyLink, icon: "link", run: () => copied(linkOf(run)) },
    markdown: { title: t.run.copyMarkdown, icon: "copy", run: () => copied(markdownOf(run)) },
    curl: { title: t.run.copyCurl, icon: "copy", run: () => copied(curlOf(run)) },
    python: { title: t.run.copyPython, icon: "copy", run: () => copied(pythonOf(run)) },
    again: { title: t.run.again, icon: "edit", run: () => setOpened("again") },
    fork: { title: t.run.fork, icon: "fork", run: () => setOpened("fork") },
    rewind: { title: t.run.rewind, icon: "rewind", run: () => setOpened("rewind") },
    compare: {
      title: t.run.compare,
      icon: "compare",
      run: () =>
        go(
          to(["compare"], { a: run.session_id, ra: run.number, b: session.forked_from?.session_id ?? run.session_id }),
        ),
    },
    log: { title: t.run.log, icon: "state", run: onLog },
  };
  return (
    <>
      <MenuTrigger>
        <Button className="icon-button" aria-label={t.run.actions}>
          <Icon name="more" />
        </Button>
        <Popover className="popover" placement="bottom end">
          <Menu className="menu" onAction={(key) => actions[String(key)]?.run()}>
            {Object.entries(actions).map(([id, one]) => (
              <MenuItem key={id} id={id} className="menu-item" textValue={one.title}>
                <Icon name={one.icon} /> {one.title}
              </MenuItem>
            ))}
          </Menu>
        </Popover>
      </MenuTrigger>
      <span className="hidden" role="status">
        {told}
      </span>
      {opened === "fork" ? <ForkWindow run={run} onClose={() => setOpened(null)} /> : null}
      {opened === "rewind" ? <RewindWindow run={run} onClose={() => setOpened(null)} /> : null}
      {opened === "again" ? <AgainWindow run={run} session={session} onClose={() => setOpened(null)} /> : null}
    </>
  );
}
