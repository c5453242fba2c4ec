// Setting up a training: its settings, the live plan beside them, and the start.
import { useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { get, post, type Problem, type Schemas } from "../api/client";
import { useFetched } from "../api/fetched";
import { AddFiles } from "../components/add_files";
import { Button } from "../components/button";
import { ChooseButton } from "../components/choose_button";
import { Coded } from "../components/coded";
import { Failed } from "../components/problems";
import { Tabs } from "../components/tabs";
import { incomingSettings, settingsAmong, useFileDrop } from "../dropping";
import { baseName, joined, quantity } from "../format";
import { useKeys } from "../keys";
import { both, lazily } from "../lazily";
import { alter, query } from "../router";
import { styled } from "../styled";
import { say, sayProblems } from "../components/notices";
import { NoPictures, PresetChoice, SectionLinks } from "./train_above";
import { AdvicePanel } from "./train_advice";
import { type Plan, useAdvice, usePlans } from "./train_asking";
import { type Draft, EMPTY, isEmpty, isGiven, keep, keepLast, kept, last, read } from "./train_draft";
import { type Setting, settingsOf, sizeOf, type Values } from "./train_draft";
import { withSeveral, withValue, written } from "./train_draft";
import { Field } from "./train_field";
import type { ImportSource } from "./train_import";
import { PlanPanel } from "./train_plan";
import { Start } from "./train_start";

type Section = Schemas["SectionRecord"];

const SHOWN = ["Simple", "All"] as const;
/** A plan has done what this asks for, so that what it says of it is another thing. */
const ASKED = "model.defaults";
/** What a project has of its own; an imported file need not replace it. */
const OF_PROJECT = ["data.path", "data.folders", "data.reg", "save.output", "save.name"];

export function TrainPage() {
  const project = query.value.get("project") ?? "";
  const from = query.value.get("from") ?? "";
  const form = useFetched((signal) => get("/api/settings/sections", { signal }), []);
  const own = useFetched(
    (signal) => (project ? get("/api/project", { query: { path: project }, signal }) : Promise.resolve(null)),
    [project],
  );
  const start = useFetched((signal) => (from ? startOf(from, signal) : Promise.resolve(EMPTY)), [from]);
  useEffect(() => {
    post("/api/warm-up").catch(() => {}); // The first plan says what is wrong.
  }, []);
  const failed = form.error ?? own.error ?? start.error;
  if (failed !== undefined) {
    return (
      <main id="content">
        <Failed error={failed} />
      </main>
    );
  }
  if (!form.data || own.loading || start.loading) return <main id="content" />;
  const ofProject: Values = own.data
    ? { "data.path": own.data.dataset, "save.output": joined(own.data.path, "runs"), "save.name": own.data.name }
    : {};
  return (
    <SetUp
      key={`${project}\n${from}`}
      sections={form.data}
      project={project}
      ofProject={ofProject}
      begin={start.data ?? EMPTY}
    />
  );
}

/** The settings of a run that was. */
async function startOf(path: string, signal: AbortSignal): Promise<Draft> {
  const run = await get("/api/run", { query: { path }, signal });
  const values: Values = Object.fromEntries(run.differs_from_default.map((each) => [each.path, each.value]));
  // The others are the defaults of all bases, which this base's own would replace.
  return { ...EMPTY, values: { ...values, "model.defaults": false } };
}

interface Props {
  sections: readonly Section[];
  project: string;
  ofProject: Values;
  begin: Draft;
}

function SetUp({ sections, project, ofProject: usual, begin }: Props) {
  const [draft, setDraft] = useState<Draft>(() => {
    const found = read(query.value);
    const data = query.value.get("data");
    const isSaid = ["set", "sweep", "preset", "from", "data"].some((name) => query.value.has(name));
    const left = isSaid ? null : kept(project);
    if (left) return left;
    const values = { ...begin.values, ...(data ? { "data.path": data } : {}), ...found.values };
    return { ...found, values };
  });
  // Folders one by one take the place of the project's own.
  const ofProject = useMemo(() => {
    const { "data.path": path, ...others } = usual;
    return "data.folders" in draft.values || path === undefined ? others : usual;
  }, [usual, "data.folders" in draft.values]);
  const all = query.value.get("show") === "all";
  const find = useSignal(query.value.get("find") ?? "");
  const [chosen, setChosen] = useState(0);
  const [source, setSource] = useState<ImportSource | null>(null);
  const { over, events } = useFileDrop((files) => {
    const file = settingsAmong(files);
    if (file) setSource({ file });
    else sayProblems([NOT_SETTINGS]);
  });
  const [answers, setAnswers] = useState<Record<string, string>>({});
  const search = useRef<HTMLInputElement>(null);
  const before = isEmpty(draft) ? last(project) : null;

  const known = useMemo(
    () => new Map(sections.flatMap((section) => section.settings.map((each) => [each.path, each] as const))),
    [sections],
  );
  const given = { ...ofProject, ...draft.values };
  const hasData = "data.path" in given || "data.folders" in given || "data.path" in draft.several;
  const planned = usePlans(draft, ofProject, hasData);
  const answer = planned.answers[chosen] ?? planned.answers[0];
  const lastPlan = useRef<Plan | null>(null);
  if (answer?.plan) lastPlan.current = answer.plan;
  const plan = lastPlan.current;
  const advice = useAdvice(
    String(given["data.path"] ?? ""),
    String(plan?.settings["model.path"] ?? given["model.path"] ?? "demo"),
    answers,
    Boolean(answer?.plan) && !planned.waits,
  );

  // The address says what is set up, once typing has rested.
  useEffect(() => {
    keep(project, draft);
    keepLast(project, draft);
    const timer = setTimeout(() => alter({ ...written(draft), from: null, data: null }), 300);
    return () => clearTimeout(timer);
  }, [draft]);
  useEffect(() => {
    const file = incomingSettings.value;
    if (!file) return;
    incomingSettings.value = null;
    setSource({ file });
  }, []);
  useKeys([
    { keys: "/", does: "Search the settings", run: () => search.current?.focus() },
    { keys: "a", does: "Simple settings, or all", run: () => alter({ show: all ? null : "all" }) },
    { keys: "p", does: "Go to the plan", run: () => document.getElementById("plan")?.focus() },
  ]);

  const change = (path: string, value: unknown) => setDraft((before) => withValue(before, path, value));
  const several = (path: string, texts: string[]) => setDraft((before) => withSeveral(before, path, texts));
  const problems = placed(
    planned.answers.flatMap((each) => each.problems),
    known,
    given,
  );
  const warnings = placed(answer?.plan?.warnings ?? [], known, given);
  const changes = [...known.keys()].filter((path) => isGiven(draft, path)).length;
  const words = find.value.trim().toLowerCase();
  const found = sections
    .map((section) => ({
      ...section,
      settings: section.settings.filter((each) =>
        words
          ? matches(each, words)
          : all || each.simple || isGiven(draft, each.path) || problems.has(each.path) || warnings.has(each.path),
      ),
    }))
    .filter((section) => section.settings.length);
  const shown = words ? ranked(found, words) : found;

  /** Brings a setting into sight, and the focus to it. */
  function reveal(path: string) {
    if (!shown.some((section) => section.settings.some((each) => each.path === path))) {
      find.value = "";
      alter({ find: null, show: known.get(path)?.simple && !all ? null : "all" });
    }
    requestAnimationFrame(() => {
      const row = document.getElementById(`setting-${path}`);
      row?.scrollIntoView({ block: "center" });
      row?.querySelector<HTMLElement>("input, select, textarea")?.focus({ preventScroll: true });
    });
  }

  function take(values: Values) {
    const before = draft;
    setDraft((now) => ({ ...now, several: {}, values: { ...now.values, ...values } }));
    setSource(null);
    say(`${quantity(Object.keys(values).length, "setting")} taken.`, { label: "Undo", run: () => setDraft(before) });
  }

  return (
    <main id="content" class={over ? "train over" : "train"} {...events}>
      <div class="train-form">
        <header class="row wrap">
          <h1 class="cut">Train{project ? ` ${baseName(project)}` : ""}</h1>
          <span class="push" />
          <AddFiles
            single
            accept=".toml,.json,.sh,.bat,.ps1,.cmd,.txt"
            onFiles={([one]) => one && setSource({ file: one.file })}
          >
            {(choose) => (
              <Button icon="file" onClick={choose}>
                Import settings…
              </Button>
            )}
          </AddFiles>
          <ChooseButton
            icon="folder"
            heading="Import settings"
            kinds={["settings", "lora"]}
            start={project || undefined}
            onChoose={(path) => setSource({ path })}
          >
            Import from a folder…
          </ChooseButton>
        </header>
        {!hasData && <NoPictures project={project} onChoose={(path) => change("data.path", path)} />}
        <PresetChoice
          chosen={draft.preset}
          onReveal={reveal}
          onChoose={(preset) => setDraft((before) => ({ ...before, preset }))}
        />
        <AdvicePanel
          advice={advice}
          known={known}
          given={(path) => (path in draft.several ? draft.several[path] : given[path])}
          effective={(path) => plan?.settings[path]}
          answers={answers}
          onAnswer={(name, value) => setAnswers((before) => ({ ...before, [name]: value }))}
          onTake={take}
        />
        <div class="settings-bar">
          <div class="row wrap">
            <Tabs
              names={SHOWN}
              chosen={all ? "All" : "Simple"}
              label="How many settings are shown"
              controls="settings"
              onChoose={(name) => alter({ show: name === "All" ? "all" : null })}
            />
            <input
              ref={search}
              type="search"
              class="input"
              placeholder={`Search ${known.size} settings`}
              aria-label="Search the settings"
              value={find.value}
              onInput={(event) => {
                find.value = event.currentTarget.value;
                alter({ find: find.value });
              }}
            />
            <span class="push soft small">
              {changes ? `${quantity(changes, "setting")} set here` : "nothing set here"}
            </span>
            {before ? (
              <Button
                icon="undo"
                onClick={() => setDraft(before)}
                title={[before.preset, ...Object.keys({ ...before.values, ...before.several })]
                  .filter(Boolean)
                  .join(", ")}
              >
                As last time: {quantity(sizeOf(before), "setting")}
              </Button>
            ) : (
              <Button
                kind="quiet"
                icon="undo"
                disabled={!changes && !draft.preset}
                onClick={() => reset(draft, setDraft)}
              >
                Reset all
              </Button>
            )}
          </div>
          <SectionLinks sections={shown} draft={draft} />
        </div>
        <div id="settings" class="settings">
          {shown.map((section) => (
            <section key={section.name} class="panel" aria-labelledby={`section-${section.name}`}>
              <header>
                <h2 id={`section-${section.name}`} tabIndex={-1}>
                  {section.name}
                </h2>
                <span class="soft cut" title={section.description}>
                  <Coded text={section.description} />
                </span>
              </header>
              {section.settings.map((setting) => (
                <Field
                  key={setting.path}
                  setting={setting}
                  value={draft.values[setting.path]}
                  several={draft.several[setting.path]}
                  effective={
                    setting.path === ASKED ? setting.default : (plan?.settings[setting.path] ?? ofProject[setting.path])
                  }
                  origin={ofProject[setting.path] !== undefined ? "the project" : (plan?.origins[setting.path] ?? "")}
                  problems={problems.get(setting.path) ?? NONE}
                  warnings={warnings.get(setting.path) ?? NONE}
                  advised={advice?.settings[setting.path]}
                  onChange={change}
                  onSeveral={several}
                />
              ))}
            </section>
          ))}
          {!shown.length && (
            <p class="empty">
              No setting has “{find.value}” in its name or words.
              <Button onClick={() => ((find.value = ""), alter({ find: null }))}>Show them again</Button>
            </p>
          )}
        </div>
      </div>
      <aside id="plan" class="train-side" tabIndex={-1} aria-label="Start and plan">
        <Start draft={draft} project={ofProject} planned={planned} />
        {hasData && <PlanPanel {...{ planned, chosen, known, given }} onChoose={setChosen} onReveal={reveal} />}
      </aside>
      {source && (
        <Import source={source} keeps={project ? OF_PROJECT : []} onTake={take} onClose={() => setSource(null)} />
      )}
    </main>
  );
}

/** Few import anything: its code is loaded for who does. */
const Import = lazily(async () => (await both(import("./train_import"), styled("run"))).ImportDialog, false);

const NONE: readonly Problem[] = [];
const NOT_SETTINGS: Problem = {
  where: "",
  what: "that is no settings file",
  hint: "drop one .toml, .json or script here; pictures belong on Home or the dataset",
};

function reset(before: Draft, setDraft: (draft: Draft) => void) {
  setDraft(EMPTY);
  say("All settings are as they are by themselves.", { label: "Undo", run: () => setDraft(before) });
}

/** What is told, by the settings that it is about. */
function placed(told: readonly Problem[], known: ReadonlyMap<string, Setting>, given: Values): Map<string, Problem[]> {
  const found = new Map<string, Problem[]>();
  for (const each of told) {
    for (const path of settingsOf(each, known, given)) {
      const before = found.get(path) ?? [];
      if (!before.some((other) => other.what === each.what)) found.set(path, [...before, each]);
    }
  }
  return found;
}

const matches = (setting: Setting, words: string): boolean =>
  words
    .split(/\s+/)
    .every((word) => `${setting.path} ${setting.description} ${setting.why}`.toLowerCase().includes(word));

/** What is called so comes before what is called something like it, and that before what speaks of it. */
function rank(setting: Setting, words: string): number {
  if (setting.name === words || setting.path === words) return 0;
  if (setting.name.startsWith(words)) return 1;
  return setting.path.includes(words) ? 2 : 3;
}

function ranked(sections: Section[], words: string): Section[] {
  const best = (section: Section) => Math.min(...section.settings.map((each) => rank(each, words)));
  return sections
    .map((section) => ({
      ...section,
      settings: [...section.settings].sort((a, b) => rank(a, words) - rank(b, words)),
    }))
    .sort((a, b) => best(a) - best(b));
}
