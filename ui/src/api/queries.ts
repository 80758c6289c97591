// What the views ask for, by the names under which it is kept.

import { keepPreviousData, queryOptions } from "@tanstack/react-query";
import { get, part } from "./client";
import { PAGE, RUNS } from "./sizes";
import type {
  About,
  Agent,
  Branch,
  FoundPage,
  FoundRun,
  Hit,
  LogPage,
  Page,
  Run,
  RunPage,
  Session,
  StepRecord,
  Waiting,
} from "./types";

export type SessionFilters = {
  user_id?: string;
  agent?: string;
  kind?: string;
  status?: string;
  name_prefix?: string;
  since?: string;
  until?: string;
  model?: string;
  tool?: string;
  label?: string;
  min_score?: string;
  min_cost?: string;
  max_cost?: string;
  min_duration?: string;
  max_duration?: string;
  metadata?: string;
};

export const about = () =>
  queryOptions({ queryKey: ["about"], queryFn: ({ signal }) => get<About>("me", {}, signal), staleTime: Infinity });

export const agents = () =>
  queryOptions({
    queryKey: ["agents"],
    queryFn: ({ signal }) => get<Agent[]>("agents", {}, signal),
    staleTime: 300_000,
  });

export const sessions = (filters: SessionFilters, cursor: string | null) =>
  queryOptions({
    queryKey: ["sessions", filters, cursor],
    queryFn: ({ signal }) => get<Page<Session>>("sessions", { ...filters, cursor, limit: PAGE, details: true }, signal),
    staleTime: Infinity, // a list never changes under the reader's eyes; what is new is told, and comes by a click
  });

export const session = (id: string) =>
  queryOptions({
    queryKey: ["session", id],
    queryFn: ({ signal }) => get<Session>(`sessions/${part(id)}`, { details: true }, signal),
    refetchInterval: (query) => (query.state.data?.status === "running" ? 2000 : 10_000),
  });

export const runs = (id: string, before: number | null) =>
  queryOptions({
    queryKey: ["runs", id, before],
    queryFn: ({ signal }) => get<RunPage>(`sessions/${part(id)}/runs`, { last: RUNS, before, messages: true }, signal),
  });

export const run = (id: string, number: number) =>
  queryOptions({
    queryKey: ["run", id, number],
    queryFn: ({ signal }) => get<Run>(`sessions/${part(id)}/runs/${number}`, {}, signal),
  });

/** What is stored of a run, or (null) of the whole session. */
export const log = (id: string, number: number | null, after: number) =>
  queryOptions({
    queryKey: ["log", id, number, after],
    queryFn: ({ signal }) =>
      get<LogPage>(`sessions/${part(id)}${number === null ? "" : `/runs/${number}`}/entries`, { after }, signal),
  });

export const steps = (id: string, number: number) =>
  queryOptions({
    queryKey: ["steps", id, number],
    queryFn: ({ signal }) => get<StepRecord[]>(`sessions/${part(id)}/runs/${number}/steps`, {}, signal),
  });

export const branches = (id: string) =>
  queryOptions({
    queryKey: ["branches", id],
    queryFn: ({ signal }) => get<Branch[]>(`sessions/${part(id)}/branches`, {}, signal),
  });

export const search = (text: string, filters: SessionFilters) =>
  queryOptions({
    queryKey: ["search", text, filters],
    queryFn: ({ signal }) => get<FoundPage<Hit>>("search", { text, ...filters, limit: 50 }, signal),
    placeholderData: keepPreviousData,
    staleTime: 10_000,
  });

export type RunFilters = {
  user_id?: string;
  session_id?: string;
  agent?: string;
  model?: string;
  tool?: string;
  status?: readonly string[];
  since?: string;
  until?: string;
  error?: string;
  label?: string;
  failed?: string;
  min_score?: string;
  max_score?: string;
  min_cost?: string;
  max_cost?: string;
  min_duration?: string;
  max_duration?: string;
  rated?: string;
  members?: string;
};

export const foundRuns = (filters: RunFilters, cursor: string | null) =>
  queryOptions({
    queryKey: ["found", filters, cursor],
    queryFn: ({ signal }) => get<FoundPage<FoundRun>>("runs", { ...filters, cursor, limit: PAGE }, signal),
    staleTime: Infinity,
  });

export const waiting = () =>
  queryOptions({
    queryKey: ["waiting"],
    queryFn: ({ signal }) => get<Page<Waiting>>("waiting", { limit: 100 }, signal),
    refetchInterval: 15_000,
  });
