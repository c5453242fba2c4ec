// One bootstrap: what it does, its newest drawings to choose from, and what came of it.
import { useState } from "preact/hooks";
import { get, post, type Schemas } from "../api/client";
import { useFetched } from "../api/fetched";
import { Button } from "../components/button";
import { CommandLine } from "../components/command_line";
import { Icon } from "../components/icons";
import { JobProgress } from "../components/job_list";
import { say } from "../components/notices";
import { Picture } from "../components/picture";
import { Failed } from "../components/problems";
import { baseName, quantity, shellWord } from "../format";
import { askJob, isOpen, type Job, jobOfBootstrap, jobs, refreshJobs } from "../jobs";
import { useKeys } from "../keys";
import { project } from "../project";
import { alter, query, to } from "../router";
import { queuePick } from "../runs";
import { stateWords } from "./bootstrap_state";
import { ChooseBar, useMarks } from "./bootstrap_choose";
import { DrawingPanel, Drawings, LargeDrawing } from "./bootstrap_drawings";
import { Rounds, TheSet } from "./bootstrap_rounds";

export type Shown = Schemas["BootstrapShown"];
export type Round = Shown["history"][number];

export function OneBootstrap({ path }: { path: string }) {
  const found = useFetched(
    (signal) => get("/api/bootstraps/one", { query: { path }, signal }),
    [path],
    ["bootstraps", "jobs"],
  );
  const job = jobOfBootstrap(path) ?? jobs.value.find((each) => each.id === found.data?.job);
  if (found.data) return <Whole one={found.data} job={job} onChanged={found.reload} />;
  if (found.error === undefined) return <main id="content" />;
  return (
    <main id="content">
      <div class="column">
        <h1>{baseName(path)}</h1>
        {job && isOpen(job) ? <Working job={job} what="It is about to begin." /> : <Failed error={found.error} />}
        {job && !isOpen(job) && <Ended job={job} />}
      </div>
    </main>
  );
}

interface Props {
  one: Shown;
  job: Job | undefined;
  onChanged: () => void;
}

function Whole({ one, job, onChanged }: Props) {
  const active = job && isOpen(job) ? job : undefined;
  const newest = one.history.at(-1);
  const asked = Number(query.value.get("round")) || 0;
  // While a round trains, the drawings of the one before are there to be looked at.
  const drawn = one.history.findLast((each) => each.drawings.length > 0);
  const round = one.history.find((each) => each.number === asked) ?? drawn ?? newest;
  const choosing = one.stage === "choose" && !active && !one.busy && one.choose === "ask" && round === newest;
  const marks = useMarks(choosing ? round : undefined);
  const [at, setAt] = useState(1);
  const large = Number(query.value.get("drawing")) || 0;
  const drawings = round?.drawings ?? [];
  const current = drawings.find((each) => each.number === at) ?? drawings[0];
  const open = (number: number | null) => alter({ drawing: number }, { replace: large > 0 });
  const marked = choosing ? marks.marked : new Set(round?.kept ?? []);

  useKeys([
    {
      keys: "g",
      does: "Go to the drawings",
      run: () => document.querySelector<HTMLElement>(".boot-drawings [tabindex='0']")?.focus(),
    },
    {
      keys: "e",
      does: "Edit the drawing's caption",
      run: () => document.querySelector<HTMLElement>("#drawing-caption")?.focus(),
    },
  ]);

  return (
    <main id="content" class="boot fills">
      <div class="pane">
        <header class="boot-head row wrap">
          <a
            class="button quiet only-icon"
            href={to("/bootstrap", { project: project.value })}
            aria-label="All bootstraps"
          >
            <Icon name="left" />
          </a>
          <h1 class="cut" title={one.path}>
            {one.trigger}
          </h1>
          <span class="soft number">
            {round && `round ${round.number} of ${Math.max(one.rounds, one.history.length)}`}
            {asked > 0 && round !== newest && ", looked at again"}
          </span>
          <span class={`tag ${active || one.busy ? "running" : choosing ? "warning" : ""}`}>{stateWords(one)}</span>
          <nav class="row push" aria-label="What came of it">
            <a href={to("/dataset", { path: one.dataset, project: project.value })}>Dataset</a>
            {one.run && <a href={to("/run", { path: one.run })}>Run</a>}
            {one.lora && <a href={to("/draw", { project: project.value })}>Draw</a>}
            {one.lora && <a href={to("/files", { lora: one.lora, project: project.value })}>LoRA file</a>}
          </nav>
        </header>
        <State one={one} job={job} active={active} choosing={choosing} />
        {drawings.length > 0 && (
          <Drawings
            drawings={drawings}
            marked={marked}
            at={current?.number ?? 1}
            onGo={setAt}
            onOpen={open}
            onToggle={choosing ? marks.toggle : undefined}
            judged={round?.likeness != null}
          />
        )}
        {drawings.length === 0 && (
          <ul class="boot-given">
            {one.images.map((each) => (
              <li key={each.path}>
                <Picture path={each.path} v={each.version} size={768} alt="" />
                <p class="small soft">{each.caption}</p>
              </li>
            ))}
          </ul>
        )}
        {choosing && round && <ChooseBar one={one} round={round} marks={marks} onChanged={onChanged} />}
      </div>
      <aside class="pane side boot-side" aria-label="The drawing, the rounds, the set">
        {current && round && (
          <DrawingPanel
            key={`${round.number} ${current.number}`}
            path={one.path}
            drawing={current}
            choosing={choosing}
            onChanged={onChanged}
            onOpen={() => open(current.number)}
          />
        )}
        <Rounds one={one} shown={round?.number ?? 0} />
        <TheSet one={one} />
      </aside>
      {large > 0 && drawings.some((each) => each.number === large) && (
        <LargeDrawing
          drawings={drawings}
          at={large}
          marked={marked}
          onToggle={choosing ? marks.toggle : undefined}
          onShow={(number) => (number && setAt(number), open(number))}
        />
      )}
    </main>
  );
}

