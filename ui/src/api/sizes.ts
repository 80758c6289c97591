// How much is asked for at once.

/** Sessions, or runs of a list. */
export const PAGE = 50;

/** Runs of a session. */
export const RUNS = 20;
