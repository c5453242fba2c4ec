// Runs, as several pages speak of them.
import { post, type Schemas } from "./api/client";
import { say } from "./components/notices";
import { baseName, parentOf } from "./format";
import { addJob } from "./jobs";

interface Run {
  path: string;
  name: string;
}

/** Whether anything works on a run, so that it stays as it is. */
export const isAtWork = (state: string): boolean => state === "running" || state === "preparing";

export const RUN_TONES: Record<string, string> = {
  running: "running",
  preparing: "running",
  trouble: "danger",
  killed: "danger",
  stopped: "warning",
};

/** What pick says of a snapshot. */
export const JUDGED: Record<string, string> = { under: "undertrained", well: "well trained", over: "overtrained" };

/** With its project, among runs of several. */
export const nameInProject = (run: Schemas["RunSummary"]): string =>
  `${run.name} in ${baseName(parentOf(parentOf(run.path)))}`;

export async function queuePick(run: string): Promise<void> {
  await addJob({ verb: "pick", run });
  say("pick is in the queue: it tries each snapshot and says which is best.");
}

export async function removeRun(run: Run, then: () => unknown): Promise<void> {
  const { kept } = await post("/api/run/remove", { body: { path: run.path } });
  then();
  say(`${run.name} is in the trash, with its LoRA files.`, {
    label: "Undo",
    run: async () => {
      await post("/api/run/restore", { body: { path: kept } });
      say(`${run.name} is back.`);
    },
  });
}
