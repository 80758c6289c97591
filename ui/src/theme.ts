// Light, dark, high contrast: as the system has it, or as somebody has chosen here.

export type Theme = "system" | "light" | "dark" | "contrast";

const KEY = "sessile.theme";
const dark = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set<() => void>();

export function chosen(): Theme {
  const kept = localStorage.getItem(KEY);
  return kept === "light" || kept === "dark" || kept === "contrast" ? kept : "system";
}

function apply() {
  const theme = chosen();
  const isDark = theme === "dark" || (theme !== "light" && dark.matches);
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
  document.documentElement.dataset.contrast = theme === "contrast" ? "high" : "normal";
  for (const listener of listeners) listener();
}

export function choose(theme: Theme) {
  if (theme === "system") localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, theme);
  apply();
}

export function subscribe(listener: () => void) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

dark.addEventListener("change", apply);
apply();
