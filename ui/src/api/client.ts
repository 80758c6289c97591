// Requests to the API. The token, if the server wants one, lives as long as the browser's tab.

const TOKEN = "sessile.token";

/** Where the API is: beside the page, wherever that is mounted. */
const BASE = new URL(".", document.baseURI).href;

export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly kind: string,
    readonly detail: string,
    readonly hint: string,
  ) {
    super(detail);
  }

  /** Nothing has answered: no network, or no server. */
  get isOffline(): boolean {
    return this.status === 0;
  }
}

type Listener = () => void;
const listeners = new Set<Listener>();
let wanted = false;

/** Whether the server has asked for a token that there is not. */
export const access = {
  isWanted: () => wanted,
  subscribe(listener: Listener) {
    listeners.add(listener);
    return () => listeners.delete(listener);
  },
  give(token: string) {
    sessionStorage.setItem(TOKEN, token);
    early.clear(); // they were asked for without it
    setWanted(false);
  },
  forget() {
    sessionStorage.removeItem(TOKEN);
    setWanted(true);
  },
  has: () => sessionStorage.getItem(TOKEN) !== null,
};

function setWanted(now: boolean) {
  wanted = now;
  for (const listener of listeners) listener();
}

export type Query = Record<string, string | number | boolean | readonly string[] | null | undefined>;

export function addressOf(path: string, query: Query = {}): string {
  const address = new URL(BASE + path);
  for (const [name, value] of Object.entries(query)) {
    if (value === null || value === undefined || value === "") continue;
    for (const one of Array.isArray(value) ? value : [value]) address.searchParams.append(name, String(one));
  }
  return address.href;
}

export function headersOf(more: Record<string, string> = {}): Record<string, string> {
  const token = sessionStorage.getItem(TOKEN);
  return { "X-Sessile": "1", ...(token === null ? {} : { Authorization: `Bearer ${token}` }), ...more };
}

/** The id of a session in an address. */
export const part = encodeURIComponent;

export async function answerOf(request: () => Promise<Response>): Promise<Response> {
  const token = sessionStorage.getItem(TOKEN);
  let response: Response;
  try {
    response = await request();
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Problem(0, "offline", "", "");
  }
  if (response.status === 401 && token === sessionStorage.getItem(TOKEN)) setWanted(true); // else one was given since
  if (!response.ok) throw await problemOf(response);
  return response;
}

async function problemOf(response: Response): Promise<Problem> {
  let said: Record<string, unknown> = {};
  try {
    said = (await response.json()) as Record<string, unknown>;
  } catch {
    // something between us and the server has answered
  }
  const text = (name: string) => (typeof said[name] === "string" ? (said[name] as string) : "");
  return new Problem(
    response.status,
    text("type").split(":").pop() ?? "",
    text("detail") || response.statusText,
    text("hint"),
  );
}

/** Answers that were asked for before there was a page to show them in. Each is taken once. */
const early = new Map<string, Promise<Response>>();

/** Milliseconds after which they are no longer how things are. */
const FRESH = 10_000;

/** Asks for what will be needed, so that it comes while the page is still being loaded. */
export function ahead(path: string, query: Query = {}) {
  const asked = fetch(addressOf(path, query), { headers: headersOf() });
  asked.catch(() => undefined); // whoever takes it is told
  early.set(addressOf(path, query), asked);
  setTimeout(() => early.clear(), FRESH);
}

function asked(address: string, signal?: AbortSignal): Promise<Response> {
  const known = early.get(address);
  early.delete(address);
  return known ?? fetch(address, { headers: headersOf(), signal });
}

export async function get<T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T> {
  const response = await answerOf(() => asked(addressOf(path, query), signal));
  return (await response.json()) as T;
}

export async function send<T>(
  method: "POST" | "PATCH" | "DELETE",
  path: string,
  body?: unknown,
  more: Record<string, string> = {},
): Promise<T> {
  const headers = headersOf(body === undefined ? more : { ...more, "Content-Type": "application/json" });
  const response = await answerOf(() =>
    fetch(addressOf(path), { method, headers, body: body === undefined ? undefined : JSON.stringify(body) }),
  );
  return (response.status === 204 ? undefined : await response.json()) as T;
}

/** An image of a session, as an address that the page itself may show. */
export async function media(sessionId: string, digest: string, signal?: AbortSignal): Promise<Blob> {
  const path = `sessions/${part(sessionId)}/media/${digest}`;
  const response = await answerOf(() => fetch(addressOf(path), { headers: headersOf(), signal }));
  return response.blob();
}
