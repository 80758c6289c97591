// What was said in a run, in order, whatever the format that its messages are stored in.

import { isObject, type Json, type Message, type Run } from "./api/types";

export type Media =
  | { kind: "stored"; digest: string; type: string; size: number }
  | { kind: "inline"; data: string; type: string; size: number }
  | { kind: "elsewhere"; url: string; type: string };

export type Content = { text: string } | { media: Media } | { raw: Json };

/** One thing that was said or done. `pointer` is its place in the run, for what was cut. */
export type Item =
  | { what: "said"; who: "user" | "system" | "agent"; content: Content[]; pointer: string; time: string }
  | { what: "thinking"; text: Json; pointer: string; time: string }
  | {
      what: "call";
      id: string;
      tool: string;
      args: Json;
      pointer: string;
      time: string;
      result: { value: Json; pointer: string; time: string; outcome: string } | null;
    }
  | { what: "retry"; text: Json; pointer: string; time: string }
  | { what: "raw"; value: Json; pointer: string; time: string };

type Call = Extract<Item, { what: "call" }>;

export function itemsOf(run: Pick<Run, "messages">): Item[] {
  const items: Item[] = [];
  const open = new Map<string, Call>();
  const put = (item: Item) => {
    items.push(item);
    if (item.what === "call") open.set(item.id, item);
  };
  const returned = (id: string, tool: string, value: Json, pointer: string, time: string, outcome: string) => {
    const call = open.get(id);
    if (call !== undefined && call.result === null) call.result = { value, pointer, time, outcome };
    else put({ what: "call", id, tool, args: null, pointer, time, result: { value, pointer, time, outcome } });
  };
  run.messages.forEach((message, index) => {
    const base = `/messages/${index}/data`;
    const data = message.data;
    if (isObject(data) && Array.isArray(data.parts)) {
      data.parts.forEach((part, place) => {
        ofPart(part, `${base}/parts/${place}`, message.time, data.kind === "request", put, returned);
      });
    } else if (isObject(data) && typeof data.role === "string") ofRole(data, base, message, put, returned);
    else if (isObject(data) && ofItem(data, base, message.time, put, returned)) return;
    else if (isObject(data) && ofEvent(data, base, message.time, put, returned)) return;
    else put({ what: "raw", value: data, pointer: base, time: message.time });
  });
  return items;
}

type Put = (item: Item) => void;
type Returned = (id: string, tool: string, value: Json, pointer: string, time: string, outcome: string) => void;

const text = (value: Json | undefined): string => (typeof value === "string" ? value : "");

function ofPart(part: Json, pointer: string, time: string, isRequest: boolean, put: Put, returned: Returned) {
  if (!isObject(part)) return put({ what: "raw", value: part, pointer, time });
  const kind = text(part.part_kind);
  const content = part.content ?? null;
  const tool = text(part.tool_name);
  const id = text(part.tool_call_id) || tool;
  if (kind === "user-prompt") {
    put({ what: "said", who: "user", content: contentOf(content), pointer: `${pointer}/content`, time });
  } else if (kind === "system-prompt") {
    put({ what: "said", who: "system", content: contentOf(content), pointer: `${pointer}/content`, time });
  } else if (kind === "text" && typeof part.text === "string" && content === null) {
    put({
      what: "said",
      who: isRequest ? "user" : "agent",
      content: [{ text: part.text }],
      pointer: `${pointer}/text`,
      time,
    });
  } else if (kind === "text") {
    put({
      what: "said",
      who: isRequest ? "user" : "agent",
      content: contentOf(content),
      pointer: `${pointer}/content`,
      time,
    });
  } else if (kind === "thinking") {
    if (content !== "" && content !== null)
      put({ what: "thinking", text: content, pointer: `${pointer}/content`, time });
  } else if (kind.endsWith("tool-call")) {
    put({ what: "call", id, tool, args: parsed(part.args ?? null), pointer: `${pointer}/args`, time, result: null });
  } else if (kind.endsWith("tool-return")) {
    returned(id, tool, content, `${pointer}/content`, time, text(part.outcome) || "success");
  } else if (kind === "retry-prompt" && tool !== "") {
    returned(id, tool, content, `${pointer}/content`, time, "retry");
  } else if (kind === "retry-prompt") {
    put({ what: "retry", text: content, pointer: `${pointer}/content`, time });
  } else if (kind === "file") {
    put({ what: "said", who: "agent", content: contentOf([content]), pointer: `${pointer}/content`, time });
  } else put({ what: "raw", value: part, pointer, time });
}

