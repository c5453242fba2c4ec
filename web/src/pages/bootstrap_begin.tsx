// A new bootstrap: its pictures, the word that calls them, and what it would do.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { get, post, type Problem, type Schemas } from "../api/client";
import { once, useFetched } from "../api/fetched";
import { AddFiles } from "../components/add_files";
import { Button } from "../components/button";
import { CommandLine } from "../components/command_line";
import { say } from "../components/notices";
import { CopyIn } from "../components/on_demand";
import { Picture } from "../components/picture";
import { Failed, Problems } from "../components/problems";
import { type Dropped, useFileDrop } from "../dropping";
import { baseName, quantity } from "../format";
import { refreshJobs } from "../jobs";
import { useKeys } from "../keys";
import { FEW_PICTURES, project, projects } from "../project";
import { go, to } from "../router";
import { OptionField } from "./files_option";

type Field = Schemas["BootstrapField"];
type Answer = Schemas["BeginAnswer"];
type Values = Record<string, unknown>;

const PAUSE = 400;

const bootstrapForm = once(() => get("/api/bootstraps/form"));

/** What was filled in, by project, while one looks at other pages. */
const drafts = new Map<string, { values: Values; images: readonly string[] | null }>();

export function Begin() {
  const [dropped, setDropped] = useState<Dropped[] | null>(null);
  const { over, events } = useFileDrop(setDropped);
  return (
    <div class={over ? "boot-new over" : "boot-new"} {...events}>
      <header class="column">
        <h1>A LoRA from one picture, or a few</h1>
        <p class="soft">
          Train briefly, draw, keep what is like the subject, and train again on all of it. With ten pictures or more,{" "}
          <a href={to("/train", { project: project.value })}>train on these</a>: it is shorter, and better.
        </p>
      </header>
      {project.value ? (
        <BeginWith folder={project.value} onFiles={setDropped} />
      ) : (
        <ChooseProject onFiles={setDropped} />
      )}
      {dropped && (
        <CopyIn
          dropped={dropped}
          into={project.value || null}
          target={(folder) => to("/bootstrap", { project: folder })}
          onClose={() => setDropped(null)}
        />
      )}
    </div>
  );
}

function ChooseProject({ onFiles }: { onFiles: (files: Dropped[]) => void }) {
  const small = projects.value.filter((each) => each.images > 0).sort((a, b) => a.images - b.images);
  return (
    <>
      <div class="boot-drop">
        <p>Drop a picture here, or a few of one subject.</p>
        <AddFiles onFiles={onFiles}>
          {(choose) => (
            <Button kind="primary" icon="image" onClick={choose}>
              Add pictures…
            </Button>
          )}
        </AddFiles>
      </div>
      {small.length > 0 && (
        <section class="column" aria-label="Projects">
          <h2>Or from the pictures of a project</h2>
          <ul class="row wrap">
            {small.slice(0, 12).map((each) => (
              <li key={each.path}>
                <a class="button" href={to("/bootstrap", { project: each.path })}>
                  {each.name} <span class="soft number">{quantity(each.images, "picture")}</span>
                </a>
              </li>
            ))}
          </ul>
        </section>
      )}
    </>
  );
}

