// Whether one is shown around in this tab, and how far one is: also after the page is loaded anew.
import { effect, signal } from "@preact/signals";
import { go } from "./router";
import { remember, remembered } from "./session";

const SEEN = "tour";
const KEPT = "lorasmith.tour";

/** Of the table in tour_steps.ts, from 0 on; `null` where there is no tour. */
export const tourStep = signal<number | null>(keptStep());
/** In this browser, whenever. */
export const tourSeen = signal(remembered(SEEN) !== "");

effect(() => {
  try {
    if (tourStep.value === null) sessionStorage.removeItem(KEPT);
    else sessionStorage.setItem(KEPT, String(tourStep.value));
  } catch {
    // A browser that keeps nothing ends the tour when the page is loaded anew.
  }
});

function keptStep(): number | null {
  try {
    const kept = sessionStorage.getItem(KEPT);
    return kept !== null && /^\d$/.test(kept) ? Number(kept) : null;
  } catch {
    return null;
  }
}

export function beginTour(): void {
  tourStep.value = 0;
  go("/");
}

export function leaveTour(): void {
  tourStep.value = null;
  tourSeen.value = true;
  remember(SEEN, "seen");
}
