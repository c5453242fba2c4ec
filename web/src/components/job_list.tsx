// Jobs as rows: how far they are, and what may be asked of them.
import { useSignal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { get } from "../api/client";
import { duration, when } from "../format";
import { type Ask, askJob, bootstrapOf, ended, forgetJob, isOpen, type Job, moveJob, waiting } from "../jobs";
import { to } from "../router";
import { Button } from "./button";
import { CommandLine } from "./command_line";
import { Dialog } from "./dialog";
import type { IconName } from "./icons";
import { Failed } from "./problems";

const TONES: Partial<Record<Job["state"], string>> = { running: "running", failed: "danger", paused: "warning" };

/** What may be asked of a job in each state, the usual first. */
const ASKS: Record<Job["state"], [Ask, string, IconName][]> = {
  queued: [
    ["hold", "Hold back", "pause"],
    ["cancel", "Cancel", "close"],
  ],
  held: [
    ["release", "Let it run", "play"],
    ["cancel", "Cancel", "close"],
  ],
  running: [
    ["pause", "Pause, with everything saved", "pause"],
    ["finish", "Stop, with a LoRA of what it has learned", "stop"],
    ["cancel", "Cancel", "close"],
  ],
  paused: [
    ["resume", "Go on", "play"],
    ["cancel", "Cancel", "close"],
  ],
  done: [],
  failed: [["retry", "Try again", "retry"]],
  cancelled: [["retry", "Try again", "retry"]],
};

export function JobList({ jobs, label }: { jobs: readonly Job[]; label: string }) {
  const dragged = useSignal<number | null>(null);
  return (
    <ul class="jobs" aria-label={label}>
      {jobs.map((job) => (
        <JobRow key={job.id} job={job} dragged={dragged.value} onDrag={(id) => (dragged.value = id)} />
      ))}
    </ul>
  );
}

/** The page that shows what a job does; "" where there is none. */
function placeOf(job: Job): string {
  const bootstrap = bootstrapOf(job);
  if (bootstrap) return to("/bootstrap", { path: bootstrap });
  return job.run && to("/run", { path: job.run });
}

const canMove = (job: Job) => job.state === "queued" || job.state === "held";

function JobRow({ job, dragged, onDrag }: { job: Job; dragged: number | null; onDrag: (id: number | null) => void }) {
  const [shown, setShown] = useState(false);
  const [over, setOver] = useState(false);
  const movable = canMove(job);
  function key(event: KeyboardEvent) {
    if (!event.altKey || !movable || !["ArrowUp", "ArrowDown"].includes(event.key)) return;
    event.preventDefault();
    const others = waiting.value.filter(canMove);
    const at = others.findIndex((each) => each.id === job.id);
    if (event.key === "ArrowUp" && at > 0) void moveJob(job.id, others[at - 1]!.id);
    if (event.key === "ArrowDown" && at < others.length - 1) void moveJob(job.id, others[at + 2]?.id ?? null);
  }
  return (
    <li
      class={`job ${over ? "over" : ""}`}
      draggable={movable}
      onKeyDown={key}
      onDragStart={() => onDrag(job.id)}
      onDragEnd={() => onDrag(null)}
      onDragOver={(event) => {
        if (dragged === null || dragged === job.id || !movable) return;
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        if (dragged !== null && movable) void moveJob(dragged, job.id);
      }}
    >
      <div class="row">
        <JobState job={job} />
        <span class="soft number">{job.id}</span>
        {placeOf(job) ? (
          <a class="cut" href={placeOf(job)}>
            {job.title}
          </a>
        ) : (
          <span class="cut">{job.title}</span>
        )}
        <span class="push row tools">
          {ASKS[job.state]
            .filter(([ask]) => job.command[0] === "train" || (ask !== "pause" && ask !== "finish"))
            .map(([ask, label, icon]) => (
              <Button
                key={ask}
                kind="quiet"
                icon={icon}
                label={`${label}: ${job.title}`}
                title={label}
                onClick={() => askJob(job.id, ask)}
              />
            ))}
          {ended.value.includes(job) && (
            <Button
              kind="quiet"
              icon="trash"
              label={`Take off the list: ${job.title}`}
              title="Take off the list; its results stay"
              onClick={() => forgetJob(job.id)}
            />
          )}
          <Button
            kind="quiet"
            icon="file"
            label={`What it printed: ${job.title}`}
            title="What it printed, and its command"
            onClick={() => setShown(true)}
          />
        </span>
      </div>
      <JobProgress job={job} />
      {shown && <JobLog job={job} onClose={() => setShown(false)} />}
    </li>
  );
}

/** One job, where it was begun. */
export function JobLine({ job }: { job: Job }) {
  return (
    <div role="status">
      <div class="row">
        <JobState job={job} />
        <span class="cut">{job.title}</span>
      </div>
      <JobProgress job={job} />
    </div>
  );
}

const JobState = ({ job }: { job: Job }) => (
  <span class={`tag ${TONES[job.state] ?? ""}`}>
    {job.wish ? (job.wish === "pause" ? "pausing" : "stopping") : job.state}
  </span>
);

export function JobProgress({ job }: { job: Job }) {
  const { progress } = job;
  const words: string[] = [];
  if (progress && (job.state === "running" || job.state === "paused")) {
    words.push(`${progress.what} ${progress.done} of ${progress.total}`);
    if (progress.loss != null) words.push(`loss ${progress.loss.toPrecision(3)}`);
    if (job.state === "running" && progress.seconds_left != null) words.push(`${duration(progress.seconds_left)} left`);
  } else if (job.state === "running") {
    words.push("starting");
  } else if (job.ended != null) {
    words.push(when(job.ended));
    if (job.started != null) words.push(`took ${duration(job.ended - job.started)}`);
  }
  if (job.after != null && job.state === "queued") words.push(`after job ${job.after}`);
  if (job.device !== "auto") words.push(job.device);
  return (
    <>
      {progress && job.state === "running" && (
        <progress
          class="progress"
          max={Math.max(1, progress.total)}
          value={progress.done}
          aria-label={`${job.title}: ${progress.what}`}
        />
      )}
      <div class="soft small number">{words.join(" · ")}</div>
      {job.message && job.state !== "done" && (
        <div class={job.state === "failed" ? "small job-message" : "soft small"}>{job.message}</div>
      )}
    </>
  );
}

function JobLog({ job, onClose }: { job: Job; onClose: () => void }) {
  const [text, setText] = useState("");
  const [error, setError] = useState<unknown>();
  const next = useRef(0);
  const end = useRef<HTMLPreElement>(null);
  const isAtWork = isOpen(job);
  useEffect(() => {
    let over = false;
    let timer = 0;
    async function read() {
      try {
        const part = await get("/api/jobs/{number}/log", { path: { number: job.id }, query: { from: next.current } });
        if (over) return;
        const anew = part.next > next.current;
        next.current = part.next;
        if (anew) setText((before) => (before + part.text).slice(-200_000));
        if (anew || isAtWork) timer = setTimeout(read, anew ? 50 : 1000);
      } catch (problem) {
        if (!over) setError(problem);
      }
    }
    void read();
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [job.id, job.tries, isAtWork]);
  useEffect(() => end.current?.scrollTo(0, end.current.scrollHeight), [text]);
  return (
    <Dialog title={job.title} onClose={onClose}>
      <div class="column">
        <CommandLine line={job.command_line} />
        {error !== undefined && <Failed error={error} />}
        <pre class="log" ref={end} tabIndex={0} aria-label="What it printed">
          {text || "It has printed nothing yet."}
        </pre>
      </div>
    </Dialog>
  );
}
