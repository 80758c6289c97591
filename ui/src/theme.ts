// Light, dark, high contrast: as the system has it, or as somebody has chosen here.

export type Theme = "system" | "light" | "dark" | "contrast";

const KEY = "sessile.theme";
const dark = matchMedia("(prefers-color-scheme: dark)");
const contrast = matchMedia("(prefers-contrast: more)");
const listeners = new Set<() => void>();

export function chosen(): Theme {
  const kept = localStorage.getItem(KEY);
  return kept === "light" || kept === "dark" || kept === "contrast" ? kept : "system";
}

function apply() {
  const theme = chosen();
  const isDark = theme === "dark" || (theme !== "light" && dark.matches);
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
  const isHigh = theme === "contrast" || (theme === "system" && contrast.matches);
  document.documentElement.dataset.contrast = isHigh ? "high" : "normal";
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
contrast.addEventListener("change", apply);
apply();