function BeginWith({ folder, onFiles }: { folder: string; onFiles: (files: Dropped[]) => void }) {
  const draft = drafts.get(folder);
  const [images, setImages] = useState<readonly string[] | null>(draft?.images ?? null);
  const [values, setValues] = useState<Values>(draft?.values ?? {});
  const fields = useFetched(bootstrapForm, []);
  const found = useFetched(
    (signal) => get("/api/bootstraps/pictures", { query: { project: folder }, signal }),
    [folder],
    ["projects"],
  );
  const offered = found.data?.pictures ?? [];
  const total = found.data?.total ?? 0;
  const chosen = useMemo(() => {
    const there = offered.map((each) => each.path);
    return images ? images.filter((each) => there.includes(each)) : total < FEW_PICTURES ? there : [];
  }, [images, found.data]);
  const { answer, waiting, error, stop } = useCheck(folder, chosen, values);

  useEffect(() => void drafts.set(folder, { values, images }), [values, images]);

  const change = (name: string, value: unknown) =>
    setValues((before) => {
      const next = { ...before };
      if (value === undefined) delete next[name];
      else next[name] = value;
      return next;
    });

  async function begin() {
    stop();
    const job = await post("/api/bootstraps", { body: { project: folder, images: [...chosen], values } });
    drafts.delete(folder);
    await refreshJobs();
    say(`${job.title} is in the queue.`);
    const out = job.command[job.command.indexOf("--out") + 1];
    go(to("/bootstrap", { path: out, project: folder }));
  }
  const ready = chosen.length > 0 && !!values.trigger;
  useKeys([{ keys: "Ctrl+Enter", does: "Begin", run: () => ready && void begin() }]);

  if (found.error !== undefined) return <Failed error={found.error} />;
  if (!found.data || !fields.data) return null;
  const problems = ready ? (answer?.problems ?? []) : [];
  const names = new Set(fields.data.map((each) => each.name));
  const field = (each: Field) => (
    <OptionField
      key={each.name}
      field={each}
      value={values[each.name]}
      given={each.name in values}
      problems={problems.filter((problem) => problem.where === each.name)}
      kinds={each.name === "prompts" ? ["text"] : ["lora", "folder", "other"]}
      onChange={change}
    />
  );
  return (
    <form class="boot-form" onSubmit={(event) => event.preventDefault()}>
      <fieldset class="boot-offered">
        <legend class="row wrap">
          <h2>Pictures</h2>
          <span class="soft number">
            {chosen.length} of {total} chosen
          </span>
        </legend>
        {total === 0 && (
          <p class="soft">There is no picture in {baseName(folder)} yet: drop one of the subject here.</p>
        )}
        <ul>
          {offered.map((each) => (
            <li key={each.path}>
              <label>
                <input
                  type="checkbox"
                  checked={chosen.includes(each.path)}
                  onChange={(event) =>
                    setImages(
                      event.currentTarget.checked
                        ? offered.map((one) => one.path).filter((path) => path === each.path || chosen.includes(path))
                        : chosen.filter((path) => path !== each.path),
                    )
                  }
                />
                <Picture path={each.path} v={each.version} size={384} alt="" />
                <span class="cut">{baseName(each.path)}</span>
                <span class="soft small">{each.caption || "no caption"}</span>
              </label>
            </li>
          ))}
          <li>
            <AddFiles onFiles={onFiles}>
              {(choose) => (
                <Button icon="add" onClick={choose}>
                  Add pictures…
                </Button>
              )}
            </AddFiles>
          </li>
        </ul>
        {total > offered.length && <p class="soft">These are the first {offered.length}.</p>}
        <p class="soft small">
          A caption says what of the picture is <b>not</b> the subject: pose, background, what it holds. Captions are
          written on the <a href={to("/dataset", { path: folder, project: folder })}>Dataset</a> page.
        </p>
      </fieldset>
      <div class="boot-options column">
        {fields.data.filter((each) => each.simple).map(field)}
        <details open={fields.data.some((each) => !each.simple && each.name in values) || undefined}>
          <summary>More options</summary>
          <div class="column">{fields.data.filter((each) => !each.simple).map(field)}</div>
        </details>
      </div>
      <div class="boot-plan column">
        <div class="row wrap">
          <Button kind="primary" icon="play" disabled={!ready} onClick={begin} title="Ctrl+Enter">
            Begin
          </Button>
          <span class="soft" role="status">
            {!chosen.length
              ? "Choose a picture."
              : !values.trigger
                ? "Write the trigger: a word that means nothing yet."
                : waiting}
          </span>
        </div>
        {error !== undefined && <Failed error={error} />}
        <Problems problems={problems.filter((problem) => !names.has(problem.where))} />
        {ready && answer?.plan && <Plan answer={answer} plan={answer.plan} />}
        {ready && answer?.command_line && <CommandLine line={answer.command_line} />}
      </div>
    </form>
  );
}

function Plan({ answer, plan }: { answer: Answer; plan: NonNullable<Answer["plan"]> }) {
  const warnings: Partial<Problem>[] = plan.warnings.map((what) => ({ what }));
  return (
    <>
      <Problems problems={warnings} warning />
      <p>
        Trains <span class="number">{quantity(plan.round_steps, "step")}</span>, draws{" "}
        <span class="number">{quantity(plan.captions.length, "picture")}</span>, and waits for your choice. The last
        training has <span class="number">{plan.steps}</span> steps or more.
      </p>
      <p class="soft small breaks">Everything goes to {answer.out}.</p>
      <details>
        <summary>What is drawn first: {plan.source}</summary>
        <ol class="boot-captions soft small">
          {plan.captions.map((each) => (
            <li>{each}</li>
          ))}
        </ol>
      </details>
    </>
  );
}

/** What a bootstrap with these would do, asked for when nobody has typed for a moment. */
function useCheck(folder: string, images: readonly string[], values: Values) {
  const [told, setTold] = useState<{ of: string; answer: Answer } | null>(null);
  const [error, setError] = useState<unknown>();
  const asking = useRef<AbortController | null>(null);
  const timer = useRef(0);
  const asked = JSON.stringify([folder, images, values]);
  const stop = () => {
    clearTimeout(timer.current);
    asking.current?.abort();
  };
  useEffect(() => {
    stop();
    setError(undefined);
    if (!images.length || !values.trigger) return;
    const controller = (asking.current = new AbortController());
    timer.current = window.setTimeout(async () => {
      try {
        const body = { project: folder, images: [...images], values };
        const answer = await post("/api/bootstraps/check", { body, signal: controller.signal });
        setTold({ of: asked, answer });
      } catch (problem) {
        if (!controller.signal.aborted) setError(problem);
      }
    }, PAUSE);
    return stop;
  }, [asked]);
  const isCurrent = told?.of === asked;
  return {
    // What was there stays until the new is; problems only while they are of what is written.
    answer: isCurrent ? told.answer : told && { ...told.answer, problems: [] },
    waiting: isCurrent || error !== undefined ? "" : "Working out what it would do …",
    error,
    stop,
  };
}
