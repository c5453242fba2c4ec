// The demo: the small model inside lorasmith, trained on its own character.
import { computed } from "@preact/signals";
import { say } from "./components/notices";
import { baseName, parentOf } from "./format";
import { addJob, isOpen, jobs } from "./jobs";
import { projects } from "./project";
import { session } from "./session";

/** The job that makes it, while there is one. */
export const demoJob = computed(() => jobs.value.find((job) => job.command[0] === "demo" && isOpen(job)));

/** Where the demo lies, once it has begun. */
export const demoProject = computed(() =>
  projects.value.find((each) => baseName(each.path) === "demo" && parentOf(each.path) === session.value?.workspace),
);

export async function tryDemo(): Promise<void> {
  await addJob({ verb: "demo" });
  say("The demo is in the queue: it takes a few minutes, and ends with a picture.");
}
