// Drawings of 16 by 16, in the colour of the text around them. They never speak: what they stand beside does.

const PATHS = {
  sessions: "M2.5 3.5h11M2.5 8h11M2.5 12.5h7",
  runs: "M4 2.5v11l9-5.5z",
  waiting: "M8 4.5V8l2.5 1.5M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0z",
  review: "M8 1.800l1.9 3.9 4.3.6-3.1 3 .7 4.300L8 11.600l-3.8 2 .7-4.3-3.1-3 4.3-.6z",
  examples: "M3 2.5h7l3 3v8H3zM5.5 8h5M5.5 10.5h5",
  evaluations: "M2.5 13.5h11M4.5 11V8M8 11V4M11.5 11V6.5",
  monitor: "M2 11l3.5-4.5 3 2.5L14 3.5M2 14h12",
  health: "M1.5 8h3l1.5-4 3 8 1.5-4h4",
  search: "M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10zM10.8 10.800L14 14",
  close: "M4 4l8 8M12 4l-8 8",
  down: "M4 6l4 4 4-4",
  right: "M6 4l4 4-4 4",
  left: "M10 4L6 8l4 4",
  up: "M4 10l4-4 4 4",
  more: "M3.5 8h.01M8 8h.01M12.5 8h.01",
  copy: "M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3",
  link: "M6.5 9.5l3-3M7 4.5l1.5-1.5a3 3 0 0 1 4.5 4.5L11.5 9M9 11.5L7.5 13A3 3 0 0 1 3 8.5L4.5 7",
  fork: "M4.5 4.5v7M4.5 8c5 0 7-1 7-3.5M6 3a1.5 1.5 0 1 1-3 0 1.5 1.5 0 0 1 3 0zM6 13a1.5 1.5 0 1 1-3 0 1.5 1.5 0 0 1 3 0zM13 3a1.5 1.5 0 1 1-3 0 1.5 1.5 0 0 1 3 0z",
  rewind: "M3 3v4h4M3.3 7A5.5 5.5 0 1 1 2.5 9",
  edit: "M3 13l.7-3L10.5 3.200l2.3 2.300L6 12.300z",
  trash: "M3 4.5h10M6.5 4.5V3h3v1.5M4.5 4.5l.6 9h5.800l.6-9",
  tool: "M10 2.5a3.5 3.5 0 0 0-3 5L2.5 12l1.5 1.5L8.5 9a3.5 3.5 0 0 0 5-3l-2 2-2-.5-.5-2z",
  spark: "M8 2v3M8 11v3M2 8h3M11 8h3M4 4l1.5 1.5M10.5 10.5L12 12M12 4l-1.5 1.5M5.5 10.5L4 12",
  user: "M8 8.5a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM2.5 14c.5-3 2.5-4 5.5-4s5 1 5.5 4",
  send: "M2.5 8L13.5 2.5 10 13.5 7.5 9z",
  stop: "M4 4h8v8H4z",
  clip: "M12.5 7.5l-5 5a3 3 0 0 1-4.3-4.300l5.5-5.5a2 2 0 0 1 2.9 2.900l-5.3 5.300a1 1 0 0 1-1.5-1.400l4.7-4.7",
  check: "M3 8.5l3.5 3.5L13 4.5",
  filter: "M2 3.5h12L9.5 9v4l-3-1.5V9z",
  theme: "M8 2a6 6 0 1 0 0 12zM8 2a6 6 0 0 1 0 12",
  keyboard: "M1.5 4.5h13v7h-13zM4 7h.01M6.5 7h.01M9 7h.01M11.5 7h.01M5 9.300h6",
  warning: "M8 2L1.5 13.5h13zM8 6.5v3.5M8 12h.01",
  compare: "M2.5 3h4.5v10H2.5zM9 3h4.5v10H9z",
  plus: "M8 3v10M3 8h10",
  state:
    "M5.5 2.5c-2 0-2 1-2 2.5s0 3-1.5 3c1.5 0 1.5 1.5 1.5 3s0 2.5 2 2.5M10.5 2.5c2 0 2 1 2 2.5s0 3 1.5 3c-1.5 0-1.5 1.5-1.5 3s0 2.5-2 2.5",
  download: "M8 2.5V10M5 7.5L8 10.5l3-3M2.5 13.5h11",
  bookmark: "M4 2.5h8v11L8 10.5 4 13.5z",
  menu: "M2.5 4h11M2.5 8h11M2.5 12h11",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 16 }: { name: IconName; size?: number }) {
  return (
    <svg className="icon" width={size} height={size} viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}

export function Logo() {
  return (
    <svg width="26" height="26" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <rect width="32" height="32" rx="8" className="logo-back" />
      <path
        className="logo-front"
        d="M8 20.5c0 2 3.6 3.5 8 3.5s8-1.5 8-3.5M8 16c0 2 3.6 3.5 8 3.5s8-1.5 8-3.5M8 11.5C8 13.5 11.6 15 16 15s8-1.5 8-3.5S20.4 8 16 8s-8 1.5-8 3.5z"
      />
    </svg>
  );
}
