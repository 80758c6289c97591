// Times, durations, money and counts as people read them, in the viewer's own zone and language.

import type { Session } from "./api/types";

const RELATIVE = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
const FAR = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });
const WHOLE = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const COUNT = new Intl.NumberFormat();
const SHORT = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });

const STEPS: [Intl.RelativeTimeFormatUnit, number][] = [
  ["day", 86_400],
  ["hour", 3600],
  ["minute", 60],
];

/** How long ago, if it is not long ago; else the day. */
export function ago(time: string, now: number): string {
  const seconds = (Date.parse(time) - now) / 1000;
  if (Math.abs(seconds) < 45) return RELATIVE.format(0, "second");
  if (Math.abs(seconds) >= 6 * 86_400) return FAR.format(new Date(time));
  for (const [unit, length] of STEPS) {
    if (Math.abs(seconds) >= length) return RELATIVE.format(Math.round(seconds / length), unit);
  }
  return RELATIVE.format(Math.round(seconds / 60) || -1, "minute");
}

/** The hour of today, or the day. */
export function moment(time: string, now: number): string {
  const date = new Date(time);
  const today = new Date(now).toDateString() === date.toDateString();
  return today
    ? CLOCK.format(date)
    : date.getFullYear() === new Date(now).getFullYear()
      ? DAY.format(date)
      : FAR.format(date);
}

/** All of it: in the viewer's zone, and in UTC. */
export function wholeTime(time: string): string {
  return `${WHOLE.format(new Date(time))} · ${time.replace(/(\.\d{3})\d*/, "$1").replace("+00:00", "Z")}`;
}

export function seconds(value: number): string {
  if (value < 0.9995) return `${Math.round(value * 1000)} ms`;
  if (value < 59.95) return `${value < 9.995 ? value.toFixed(1) : Math.round(value)} s`;
  const minutes = Math.round(value / 60);
  if (value < 3570) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
  return minutes < 1440 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${Math.round(minutes / 1440)} d`;
}

/** Dollars, or null where the price is not known. */
export function dollars(cost: string | null): string | null {
  if (cost === null) return null;
  const value = Number(cost);
  if (value === 0) return "$0";
  if (value < 0.0001) return "<$0.0001";
  return `$${value < 0.01 ? value.toFixed(4) : value < 1 ? value.toFixed(3) : value.toFixed(2)}`;
}

export const count = (value: number) => COUNT.format(value);
export const short = (value: number) => (value < 10_000 ? COUNT.format(value) : SHORT.format(value));

export function bytes(value: number): string {
  if (value < 1000) return `${value} B`;
  return value < 1_000_000 ? `${(value / 1000).toFixed(1)} kB` : `${(value / 1_000_000).toFixed(1)} MB`;
}

export function durationOf(run: { started_at: string; ended_at: string | null }, now: number): number {
  return Math.max(0, ((run.ended_at === null ? now : Date.parse(run.ended_at)) - Date.parse(run.started_at)) / 1000);
}

/** Text without the characters that turn it around or hide parts of it, which would make it lie about what it says. */
export function plain(text: string): string {
  return text.replace(
    /[\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]/g,
    (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** What a session is called: by its name, else by what was asked last in it. */
export function titleOf(session: Pick<Session, "name" | "last" | "session_id">): string {
  return session.name ?? (session.last?.input || session.session_id);
}
