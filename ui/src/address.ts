// Where one is: behind the # of the address, so that it works below any path, and ids stay out of servers' logs.

import { useSyncExternalStore } from "react";

export type Address = { path: string[]; query: URLSearchParams };

export function parse(hash: string): Address {
  const [path = "", query = ""] = hash.replace(/^#/, "").split(/\?(.*)/s);
  const parts = path.split("/").filter((one) => one !== "");
  return { path: parts.map(decoded), query: new URLSearchParams(query) };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

type Values = Record<string, string | number | null | undefined>;

/** The address of a view: `to(["sessions", id], { run: 7 })`. */
export function to(path: readonly string[], values: Values = {}): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== null && value !== undefined && value !== "") query.set(name, String(value));
  }
  const tail = query.toString();
  return `#/${path.map(encodeURIComponent).join("/")}${tail === "" ? "" : `?${tail}`}`;
}

/** Go to a view; `replace` leaves no step to go back to. */
export function go(address: string, { replace = false } = {}) {
  if (address === location.hash) return;
  if (replace) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  dispatchEvent(new PopStateEvent("popstate"));
}

/** Change some values of the address; null takes one away. */
export function change(values: Values, { replace = true } = {}) {
  const { path, query } = parse(location.hash);
  const now: Values = Object.fromEntries(query);
  go(to(path, { ...now, ...values }), { replace });
}

function subscribe(listener: () => void) {
  addEventListener("popstate", listener);
  addEventListener("hashchange", listener);
  return () => {
    removeEventListener("popstate", listener);
    removeEventListener("hashchange", listener);
  };
}

let seen = "";
let known: Address = parse("");

function snapshot(): Address {
  if (location.hash !== seen) {
    seen = location.hash;
    known = parse(seen);
  }
  return known;
}

export function useAddress(): Address {
  return useSyncExternalStore(subscribe, snapshot);
}
