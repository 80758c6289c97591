// The small parts that all views are made of.

import { type ReactNode, useCallback, useEffect, useRef, useState, useSyncExternalStore } from "react";
import { Button, Dialog, Heading, Modal, ModalOverlay, Tooltip, TooltipTrigger } from "react-aria-components";
import { Problem } from "../api/client";
import type { Status, Usage } from "../api/types";
import { ago, dollars, short, wholeTime } from "../shown";
import { t } from "../texts";
import { Icon, type IconName } from "./Icon";

export function StatusBadge({ status, quiet = false }: { status: Status | null; quiet?: boolean }) {
  const name = status === null ? t.status.none : t.status[status];
  return (
    <span className={`badge status-${status ?? "none"}${quiet ? " quiet" : ""}`}>
      <span className="dot" aria-hidden="true" />
      {name}
    </span>
  );
}

/** An icon that does something; its name is told to screen readers, and shown when one rests on it. */
export function IconButton(props: {
  icon: IconName;
  label: string;
  onPress?: () => void;
  isDisabled?: boolean;
  className?: string;
}) {
  return (
    <TooltipTrigger delay={500} closeDelay={0}>
      <Button
        className={`icon-button ${props.className ?? ""}`}
        aria-label={props.label}
        onPress={props.onPress}
        isDisabled={props.isDisabled}
      >
        <Icon name={props.icon} />
      </Button>
      <Tooltip className="tooltip" offset={6}>
        {props.label}
      </Tooltip>
    </TooltipTrigger>
  );
}

let minute = Date.now();
const watchers = new Set<() => void>();
setInterval(() => {
  minute = Date.now();
  for (const watcher of watchers) watcher();
}, 15_000);

/** Now, renewed four times a minute: one timer for all the times of a page. */
export function useNow(): number {
  return useSyncExternalStore(
    (watcher) => {
      watchers.add(watcher);
      return () => watchers.delete(watcher);
    },
    () => minute,
  );
}

export function Ago({ time }: { time: string }) {
  const now = Math.max(useNow(), Date.parse(time));
  return (
    <time dateTime={time} title={wholeTime(time)}>
      {ago(time, now)}
    </time>
  );
}

export function Cost({ usage }: { usage: Usage }) {
  const shown = dollars(usage.cost);
  if (shown === null) {
    return (
      <span className="muted" title={t.unit.unknownCostLong}>
        {t.unit.unknownCost}
      </span>
    );
  }
  return <span className="number">{shown}</span>;
}

export function tokensOf(usage: Usage): number {
  return (usage.input_tokens ?? 0) + (usage.output_tokens ?? 0);
}

export function Tokens({ usage }: { usage: Usage }) {
  const title = `${(usage.input_tokens ?? 0).toLocaleString()} in, ${(usage.output_tokens ?? 0).toLocaleString()} out`;
  return (
    <span className="number" title={title}>
      {short(tokensOf(usage))} tok
    </span>
  );
}

export function Score({ value }: { value: number | null }) {
  if (value === null) return null;
  const shown = Number.isInteger(value) ? String(value) : value.toFixed(2);
  return (
    <span className="score" title={t.run.rated}>
      <span aria-hidden="true">★</span> {shown}
    </span>
  );
}

/** Shown while something loads, in the place and size of what will come; not at all when it comes at once. */
export function Skeleton({ lines = 3, label = t.common.loading }: { lines?: number; label?: string }) {
  return (
    <div className="skeleton" role="status" aria-label={label}>
      {Array.from({ length: lines }, (_, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: they are all alike
        <span key={index} />
      ))}
    </div>
  );
}

export function Empty({
  icon,
  title,
  hint,
  children,
}: {
  icon: IconName;
  title: string;
  hint?: string;
  children?: ReactNode;
}) {
  return (
    <div className="empty">
      <span className="empty-icon">
        <Icon name={icon} size={28} />
      </span>
      <h2>{title}</h2>
      {hint === undefined ? null : <p>{hint}</p>}
      {children}
    </div>
  );
}

