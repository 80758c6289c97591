// @vitest-environment jsdom
import { describe, expect, it } from "vitest";
import type { Session } from "../api/types";
import { changedSince, type Told } from "../views/sessions/changes";

const session = (session_id: string, revision: number, updated: number, more: Partial<Session> = {}) =>
  ({
    session_id,
    revision,
    updated_at: `2026-11-30T00:00:${String(updated).padStart(2, "0")}+00:00`,
    agent: null,
    name: null,
    ...more,
  }) as Session;

const told = (isFirst: boolean, ...sessions: Session[]) =>
  new Map<string, Told>(sessions.map((one) => [one.session_id, { session: one, isFirst }]));

describe("what a list lacks", () => {
  const top = [session("b", 3, 20), session("a", 5, 10)];

  it("is what has changed since it was read, whenever it was told", () => {
    expect(changedSince(told(true, ...top), top, {})).toBe(0);
    expect(changedSince(told(true, session("a", 6, 30), session("b", 3, 20)), top, {})).toBe(1);
    expect(changedSince(told(false, session("new", 1, 40)), top, {})).toBe(1);
    expect(changedSince(told(false, session("a", 4, 5)), top, {})).toBe(0); // the list is newer than what was told
    expect(changedSince(told(false, session("old", 9, 5)), top, {})).toBe(0); // further down in it
    expect(changedSince(told(false, session("b", 1, 50)), top, {})).toBe(1); // deleted, and made anew
  });
  it("is only what its filters let through, as far as that is known", () => {
    const other = session("new", 1, 40, { agent: "sales" });
    expect(changedSince(told(false, other), top, { agent: "support" })).toBe(0);
    expect(changedSince(told(false, other), top, { agent: "sales" })).toBe(1);
    expect(changedSince(told(true, other), top, { model: "x" })).toBe(0); // who knows what model it is
    expect(changedSince(told(true, other), [], {})).toBe(0);
    expect(changedSince(told(false, other), [], {})).toBe(1);
  });
});
