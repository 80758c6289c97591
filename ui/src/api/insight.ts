// What is asked of the index, of the server's state, and of experiments.

import { keepPreviousData, queryOptions } from "@tanstack/react-query";
import { get, part } from "./client";
import type { RunFilters } from "./queries";
import type { Doctor, Example, Experiment, Experiments, ServerState, UsageTable } from "./types";

/** The viewer's own time zone, by its name. */
export const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

export const choices = (field: string, prefix: string) =>
  queryOptions({
    queryKey: ["choices", field, prefix],
    queryFn: ({ signal }) => get<string[]>(`choices/${part(field)}`, { prefix, limit: 20 }, signal),
    staleTime: 60_000,
    retry: false, // where there is no index, names are typed
  });

export const usage = (by: readonly string[], filters: RunFilters) =>
  queryOptions({
    queryKey: ["usage", by, filters],
    queryFn: ({ signal }) => get<UsageTable>("usage", { ...filters, by, zone: ZONE }, signal),
    placeholderData: keepPreviousData,
    staleTime: 30_000,
  });

export const examples = (filters: RunFilters, like: string) =>
  queryOptions({
    queryKey: ["examples", filters, like],
    queryFn: ({ signal }) => get<Example[]>("examples", { ...filters, like, limit: 20 }, signal),
    placeholderData: keepPreviousData,
  });

export const serverState = () =>
  queryOptions({
    queryKey: ["status"],
    queryFn: ({ signal }) => get<ServerState>("status", {}, signal),
    refetchInterval: 10_000,
  });

export const doctor = (sessions: number) =>
  queryOptions({
    queryKey: ["doctor", sessions],
    queryFn: ({ signal }) => get<Doctor>("doctor", { sessions }, signal),
    staleTime: 60_000,
  });

export const experiments = () =>
  queryOptions({
    queryKey: ["experiments"],
    queryFn: ({ signal }) => get<Experiments>("experiments", { limit: 100 }, signal),
    refetchInterval: (query) => ((query.state.data?.here.length ?? 0) > 0 ? 1000 : 20_000),
  });

export const experiment = (name: string) =>
  queryOptions({
    queryKey: ["experiment", name],
    queryFn: ({ signal }) => get<Experiment>(`experiments/${part(name)}`, {}, signal),
    refetchInterval: (query) => (query.state.data?.status === "running" ? 700 : false),
  });
