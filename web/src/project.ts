// The projects, and which of them the page is about.
import { batch, computed, signal } from "@preact/signals";
import { concerns, onChange } from "./api/changes";
import { get, type Schemas } from "./api/client";
import { oneAtATime } from "./api/fetched";
import { query } from "./router";

/** Fewer than these are offered to be made more, by a bootstrap. */
export const FEW_PICTURES = 4;

export const projects = signal<Schemas["ProjectOut"][]>([]);

/** Named in the address, or the innermost that holds what the address names; "" for none. */
export const project = computed(() => {
  const named = query.value.get("project");
  if (named) return named;
  const path = query.value.get("path") ?? "";
  const holding = projects.value
    .map((each) => each.path)
    .filter((each) => path === each || path.startsWith(`${each}/`) || path.startsWith(`${each}\\`));
  return holding.sort((a, b) => b.length - a.length)[0] ?? "";
});

/** Under which the project that pages were about last is remembered. */
export const LAST_PROJECT = "project";

/** Why they are not known, and whether they were ever. */
export const projectsError = signal<unknown>(undefined);
export const projectsKnown = signal(false);

const refresh = oneAtATime(async () => {
  try {
    const found = await get("/api/projects");
    batch(() => {
      projects.value = found;
      projectsKnown.value = true;
      projectsError.value = undefined;
    });
  } catch (error) {
    projectsError.value = error;
  }
});

export function followProjects(): void {
  onChange((topics) => concerns(topics, "projects") && void refresh());
  void refresh();
}
