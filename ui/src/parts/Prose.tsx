// What people and models say. Markdown comes when it is first needed; until then, and where it is long, plain text.

import { Component, lazy, type ReactNode, Suspense } from "react";

const Markdown = lazy(() => import("./Markdown"));

/** Longer texts are shown as they are: to take them apart would stop the page. */
const MOST = 60_000;

/** So are those that are quoted, or listed, deeper than anybody means: each level is an element inside another. */
const DEEP = /^[ \t]*(?:>[ \t]*|[*+-][ \t]+){60}/m;

export function Prose({ text }: { text: string }) {
  const asItIs = (
    <div className="markdown as-it-is" dir="auto">
      {text.slice(0, MOST)}
    </div>
  );
  if (text.length > MOST || DEEP.test(text)) return asItIs;
  return (
    <Fallback otherwise={asItIs}>
      <Suspense fallback={asItIs}>
        <Markdown text={text} />
      </Suspense>
    </Fallback>
  );
}

/** Text that the renderer cannot take is still text. */
class Fallback extends Component<{ otherwise: ReactNode; children: ReactNode }, { failed: boolean }> {
  override state = { failed: false };
  static getDerivedStateFromError() {
    return { failed: true };
  }
  override render() {
    return this.state.failed ? this.props.otherwise : this.props.children;
  }
}
