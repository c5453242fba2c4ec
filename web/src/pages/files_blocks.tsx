// A LoRA's blocks weighed by sliders, drawn as one goes: to be a file of its own, or a training's settings.
import { useEffect, useState } from "preact/hooks";
import { get, post, type Problem, problemsOf, type Schemas } from "../api/client";
import { onDrawing } from "../api/changes";
import { useFetched } from "../api/fetched";
import { Button } from "../components/button";
import { CommandLine, copyText } from "../components/command_line";
import { Picture } from "../components/picture";
import { Failed, Problems } from "../components/problems";
import { Strength } from "../components/strength";
import { say } from "../components/notices";
import { baseName, joined, parentOf, percent, stemOf } from "../format";
import { useKeys } from "../keys";
import { project } from "../project";
import { to } from "../router";
import { type Drawing, form, isOpen } from "./draw_store";
import { FiguresView } from "./files_tool";
import { kept } from "./train_draft";

type Body = Partial<Schemas["NewDrawing"]>;
type Weights = Record<string, number>;
type Answer = Schemas["ToolAnswer"];

interface Props {
  path: string;
  card: Schemas["LoraCard"] | undefined;
  onWritten: (path: string) => void;
}

/** What is asked with, beside the weights, while one looks at other files. */
interface Asked {
  prompt: string;
  strength: number;
  seed: number;
  steps: number;
}

const REST = 250;
/** Quick, and enough to see what a block does. */
const STEPS = 12;
/** Pictures that are remembered by what they were drawn with; the server keeps a few more. */
const MOST = 60;

const drafts = new Map<string, { weights: Weights; asked: Asked }>();
const drawn = new Map<string, string>();

/** What a trial has of the Draw page: the model and how it is drawn with. */
const SAME = ["model", "vae", "clip_skip", "cfg", "cfg_rescale", "sampler", "schedule", "size", "negative"] as const;

export function BlocksView(props: Props) {
  const { path } = props;
  const options = useFetched((signal) => get("/api/draw/options", { signal }), []);
  const told = useFetched(
    async (signal) => (path ? get("/api/lora-files/file", { query: { path }, signal }) : null),
    [path],
  );
  const error = told.error ?? options.error;
  if (!path) return <p class="empty">Choose a file to weigh its blocks.</p>;
  if (error !== undefined) return <Failed error={error} />;
  if (!told.data || !options.data) return <p class="soft">Reading the file …</p>;
  if (!told.data.blocks.length) return <p class="empty">This file changes no blocks: there is nothing to weigh.</p>;
  return <Lab {...props} told={told.data} options={options.data} />;
}

type LabProps = Props & { told: Schemas["FileDetails"]; options: Schemas["DrawingOptions"] };

function Lab({ path, card, told, options, onWritten }: LabProps) {
  const [weights, setWeights] = useState<Weights>(drafts.get(path)?.weights ?? {});
  const [asked, setAsked] = useState<Asked>(
    drafts.get(path)?.asked ?? {
      prompt: card?.trigger || told.triggers.join(", ") || form.value.prompt,
      strength: card?.strength ?? 1,
      seed: 1,
      steps: STEPS,
    },
  );
  const [shows, setShows] = useState<"after" | "before">("after");
  useEffect(() => void drafts.set(path, { weights, asked }), [path, weights, asked]);

  const blocks = told.blocks.map((each) => each.block);
  const weightOf = (block: string) => weights[block] ?? 1;
  const isEven = blocks.every((block) => weightOf(block) === 1);
  const before = bodyOf(path, asked, null);
  const first = useTrial(before);
  const second = useTrial(isEven ? null : bodyOf(path, asked, weights));
  const shown = shows === "before" || isEven ? first : second;
  useEffect(() => {
    post("/api/draw/warm-up", { body: before }).catch(() => {}); // What is wrong is said below.
  }, []);

  const flip = () => setShows((now) => (now === "after" ? "before" : "after"));
  const all = (next: Weights) => (setWeights(next), setShows("after"));
  useKeys([
    { keys: "b", does: "Before or after", run: flip },
    { keys: "0", does: "All blocks as they are", run: () => all({}) },
  ]);
  const preset = Object.entries(options.block_presets).find(([, each]) =>
    blocks.every((block) => each[block] === weightOf(block)),
  )?.[0];
  return (
    <div class="column">
      <figure class="lab-picture">
        <Shown
          trial={shown.picture ? shown : { ...shown, picture: first.picture }}
          words={shown === first || !shown.picture ? "as it is" : "with these weights"}
        />
        <figcaption class="row">
          <Button aria-pressed={shows === "before"} onClick={flip} disabled={isEven && shows === "after"}>
            Before
          </Button>
          <span class="soft small" role="status">
            {isEven ? "as it is: move a block" : shows === "before" ? "before: as it is" : "after: with these weights"}
            {shown.record && isOpen(shown.record) && `, ${stateOf(shown.record)}`}
          </span>
          <span class="push soft small">
            <kbd>b</kbd> flips
          </span>
        </figcaption>
      </figure>
      <Problems problems={shown.problems} />
      <AskedFields asked={asked} onChange={(values) => setAsked({ ...asked, ...values })} />
      <div class="row">
        <label class="row small">
          Blocks
          <select
            class="input"
            value={preset ?? ""}
            onChange={(event) => {
              const chosen = options.block_presets[event.currentTarget.value];
              if (chosen) all(Object.fromEntries(blocks.map((block) => [block, chosen[block] ?? 1])));
            }}
          >
            {!preset && <option value="">by hand</option>}
            {Object.keys(options.block_presets).map((name) => (
              <option key={name} value={name}>
                {name === "ALL" ? "all as they are" : name}
              </option>
            ))}
          </select>
        </label>
        <Button class="push" kind="quiet" icon="undo" disabled={isEven} onClick={() => all({})}>
          All as they are
        </Button>
      </div>
      <div class="lab-blocks" role="group" aria-label="Weights of the blocks">
        {told.blocks.map(({ block, energy }) => (
          <div key={block} class={weightOf(block) === 1 ? "" : "weighed"} title={`${percent(energy)} of its energy`}>
            <Strength
              label={`Weight of ${block}`}
              text={block}
              value={weightOf(block)}
              onChange={(value) => all({ ...weights, [block]: value })}
            />
          </div>
        ))}
      </div>
      <Keep path={path} blocks={options.blocks} weights={weights} isEven={isEven} onWritten={onWritten} />
    </div>
  );
}

