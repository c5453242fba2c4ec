// A tool as a form, made from what the command line takes: its figures first, then the file.
import { useEffect, useRef, useState } from "preact/hooks";
import { get, post, type Schemas } from "../api/client";
import { once, useFetched } from "../api/fetched";
import { Button } from "../components/button";
import { Coded } from "../components/coded";
import { CommandLine } from "../components/command_line";
import { JobLine } from "../components/job_list";
import { say } from "../components/notices";
import { Failed, Problems } from "../components/problems";
import { baseName, bytes, joined, parentOf, percent, stemOf } from "../format";
import { jobs, refreshJobs } from "../jobs";
import { BlockChart } from "./files_chart";
import { ranks } from "./files_details";
import { OptionField } from "./files_option";

type Form = Schemas["ToolForm"];
type Field = Form["fields"][number];
type Answer = Schemas["ToolAnswer"];
type Values = Record<string, unknown>;

interface Props {
  verb: Form["verb"];
  current: string;
  selected: readonly string[];
  onWritten: (path: string) => void;
  onChanged: () => void;
}

const toolForms = once(() => get("/api/lora-files/tools"));

/** What was filled in, by tool, while one looks at other files. */
const drafts = new Map<string, Values>();

export function ToolView(props: Props) {
  const found = useFetched(toolForms, []);
  const form = found.data?.find((each) => each.verb === props.verb);
  if (found.error !== undefined) return <Failed error={found.error} />;
  return form ? <ToolForm {...props} form={form} /> : null;
}

const ENDING: Record<Form["verb"], string> = {
  resize: "-resized",
  merge: "-merged",
  extract: "-extracted",
  bake: "-baked",
  convert: "-converted",
};

/** What is filled in by what is selected, where nothing else was said. */
function suggested(form: Form, current: string, selected: readonly string[]): Values {
  const values: Values = {};
  const sources = selected.length ? selected : current ? [current] : [];
  const first = sources[0];
  for (const field of form.fields) {
    if (field.names === "loras" && sources.length) values[field.name] = sources.map((path) => `${path}:1`);
    if (field.name === "source" && current) values[field.name] = current;
    if (field.names === "new" && (current || first)) {
      const base = current || first!;
      values[field.name] = joined(parentOf(base), `${stemOf(base)}${ENDING[form.verb]}.safetensors`);
    }
    if (field.name === "model" || field.name === "base") values[field.name] = "demo";
  }
  return values;
}

