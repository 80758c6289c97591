// Commands of the palette, and keys. A view adds its own while it is shown.

import { useEffect, useRef, useSyncExternalStore } from "react";
import type { IconName } from "../parts/Icon";

export type Command = {
  id: string;
  title: string;
  icon: IconName;
  /** Keys, as `j` or `g s`; only where nobody is typing. */
  keys?: string;
  run: () => void;
  /** Not in the palette, only in the list of keys. */
  isKeyOnly?: boolean;
};

const sets = new Map<symbol, Command[]>();
const listeners = new Set<() => void>();
let all: Command[] = [];

function changed() {
  all = [...sets.values()].flat();
  for (const listener of listeners) listener();
}

function subscribe(listener: () => void) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export const useAllCommands = () => useSyncExternalStore(subscribe, () => all);

/** Commands that are there as long as the component is. They may be made anew at each rendering. */
export function useCommands(commands: Command[]) {
  const mine = useRef(commands);
  mine.current = commands;
  const shape = commands.map((one) => `${one.id}\n${one.title}\n${one.keys ?? ""}`).join("\n\n");
  // biome-ignore lint/correctness/useExhaustiveDependencies: only when there are others; each calls its newest form
  useEffect(() => {
    const key = Symbol();
    sets.set(
      key,
      mine.current.map((one, index) => ({ ...one, run: () => mine.current[index]?.run() })),
    );
    changed();
    return () => {
      sets.delete(key);
      changed();
    };
  }, [shape]);
}

// ---------------------------------------------------------------- what is open

let opened: "palette" | "help" | null = null;

function open(what: typeof opened) {
  opened = what;
  for (const listener of listeners) listener();
}

export const openPalette = () => open("palette");
export const openHelp = () => open("help");
export const close = () => open(null);
export const useOpened = () => useSyncExternalStore(subscribe, () => opened);

// ---------------------------------------------------------------- keys

const FIELDS = "input, textarea, select, [contenteditable]";
let begun = "";
let begunAt = 0;

function onKey(event: KeyboardEvent) {
  if (event.defaultPrevented || event.altKey) return;
  if ((event.ctrlKey || event.metaKey) && event.key === "k") {
    event.preventDefault();
    return openPalette();
  }
  const target = event.target instanceof Element ? event.target : null;
  if (
    event.ctrlKey ||
    event.metaKey ||
    target?.closest(FIELDS) ||
    target?.closest("[role=dialog], [role=menu], [role=listbox]")
  )
    return;
  const isSequence = begun !== "" && performance.now() - begunAt < 1500;
  const keys = isSequence ? `${begun} ${event.key}` : event.key;
  begun = "";
  const found = all.findLast((one) => one.keys?.split(", ").includes(keys));
  if (found !== undefined) {
    event.preventDefault();
    found.run();
  } else if (all.some((one) => one.keys?.startsWith(`${event.key} `))) {
    begun = event.key;
    begunAt = performance.now();
  }
}

addEventListener("keydown", onKey);
