// What is kept beside runs: files of a session, memories of a user, approvals for later calls.

import { queryOptions } from "@tanstack/react-query";
import { get, part, send } from "./client";
import type { Grant } from "./types";

export type File = {
  name: string;
  version: number;
  size: number;
  media_type: string;
  digest: string;
  run_id: string | null;
  agent: string | null;
  written_at: string;
  file_id: string;
};

export type Memory = {
  memory_id: string;
  memory: string;
  topics: string[];
  user_id: string | null;
  session_id: string | null;
  run_id: string | null;
  agent: string | null;
  created_at: string;
  updated_at: string;
  expires_at: string | null;
};

/** The newest version of each file, or all versions of one. */
export const files = (id: string, name: string | null) =>
  queryOptions({
    queryKey: ["files", id, name],
    queryFn: ({ signal }) => get<File[]>(`sessions/${part(id)}/files`, { name }, signal),
    refetchInterval: 10_000,
  });

export const contentOf = (id: string) => `sessions/${part(id)}/files/content`;

export const deleteFile = (id: string, name: string) =>
  send<void>("DELETE", `${contentOf(id)}?${new URLSearchParams({ name })}`);

export const memories = (user: string | null, find: string) =>
  queryOptions({
    queryKey: ["memories", user, find],
    queryFn: ({ signal }) => get<Memory[]>("memories", { user_id: user, find }, signal),
  });

const ofUser = (user: string | null) => (user === null ? "" : `?${new URLSearchParams({ user_id: user })}`);

export const remember = (user: string | null, memory: string) =>
  send<Memory>("POST", `memories${ofUser(user)}`, { memory });

export const changeMemory = (user: string | null, id: string, memory: string) =>
  send<Memory>("PATCH", `memories/${part(id)}${ofUser(user)}`, { memory });

export const forget = (user: string | null, id: string) => send<void>("DELETE", `memories/${part(id)}${ofUser(user)}`);

/** What is approved for good: in a session, or in all sessions of a user (null: of whoever asks). */
export const grants = (session: string | null, user: string | null) =>
  queryOptions({
    queryKey: ["approvals", session, user],
    queryFn: ({ signal }) =>
      session === null
        ? get<Grant[]>("approvals", { user_id: user }, signal)
        : get<Grant[]>(`sessions/${part(session)}/approvals`, {}, signal),
  });

/** Whoever is no administrator names no user: all is their own. */
export const revoke = (grant: Grant, user: string | null) =>
  send<{ revoked: boolean }>(
    "DELETE",
    grant.session_id === null
      ? `approvals/${part(grant.grant_id)}${ofUser(user)}`
      : `sessions/${part(grant.session_id)}/approvals/${part(grant.grant_id)}`,
  );
