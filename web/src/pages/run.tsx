// A training: its curves, what it draws, what it says of itself; or the list of all.
import { useEffect, useMemo, useState } from "preact/hooks";
import { get, post, type Schemas } from "../api/client";
import { useFetched } from "../api/fetched";
import { Button } from "../components/button";
import type { Curve } from "../components/curves";
import { say } from "../components/notices";
import { Curves } from "../components/on_demand";
import { Failed, Problems } from "../components/problems";
import { RenameRun } from "../components/run_changes";
import { NoRuns, RunTable } from "../components/run_table";
import { SampleGrid } from "../components/sample_grid";
import { Tabs } from "../components/tabs";
import { bytes, duration, figure, parentOf, quantity } from "../format";
import { addJob, askJob, jobOfRun, pickOfRun } from "../jobs";
import { useKeys } from "../keys";
import { alter, go, query, to } from "../router";
import { isAtWork, queuePick, removeRun, RUN_TONES } from "../runs";
import { RunDetails } from "./run_details";

type Run = Schemas["RunDetail"];

const CHARTS = ["Loss", "Rate", "Norms", "Speed"] as const;
type Chart = (typeof CHARTS)[number];

const IN_CHART: Record<Chart, (name: string) => boolean> = {
  Loss: (name) => ["loss", "smoothed_loss", "preservation_loss", "held_out", "training"].includes(name),
  Rate: (name) => name.startsWith("lr/") || name.startsWith("d*lr/"),
  Norms: (name) => ["grad_norm", "weight_norm", "loss_scale"].includes(name),
  Speed: (name) => name === "samples_per_second",
};
/** What is laid over from other runs: of each chart its main curves. */
const OF_OTHERS = /^(smoothed_loss|held_out|samples_per_second|grad_norm|weight_norm|lr\/.*|d\*lr\/.*)$/;
const NAMES: Record<string, string> = {
  loss: "loss",
  smoothed_loss: "loss, smoothed",
  preservation_loss: "preservation",
  held_out: "held-out pictures",
  training: "training pictures, same noise",
  grad_norm: "gradient norm",
  weight_norm: "weight norm",
  loss_scale: "loss scale",
  samples_per_second: "samples per second",
};

export function RunPage() {
  const path = query.value.get("path");
  return path ? <OneRun key={path} path={path} /> : <AllRuns />;
}

function AllRuns() {
  const project = query.value.get("project");
  const runs = useFetched(
    (signal) => get("/api/runs", { query: { project: project ?? "" }, signal }),
    [project],
    ["projects", "jobs"],
  );
  return (
    <main id="content" class="run-list">
      <h1>Runs</h1>
      {runs.error !== undefined && <Failed error={runs.error} />}
      {runs.data?.length === 0 && (
        <NoRuns>
          There are no runs here yet. <a href={to("/train", { project })}>Set one up</a>, or try the demo on{" "}
          <a href="/">Home</a>.
        </NoRuns>
      )}
      {!!runs.data?.length && (
        <div class="panel">
          <RunTable runs={runs.data} project={project} />
        </div>
      )}
    </main>
  );
}

function OneRun({ path }: { path: string }) {
  const topics = [`run:${path}`, "jobs"];
  const found = useFetched((signal) => get("/api/run", { query: { path }, signal }), [path], topics);
  const samples = useFetched((signal) => get("/api/run/samples", { query: { path }, signal }), [path], topics);
  const run = found.data;
  return (
    <main id="content" class="run">
      {found.error !== undefined && (
        <div class="column">
          <Failed error={found.error} />
          <a href={to("/run", { project: query.value.get("project") })}>All runs</a>
        </div>
      )}
      {run && found.error === undefined && (
        <>
          <Head run={run} />
          <Problems problems={run.problems} />
          <div class="run-parts">
            <div class="column wide">
              <Charts path={path} run={run} />
              <section class="panel">
                <header>
                  <h2>Samples</h2>
                </header>
                <div class="body">
                  {samples.error !== undefined && <Failed error={samples.error} />}
                  {samples.data && (
                    <SampleGrid samples={samples.data} kept={run.loras.find((lora) => lora.picked)?.step} />
                  )}
                </div>
              </section>
            </div>
            <RunDetails run={run} path={path} />
          </div>
        </>
      )}
    </main>
  );
}

