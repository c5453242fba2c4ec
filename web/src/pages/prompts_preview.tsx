// What prompts become with seeds, as they would be drawn; and where they go from here.
import { useEffect, useRef, useState } from "preact/hooks";
import { post, type Problem, problemsOf, type Schemas } from "../api/client";
import { useRested } from "../api/fetched";
import { Button } from "../components/button";
import { say } from "../components/notices";
import { Problems } from "../components/problems";
import { PromptBox } from "../components/prompt_box";
import { completeTag } from "../components/tag_words";
import { joined, quantity } from "../format";
import { project } from "../project";
import { go, to } from "../router";
import { session } from "../session";
import { change } from "./draw_store";
import type { Kind } from "./prompts";
import { EMPTY, keep, kept, last, withValue } from "./train_draft";

type Expanded = Schemas["Expanded"];
type Line = Schemas["ExpandedPrompt"];

/** Seeds that a wildcard is tried with at first. */
const TRIES = 8;

interface Props {
  kind: Kind;
  name: string;
  text: string;
  isSaved: boolean;
}

export function PromptPreview({ kind, name, text, isSaved }: Props) {
  const isList = kind === "prompts";
  const [tried, setTried] = useState(`__${name}__`);
  const [seed, setSeed] = useState(0);
  const [count, setCount] = useState(isList ? 1 : TRIES);
  const { found, wrong } = useExpanded(isList ? text : tried, seed, count, isList ? null : { name, text });
  const lines = found?.prompts ?? [];
  const good = lines.filter((line) => !line.problem);
  const isFirst = (line: Line, at: number) => lines[at - 1]?.line !== line.line;

  return (
    <section class="pane side prompt-preview" aria-label="Preview">
      <header class="row wrap">
        <h2>With seeds</h2>
        <label class="row small">
          from
          <input
            class="input number"
            type="number"
            min={0}
            value={seed}
            onInput={(event) => setSeed(Math.max(0, Math.floor(Number(event.currentTarget.value)) || 0))}
          />
        </label>
        <label class="row small">
          {isList ? "seeds a line" : "seeds"}
          <input
            class="input number"
            type="number"
            min={1}
            max={50}
            value={count}
            onInput={(event) => setCount(Math.min(50, Math.max(1, Math.floor(Number(event.currentTarget.value)) || 1)))}
          />
        </label>
        <Button
          kind="quiet"
          icon="retry"
          label="Other seeds"
          onClick={() => setSeed(seed + count * Math.max(1, found?.lines ?? 1))}
        />
      </header>
      {!isList && (
        <PromptBox
          label="Prompt to try it in"
          value={tried}
          complete={completeTag}
          loras={[]}
          rows={2}
          onInput={setTried}
        />
      )}
      <Problems problems={wrong} />
      <ol class="prompt-lines" tabIndex={0} aria-label="Prompts as they are drawn">
        {lines.map((line, at) => (
          <li key={at} class={isFirst(line, at) ? "first" : ""}>
            <span class="soft small number seed" title={`line ${line.line}, seed ${line.seed}`}>
              {line.seed}
            </span>
            <span class="words">
              {line.prompt || <i class="soft">empty</i>}
              {line.negative && <span class="soft"> not: {line.negative}</span>}
              {Object.entries(line.options).map(([option, value]) => (
                <span key={option} class="tag">
                  {option} {value}
                </span>
              ))}
              {line.problem && <span class="trouble-word">{line.problem}</span>}
            </span>
            <Button
              kind="quiet"
              label={`Draw with seed ${line.seed}`}
              title="To the Draw page, with this seed"
              disabled={line.problem !== ""}
              onClick={() => toDraw(line)}
            >
              Draw
            </Button>
          </li>
        ))}
      </ol>
      {found && !lines.length && <p class="empty">No line holds a prompt yet.</p>}
      {found && lines.length / count < found.lines && (
        <p class="soft small">
          The first {Math.ceil(lines.length / count)} of {found.lines} lines.
        </p>
      )}
      <footer class="row wrap">
        <Button disabled={!good.length} onClick={() => toTrain(good)}>
          To Train: {quantity(good.length, "sample prompt")}
        </Button>
        <span class="soft small">{isSaved ? "" : "of what is written, saved or not"}</span>
      </footer>
    </section>
  );
}

function useExpanded(
  text: string,
  seed: number,
  count: number,
  wildcard: { name: string; text: string } | null,
): { found: Expanded | undefined; wrong: Problem[] } {
  const [found, setFound] = useState<Expanded>();
  const [wrong, setWrong] = useState<Problem[]>([]);
  const body = { text, seed, count, wildcard: wildcard?.name ?? "", wildcard_text: wildcard?.text ?? "" };
  const isFirst = useRef(true);
  useEffect(() => void (isFirst.current = false), []);
  useRested(
    Object.values(body),
    (signal) => post("/api/prompts/expand", { body, signal }),
    (answer) => (setFound(answer), setWrong([])),
    (error) => setWrong(problemsOf(error)),
    isFirst.current ? 0 : undefined,
  );
  return { found, wrong };
}

/** As it is written: Draw draws what it leaves to chance by each picture's seed. */
function toDraw(line: Line): void {
  const folder = session.value?.workspace ?? "";
  const { width, height, steps, cfg, sampler } = line.options;
  const isByChance = line.written !== line.prompt || line.written_negative !== line.negative;
  change({
    prompt: line.written,
    negative: line.written_negative || undefined,
    seed: line.seed,
    wildcard_dir: isByChance ? joined(folder, "wildcards") : undefined,
    ...(width && height ? { size: `${width}x${height}` } : {}),
    ...(steps ? { steps: Number(steps) } : {}),
    ...(cfg ? { cfg: Number(cfg) } : {}),
    ...(sampler ? { sampler: String(sampler) } : {}),
  });
  go(to("/draw", { project: project.value }));
}

/** What was set up there stays but for its prompts; a training draws nothing by chance, so these are drawn now. */
function toTrain(lines: readonly Line[]): void {
  const draft = kept(project.value) ?? last(project.value) ?? EMPTY;
  keep(
    project.value,
    withValue(
      draft,
      "sample.prompts",
      lines.map((line) => line.sample),
    ),
  );
  go(to("/train", { project: project.value, find: "sample.prompts", show: "all" }));
  say(`${quantity(lines.length, "prompt")} for the samples of the training.`);
}