interface StateProps {
  one: Shown;
  job: Job | undefined;
  active: Job | undefined;
  choosing: boolean;
}

/** What is at work, or what would go on with it. */
function State({ one, job, active, choosing }: StateProps) {
  if (active) {
    // A job that ends with a choice to make is there a moment longer.
    const ends = one.stage === "choose" && !active.command.includes("--keep");
    return <Working job={active} what={ends ? "Drawn and measured." : WORK[one.stage]} />;
  }
  if (one.busy) return <p class="boot-state">Another process is at work on it: {WORK[one.stage].toLowerCase()}</p>;
  if (one.stage === "done") return <Done one={one} />;
  if (choosing || one.stage === "choose") return null;
  return <Stopped one={one} job={job} />;
}

const WORK: Record<Shown["stage"], string> = {
  train: "A short training, then drawings.",
  draw: "Drawing, and measuring what was drawn.",
  choose: "What was chosen joins the set.",
  final: "The last training, on the whole set.",
  done: "Done.",
};

function Working({ job, what }: { job: Job; what: string }) {
  const [asking, setAsking] = useState(false);
  return (
    <section class="boot-state column" aria-label="What it does">
      <div class="row wrap">
        <span>{job.state === "running" ? what : `Job ${job.id} waits in the queue.`}</span>
        {job.run && job.state === "running" && <a href={to("/run", { path: job.run })}>Look at the training</a>}
        <span class="push" />
        <Button
          icon="stop"
          disabled={asking || job.wish === "cancel"}
          onClick={async () => (setAsking(true), await askJob(job.id, "cancel"))}
          title="Everything that is done is kept"
        >
          {job.state === "running" ? "Stop" : "Take out of the queue"}
        </Button>
      </div>
      <JobProgress job={job} />
      <CommandLine line={job.command_line} />
    </section>
  );
}

function Ended({ job }: { job: Job }) {
  return (
    <>
      <p>
        Job {job.id} {job.state === "failed" ? "failed" : "ended"}
        {job.message && `: ${job.message}`}
      </p>
      <CommandLine line={job.command_line} />
    </>
  );
}

function Stopped({ one, job }: { one: Shown; job: Job | undefined }) {
  async function goOn() {
    const added = await post("/api/bootstraps/go-on", { body: { path: one.path } });
    await refreshJobs();
    say(`${added.title} is in the queue.`);
  }
  return (
    <section class="boot-state column" aria-label="It was stopped">
      <div class="row wrap">
        <span>It was stopped in the middle. What is done is kept.</span>
        <span class="push" />
        <Button kind="primary" icon="play" onClick={goOn}>
          Go on
        </Button>
      </div>
      {job?.message && <p class={job.state === "failed" ? "job-message" : "soft"}>{job.message}</p>}
      <CommandLine line={one.command_line} />
    </section>
  );
}

function Done({ one }: { one: Shown }) {
  async function more() {
    const rounds = Math.max(one.rounds, one.history.length) + 1;
    const added = await post("/api/bootstraps/go-on", { body: { path: one.path, values: { rounds } } });
    await refreshJobs();
    say(`${added.title} is in the queue.`);
  }
  return (
    <section class="boot-state column" aria-label="The result">
      <div class="row wrap">
        <b class="mono">{baseName(one.lora)}</b>
        <span class="soft">
          trained on {quantity(one.given, "picture")} and {quantity(one.drawn, "drawing")}; {one.ended}
        </span>
      </div>
      <div class="row wrap">
        <a class="button primary" href={to("/draw", { project: project.value })}>
          Draw with it
        </a>
        <a class="button" href={to("/run", { path: one.run })}>
          The run
        </a>
        <Button onClick={() => queuePick(one.run)}>Pick its best snapshot</Button>
        <a class="button" href={to("/dataset", { path: one.dataset, project: project.value })}>
          The dataset
        </a>
        <Button onClick={more}>One more round</Button>
      </div>
      <CommandLine line={`lorasmith pick ${shellWord(one.run)}`} />
    </section>
  );
}
