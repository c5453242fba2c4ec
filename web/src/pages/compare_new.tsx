// A new grid: a run's epochs by strengths, or any axes; what it would draw is said before.
import { useId, useState } from "preact/hooks";
import { get, post, problemsOf, type Problem, type Schemas } from "../api/client";
import { useFetched, useRested } from "../api/fetched";
import { Button } from "../components/button";
import { CommandLine } from "../components/command_line";
import { JobLine } from "../components/job_list";
import { say } from "../components/notices";
import { FieldProblems, Problems } from "../components/problems";
import { Tabs } from "../components/tabs";
import { baseName, joined, quantity } from "../format";
import { isOpen, jobs, refreshJobs } from "../jobs";
import { alter, to } from "../router";
import { nameInProject } from "../runs";

type Run = Schemas["RunSummary"];
type Choice = Schemas["AxisChoice"];
type Answer = Schemas["GridAnswer"];

const KINDS = ["Epochs × strengths", "Any axes"] as const;
type Kind = (typeof KINDS)[number];

interface Draft {
  kind: Kind;
  run: string;
  epochs: string;
  strengths: string;
  /** Name of an axis and its values, by side. */
  axes: Record<"x" | "y" | "z", { name: string; values: string }>;
  prompt: string;
  more: Record<string, string>;
}

const SIDES = [
  ["x", "Columns"],
  ["y", "Rows"],
  ["z", "Pages"],
] as const;

const MORE = [
  ["negative", "Negative prompt", "the run's own, or none"],
  ["seed", "Seed", "the run's own, or 0"],
  ["steps", "Steps", "the run's own, or 20"],
  ["cfg", "CFG scale", "the run's own, or 7"],
  ["sampler", "Sampler", "the run's own, or ddim"],
  ["size", "Size", "the model's own; 512x768"],
  ["model", "Base model", "the run's own, or demo"],
  ["out", "Folder", "the run's own, or a new one in grids"],
] as const;

const empty = (): Draft => ({
  kind: KINDS[0],
  run: "",
  epochs: "",
  strengths: "",
  axes: { x: { name: "seed", values: "" }, y: { name: "cfg", values: "" }, z: { name: "", values: "" } },
  prompt: "",
  more: {},
});

/** What was filled in, while one looks at grids. */
let kept: Draft | undefined;

/** Values of the request, by option; a run's files may have no strength. */
function valuesOf(draft: Draft, hasStrength: boolean): Record<string, string> {
  const values: Record<string, string> = { ...draft.more };
  const isOfRun = draft.kind === KINDS[0];
  if (isOfRun) {
    values.epochs = draft.run + (draft.epochs.trim() ? `:${draft.epochs.trim()}` : "");
    if (hasStrength) values.strengths = draft.strengths;
  }
  for (const [side] of SIDES) {
    const { name, values: list } = draft.axes[side];
    if (name && list.trim() && (side === "z" || !isOfRun)) values[side] = `${name}=${list}`;
  }
  if (draft.prompt.trim()) values.prompt = draft.prompt;
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value.trim()));
}

interface Props {
  project: string;
  /** A run that one has come from. */
  run: string;
}

