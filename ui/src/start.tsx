import "./theme";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { createRoot } from "react-dom/client";
import { App } from "./App";
import { Problem } from "./api/client";

const client = new QueryClient({
  defaultOptions: {
    queries: {
      retry: (failures, error) =>
        error instanceof Problem && !error.isOffline && error.status < 500 ? false : failures < 3,
      retryDelay: (attempt) => Math.min(500 * 2 ** attempt, 5000),
      gcTime: 60_000,
      refetchOnWindowFocus: false,
      networkMode: "always", // the server is often on this machine, where a network is not needed
    },
    mutations: { networkMode: "always" },
  },
});

const root = document.getElementById("root");
if (root !== null) {
  // What React has repaired by itself, by drawing once more, is worth a line, and is no error of the page.
  createRoot(root, { onRecoverableError: (error) => console.warn(error) }).render(
    <QueryClientProvider client={client}>
      <App />
    </QueryClientProvider>,
  );
}