function Head({ run }: { run: Run }) {
  const job = jobOfRun(run.path);
  const isRunning = isAtWork(run.state);
  const [renames, setRenames] = useState(false);
  const picking = pickOfRun(run.path);
  const kept = run.loras.find((lora) => lora.picked);
  const project = query.value.get("project");
  const jobRuns = job?.state === "running";
  const left = run.seconds_left;

  async function ask(requests: string[], done: string) {
    const { waiting } = await post("/api/run/control", { body: { path: run.path, requests } });
    say(
      waiting > 1
        ? `${done} after the step in progress; ${waiting - 1} more waits before it.`
        : `${done} after the step in progress.`,
    );
  }
  const sample = () => ask(["samples"], "It draws");
  // A LoRA of what it has learned so far, and all that it takes to go on.
  const stop = () =>
    job && jobRuns && job.command[0] === "train"
      ? askJob(job.id, "finish")
      : ask(["snapshot", "stop"], "It saves a LoRA and stops");
  async function goOn() {
    if (job?.state === "paused") await askJob(job.id, "resume");
    else await addJob({ verb: "resume", run: run.path });
    say("It goes on when its turn in the queue comes.");
  }
  useKeys(isRunning ? [{ keys: "s", does: "Run: sample now", run: () => void sample() }] : []);
  const share = run.steps ? run.step / run.steps : 0;
  const waits = !isRunning && (job?.state === "queued" || job?.state === "held");
  const state = isRunning ? run.state : job?.state === "paused" ? "paused" : waits ? "waiting" : run.state;
  const words = isRunning
    ? run.waiting > 0 && `${quantity(run.waiting, "request")} on the way: done after the step in progress`
    : waits
      ? `It goes on as job ${job!.id}, when its turn in the queue comes.`
      : state === "paused"
        ? "Everything is saved; Go on takes it up where it stopped."
        : picking
          ? `Job ${picking.id} picks its best snapshot${picking.state === "running" ? " now" : ", when its turn in the queue comes"}.`
          : "";
  const settled = useSettled(isRunning);
  return (
    <header class="run-head">
      <div class="row wrap">
        <a class="soft" href={to("/run", { project })}>
          Runs
        </a>
        <span class="soft">/</span>
        <h1 class="cut">{run.name}</h1>
        {!isRunning && <Button kind="quiet" icon="pen" label="Rename the run…" onClick={() => setRenames(true)} />}
        <span class={`tag ${RUN_TONES[run.state] ?? ""}`}>{state}</span>
        <span class="number">
          step {run.step}
          {run.steps != null && ` of ${run.steps}`}
        </span>
        {run.loss != null && <span class="number soft">loss {figure(run.loss)}</span>}
        {left != null && <span class="number soft">{duration(left)} left</span>}
        <span class="push" />
        <div class="row wrap" role="group" aria-label="Ask the training" inert={!settled}>
          {isRunning ? (
            <>
              <Button icon="image" onClick={sample} title="Draw the sample prompts now (s)">
                Sample now
              </Button>
              <Button onClick={() => ask(["snapshot"], "It saves a LoRA")}>Snapshot now</Button>
              <Button onClick={() => ask(["lr=0.5"], "It halves the learning rate")}>Halve the rate</Button>
              {job && jobRuns && job.command[0] === "train" && (
                <Button icon="pause" onClick={() => askJob(job.id, "pause")}>
                  Pause
                </Button>
              )}
              <Button icon="stop" onClick={stop}>
                Stop and save
              </Button>
            </>
          ) : (
            <>
              {run.resume && run.state !== "done" && (
                <Button kind="primary" icon="play" onClick={goOn} disabled={waits || jobRuns}>
                  Go on
                </Button>
              )}
              {run.loras.length > 1 && (
                <Button disabled={picking !== undefined} onClick={() => queuePick(run.path)}>
                  Pick the best snapshot
                </Button>
              )}
              {run.loras.length > 1 && (
                <a class="button" href={to("/compare", { run: run.path, project })}>
                  {run.has_strength ? "Compare epochs × strengths" : "Compare epochs"}
                </a>
              )}
              <a class="button" href={to("/train", { from: run.path, project })}>
                Train again with other settings
              </a>
              <Button
                kind="quiet"
                icon="trash"
                label="Put the run into the trash"
                disabled={waits || state === "paused" || picking !== undefined}
                onClick={() => removeRun(run, () => go(to("/run", { project })))}
              />
            </>
          )}
        </div>
      </div>
      {isRunning && <progress class="progress" max={1} value={share} aria-label="Steps done" />}
      <p class="small run-words" role="status">
        {words && <span class="soft">{words}</span>}
        {!words && kept && (
          <>
            <span class="tag">pick</span> {run.says.find((each) => each.by === "pick")?.text.split(": ")[0]}.{" "}
            <a href={to("/api/lora", { path: kept.path })} download={kept.name}>
              Save {kept.name}
            </a>
          </>
        )}
      </p>
      {renames && <RenameRun run={run} onClose={() => setRenames(false)} />}
    </header>
  );
}