export function NewGrid({ project, run }: Props) {
  const [draft, setDraft] = useState<Draft>(() => ({ ...(kept ?? empty()), ...(run ? { run, kind: KINDS[0] } : {}) }));
  const [told, setTold] = useState<{ of: string; answer: Answer } | null>(null);
  const [queued, setQueued] = useState<{ job: number; folder: string } | null>(null);
  const form = useFetched((signal) => get("/api/grids/form", { signal }), []);
  const runs = useFetched((signal) => get("/api/runs", { query: { project }, signal }), [project], ["projects"]);
  const trained = runs.data?.filter((each) => each.lora) ?? [];
  const isOfRun = draft.kind === KINDS[0];
  const chosen = draft.run || trained[0]?.path || "";
  const hasStrength = trained.find((each) => each.path === chosen)?.has_strength ?? true;
  const values = valuesOf({ ...draft, run: chosen }, hasStrength);
  const isFilled = isOfRun ? !!chosen : !!(values.x || values.y || values.z);
  const asked = JSON.stringify([project, values]);
  const current = told?.of === asked ? told.answer : null;
  const plan = current?.plan;
  const problems = current?.problems ?? [];

  function change(part: Partial<Draft>) {
    const next = { ...draft, ...part };
    kept = next;
    setDraft(next);
    setQueued(null);
  }

  const tell = (answer: Answer) => setTold({ of: asked, answer });
  async function ask(signal: AbortSignal) {
    const body = { project, values };
    const answer = await post("/api/grids/command-line", { body, signal });
    if (answer.problems?.length) return answer;
    tell(answer);
    // What it would draw takes a process that has to begin first.
    return await post("/api/grids/plan", { body, signal });
  }
  useRested(
    [asked, isFilled],
    (signal) => (isFilled ? ask(signal) : null),
    tell,
    (error) => tell({ command_line: "", plan: null, problems: problemsOf(error) }),
  );

  async function queue() {
    const added = await post("/api/grids/queue", { body: { project, values } });
    const folder = plan?.folder ?? (isOfRun ? joined(chosen, "grid") : "");
    setQueued({ job: added.id, folder });
    say(`${added.title} is in the queue.`);
    await refreshJobs();
  }

  const job = jobs.value.find((each) => each.id === queued?.job);
  const at = (field: string) => problems.filter((each) => each.where === field);
  const fields = new Set(["epochs", "strengths", "x", "y", "z", "prompt", ...MORE.map(([name]) => name)]);
  return (
    <form class="column new-grid" onSubmit={(event) => (event.preventDefault(), void queue())}>
      <h2>A new grid</h2>
      <Tabs
        names={KINDS}
        chosen={draft.kind}
        onChoose={(kind) => change({ kind })}
        label="What varies"
        controls="new-grid"
      />
      <div id="new-grid" role="tabpanel" aria-label={draft.kind} class="column">
        {isOfRun ? (
          runs.data && !trained.length ? (
            <p class="empty">
              There is no run with a LoRA here yet. <a href={to("/train", { project })}>Train one</a>, or compare
              anything else under “Any axes”.
            </p>
          ) : (
            <>
              <RunField runs={trained} value={chosen} onChange={(value) => change({ run: value })} />
              <TextField
                label="Epochs"
                value={draft.epochs}
                usual="all; 1-8, 1-15:2, 3,7,last"
                problems={at("epochs")}
                onChange={(epochs) => change({ epochs })}
              />
              {hasStrength && (
                <TextField
                  label="Strengths"
                  value={draft.strengths}
                  usual={form.data?.strengths ?? ""}
                  problems={at("strengths")}
                  onChange={(strengths) => change({ strengths })}
                />
              )}
            </>
          )
        ) : null}
        {SIDES.filter(([side]) => side === "z" || !isOfRun).map(([side, name]) => (
          <AxisField
            key={side}
            label={name}
            choices={form.data?.axes ?? []}
            axis={draft.axes[side]}
            needed={side === "x"}
            problems={at(side)}
            onChange={(axis) => change({ axes: { ...draft.axes, [side]: axis } })}
          />
        ))}
        <TextField
          label="Prompt"
          value={draft.prompt}
          usual={isOfRun ? "the first of the run's sample prompts with its trigger" : "zorp, smile <lora:zorp:1>"}
          problems={at("prompt")}
          isLong
          onChange={(prompt) => change({ prompt })}
        />
        <details open={Object.values(draft.more).some(Boolean) || undefined}>
          <summary>More options</summary>
          <div class="column">
            {MORE.map(([name, label, usual]) => (
              <TextField
                key={name}
                label={label}
                value={draft.more[name] ?? ""}
                usual={usual}
                problems={at(name)}
                onChange={(value) => change({ more: { ...draft.more, [name]: value } })}
              />
            ))}
          </div>
        </details>
      </div>
      <Problems problems={problems.filter((each) => !fields.has(each.where))} />
      <p class="soft number" role="status">
        {!isFilled
          ? isOfRun
            ? ""
            : "Name at least one thing that varies, and its values."
          : plan
            ? planned(plan)
            : problems.length
              ? ""
              : "Working out what it would draw …"}
      </p>
      {current?.command_line && <CommandLine line={current.command_line} />}
      <div class="row wrap">
        <Button
          type="submit"
          kind="primary"
          icon="queue"
          disabled={!isFilled || problems.length > 0 || (job !== undefined && isOpen(job))}
        >
          Queue it
        </Button>
        {job && queued?.folder && (job.state === "running" || job.state === "done") && (
          <Button onClick={() => alter({ path: queued.folder, run: null }, { replace: false })}>Open the grid</Button>
        )}
      </div>
      {job && <JobLine job={job} />}
    </form>
  );
}

