import { render } from "preact";
import { listen } from "./api/changes";
import { problemsOf } from "./api/client";
import { App, fetchPage, SessionFailed } from "./app";
import { sayProblems } from "./components/notices";
import { ignoreOtherDrops } from "./dropping";
import { followJobs } from "./jobs";
import { listenToKeys } from "./keys";
import { followProjects } from "./project";
import { followLinks } from "./router";
import { openSession } from "./session";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/components.css";
import "./styles/shell.css";
import "./styles/over.css";
import "./styles/rows.css";

const root = document.getElementById("studio")!;
try {
  // All that the first page takes is asked for at once.
  fetchPage();
  followJobs();
  followProjects();
  await openSession();
  followLinks();
  ignoreOtherDrops();
  listenToKeys();
  listen();
  // What fails is said, also where a key began it.
  addEventListener("unhandledrejection", (event) => {
    if ((event.reason as Error | null)?.name !== "AbortError") sayProblems(problemsOf(event.reason));
  });
  render(<App />, root);
} catch (error) {
  render(<SessionFailed error={error} />, root);
}
