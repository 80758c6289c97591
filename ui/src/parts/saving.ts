// Files that the page makes, or the API.

import { addressOf, answerOf, headersOf, type Query } from "../api/client";

export function saveBlob(blob: Blob, name: string) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** What an address of the API answers, as a file. */
export async function saveAnswer(path: string, query: Query, name: string): Promise<void> {
  const response = await answerOf(() => fetch(addressOf(path, query), { headers: headersOf() }));
  saveBlob(await response.blob(), name);
}
