import { lazy, memo, Suspense } from "react";
import { Button, Disclosure, DisclosurePanel, Heading } from "react-aria-components";
import type { Json } from "../../api/types";
import { isCut } from "../../api/types";
import { type Content, contentOf, type Item } from "../../messages";
import { Icon } from "../../parts/Icon";
import { Prose } from "../../parts/Prose";
import { type Place, Value } from "../../parts/Value";
import { plain } from "../../shown";
import { t } from "../../texts";

const MediaShown = lazy(() => import("../../parts/MediaShown"));

type Props = { items: readonly Item[]; sessionId: string; place: (pointer: string) => Place };

export const Items = memo(function Items({ items, sessionId, place }: Props) {
  return items.map((item) => <One key={item.pointer} item={item} sessionId={sessionId} place={place} />);
});

function One({ item, sessionId, place }: { item: Item; sessionId: string; place: (pointer: string) => Place }) {
  if (item.what === "said" && item.who === "system") {
    return (
      <Fold title={t.run.system} about={brief(item.content)}>
        <Contents content={item.content} sessionId={sessionId} place={place(item.pointer)} />
      </Fold>
    );
  }
  if (item.what === "said")
    return <Said who={item.who} content={item.content} sessionId={sessionId} place={place(item.pointer)} />;
  if (item.what === "thinking") {
    return (
      <Fold title={t.run.thinking} about={typeof item.text === "string" ? item.text : ""} icon="spark">
        {typeof item.text === "string" ? (
          <Prose text={item.text} />
        ) : (
          <Value value={item.text} place={place(item.pointer)} />
        )}
      </Fold>
    );
  }
  if (item.what === "call") return <Call item={item} place={place} />;
  if (item.what === "retry") {
    return (
      <Fold title={t.run.retry} about={line(item.text)} icon="rewind">
        <Value value={item.text} place={place(item.pointer)} />
      </Fold>
    );
  }
  return (
    <Fold title={t.run.unknownPart} about="" icon="state">
      <Value value={item.value} place={place(item.pointer)} />
    </Fold>
  );
}

const OUTCOMES: Record<string, string> = { failed: "bad", denied: "bad", retry: "warn", interrupted: "warn" };

function Call({ item, place }: { item: Extract<Item, { what: "call" }>; place: (pointer: string) => Place }) {
  const tone = item.result === null ? "off" : (OUTCOMES[item.result.outcome] ?? "ok");
  return (
    <Fold
      title={item.tool}
      icon="tool"
      about={line(item.args)}
      isCode
      end={
        <span className={`tone-${tone} call-result`} dir="ltr">
          {item.result === null
            ? ""
            : (item.result.outcome !== "success" && item.result.outcome !== "" ? `${item.result.outcome} · ` : "→ ") +
              line(item.result.value)}
        </span>
      }
    >
      <p className="label">{t.run.arguments}</p>
      {item.args === null ? (
        <p className="muted">{t.run.noArguments}</p>
      ) : (
        <Value value={item.args} place={place(item.pointer)} />
      )}
      {item.result === null ? (
        <p className="muted">{t.run.noResult}</p>
      ) : (
        <>
          <p className="label">{item.result.outcome === "retry" ? t.run.retry : t.run.result}</p>
          <Value value={item.result.value} place={place(item.result.pointer)} />
        </>
      )}
    </Fold>
  );
}

export function Said(props: {
  who: "user" | "agent" | "system";
  content?: Content[];
  raw?: Json;
  sessionId: string;
  place?: Place;
}) {
  const content = props.content ?? contentOf(props.raw ?? null);
  return (
    <div className={`item said ${props.who}`}>
      <span className="hidden">{props.who === "user" ? t.run.you : t.run.agent}: </span>
      <Contents content={content} sessionId={props.sessionId} place={props.place} />
    </div>
  );
}

function Contents({ content, sessionId, place }: { content: Content[]; sessionId: string; place?: Place }) {
  return content.map((one, index) => {
    // biome-ignore lint/suspicious/noArrayIndexKey: what was said never changes its order
    if ("text" in one) return <Prose key={index} text={one.text} />;
    if ("media" in one) {
      return (
        // biome-ignore lint/suspicious/noArrayIndexKey: as above
        <Suspense key={index} fallback={null}>
          <MediaShown media={one.media} sessionId={sessionId} />
        </Suspense>
      );
    }
    const pointer =
      place === undefined || content.length === 1 ? place : { ...place, pointer: `${place.pointer}/${index}` };
    // biome-ignore lint/suspicious/noArrayIndexKey: as above
    return <Value key={index} value={one.raw} place={pointer} />;
  });
}

function brief(content: Content[]): string {
  return content.map((one) => ("text" in one ? one.text : "")).join(" ");
}

/** A value in a line. */
export function line(value: Json): string {
  if (isCut(value)) return line(value.$cut.head);
  const text =
    typeof value === "string"
      ? value
      : value === null
        ? ""
        : JSON.stringify(value, (_, one) => (isCut(one) ? one.$cut.head : one));
  return plain(text.slice(0, 300).replace(/\s+/g, " "));
}

type FoldProps = {
  title: string;
  about: string;
  icon?: "tool" | "spark" | "rewind" | "state";
  isCode?: boolean;
  end?: React.ReactNode;
  children: React.ReactNode;
};

function Fold({ title, about, icon, isCode = false, end, children }: FoldProps) {
  return (
    <Disclosure className="item folded">
      {({ isExpanded }) => (
        <>
          <Heading level={3}>
            <Button slot="trigger" className="fold">
              <Icon name="right" size={14} />
              {icon === undefined ? null : <Icon name={icon} size={14} />}
              <span className={isCode ? "fold-title code-title" : "fold-title"}>{plain(title)}</span>
              <span className={isCode ? "fold-about mono" : "fold-about"} dir="auto">
                {about.slice(0, 200)}
              </span>
              {end}
            </Button>
          </Heading>
          <DisclosurePanel className="fold-body">{isExpanded ? children : null}</DisclosurePanel>
        </>
      )}
    </Disclosure>
  );
}
