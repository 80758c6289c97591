// @vitest-environment jsdom
import { describe, expect, it } from "vitest";
import { parse, to } from "../address";
import { access } from "../api/client";
import { EventParser } from "../api/events";
import type { StepRecord } from "../api/types";
import { contentOf, isOutputSaid, itemsOf } from "../messages";
import { DEEPEST, type MarkdownNode, shallow } from "../parts/depth";
import { dollars, plain, seconds } from "../shown";
import { csvOf, linesOf, MEASURES, MOST, percentilesOf, stacked, stepOf, timesOf } from "../views/monitor/series";
import { byPosition, layout, stepsOf } from "../views/session/steps";
import { curlOf, pythonOf, quoted } from "../views/work/copying";
import { differences } from "../views/work/differences";

describe("addresses", () => {
  it("keep ids with slashes and signs", () => {
    const address = to(["session", "a/b?c#d %41"], { run: 7778 });
    const { path, query } = parse(address);
    expect(path).toEqual(["session", "a/b?c#d %41"]);
    expect(query.get("run")).toBe("7778");
  });
  it("take a broken escape as it is", () => {
    expect(parse("#/session/%zz").path).toEqual(["session", "%zz"]);
  });
});

describe("what is too deep", () => {
  it("is text, and all of it is there", () => {
    let node: MarkdownNode = { type: "paragraph", children: [{ type: "text", value: "last" }] };
    for (let depth = 0; depth < 20_000; depth += 1) {
      node = { type: "blockquote", children: [node, { type: "text", value: String(depth) }] };
    }
    shallow()(node);
    let depth = 0;
    for (let inner = node; inner.children; inner = inner.children[0] as MarkdownNode) depth += 1;
    expect(depth).toBe(DEEPEST + 1);
    const text = JSON.stringify(node);
    expect(text.indexOf("last")).toBeGreaterThan(0);
    expect(text.indexOf("last")).toBeLessThan(text.indexOf(" 17 "));
    expect(text).toContain('"19999"');
  });
});

describe("server-sent events", () => {
  it("are the same wherever the stream is cut", () => {
    const text =
      'retry: 500\n\nid: 1\nevent: text\ndata: {"text":"a"}\n\n: ping\n\nid: 2\r\ndata: x\r\ndata: y\r\n\r\n';
    const whole = new EventParser().push(text);
    for (let size = 1; size < 9; size += 1) {
      const parser = new EventParser();
      const found = [];
      for (let at = 0; at < text.length; at += size) found.push(...parser.push(text.slice(at, at + size)));
      expect(found).toEqual(whole);
      expect(parser.retry).toBe(500);
    }
    expect(whole.map((one) => [one.id, one.event, one.data])).toEqual([
      ["1", "text", '{"text":"a"}'],
      ["2", "message", "x\ny"],
    ]);
  });
});

const message = (data: unknown) => ({
  data: data as never,
  format: null,
  run: 1,
  run_id: null,
  agent: null,
  seq: 1,
  time: "",
});

