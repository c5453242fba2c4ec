// What a bootstrap does, or waits for, in words.
import type { Schemas } from "../api/client";
import { isOpen, jobOfBootstrap } from "../jobs";

type Listed = Schemas["BootstrapListed"] | Schemas["BootstrapShown"];

const NEXT: Record<Listed["stage"], string> = {
  train: "training",
  draw: "drawing",
  choose: "waits for your choice",
  final: "the last training",
  done: "done",
};

/** Of the newest round. */
export function stateWords(one: Listed): string {
  const job = jobOfBootstrap(one.path);
  const what = NEXT[one.stage];
  if (one.stage === "done" && !one.busy) return what;
  if (job && isOpen(job) && job.state !== "running") return "in the queue";
  const atWork = one.busy || (job !== undefined && isOpen(job));
  if (one.stage === "choose") return atWork ? "at work" : what;
  if (atWork) return what;
  return `${what}, stopped`;
}

/** "round 2 of 4: training". */
export function roundAndState(one: Listed): string {
  const isAfter = one.stage === "final" || one.stage === "done";
  return isAfter ? stateWords(one) : `round ${Math.max(1, one.round)} of ${one.rounds}: ${stateWords(one)}`;
}
