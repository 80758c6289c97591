// What is loaded first: it asks for what the address shows, while the rest of the page is still on its way.

import "./styles/fonts.css";
import "./styles/base.css";
import "./styles/parts.css";
import "./styles/shell.css";
import "./styles/sessions.css";
import "./styles/session.css";
import "./styles/steps.css";
import "./styles/work.css";
import "./styles/insight.css";
import { parse } from "./address";
import { ahead, part } from "./api/client";
import { FIRST_RUNS, PAGE } from "./api/sizes";

const { path, query } = parse(location.hash);
const [view = "sessions", id] = path;

if (view === "sessions" && query.size === 0) ahead("sessions", { limit: PAGE, details: true });
if (view === "session" && id !== undefined && !query.has("tab")) {
  const around = Number(query.get("run")) || null;
  ahead(`sessions/${part(id)}`, { details: true });
  ahead(`sessions/${part(id)}/runs`, { last: FIRST_RUNS, around, messages: true });
  import("./views/session/SessionView");
}
import("./start");
