import type { Schemas } from "../api/client";
import { figure, when } from "../format";
import { to } from "../router";
import { Icon } from "./icons";
import { Picture } from "./picture";

type Run = Schemas["RunSummary"];

export const RUN_TONES: Record<string, string> = {
  running: "running",
  preparing: "running",
  trouble: "danger",
  killed: "danger",
  stopped: "warning",
};

export function RunTable({ runs, project }: { runs: readonly Run[]; project?: string | null | undefined }) {
  return (
    <div class="scrolls">
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
            <th scope="col">Base model</th>
            <th scope="col">Begun</th>
          </tr>
        </thead>
        <tbody>
          {runs.map((run) => (
            <tr key={run.path}>
              <td class="cover">{run.cover ? <Picture path={run.cover} size={96} alt="" /> : <Icon name="image" />}</td>
              <td>
                <a href={to("/run", { path: run.path, project })}>{run.name}</a>
              </td>
              <td>
                <span class={`tag ${RUN_TONES[run.state] ?? ""}`}>{run.state}</span>
              </td>
              <td class="right number">
                {run.step}
                {run.steps != null && ` / ${run.steps}`}
              </td>
              <td class="right number">{figure(run.loss)}</td>
              <td class="cut model" title={run.model}>
                {run.model}
              </td>
              <td class="number">{run.started != null ? when(run.started) : ""}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