/** Not for a moment after it changed: what stands in the place of a button is not what the second click was for. */
function useSettled(value: unknown): boolean {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), 700);
    return () => clearTimeout(timer);
  }, [value]);
  return settled === value;
}

function Charts({ path, run }: { path: string; run: Run }) {
  const [chart, setChart] = useState<Chart>("Loss");
  const [log, setLog] = useState(false);
  const others = (query.value.get("over") ?? "").split("|").filter(Boolean);
  const own = useFetched(
    (signal) => get("/api/run/metrics", { query: { path, points: 1200 }, signal }),
    [path],
    [`run:${path}`],
  );
  const laid = useFetched(
    (signal) =>
      Promise.all(
        others.map(async (other) => ({
          other,
          ...(await get("/api/run/metrics", { query: { path: other, points: 1200 }, signal })),
        })),
      ),
    [others.join("|")],
    others.map((other) => `run:${other}`),
  );
  const curves = useMemo(() => {
    const found: Curve[] = [];
    const add = (name: string, columns: Record<string, (number | null)[]>, only?: RegExp) => {
      for (const [column, values] of Object.entries(columns)) {
        if (column === "step" || !IN_CHART[chart](column) || (only && !only.test(column))) continue;
        found.push({ run: name, name: NAMES[column] ?? column, steps: columns.step ?? [], values });
      }
    };
    if (own.data) add(run.name, own.data.columns, others.length ? OF_OTHERS : undefined);
    for (const each of laid.data ?? []) add(shortName(each.other, run.path), each.columns, OF_OTHERS);
    // What one looks at has the first colour, and is drawn over the rest.
    const rank = (curve: Curve) => (curve.name === NAMES.smoothed_loss ? 0 : curve.name === NAMES.loss ? 9 : 1);
    return found.sort((a, b) => rank(a) - rank(b));
  }, [own.data, laid.data, chart, others.length]);
  const numbers = run.numbers as { memory_bytes?: number; samples_per_second?: number };
  return (
    <section class="panel">
      <header class="wrap">
        <Tabs names={CHARTS} chosen={chart} onChoose={setChart} label="Curves" controls="chart" />
        {chart === "Loss" && (
          <label class="row">
            <input type="checkbox" checked={log} onChange={(event) => setLog(event.currentTarget.checked)} /> powers of
            ten
          </label>
        )}
        <span class="push" />
        {chart === "Speed" && numbers.memory_bytes != null && (
          <span class="soft number">{bytes(numbers.memory_bytes)} taken</span>
        )}
        <LayOver path={path} others={others} />
      </header>
      <div class="body" id="chart" role="tabpanel" aria-label={chart}>
        {own.error !== undefined && <Failed error={own.error} />}
        <Curves curves={curves} label={chart} log={chart === "Loss" && log} />
      </div>
    </section>
  );
}

/** Of a run beside this one its own name is enough. */
const shortName = (other: string, here: string): string =>
  parentOf(other) === parentOf(here) ? other.slice(parentOf(other).length + 1) : other;

function LayOver({ path, others }: { path: string; others: string[] }) {
  const runs = useFetched((signal) => get("/api/runs", { signal }), [], ["projects"]);
  const left = runs.data?.filter((run) => run.path !== path && !others.includes(run.path)) ?? [];
  const set = (paths: string[]) => alter({ over: paths.join("|") || null });
  return (
    <div class="row wrap">
      {others.map((other) => (
        <span class="tag" key={other}>
          {shortName(other, path)}
          <button
            type="button"

            aria-label={`Take ${shortName(other, path)} away`}
            onClick={() => set(others.filter((each) => each !== other))}
          >
            ×
          </button>
        </span>
      ))}
      {left.length > 0 && (
        <select
          class="input lay"
          aria-label="Lay another run over"
          value=""
          onChange={(event) => set([...others, event.currentTarget.value])}
        >
          <option value="">Lay over…</option>
          {left.map((run) => (
            <option key={run.path} value={run.path}>
              {shortName(run.path, path)}
            </option>
          ))}
        </select>
      )}
    </div>
  );
}
