import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import type { Schemas } from "../api/client";
import { figure, when } from "../format";
import { running, waiting } from "../jobs";
import { to } from "../router";
import { isAtWork, removeRun, RUN_TONES } from "../runs";
import { Button } from "./button";
import { Icon } from "./icons";
import { JobList } from "./job_list";
import { Picture } from "./picture";
import { RenameRun } from "./run_changes";

type Run = Schemas["RunSummary"];

/** In the place of the table: what is said where nothing is at work that may become a run. */
export function NoRuns({ children }: { children: ComponentChildren }) {
  const jobs = [...running.value, ...waiting.value];
  if (!jobs.length) return <p class="empty">{children}</p>;
  return (
    <>
      <p class="empty">No run has begun here yet. If one of these trains, its run stands here as soon as it begins.</p>
      <JobList jobs={jobs} label="At work, and waiting" />
    </>
  );
}

export function RunTable({ runs, project }: { runs: readonly Run[]; project?: string | null | undefined }) {
  const [renamed, setRenamed] = useState<Run | null>(null);
  return (
    <div class="scrolls">
      {renamed && <RenameRun run={renamed} onClose={() => setRenamed(null)} />}
      <table class="runs">
        <thead>
          <tr>
            <th scope="col" class="cover">
              <span class="unseen">Newest sample</span>
            </th>
            <th scope="col">Run</th>
            <th scope="col">State</th>
            <th scope="col" class="right">
              Steps
            </th>
            <th scope="col" class="right">
              Loss
            </th>
            <th scope="col" class="wide-only">
              Base model
            </th>
            <th scope="col" class="wide-only">
              Begun
            </th>
            <th scope="col" class="wide-only">
              <span class="unseen">Rename, remove</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {runs.map((run) => (
            <tr key={run.path}>
              <td class="cover">{run.cover ? <Picture path={run.cover} size={96} alt="" /> : <Icon name="image" />}</td>
              <td>
                <a href={to("/run", { path: run.path, project })}>{run.name}</a>
                {run.picked && <div class="soft small">keep {run.picked}</div>}
              </td>
              <td>
                <span class={`tag ${RUN_TONES[run.state] ?? ""}`}>{run.state}</span>
              </td>
              <td class="right number">
                {run.step}
                {run.steps != null && ` / ${run.steps}`}
              </td>
              <td class="right number">{figure(run.loss)}</td>
              <td class="cut model wide-only" title={run.model}>
                {run.model}
              </td>
              <td class="number wide-only">{run.started != null ? when(run.started) : ""}</td>
              <td class="wide-only">
                {!isAtWork(run.state) && (
                  <div class="row">
                    <Button kind="quiet" icon="pen" label={`Rename ${run.name}…`} onClick={() => setRenamed(run)} />
                    <Button
                      kind="quiet"
                      icon="trash"
                      label={`Put ${run.name} into the trash`}
                      onClick={() => removeRun(run, () => {})}
                    />
                  </div>
                )}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
