// What people and models say. Markdown comes when it is first needed; until then, and where it is long, plain text.

import { Component, lazy, type ReactNode, Suspense } from "react";

type Markdown = typeof import("./Markdown")["default"];

let ready: Markdown | null = null;
const coming = import("./Markdown").then((module) => {
  ready = module.default;
  return module;
});
const Later = lazy(() => coming);

/** Longer texts are shown as they are: to take them apart would stop the page. */
const MOST = 60_000;

export function Prose({ text }: { text: string }) {
  const asItIs = (
    <div className="markdown as-it-is" dir="auto">
      {text.slice(0, MOST)}
    </div>
  );
  if (text.length > MOST) return asItIs;
  const Ready = ready as Markdown;
  return (
    <Fallback otherwise={asItIs}>
      {ready === null ? (
        <Suspense fallback={asItIs}>
          <Later text={text} />
        </Suspense>
      ) : (
        <Ready text={text} />
      )}
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