function bodyOf(path: string, asked: Asked, weights: Weights | null): Body {
  const same = Object.fromEntries(SAME.map((name) => [name, form.value[name] ?? null]));
  const blocks = weights && Object.fromEntries(Object.entries(weights).filter(([, weight]) => weight !== 1));
  return {
    ...same,
    trial: true,
    prompt: asked.prompt,
    seed: asked.seed,
    steps: asked.steps,
    count: 1,
    lora_dir: parentOf(path),
    loras: [{ name: stemOf(path), strength: asked.strength, blocks }],
  };
}

function AskedFields({ asked, onChange }: { asked: Asked; onChange: (values: Partial<Asked>) => void }) {
  const number = (name: "seed" | "steps" | "strength", label: string, step: number) => (
    <label class="field">
      <span class="small soft">{label}</span>
      <input
        class="input number"
        type="number"
        min={name === "steps" ? 1 : undefined}
        step={step}
        value={asked[name]}
        onInput={(event) => event.currentTarget.value !== "" && onChange({ [name]: Number(event.currentTarget.value) })}
      />
    </label>
  );
  return (
    <>
      <label class="field">
        <span class="small soft">Prompt</span>
        <textarea
          class="input"
          rows={2}
          spellcheck={false}
          value={asked.prompt}
          onInput={(event) => onChange({ prompt: event.currentTarget.value })}
        />
      </label>
      <div class="lab-fields">
        {number("seed", "Seed", 1)}
        {number("steps", "Steps", 1)}
        {number("strength", "Drawn at strength", 0.05)}
      </div>
      <p class="soft small">
        The model ({form.value.model ? baseName(form.value.model) : "the demo's"}) and all else are those of{" "}
        <a href={to("/draw", { project: project.value })}>Draw</a>.
      </p>
    </>
  );
}

interface Trial {
  /** Of the last one that was drawn; "" before it. */
  picture: string;
  record: Drawing | null;
  problems: readonly Problem[];
}

/** A drawing of what is asked for, a while after it was changed last; the one before it is given up. */
function useTrial(body: Body | null): Trial {
  const key = body ? JSON.stringify(body) : "";
  const [trial, setTrial] = useState<Trial>({ picture: drawn.get(key) ?? "", record: null, problems: [] });
  useEffect(() => {
    if (!key) return;
    const known = drawn.get(key);
    if (known !== undefined) return setTrial({ picture: known, record: null, problems: [] });
    let id = "";
    let left = false;
    // What is told of it may come before its number does.
    const told = new Map<string, Drawing>();
    const take = (record: Drawing) => {
      const picture = record.pictures?.[0];
      if (picture && record.state === "done") {
        drawn.set(key, picture);
        for (const old of [...drawn.keys()].slice(0, -MOST)) drawn.delete(old);
      }
      setTrial((now) => ({ picture: picture ?? now.picture, record, problems: record.problems ?? [] }));
    };
    const end = onDrawing((record) => {
      if (record.id === id) take(record);
      else if (!id && record.drawing.trial) told.set(record.id, record);
    });
    const cancel = () => post("/api/draw/{number}/cancel", { path: { number: id } }).catch(() => {});
    const timer = setTimeout(async () => {
      try {
        const record = await post("/api/draw", { body: JSON.parse(key) as Body });
        id = record.id;
        if (left) void cancel();
        else take(told.get(id) ?? record);
      } catch (error) {
        if (!left) setTrial((now) => ({ ...now, record: null, problems: problemsOf(error) }));
      }
    }, REST);
    return () => {
      left = true;
      clearTimeout(timer);
      end();
      if (id && !drawn.has(key)) void cancel();
    };
  }, [key]);
  return trial;
}

