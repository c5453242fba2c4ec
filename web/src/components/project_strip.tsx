// Above every page: how far a project is from images to a LoRA file, and what comes next.
import { batch, effect, signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { onChange, type Topics } from "../api/changes";
import { get, type Schemas } from "../api/client";
import { quantity } from "../format";
import { LAST_PROJECT, project, projects, projectsKnown } from "../project";
import { to } from "../router";
import { remember, remembered } from "../session";
import { Icon, type IconName } from "./icons";

type Status = Schemas["ProjectStatus"];
type Step = Schemas["Step"];

/** A training tells of itself several times a second. */
const REST = 1000;

const NAMES: Record<Step["name"], string> = {
  images: "Images",
  captions: "Captions",
  audit: "Audit",
  settings: "Settings",
  run: "Run",
  pick: "Pick",
  files: "Files",
};
const STATES: Record<Step["state"], { icon: IconName; word: string }> = {
  done: { icon: "check", word: "done" },
  open: { icon: "open", word: "to do" },
  busy: { icon: "play", word: "at work" },
  trouble: { icon: "warning", word: "in trouble" },
};

/** The project that pages were about last, in this browser. */
const lastProject = signal(remembered(LAST_PROJECT));
effect(() => {
  if (project.value) lastProject.value = project.value;
});
effect(() => {
  if (lastProject.value) remember(LAST_PROJECT, lastProject.value);
});

const status = signal<Status | null>(null);
/** One that cannot be read: it is gone, or may not be opened; the page says so where it is about it. */
const unread = signal("");

/** Of files those that trainings and tools ended with: the page about files counts what was saved on the way, too. */
const wordsOf = ({ name, text }: Step): string =>
  name === "files" && /^\d+$/.test(text) ? quantity(Number(text), "result") : text;

/** Where a step is done. */
function placeOf(step: Step, { path: folder, dataset }: Status): string {
  switch (step.name) {
    case "images":
      return to("/dataset", { path: dataset, project: folder });
    case "captions":
      return to("/dataset", { path: dataset, project: folder, panel: step.state === "done" ? "Caption" : "Tagger" });
    case "audit":
      return to("/dataset", { path: dataset, project: folder, panel: "Findings" });
    case "settings":
      return to("/train", { project: folder });
    case "run":
    case "pick":
      return to("/run", { path: step.path, project: folder });
    case "files":
      return to("/files", { project: folder, lora: step.path });
  }
}

/** Asks for the status of a project, now and whenever it may be another. */
function follow(folder: string): () => void {
  let timer = 0;
  let ended = false;
  let since = 0;
  async function ask() {
    timer = 0;
    since = performance.now();
    try {
      const found = await get("/api/project/status", { query: { path: folder } });
      if (!ended) batch(() => ((status.value = found), (unread.value = "")));
    } catch {
      if (!ended) unread.value = folder;
    }
  }
  void ask();
  const stop = onChange((topics) => {
    if (!timer && concernsProject(topics, folder))
      timer = setTimeout(ask, Math.max(0, since + REST - performance.now()));
  });
  return () => {
    ended = true;
    clearTimeout(timer);
    stop();
  };
}

const concernsProject = (topics: Topics, folder: string): boolean =>
  topics === "any" ||
  topics.some(
    (topic) => topic === "projects" || topic === "jobs" || (/^(run|dataset):/.test(topic) && topic.includes(folder)),
  );

export function ProjectStrip() {
  const known = projects.value.some((each) => each.path === lastProject.value);
  // One that was removed, or of another workspace.
  const folder = project.value || (known || !projectsKnown.value ? lastProject.value : "");
  useEffect(() => {
    status.value = null;
    return folder ? follow(folder) : undefined;
  }, [folder]);
  const found = status.value?.path === folder ? status.value : null;
  const isShown = folder !== "" && unread.value !== folder;
  // Pages that fill the window leave it its room.
  useEffect(() => {
    document.documentElement.classList.toggle("with-strip", isShown);
  }, [isShown]);
  if (!isShown) return null;
  const steps = found?.steps ?? [];
  const done = steps.filter((step) => step.state === "done").length;
  return (
    <nav class="strip" aria-label="From images to a LoRA">
      {found && (
        <>
          <a class="strip-name cut" href={to("/", { project: folder })}>
            {found.name}
          </a>
          <ol>
            {steps.map((step) => (
              <li key={step.name} class={`${step.state} ${step.name === found.next ? "next" : ""}`}>
                <a
                  href={placeOf(step, found)}
                  aria-current={step.name === found.next ? "step" : undefined}
                  title={step.state === "done" ? undefined : step.command || undefined}
                >
                  <Icon name={STATES[step.state].icon} label={STATES[step.state].word} />
                  {step.name === found.next && <span class="strip-next">Next: </span>}
                  <span class="strip-step">{NAMES[step.name]} </span>
                  {step.text && <span class="soft number">{wordsOf(step)}</span>}
                </a>
              </li>
            ))}
          </ol>
          <span class="strip-count soft number">
            {done} of {steps.length} done
          </span>
        </>
      )}
    </nav>
  );
}
