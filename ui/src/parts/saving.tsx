// Files that the page makes, or the API.

import { type ReactNode, useState } from "react";
import { addressOf, answerOf, headersOf, type Query } from "../api/client";
import { Failed } from "./basics";

export function saveBlob(blob: Blob, name: string) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Saves what an address of the API answers, as a file; and what is to be shown where that has failed. */
export function useSaving(): { save: (path: string, query: Query, name: string) => void; failed: ReactNode } {
  const [error, setError] = useState<unknown>(null);
  const save = (path: string, query: Query, name: string) => {
    setError(null);
    saveAnswer(path, query, name).catch(setError);
  };
  return { save, failed: error === null ? null : <Failed error={error} /> };
}

async function saveAnswer(path: string, query: Query, name: string): Promise<void> {
  const response = await answerOf(() => fetch(addressOf(path, query), { headers: headersOf() }));
  saveBlob(await response.blob(), name);
}
