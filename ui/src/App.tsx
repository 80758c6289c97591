// The frame of all views: where one is, where one can go, the palette, keys, and what has gone wrong.

import { useQuery } from "@tanstack/react-query";
import { Component, type ReactNode, Suspense, useEffect, useRef, useSyncExternalStore } from "react";
import { to, useAddress } from "./address";
import { access, Problem } from "./api/client";
import { about } from "./api/queries";
import { Empty, Skeleton, Trouble } from "./parts/basics";
import { Login } from "./shell/Login";
import { Navigation } from "./shell/Navigation";
import { Palette } from "./shell/Palette";
import { t } from "./texts";
import { VIEWS, type View } from "./views";

function viewAt(path: string[]): View {
  return VIEWS.find((view) => view.name === (path[0] ?? "sessions")) ?? NOWHERE;
}

/** Where an address leads to nothing, as one that was cut short. */
const NOWHERE: View = {
  name: "nowhere",
  title: t.trouble.nowhere,
  icon: "warning",
  isListed: false,
  component: () => (
    <Empty icon="warning" title={t.trouble.nowhere} hint={t.trouble.nowhereHint}>
      <a href={to(["sessions"])}>{t.session.back}</a>
    </Empty>
  ),
};

export function App() {
  const isWanted = useSyncExternalStore(access.subscribe, access.isWanted);
  const who = useQuery(about());
  if (isWanted) return <Login onEntered={() => who.refetch()} wasRefused={access.has()} />;
  if (who.error !== null && who.data === undefined) {
    return (
      <main className="alone">
        <h1 className="hidden">{t.product}</h1>
        <Trouble error={who.error} onRetry={() => who.refetch()} />
      </main>
    );
  }
  return <Frame />;
}

function Frame() {
  const { path } = useAddress();
  const view = viewAt(path);
  const main = useRef<HTMLElement>(null);
  const at = path.join("/");
  useTitle(view, path);
  // biome-ignore lint/correctness/useExhaustiveDependencies: whenever another view is shown
  useEffect(() => {
    main.current?.scrollTo(0, 0);
  }, [at]);
  return (
    <div className="frame">
      <Navigation current={view.name} onSkip={() => main.current?.focus()} />
      <main ref={main} tabIndex={-1} id="main" className={`main view-${view.name}`}>
        <Boundary key={at}>
          <Suspense fallback={<Skeleton lines={8} />}>
            <view.component path={path.slice(1)} />
          </Suspense>
        </Boundary>
      </main>
      <Palette />
      <Offline />
    </div>
  );
}

/** Views that say what they are about, once they know. */
const SAYS = new Set(["session", "evaluations"]);

function useTitle(view: View, path: string[]) {
  const what = path[1];
  useEffect(() => {
    if (what !== undefined && SAYS.has(view.name)) return;
    document.title = what === undefined ? `${view.title} · ${t.product}` : `${what} · ${t.product}`;
  }, [view, what]);
}

/** A line at the foot of the page while the server does not answer. */
function Offline() {
  const who = useQuery({
    ...about(),
    staleTime: 0,
    refetchInterval: (query) => (query.state.status === "error" || query.state.fetchFailureCount > 0 ? 3000 : 20_000),
  });
  const problem = who.failureReason ?? who.error;
  if (!(problem instanceof Problem) || !(problem.isOffline || problem.status >= 500)) return null;
  return (
    <div className="offline" role="status">
      {t.trouble.lost}
    </div>
  );
}

/** A view that fails takes nothing else with it. */
class Boundary extends Component<{ children: ReactNode }, { error: Error | null }> {
  override state: { error: Error | null } = { error: null };
  static getDerivedStateFromError(error: Error) {
    return { error };
  }
  override render() {
    if (this.state.error === null) return this.props.children;
    return (
      <Trouble error={new Problem(1, "view", t.trouble.view, t.trouble.viewHint)} onRetry={() => location.reload()} />
    );
  }
}