function ofRole(data: Record<string, Json>, base: string, message: Message, put: Put, returned: Returned) {
  const { time } = message;
  const role = text(data.role);
  const content = data.content ?? null;
  if (role === "tool") {
    const id = text(data.tool_call_id);
    return returned(id, text(data.name) || id, content, `${base}/content`, time, "success");
  }
  const who = role === "user" ? "user" : role === "system" || role === "developer" ? "system" : "agent";
  if (content !== null && content !== "") {
    put({ what: "said", who, content: contentOf(content), pointer: `${base}/content`, time });
  }
  const calls = Array.isArray(data.tool_calls) ? data.tool_calls : [];
  calls.forEach((call, place) => {
    if (!isObject(call) || !isObject(call.function)) return;
    const pointer = `${base}/tool_calls/${place}/function/arguments`;
    const tool = text(call.function.name);
    put({
      what: "call",
      id: text(call.id) || tool,
      tool,
      args: parsed(call.function.arguments ?? null),
      pointer,
      time,
      result: null,
    });
  });
}

/** An item of the Responses API that is no message; false if it is none that is known. */
function ofItem(data: Record<string, Json>, base: string, time: string, put: Put, returned: Returned): boolean {
  const tool = text(data.name);
  const id = text(data.call_id) || tool;
  if (data.type === "function_call") {
    const args = parsed(data.arguments ?? null);
    put({ what: "call", id, tool, args, pointer: `${base}/arguments`, time, result: null });
  } else if (data.type === "function_call_output") {
    returned(id, tool || id, data.output ?? null, `${base}/output`, time, "success");
  } else if (data.type === "reasoning" && Array.isArray(data.summary) && data.summary.length > 0) {
    put({ what: "thinking", text: textOf(data.summary), pointer: `${base}/summary`, time });
  } else return false;
  return true;
}

/** An event of Google's ADK; false if it is none, or says nothing. */
function ofEvent(data: Record<string, Json>, base: string, time: string, put: Put, returned: Returned): boolean {
  if (!isObject(data.content) || !Array.isArray(data.content.parts) || data.content.parts.length === 0) return false;
  for (const [place, part] of data.content.parts.entries()) {
    ofEventPart(part, `${base}/content/parts/${place}`, time, data.author === "user" ? "user" : "agent", put, returned);
  }
  return true;
}

function ofEventPart(part: Json, pointer: string, time: string, who: "user" | "agent", put: Put, returned: Returned) {
  if (!isObject(part)) return put({ what: "raw", value: part, pointer, time });
  const { function_call: call, function_response: back } = part;
  if (isObject(call)) {
    const tool = text(call.name);
    const args = call.args ?? null;
    put({
      what: "call",
      id: text(call.id) || tool,
      tool,
      args,
      pointer: `${pointer}/function_call/args`,
      time,
      result: null,
    });
  } else if (isObject(back)) {
    const tool = text(back.name);
    const value = back.response ?? null;
    returned(text(back.id) || tool, tool, value, `${pointer}/function_response/response`, time, "success");
  } else if (part.thought === true && part.text !== undefined) {
    put({ what: "thinking", text: part.text, pointer: `${pointer}/text`, time });
  } else if (part.text !== undefined) {
    put({ what: "said", who, content: contentOf(part.text), pointer: `${pointer}/text`, time });
  } else put({ what: "raw", value: part, pointer, time });
}

