// One session: what was said and done in it, its state, and what can be done with it.

import { useQuery } from "@tanstack/react-query";
import { useEffect } from "react";
import { Tab, TabList, TabPanel, Tabs } from "react-aria-components";
import { change, to, useAddress } from "../../address";
import { Problem } from "../../api/client";
import { session } from "../../api/queries";
import { Skeleton, Trouble } from "../../parts/basics";
import { titleOf } from "../../shown";
import { t } from "../../texts";
import type { ViewProps } from "..";
import { Details } from "./Details";
import { FilesTab } from "./FilesTab";
import { SessionHead } from "./SessionHead";
import { StateTab } from "./StateTab";
import { Timeline } from "./Timeline";

// It is needed at once: what came later would move what is read.
import("../../parts/Markdown");

const TABS = ["timeline", "state", "files", "details"] as const;

export default function SessionView({ path }: ViewProps) {
  const id = path[0] ?? "";
  const { query } = useAddress();
  const found = useQuery(session(id));
  const title = found.data === undefined ? id : titleOf(found.data);
  useEffect(() => {
    document.title = `${title} · ${t.product}`;
  }, [title]);
  // Who looks at a session that somebody deletes is told, instead of reading on in what is no more.
  const isGone = found.error instanceof Problem && found.error.kind === "session-not-found";
  if (found.data === undefined || isGone) {
    return (
      <>
        <h1 className="hidden">{id}</h1>
        {found.error === null ? (
          <Skeleton lines={8} />
        ) : (
          <Trouble error={found.error} onRetry={() => found.refetch()}>
            <a href={to(["sessions"])}>{t.session.back}</a>
          </Trouble>
        )}
      </>
    );
  }
  const shown = TABS.find((one) => one === query.get("tab")) ?? "timeline";
  const at = Number(query.get("run")) || null;
  return (
    <div className="session-view">
      <SessionHead session={found.data} />
      <Tabs
        className="tabs"
        selectedKey={shown}
        onSelectionChange={(tab) => change({ tab: tab === "timeline" ? null : String(tab) })}
      >
        <TabList className="tab-list" aria-label={t.session.details}>
          {TABS.map((one) => (
            <Tab key={one} id={one} className="tab">
              {t.session[one]}
            </Tab>
          ))}
        </TabList>
        <TabPanel id="timeline" className="tab-panel">
          <Timeline key={id} session={found.data} at={at} />
        </TabPanel>
        <TabPanel id="state" className="tab-panel scrolls">
          <StateTab session={found.data} at={at} />
        </TabPanel>
        <TabPanel id="files" className="tab-panel scrolls">
          <FilesTab session={found.data} />
        </TabPanel>
        <TabPanel id="details" className="tab-panel scrolls">
          <Details session={found.data} />
        </TabPanel>
      </Tabs>
    </div>
  );
}
