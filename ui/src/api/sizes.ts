// How much is asked for at once.

/** Sessions, or runs of a list. */
export const PAGE = 50;

/** Runs of a session. */
export const RUNS = 20;

/** Those with which it is opened: more than fit a window, and no more, because all of them are drawn before any is seen. */
export const FIRST_RUNS = 8;