const stateOf = (record: Drawing): string =>
  record.state === "waiting"
    ? record.why
      ? `waits: ${record.why}`
      : "waits"
    : record.total
      ? `step ${record.done} of ${record.total}`
      : record.what || "begins";

function Shown({ trial, words }: { trial: Trial; words: string }) {
  const { record, picture } = trial;
  const preview = record && isOpen(record) ? record.previews?.[0] : undefined;
  if (preview) return <Picture path={preview.path} v={preview.version} alt={`Unfinished, ${words}`} lazy={false} />;
  if (picture)
    return (
      <Picture path={picture} class={record && isOpen(record) ? "former" : ""} alt={`Drawn ${words}`} lazy={false} />
    );
  return <span class="lab-none" aria-hidden="true" />;
}

interface KeepProps {
  path: string;
  /** All that there are, in the order of a list of weights. */
  blocks: readonly string[];
  weights: Weights;
  isEven: boolean;
  onWritten: (path: string) => void;
}

/** What the weights become: a file of its own, or a training's settings. */
function Keep({ path, blocks, weights, isEven, onWritten }: KeepProps) {
  const [name, setName] = useState(`${stemOf(path)}-blocks`);
  const [told, setTold] = useState<{ of: string; answer: Answer } | null>(null);
  const list = blocks.map((block) => weights[block] ?? 1).join(",");
  const values = { sources: [`${path}:1:lbw=${list}`], out: joined(parentOf(path), `${name}.safetensors`) };
  const asked = JSON.stringify(values);
  const answer = told?.of === asked ? told.answer : null;
  const figures = answer?.figures;
  const changed = Object.entries(weights).filter(([, weight]) => weight !== 1);
  const text = ["rest=1", ...changed.map(([block, weight]) => `${block}=${weight}`)].join(" ");
  const negative = changed.find(([, weight]) => weight < 0)?.[0];

  async function ask(what: "figures" | "write") {
    const found = await post(`/api/lora-files/${what}`, { body: { verb: "merge", values } });
    setTold({ of: asked, answer: found });
    if (!found.figures?.written) return;
    say(`${baseName(values.out)} is written.`);
    onWritten(values.out);
  }
  const draft = kept(project.value)?.values ?? {};
  const train = to("/train", {
    project: project.value,
    set: JSON.stringify({ ...draft, "adapter.blocks": text }),
    find: "adapter.blocks",
  });
  return (
    <>
      <section class="column" aria-label="As a new file">
        <h3>As a new file</h3>
        <div class="row">
          <input
            class="input"
            aria-label="Name of the new file"
            spellcheck={false}
            value={name}
            onInput={(event) => setName(event.currentTarget.value)}
          />
          <Button disabled={isEven || !name} onClick={() => ask("figures")}>
            Work out the figures
          </Button>
        </div>
        {isEven && <p class="soft small">Move a block first.</p>}
        {answer && <Problems problems={answer.problems} />}
        {answer?.command_line && <CommandLine line={answer.command_line} />}
        {figures && !figures.written && (
          <>
            <Button kind="primary" onClick={() => ask("write")}>
              Write {baseName(figures.out)}
            </Button>
            <FiguresView figures={figures} />
          </>
        )}
      </section>
      <section class="column" aria-label="As a training's settings">
        <h3>As a training's settings</h3>
        <p class="soft small">The weights multiply each block's learning rate; a block of 0 is left out.</p>
        {negative ? (
          <p class="soft small">{negative} is below 0, which a learning rate cannot be multiplied by.</p>
        ) : (
          <>
            <CommandLine line={`--adapter.blocks "${text}"`} />
            <div class="row">
              <Button icon="copy" onClick={() => copyText(`[adapter]\nblocks = "${text}"\n`)}>
                Copy for a settings file
              </Button>
              {!isEven && (
                <a class="button" href={train}>
                  Take to Train
                </a>
              )}
            </div>
          </>
        )}
      </section>
    </>
  );
}