function ToolForm({ form, verb, current, selected, onWritten, onChanged }: Props & { form: Form }) {
  const [values, setValues] = useState<Values>(drafts.get(verb) ?? {});
  const [told, setTold] = useState<{ of: string; answer: Answer } | null>(null);
  const [error, setError] = useState<unknown>();
  const [waiting, setWaiting] = useState("");
  const [written, setWritten] = useState("");
  const [job, setJob] = useState<number | null>(null);
  const asking = useRef<AbortController | null>(null);
  const all: Values = { ...suggested(form, current, selected), ...values };
  const asked = JSON.stringify(all);
  const isCurrent = told?.of === asked;
  const figures = isCurrent ? told.answer.figures : null;

  useEffect(() => () => asking.current?.abort(), []);

  // What names files was about another file; numbers hold on.
  const of = useRef(current);
  useEffect(() => {
    if (of.current === current) return;
    of.current = current;
    const named = new Set(
      form.fields.filter((each) => each.names === "new" || each.name === "source").map((each) => each.name),
    );
    const next = Object.fromEntries(Object.entries(values).filter(([name]) => !named.has(name)));
    drafts.set(verb, next);
    setValues(next);
  }, [current]);

  function change(name: string, value: unknown) {
    const next = { ...values };
    if (value === undefined) delete next[name];
    else next[name] = value;
    drafts.set(verb, next);
    setValues(next);
    setWritten("");
  }

  async function ask() {
    asking.current?.abort();
    const controller = (asking.current = new AbortController());
    setWaiting("Working out the figures …");
    setError(undefined);
    try {
      const answer = await post("/api/lora-files/figures", { body: { verb, values: all }, signal: controller.signal });
      setTold({ of: asked, answer });
    } catch (problem) {
      if (!controller.signal.aborted) setError(problem);
    } finally {
      if (asking.current === controller) setWaiting("");
    }
  }

  async function write() {
    setWaiting("Writing …");
    setError(undefined);
    try {
      const answer = await post("/api/lora-files/write", { body: { verb, values: all } });
      setTold({ of: asked, answer });
      if (answer.figures?.written) {
        setWritten(answer.figures.out);
        onChanged();
        say(`${baseName(answer.figures.out)} is written.`);
      }
    } catch (problem) {
      setError(problem);
    } finally {
      setWaiting("");
    }
  }

  async function queue() {
    const added = await post("/api/lora-files/queue", { body: { verb, values: all } });
    setJob(added.id);
    say(`${added.title} is in the queue.`);
    await refreshJobs();
  }

  const queued = jobs.value.find((each) => each.id === job);
  const problems = isCurrent ? told.answer.problems : [];
  const names = new Set(form.fields.map((field) => field.name));
  const field = (each: Field) => (
    <OptionField
      key={each.name}
      field={each}
      value={all[each.name]}
      given={each.name in values}
      selected={selected}
      problems={problems.filter((problem) => problem.where === each.name)}
      kinds={each.name === "preview" ? ["image"] : ["lora", "folder", "other"]}
      onChange={change}
    />
  );
  const [what = "", ...more] = form.description.split("\n\n");
  return (
    <form class="column" onSubmit={(event) => (event.preventDefault(), void ask())}>
      <p>
        <Coded text={what} />
      </p>
      {more.length > 0 && (
        <details>
          <summary>More about it</summary>
          {more.map((each) => (
            <p key={each} class="soft">
              <Coded text={each} />
            </p>
          ))}
        </details>
      )}
      {form.fields.filter((each) => each.simple).map(field)}
      <details open={form.fields.some((each) => !each.simple && each.name in values) || undefined}>
        <summary>More options</summary>
        <div class="column">{form.fields.filter((each) => !each.simple).map(field)}</div>
      </details>
      <div class="row wrap">
        <Button type="submit" kind={figures ? "plain" : "primary"} disabled={!!waiting}>
          Work out the figures
        </Button>
        {figures && !figures.written && form.at_once && (
          <Button kind="primary" disabled={!!waiting} onClick={write}>
            Write {baseName(figures.out)}
          </Button>
        )}
        {figures && !figures.written && (
          <Button kind={form.at_once ? "plain" : "primary"} disabled={!!waiting} icon="queue" onClick={queue}>
            Queue it
          </Button>
        )}
        <span class="soft" role="status">
          {waiting}
        </span>
      </div>
      {error !== undefined && <Failed error={error} />}
      <Problems problems={problems.filter((problem) => !names.has(problem.where))} />
      {isCurrent && told.answer.command_line && <CommandLine line={told.answer.command_line} />}
      {figures && <FiguresView figures={figures} />}
      {written && (
        <Button kind="primary" onClick={() => onWritten(written)}>
          Show {baseName(written)}
        </Button>
      )}
      {queued && (
        <>
          <JobLine job={queued} />
          {queued.state === "done" && (
            <Button onClick={() => onWritten(String(all.out))}>Show {baseName(String(all.out))}</Button>
          )}
        </>
      )}
    </form>
  );
}

export function FiguresView({ figures }: { figures: NonNullable<Answer["figures"]> }) {
  return (
    <section class="column" aria-label="Figures">
      <h3>{figures.written ? "Written" : "What it would be"}</h3>
      <dl class="file-facts">
        <div>
          <dt class="soft">size</dt>
          <dd class="number">
            {figures.old_bytes != null && `${bytes(figures.old_bytes)} → `}
            {bytes(figures.new_bytes)}
          </dd>
        </div>
        {figures.error != null && (
          <div>
            <dt class="soft">energy kept</dt>
            <dd class="number">{(100 * (1 - figures.error ** 2)).toFixed(2)} %</dd>
          </div>
        )}
        <div>
          <dt class="soft">goes to</dt>
          <dd class="breaks">{figures.out}</dd>
        </div>
      </dl>
      {figures.blocks.length > 0 && (
        <BlockChart
          name="Energy kept"
          whole={1}
          rows={figures.blocks.map((each) => ({
            block: each.block,
            share: each.kept,
            text:
              each.kept > 0.9995
                ? "100 %"
                : each.kept >= 0.995
                  ? `${(100 * each.kept).toFixed(2)} %`
                  : percent(each.kept),
            ranks: ranks(each.least_rank, each.most_rank),
          }))}
        />
      )}
      <pre class="figure-lines" tabIndex={0} aria-label="As the command line says it">
        {figures.lines.join("\n")}
      </pre>
    </section>
  );
}