function planned(plan: NonNullable<Answer["plan"]>): string {
  const sides = [plan.columns, plan.rows, ...(plan.pages > 1 ? [plan.pages] : [])].join(" × ");
  const there = plan.kept ? `, ${plan.kept} ${plan.kept === 1 ? "is" : "are"} there already` : "";
  return `${sides}: ${quantity(plan.to_draw, "picture")} to draw${there}.`;
}

function RunField({
  runs,
  value,
  onChange,
}: {
  runs: readonly Run[];
  value: string;
  onChange: (value: string) => void;
}) {
  const known = runs.some((each) => each.path === value);
  return (
    <label class="field">
      Run
      <select class="input" value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        {value && !known && <option value={value}>{baseName(value)}</option>}
        {runs.map((each) => (
          <option key={each.path} value={each.path}>
            {nameInProject(each)}
          </option>
        ))}
      </select>
    </label>
  );
}

interface FieldProps {
  label: string;
  value: string;
  usual: string;
  problems: readonly Problem[];
  isLong?: boolean;
  onChange: (value: string) => void;
}

function TextField({ label, value, usual, problems, isLong = false, onChange }: FieldProps) {
  const id = useId();
  const common = {
    id,
    class: "input",
    value,
    placeholder: usual,
    "aria-invalid": problems.length > 0,
    "aria-describedby": problems.length ? `${id}-problems` : undefined,
  };
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {isLong ? (
        <textarea {...common} rows={2} onInput={(event) => onChange(event.currentTarget.value)} />
      ) : (
        <input {...common} type="text" onInput={(event) => onChange(event.currentTarget.value)} />
      )}
      <FieldProblems id={`${id}-problems`} problems={problems} />
    </div>
  );
}

interface AxisProps {
  label: string;
  choices: readonly Choice[];
  axis: { name: string; values: string };
  needed: boolean;
  problems: readonly Problem[];
  onChange: (axis: { name: string; values: string }) => void;
}

function AxisField({ label, choices, axis, needed, problems, onChange }: AxisProps) {
  const id = useId();
  const choice = choices.find((each) => each.name === axis.name);
  return (
    <div class="field" role="group" aria-label={label}>
      <span aria-hidden="true">{label}</span>
      <div class="axis-field">
        <select
          class="input"
          aria-label={`${label}: what varies`}
          value={axis.name}
          onChange={(event) => onChange({ ...axis, name: event.currentTarget.value })}
        >
          {!needed && <option value="">nothing</option>}
          {choices.map((each) => (
            <option key={each.name} value={each.name}>
              {each.title}
            </option>
          ))}
        </select>
        {axis.name && (
          <input
            class="input"
            type="text"
            aria-label={`${label}: values`}
            aria-invalid={problems.length > 0}
            aria-describedby={problems.length ? id : undefined}
            placeholder={choice?.example}
            value={axis.values}
            onInput={(event) => onChange({ ...axis, values: event.currentTarget.value })}
          />
        )}
      </div>
      <FieldProblems id={id} problems={problems} />
    </div>
  );
}
