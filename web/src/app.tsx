// The frame around every page: where one is, what runs, and what changed.
import type { FunctionComponent } from "preact";
import { useEffect, useState } from "preact/hooks";
import { connected } from "./api/changes";
import { askEarly, withQuery } from "./api/client";
import { Button } from "./components/button";
import { Icon } from "./components/icons";
import { Notices } from "./components/notices";
import { Failed } from "./components/problems";
import { baseName, duration } from "./format";
import { running, waiting } from "./jobs";
import { useKeys } from "./keys";
import { both, lazily } from "./lazily";
import { LAST_PROJECT, project, projects } from "./project";
import { address, go, path, query, to } from "./router";
import { remembered, theme } from "./session";
import { styled } from "./styled";
import { beginTour, tourStep } from "./tour";

interface Page {
  name: string;
  path: string;
  load: () => Promise<FunctionComponent>;
  /** The page that it belongs to, where the bar does not name it. */
  under?: string;
  isOfDataset?: boolean;
}

const PAGES = (
  [
    { name: "Home", path: "/", load: async () => (await both(import("./pages/home"), styled("home"))).HomePage },
    {
      name: "Dataset",
      path: "/dataset",
      load: async () => (await both(import("./pages/dataset"), styled("dataset"))).DatasetPage,
      isOfDataset: true,
    },
    {
      name: "Sort",
      path: "/sort",
      load: async () => (await both(import("./pages/sort"), styled("dataset", "sort"))).SortPage,
      isOfDataset: true,
      under: "/dataset",
    },
    {
      name: "Train",
      path: "/train",
      load: async () => (await both(import("./pages/train"), styled("train"))).TrainPage,
    },
    {
      name: "Bootstrap",
      path: "/bootstrap",
      load: async () => (await both(import("./pages/bootstrap"), styled("files", "bootstrap"))).BootstrapPage,
    },
    {
      name: "Draw",
      path: "/draw",
      load: async () => (await both(import("./pages/draw"), styled("draw"))).DrawPage,
    },
    {
      name: "Prompts",
      path: "/prompts",
      load: async () => (await both(import("./pages/prompts"), styled("draw", "prompts"))).PromptsPage,
    },
    {
      name: "Compare",
      path: "/compare",
      load: async () => (await both(import("./pages/compare"), styled("compare"))).ComparePage,
    },
    { name: "Runs", path: "/run", load: async () => (await both(import("./pages/run"), styled("run"))).RunPage },
    {
      name: "Files",
      path: "/files",
      load: async () => (await both(import("./pages/files"), styled("files"))).FilesPage,
    },
  ] satisfies Page[]
).map((page: Page) => ({ ...page, show: lazily(page.load) }));

const ProjectStrip = lazily(
  async () => (await both(import("./components/project_strip"), styled("strip"))).ProjectStrip,
  false,
);
const Queue = lazily(async () => (await import("./components/queue_list")).Queue, false);
const Keys = lazily(async () => (await import("./components/keys_list")).Keys, false);
const BugReport = lazily(async () => (await import("./components/bug_report")).BugReport, false);
const Tour = lazily(async () => (await both(import("./components/tour"), styled("tour"))).Tour, false);
// Its room is there at once, so that nothing moves when it comes.
document.documentElement.classList.toggle("with-strip", project.value !== "" || remembered(LAST_PROJECT) !== "");

/** Fetches the code of the page that the address names, to be there when it is shown; and what takes longest of what it
 * shows. */
export function fetchPage(): void {
  const page = PAGES.find((each) => each.path === path.value);
  const dataset = query.value.get("path") || query.value.get("project");
  if (page?.isOfDataset && dataset) askEarly(withQuery("/api/dataset/images", { path: dataset }));
  page?.show.ahead();
}