describe("what was said", () => {
  it("has calls with their results, and what was thought, in items of the Responses API", () => {
    const items = itemsOf({
      messages: [
        message({ role: "user", content: "Paris?" }),
        message({ type: "reasoning", summary: [{ type: "summary_text", text: "Hm." }] }),
        message({ type: "function_call", call_id: "c", name: "weather", arguments: '{"city":"Paris"}' }),
        message({ type: "function_call_output", call_id: "c", output: "Sun." }),
        message({ type: "message", role: "assistant", content: [{ type: "output_text", text: "Sun in Paris." }] }),
        message({ type: "web_search_call", id: "w" }),
      ],
    });
    expect(items.map((item) => item.what)).toEqual(["said", "thinking", "call", "said", "raw"]);
    expect(items[1]).toMatchObject({ text: "Hm." });
    expect(items[2]).toMatchObject({ tool: "weather", args: { city: "Paris" }, result: { value: "Sun." } });
  });
  it("has them in events of Google's ADK", () => {
    const event = (author: string, ...parts: unknown[]) => message({ author, content: { parts } });
    const items = itemsOf({
      messages: [
        event("user", { text: "Paris?" }),
        event("guide", { text: "Hm.", thought: true }, { function_call: { id: "c", name: "weather", args: { a: 1 } } }),
        event("guide", { function_response: { id: "c", name: "weather", response: { sun: true } } }),
        event("guide", { text: "Sun." }, { inline_data: { data: "" } }),
        message({ author: "guide", actions: { state_delta: { a: 1 } } }),
      ],
    });
    expect(items.map((item) => item.what)).toEqual(["said", "thinking", "call", "said", "raw", "raw"]);
    expect(items[0]).toMatchObject({ who: "user" });
    expect(items[2]).toMatchObject({ tool: "weather", args: { a: 1 }, result: { value: { sun: true } } });
    expect(items[3]).toMatchObject({ who: "agent", content: [{ text: "Sun." }] });
  });
  it("has each call with its result, in the format of Pydantic AI", () => {
    const items = itemsOf({
      messages: [
        message({ kind: "request", parts: [{ part_kind: "user-prompt", content: "Hi" }] }),
        message({
          kind: "response",
          parts: [{ part_kind: "tool-call", tool_name: "f", tool_call_id: "c", args: '{"a":1}' }],
        }),
        message({
          kind: "request",
          parts: [{ part_kind: "tool-return", tool_name: "f", tool_call_id: "c", content: 2 }],
        }),
        message({ kind: "response", parts: [{ part_kind: "text", content: "Done" }] }),
      ],
    });
    expect(items.map((item) => item.what)).toEqual(["said", "call", "said"]);
    expect(items[1]).toMatchObject({
      args: { a: 1 },
      result: { value: 2, pointer: "/messages/2/data/parts/0/content" },
    });
    expect(isOutputSaid(items, "Done")).toBe(true);
  });
  it("is understood in the format of OpenAI, and shown raw in others", () => {
    const items = itemsOf({
      messages: [
        message({
          role: "assistant",
          content: null,
          tool_calls: [{ id: "c", function: { name: "f", arguments: "{}" } }],
        }),
        message({ role: "tool", tool_call_id: "c", content: "x" }),
        message({ something: "else" }),
      ],
    });
    expect(items.map((item) => item.what)).toEqual(["call", "raw"]);
    expect(items[0]).toMatchObject({ tool: "f", result: { value: "x" } });
  });
  it("names media by their digests", () => {
    expect(contentOf([{ kind: "binary", media_type: "image/png", data: { $blob: "ab", size: 3 } }])).toEqual([
      { media: { kind: "stored", digest: "ab", type: "image/png", size: 3 } },
    ]);
  });
});

describe("steps", () => {
  const step = (
    path: string,
    begin: number,
    end: number | null,
    status: StepRecord["status"] = "finished",
    attempt = 1,
  ) => ({
    name: `s${path}`,
    path,
    attempt,
    status,
    started_at: new Date(begin).toISOString(),
    ended_at: end === null ? null : new Date(end).toISOString(),
    data: null,
    error: null,
    cached: false,
  });
  it("stand in the order of their positions, with their attempts", () => {
    const steps = stepsOf(
      [
        step("10", 9, 10),
        step("2", 1, 3, "retrying"),
        step("2", 4, 5, "finished", 2),
        step("1", 0, 1),
        step("11", 10, null, "running"),
      ],
      60,
    );
    expect(steps.map((one) => one.path)).toEqual(["1", "2", "10", "11"]);
    expect(steps[3]?.attempts[0]).toMatchObject({ isAtWork: true, begin: 10, end: 60 });
    expect(steps[1]?.attempts.map((one) => one.failed)).toEqual([true, false]);
    expect(byPosition("3.10", "3.9")).toBeGreaterThan(0);
  });
  it("that ran at the same time share a column", () => {
    const { nodes, edges } = layout(stepsOf([step("1", 0, 1), step("2", 2, 5), step("3", 3, 4), step("4", 6, 7)], 60));
    expect(nodes.map((one) => [one.column, one.row])).toEqual([
      [0, 0],
      [1, 0],
      [1, 1],
      [2, 0],
    ]);
    expect(edges).toHaveLength(4);
  });
});

describe("differences", () => {
  it("put together give both texts back", () => {
    const [left, right] = ["The quick brown fox.", "The slow brown dog!"];
    const pieces = differences(left, right) ?? [];
    expect(
      pieces
        .filter((one) => one.side !== "right")
        .map((one) => one.text)
        .join(""),
    ).toBe(left);
    expect(
      pieces
        .filter((one) => one.side !== "left")
        .map((one) => one.text)
        .join(""),
    ).toBe(right);
  });
  it("of texts that have little in common are the texts", () => {
    const [left, right] = ["Noted: your iban is on file.", "The capital of France is Paris."];
    expect(differences(left, right)).toEqual([
      { text: `${left}\n`, side: "left" },
      { text: right, side: "right" },
    ]);
  });
});

