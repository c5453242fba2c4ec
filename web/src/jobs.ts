// The queue, as all tabs and programs on this workspace see it.
import { computed, signal } from "@preact/signals";
import { concerns, onChange } from "./api/changes";
import { get, post, remove, type Schemas } from "./api/client";
import { oneAtATime } from "./api/fetched";

export type Job = Schemas["JobRecord"];
type JobRequest = Parameters<typeof post<"/api/jobs">>[1] extends infer G
  ? NonNullable<G> extends { body?: infer B }
    ? NonNullable<B>
    : never
  : never;

export const jobs = signal<Job[]>([]);
export const jobsError = signal<unknown>(undefined);

export const running = computed(() => jobs.value.filter((job) => job.state === "running"));
/** In the order in which they will run; a paused one waits to be gone on with. */
export const waiting = computed(() => jobs.value.filter((job) => ["queued", "held", "paused"].includes(job.state)));
export const ended = computed(() => jobs.value.filter((job) => ["done", "failed", "cancelled"].includes(job.state)));

export const refreshJobs = oneAtATime(async () => {
  try {
    jobs.value = await get("/api/jobs");
    jobsError.value = undefined;
  } catch (error) {
    jobsError.value = error;
  }
});

export function followJobs(): void {
  onChange((topics) => concerns(topics, "jobs", "progress") && void refreshJobs());
  void refreshJobs();
}

export type Ask = "hold" | "release" | "pause" | "finish" | "resume" | "cancel" | "retry";

export async function askJob(id: number, what: Ask): Promise<void> {
  await post("/api/jobs/{number}/{what}", { path: { number: id, what } });
  await refreshJobs();
}

/** `before` another job that waits; to the end without one. */
export async function moveJob(id: number, before: number | null): Promise<void> {
  jobs.value = await post("/api/jobs/{number}/move", { path: { number: id }, body: { before } });
}

export async function forgetJob(id: number): Promise<void> {
  jobs.value = await remove("/api/jobs/{number}", { path: { number: id } });
}

export async function addJob(body: JobRequest): Promise<Job[]> {
  const added = await post("/api/jobs", { body });
  await refreshJobs();
  return added;
}

/** The job that trains, or trained last, in a run's folder. */
export const jobOfRun = (run: string): Job | undefined =>
  jobs.value.filter((job) => job.run === run).sort((a, b) => b.id - a.id)[0];

/** What picks a run's best snapshot, or waits to. */
export const pickOfRun = (run: string): Job | undefined => {
  const trains = jobs.value.filter((job) => job.run === run).map((job) => job.id);
  return jobs.value.find(
    (job) =>
      job.command[0] === "pick" &&
      ["running", "queued", "held"].includes(job.state) &&
      (job.command[1] === run || (job.after !== null && trains.includes(job.after))),
  );
};

/** The folder of the bootstrap that a job is about; "" of others, and where only the job's own folder says which. */
export function bootstrapOf(job: Job): string {
  if (job.command[0] !== "bootstrap") return "";
  const at = job.command.findIndex((word) => word === "--continue" || word === "--out");
  return (at > 0 && job.command[at + 1]) || "";
}

/** The job that works on a bootstrap, or waits to; else the last that did. */
export function jobOfBootstrap(path: string): Job | undefined {
  const its = jobs.value.filter((job) => bootstrapOf(job) === path).sort((a, b) => b.id - a.id);
  return its.find(isOpen) ?? its[0];
}

export const isOpen = (job: Job): boolean => !["done", "failed", "cancelled"].includes(job.state);