export function App() {
  const page = PAGES.find((each) => each.path === path.value);
  const [over, setOver] = useState<"" | "queue" | "keys" | "bug">("");
  // Once the dialog before is gone and the focus is back where it was.
  const follow = (next: () => void) => (setOver(""), requestAnimationFrame(next));
  useKeys([
    { keys: "?", does: "Show the keys", run: () => setOver("keys") },
    { keys: "q", does: "Show the queue", run: () => setOver("queue") },
  ]);
  // Whoever follows a link in the queue wants to see where it leads.
  useEffect(() => setOver(""), [address.value]);
  useEffect(() => {
    const where = page?.name ?? "Nothing here";
    document.title = `${project.value ? `${baseName(project.value)} – ` : ""}${where} – lorasmith`;
  }, [page, project.value]);
  return (
    <>
      <a class="button skip" href="#content">
        Skip to the page
      </a>
      <header class="bar">
        <a class="mark" href="/" aria-label="lorasmith: Home">
          <Mark />
          <span>lorasmith</span>
        </a>
        <nav aria-label="Pages">
          <ul>
            {PAGES.filter((each) => !each.under).map((each) => (
              <li key={each.path}>
                <a
                  data-name={each.name}
                  href={to(each.path, { project: project.value })}
                  aria-current={each === page || each.path === page?.under ? "page" : undefined}
                >
                  {each.name}
                </a>
              </li>
            ))}
          </ul>
        </nav>
        <ProjectChoice />
        <span class="push" />
        <QueueButton onClick={() => setOver("queue")} />
        <ThemeButton />
        <Button kind="quiet" label="Keys and help" onClick={() => setOver("keys")}>
          ?
        </Button>
      </header>
      <div class="strip-room">
        <ProjectStrip />
      </div>
      {!connected.value && (
        <div class="offline" role="status">
          The studio does not answer. Trainings go on without it; start it again with <code>lorasmith studio</code>.
        </div>
      )}
      {page ? <page.show key={page.path} /> : <Nowhere />}
      {over === "queue" && <Queue onClose={() => setOver("")} />}
      {over === "keys" && (
        <Keys
          onTour={() => follow(beginTour)}
          onReport={() => follow(() => setOver("bug"))}
          onClose={() => setOver("")}
        />
      )}
      {over === "bug" && <BugReport onClose={() => setOver("")} />}
      {tourStep.value !== null && <Tour />}
      <Notices />
    </>
  );
}

const Mark = () => (
  <svg width="18" height="18" viewBox="0 0 16 16" aria-hidden="true">
    <rect class="mark-ground" width="16" height="16" rx="3" />
    <path class="mark-line" d="M4 3.5v9h3M9 12.5l3.5-9" />
  </svg>
);

/** The project that pages are about; all of them where none is chosen. */
function ProjectChoice() {
  if (!projects.value.length) return null;
  const known = projects.value.some((each) => each.path === project.value);
  return (
    <select
      class="input project"
      aria-label="Project"
      value={project.value}
      onChange={(event) => go(to(path.value, { project: event.currentTarget.value }))}
    >
      <option value="">All projects</option>
      {project.value && !known && <option value={project.value}>{baseName(project.value)}</option>}
      {projects.value.map((each) => (
        <option key={each.path} value={each.path}>
          {each.name}
        </option>
      ))}
    </select>
  );
}

function QueueButton({ onClick }: { onClick: () => void }) {
  const now = running.value[0];
  const progress = now?.progress;
  const left = progress?.seconds_left;
  const words = now
    ? `${running.value.length} running${left != null ? `, ${duration(left)} left` : ""}`
    : waiting.value.length
      ? `${waiting.value.length} waiting`
      : "Queue";
  return (
    <Button class="queue" kind="quiet" icon="queue" onClick={onClick} aria-haspopup="dialog">
      {words}
      {progress && (
        <progress class="progress" max={Math.max(1, progress.total)} value={progress.done} aria-label={progress.what} />
      )}
    </Button>
  );
}

function ThemeButton() {
  const next = { system: "light", light: "dark", dark: "system" } as const;
  const names = { system: "as the system", light: "light", dark: "dark" };
  return (
    <Button
      kind="quiet"
      icon={theme.value === "light" ? "sun" : "moon"}
      label={`Colours: ${names[theme.value]}; change to ${names[next[theme.value]]}`}
      onClick={() => (theme.value = next[theme.value])}
    />
  );
}

function Nowhere() {
  return (
    <main id="content">
      <div class="empty">
        <h1>There is no page at this address</h1>
        <a href="/">
          <Icon name="left" /> Home
        </a>
      </div>
    </main>
  );
}

export function SessionFailed({ error }: { error: unknown }) {
  return (
    <main id="content">
      <Failed error={error} />
    </main>
  );
}