describe("what people read", () => {
  it("never has an unknown price as nothing", () => {
    expect(dollars(null)).toBeNull();
    expect(dollars("0.00001")).toBe("<$0.0001");
    expect(dollars("1.5")).toBe("$1.50");
  });
  it("has durations in fitting units", () => {
    expect([0.004, 1.234, 12, 75, 7200].map(seconds)).toEqual(["4 ms", "1.2 s", "12 s", "1 min 15 s", "2 h 0 min"]);
  });
  it("shows characters that turn text around", () => {
    expect(plain("invoice\u202egpj.exe")).toBe("invoice\\u202egpj.exe");
  });
  it("is quoted for a shell", () => {
    expect(quoted("it's")).toBe("'it'\\''s'");
    expect(curlOf({ agent: "a", input: "it's", session_id: "s" })).toContain("it'\\''s");
  });
  it("names the token by a variable, and never says it", () => {
    access.give("secret-token-0123456789");
    const texts = [curlOf({ agent: "a", input: "x", session_id: "s" }), pythonOf({ session_id: "s", number: 1 })];
    access.forget();
    for (const text of texts) {
      expect(text).toContain("SESSILE_TOKEN");
      expect(text).not.toContain("secret-token");
    }
    expect(pythonOf({ session_id: "s", number: 1 })).not.toContain("SESSILE_TOKEN");
  });
});

describe("usage over time", () => {
  const HOUR = 3_600_000;
  const begin = new Date(2026, 10, 2).getTime();
  const times = timesOf(begin, begin + 2 * 24 * HOUR, "day");
  const day = (index: number) => new Date(times[index] as number).toISOString();
  const row = (index: number, agent: string | null, runs: number) =>
    ({ day: day(index), agent, runs, errors: 0, usage: {}, known_cost: "0.5", p50: 1, p95: 2, p99: 3 }) as never;

  it("is in steps that a chart can show", () => {
    expect(stepOf(0, 24 * HOUR)).toBe("hour");
    expect(stepOf(0, 30 * 24 * HOUR)).toBe("day");
    expect(stepOf(0, 365 * 24 * HOUR)).toBe("week");
    expect(timesOf(0, Number.MAX_SAFE_INTEGER, "week")).toHaveLength(1000);
  });
  it("begins weeks on Mondays", () => {
    expect(new Date(timesOf(begin + 3 * 24 * HOUR, begin + 4 * 24 * HOUR, "week")[0] as number).getDay()).toBe(1);
  });
  it("has a point for each step, and the same sum with many groups as with one", () => {
    const rows = Array.from({ length: 9 }, (_, index) => row(index % 2, `agent ${index}`, index + 1));
    const lines = linesOf(rows, times, "day", "agent", MEASURES.runs);
    expect(lines).toHaveLength(MOST + 1);
    expect(lines.at(-1)?.isOthers).toBe(true);
    expect(lines[0]?.name).toBe("agent 8");
    const whole = linesOf(rows, times, "day", null, MEASURES.runs)[0]?.values;
    expect(stacked(lines).at(-1)).toEqual(whole);
    expect(whole).toEqual([25, 20, 0]);
  });
  it("passes over rows of other times, and shows no percentile where nothing ran", () => {
    expect(
      linesOf(
        [{ ...(row(0, "a", 1) as object), day: "2001-01-01T00:00:00Z" } as never],
        times,
        "day",
        null,
        MEASURES.cost,
      ),
    ).toEqual([]);
    expect(percentilesOf([row(1, null, 1)], times, "day")[1]).toEqual({ name: "p95", values: [null, 2, null] });
    const first = { ...(row(1, null, 1) as object), first_token_p50: 0.4, first_token_p95: null } as never;
    expect(percentilesOf([first], times, "day", "first_token_").slice(0, 2)).toEqual([
      { name: "p50", values: [null, 0.4, null] },
      { name: "p95", values: [null, null, null] },
    ]);
  });
  it("is a table in which nothing is a formula", () => {
    expect(
      csvOf(
        ["a", "b"],
        [
          ["=1+1", 2],
          ['say "hi", you', null],
        ],
      ),
    ).toBe('a,b\r\n\'=1+1,2\r\n"say ""hi"", you",');
  });
});