/** What has gone wrong, and what to do. */
export function Trouble({ error, onRetry, children }: { error: unknown; onRetry?: () => void; children?: ReactNode }) {
  const { title, hint } = said(error);
  return (
    <div role="alert">
      <Empty icon="warning" title={title} hint={hint}>
        {onRetry === undefined ? null : (
          <Button className="button" onPress={onRetry}>
            {t.common.retry}
          </Button>
        )}
        {children}
      </Empty>
    </div>
  );
}

/** What has failed beside what is shown, in a line. */
export function Failed({ error }: { error: unknown }) {
  const { title, hint } = said(error);
  return (
    <span className="wrong" role="alert">
      {title} {hint}
    </span>
  );
}

export function said(error: unknown): { title: string; hint: string } {
  if (!(error instanceof Problem))
    return { title: t.trouble.failed, hint: error instanceof Error ? error.message : "" };
  if (error.isOffline) return { title: t.trouble.offline, hint: t.trouble.offlineHint };
  if (error.kind === "session-not-found") return { title: t.trouble.notFound, hint: t.trouble.notFoundHint };
  if (error.kind === "no-index") return { title: t.trouble.noIndex, hint: t.trouble.noIndexHint };
  return { title: error.detail || t.trouble.failed, hint: error.hint };
}

export function Window(props: {
  title: string;
  isOpen: boolean;
  onClose: () => void;
  children: ReactNode;
  wide?: boolean;
}) {
  return (
    <ModalOverlay
      className="overlay"
      isDismissable
      isOpen={props.isOpen}
      onOpenChange={(open) => {
        if (!open) props.onClose();
      }}
    >
      <Modal className={props.wide ? "window wide" : "window"}>
        <Dialog>
          <header className="window-head">
            <Heading slot="title">{props.title}</Heading>
            <IconButton icon="close" label={t.common.close} onPress={props.onClose} />
          </header>
          {props.children}
        </Dialog>
      </Modal>
    </ModalOverlay>
  );
}

export function CopyButton({ text, label = t.common.copy }: { text: () => string | Promise<string>; label?: string }) {
  const [said, setSaid] = useState("");
  useEffect(() => {
    if (said === "") return;
    const timer = setTimeout(() => setSaid(""), 1500);
    return () => clearTimeout(timer);
  }, [said]);
  return (
    <>
      <IconButton
        icon={said === t.common.copied ? "check" : "copy"}
        label={said || label}
        onPress={() => {
          copy(text()).then(
            () => setSaid(t.common.copied),
            () => setSaid(t.common.copyFailed),
          );
        }}
      />
      <span className="hidden" role="status">
        {said}
      </span>
    </>
  );
}

export async function copy(text: string | Promise<string>): Promise<void> {
  await navigator.clipboard.writeText(await text);
}

/** Whether what asks is still there: an answer that comes later is no matter of the page that is shown by then. */
export function useIsHere(): () => boolean {
  const isHere = useRef(true);
  useEffect(() => {
    isHere.current = true;
    return () => {
      isHere.current = false;
    };
  }, []);
  return useCallback(() => isHere.current, []);
}

/** False until the page has drawn what it was opened for: what can wait is asked for then. */
export function useLater(): boolean {
  const [isLater, setLater] = useState(settled);
  useEffect(() => {
    if (isLater) return;
    const timer = setTimeout(() => {
      settled = true;
      setLater(true);
    }, SETTLING);
    return () => clearTimeout(timer);
  }, [isLater]);
  return isLater;
}

const SETTLING = 700;
let settled = false;

/** A value that is waited for until it has not changed for a moment. */
export function useSettled<T>(value: T, milliseconds: number): T {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), milliseconds);
    return () => clearTimeout(timer);
  }, [value, milliseconds]);
  return settled;
}