/** Arguments are JSON, or the text of it. */
function parsed(value: Json): Json {
  if (typeof value !== "string" || !/^\s*[[{]/.test(value)) return value;
  try {
    return JSON.parse(value) as Json;
  } catch {
    return value;
  }
}

export function contentOf(value: Json): Content[] {
  if (value === null) return [];
  if (typeof value === "string") return [{ text: value }];
  if (!Array.isArray(value)) return [one(value)];
  return value.map(one);
}

function one(value: Json): Content {
  if (typeof value === "string") return { text: value };
  if (!isObject(value)) return { raw: value };
  const found = mediaOf(value);
  if (found !== null) return { media: found };
  if (typeof value.text === "string") return { text: value.text };
  if (value.kind === "text" && typeof value.content === "string") return { text: value.content };
  return { raw: value };
}

/** An image or a file, in the forms in which messages hold them. */
export function mediaOf(value: Record<string, Json>): Media | null {
  const type = text(value.media_type) || "application/octet-stream";
  if (value.kind === "binary") {
    const data = value.data ?? null;
    if (isObject(data) && typeof data.$blob === "string") {
      return { kind: "stored", digest: data.$blob, type, size: typeof data.size === "number" ? data.size : 0 };
    }
    if (typeof data === "string") return { kind: "inline", data, type, size: Math.floor((data.length * 3) / 4) };
    return null;
  }
  if (typeof value.kind === "string" && value.kind.endsWith("-url") && typeof value.url === "string") {
    return { kind: "elsewhere", url: value.url, type: value.kind.replace("-url", "") };
  }
  const image = value.image_url;
  if (value.type === "image_url" && isObject(image) && typeof image.url === "string") {
    return { kind: "elsewhere", url: image.url, type: "image" };
  }
  return null;
}

/** What a run was asked, as text. */
export function textOf(value: Json): string {
  if (typeof value === "string") return value;
  if (Array.isArray(value)) {
    return contentOf(value)
      .map((item) => ("text" in item ? item.text : ""))
      .join("\n");
  }
  return value === null ? "" : JSON.stringify(value, null, 2);
}

/** The models that have answered in a run, in order of their first answers. */
export function modelsOf(run: Pick<Run, "messages">): string[] {
  const found = new Set<string>();
  for (const message of run.messages) {
    if (isObject(message.data) && typeof message.data.model_name === "string") found.add(message.data.model_name);
  }
  return [...found];
}

/** Whether the run's output is what its last message said, and need not be shown again. */
export function isOutputSaid(items: readonly Item[], output: Json): boolean {
  const last = items.at(-1);
  if (last === undefined || last.what !== "said" || last.who !== "agent" || typeof output !== "string") return false;
  return textOf(last.content.map((item) => ("text" in item ? item.text : ""))).trim() === output.trim();
}

/** A run for a document or another chat. */
export function markdownOf(run: Run): string {
  const lines = [`## Run ${run.number} (${run.status})`, ""];
  const fenced = (value: Json) => ["```json", JSON.stringify(value, null, 2), "```", ""];
  for (const item of itemsOf(run)) {
    if (item.what === "said") {
      const who = { user: "User", system: "System", agent: run.agent ?? "Agent" }[item.who];
      lines.push(
        `**${who}:**`,
        "",
        ...item.content.map((c) => ("text" in c ? c.text : "raw" in c ? JSON.stringify(c.raw) : `[${c.media.type}]`)),
        "",
      );
    } else if (item.what === "call") {
      lines.push(`**Tool ${item.tool}:**`, "", ...fenced(item.args));
      if (item.result !== null) lines.push(...fenced(item.result.value));
    }
  }
  if (run.messages.length === 0)
    lines.push("**User:**", "", textOf(run.input), "", `**${run.agent ?? "Agent"}:**`, "", textOf(run.output), "");
  if (run.error !== null) lines.push(`**Error:** ${run.error.type ?? ""}: ${run.error.message ?? ""}`, "");
  return lines.join("\n");
}
