// From settings to jobs: begin, queue or hold back; and the command that does the same.
import { useState } from "preact/hooks";
import { post } from "../api/client";
import { Button } from "../components/button";
import { CommandLine } from "../components/command_line";
import { JobList } from "../components/job_list";
import { say } from "../components/notices";
import { jobs, moveJob, refreshJobs, running, waiting, type Job } from "../jobs";
import { session } from "../session";
import type { Planned } from "./train_asking";
import { type Draft, MOST_VARIANTS, sweepCommand, type Values } from "./train_draft";

interface Props {
  draft: Draft;
  project: Values;
  planned: Planned;
}

type How = "now" | "queue" | "hold";

/** What follows a training stands in the queue with it. */
const queued = (command: string): string =>
  command.startsWith("lorasmith queue ") ? command : command.replace(/^lorasmith /, "lorasmith queue add ");

export function Start({ draft, project, planned }: Props) {
  const [device, setDevice] = useState("auto");
  const [picks, setPicks] = useState(false);
  const [added, setAdded] = useState<readonly number[]>([]);
  const { count } = planned;
  const wrong = planned.answers.filter((answer) => !answer.ok).length;
  const isReady =
    !planned.waits &&
    planned.error === undefined &&
    planned.answers.length > 0 &&
    wrong === 0 &&
    count <= MOST_VARIANTS;
  const isBusy = running.value.length > 0 || waiting.value.length > 0;
  const devices = session.value?.devices ?? [];
  const several = Object.keys(draft.several).length > 0;
  const command = several ? sweepCommand(planned.command, draft.several) : planned.command;

  async function start(how: How) {
    const mine: Job[] = await post("/api/jobs", {
      body: {
        verb: "train",
        preset: draft.preset || null,
        values: { ...project, ...draft.values },
        sweep: draft.several,
        device,
        hold: how === "hold",
      },
    });
    if (picks) {
      for (const job of mine) await post("/api/jobs", { body: { verb: "pick", after: job.id, device } });
    }
    if (how === "now") {
      const before = waiting.value.find((job) => !mine.some((each) => each.id === job.id));
      if (before) for (const job of mine) await moveJob(job.id, before.id).catch(() => {}); // It has begun already.
    }
    await refreshJobs();
    setAdded((ids) => [...mine.map((job) => job.id), ...ids]);
    const words = mine.length > 1 ? `${mine.length} trainings are` : `${mine[0]?.title} is`;
    say(how === "hold" ? `${words} held back in the queue.` : `${words} in the queue.`);
  }

  const shown = jobs.value.filter((job) => added.includes(job.id));
  const all = count > 1 ? `all ${count}` : "";
  return (
    <section class="panel start" aria-label="Start">
      <div class="body column">
        <div class="row wrap">
          {isBusy ? (
            <>
              <Button kind="primary" icon="queue" disabled={!isReady} onClick={() => start("queue")}>
                Queue {all}
              </Button>
              <Button icon="up" disabled={!isReady} onClick={() => start("now")}>
                Train next
              </Button>
            </>
          ) : (
            <Button kind="primary" icon="play" disabled={!isReady} onClick={() => start("now")}>
              Train {all || "now"}
            </Button>
          )}
          <Button
            icon="pause"
            disabled={!isReady}
            onClick={() => start("hold")}
            title="Put it into the queue, to be released later"
          >
            Hold back
          </Button>
        </div>
        <label class="row">
          <input type="checkbox" checked={picks} onChange={(event) => setPicks(event.currentTarget.checked)} />
          then pick the best snapshot
        </label>
        {wrong > 0 && (
          <p class="danger-text small">
            {count > 1 ? `${wrong} of ${planned.answers.length} can't be started` : "It can't be started"}: the reasons
            are below, and at the settings.
          </p>
        )}
        {count > MOST_VARIANTS && (
          <p class="danger-text small">
            Its values make {count.toLocaleString("en")} trainings; {MOST_VARIANTS} are the most at once.
          </p>
        )}
        {devices.length > 1 && (
          <label class="row">
            On
            <select class="input" value={device} onChange={(event) => setDevice(event.currentTarget.value)}>
              <option value="auto">the device that is free (auto)</option>
              {devices.map((each) => (
                <option key={each.device} value={each.device}>
                  {each.device}, {each.name}
                </option>
              ))}
            </select>
          </label>
        )}
        {command && <CommandLine line={picks ? queued(command) : command} />}
        {command && picks && <CommandLine line="lorasmith queue add --after JOB pick '{run}'" />}
        {shown.length > 0 && <JobList jobs={shown} label="Queued from here" />}
      </div>
    </section>
  );
}
