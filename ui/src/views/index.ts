// The views, by the first word of their addresses. A view is loaded when it is first shown.

import { type ComponentType, lazy } from "react";
import type { IconName } from "../parts/Icon";
import { t } from "../texts";
import { Sessions } from "./sessions/Sessions";

export type ViewProps = { path: string[] };

export type View = {
  name: string;
  title: string;
  icon: IconName;
  component: ComponentType<ViewProps>;
  /** Whether it stands in the navigation; others are reached from inside. */
  isListed: boolean;
  /** The key that goes to it, after `g`. */
  key?: string;
};

/** Shown when Markdown is there, too: it would move what is read if it came later. */
const withMarkdown = async <T>(view: Promise<T>): Promise<T> => {
  await import("../parts/Markdown");
  return view;
};

export const VIEWS: View[] = [
  { name: "sessions", title: t.nav.sessions, icon: "sessions", component: Sessions, isListed: true, key: "s" },
  {
    name: "session",
    title: t.nav.sessions,
    icon: "sessions",
    component: lazy(() => import("./session/SessionView")),
    isListed: false,
  },
  {
    name: "waiting",
    title: t.nav.waiting,
    icon: "waiting",
    component: lazy(() => import("./work/Waiting")),
    isListed: true,
    key: "w",
  },
  {
    name: "new",
    title: t.work.newSession,
    icon: "plus",
    component: lazy(() => import("./work/New")),
    isListed: true,
    key: "n",
  },
  {
    name: "runs",
    title: t.nav.runs,
    icon: "runs",
    component: lazy(() => import("./runs/Runs")),
    isListed: true,
    key: "r",
  },
  {
    name: "review",
    title: t.nav.review,
    icon: "review",
    component: lazy(() => withMarkdown(import("./learn/Review"))),
    isListed: true,
    key: "v",
  },
  {
    name: "examples",
    title: t.nav.examples,
    icon: "examples",
    component: lazy(() => withMarkdown(import("./learn/Examples"))),
    isListed: true,
    key: "e",
  },
  {
    name: "evaluations",
    title: t.nav.evaluations,
    icon: "evaluations",
    component: lazy(() => withMarkdown(import("./learn/Evaluations"))),
    isListed: true,
    key: "l",
  },
  {
    name: "memories",
    title: t.memories.title,
    icon: "bookmark",
    component: lazy(() => import("./memories/Memories")),
    isListed: true,
    key: "k",
  },
  {
    name: "approvals",
    title: t.approvals.title,
    icon: "check",
    component: lazy(() => import("./approvals/Approvals")),
    isListed: true,
    key: "a",
  },
  {
    name: "monitor",
    title: t.nav.monitor,
    icon: "monitor",
    component: lazy(() => import("./monitor/Monitor")),
    isListed: true,
    key: "m",
  },
  {
    name: "health",
    title: t.nav.health,
    icon: "health",
    component: lazy(() => import("./health/Health")),
    isListed: true,
    key: "h",
  },
  {
    name: "compare",
    title: t.work.compareTitle,
    icon: "compare",
    component: lazy(() => withMarkdown(import("./work/Compare"))),
    isListed: false,
  },
];
