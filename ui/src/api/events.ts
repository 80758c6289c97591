// Server-sent events over fetch: unlike EventSource it sends our headers, and says what has gone wrong.

import { addressOf, answerOf, headersOf, Problem, type Query } from "./client";

export type ServerEvent = { id: string; event: string; data: string };

/** Takes a stream apart, piece by piece, wherever the pieces are cut. */
export class EventParser {
  private rest = "";
  private event: ServerEvent = { id: "", event: "message", data: "" };
  private hasData = false;
  /** Milliseconds to wait before coming again, as the server has said. */
  retry = 1000;

  push(text: string): ServerEvent[] {
    const found: ServerEvent[] = [];
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "") {
        if (this.hasData) found.push(this.event);
        this.event = { id: this.event.id, event: "message", data: "" };
        this.hasData = false;
        continue;
      }
      const colon = line.indexOf(":");
      const name = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (name === "id") this.event.id = value;
      else if (name === "event") this.event.event = value;
      else if (name === "data") {
        this.event.data = this.hasData ? `${this.event.data}\n${value}` : value;
        this.hasData = true;
      } else if (name === "retry" && /^\d+$/.test(value)) this.retry = Number(value);
    }
    return found;
  }
}

export type Following = {
  onEvent: (event: ServerEvent) => void;
  /** Whether the connection stands; called when that changes. */
  onConnected?: (connected: boolean) => void;
};

/** Reads a stream, and comes again where it was lost, until `signal` ends it or the server says that all has arrived. */
export async function follow(path: string, query: Query, signal: AbortSignal, to: Following): Promise<void> {
  const parser = new EventParser();
  let last = "";
  let failures = 0;
  while (!signal.aborted) {
    try {
      const more: Record<string, string> = last === "" ? {} : { "Last-Event-ID": last };
      const response = await answerOf(() =>
        fetch(addressOf(path, query), { headers: headersOf({ Accept: "text/event-stream", ...more }), signal }),
      );
      if (response.status === 204 || response.body === null) return;
      failures = 0;
      to.onConnected?.(true);
      const fresh = new EventParser();
      fresh.retry = parser.retry;
      for await (const text of texts(response.body)) {
        for (const event of fresh.push(text)) {
          last = event.id || last;
          to.onEvent(event);
          if (event.event === "run.ended") return;
        }
        parser.retry = fresh.retry;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem && !error.isOffline && error.status < 500) throw error;
    }
    if (signal.aborted) return;
    failures += 1;
    if (failures > 1) to.onConnected?.(false);
    await pause(Math.min(parser.retry * failures, 15_000), signal);
  }
}

async function* texts(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield decoder.decode(value, { stream: true });
    }
  } finally {
    reader.cancel().catch(() => undefined);
  }
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
