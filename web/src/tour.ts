// Whether one is shown around in this tab, and how far one is: also after the page is loaded anew.
import { effect, signal } from "@preact/signals";
import { go } from "./router";
import { remember, remembered } from "./session";

/** Of the step in this tab, and of whether one was shown around in this browser. */
const NAME = "tour";

/** Of the table in tour_steps.ts, from 0 on; `null` where there is no tour. */
export const tourStep = signal<number | null>(keptStep());
/** In this browser, whenever. */
export const tourSeen = signal(remembered(NAME) !== "");

function keptStep(): number | null {
  const kept = remembered(NAME, "tab");
  return /^\d$/.test(kept) ? Number(kept) : null;
}

effect(() => remember(NAME, tourStep.value === null ? "" : String(tourStep.value), "tab"));

export function beginTour(): void {
  tourStep.value = 0;
  go("/");
}

export function leaveTour(): void {
  tourStep.value = null;
  tourSeen.value = true;
  remember(NAME, "seen");
}
