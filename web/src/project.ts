// The projects, and which of them the page is about.
import { computed, signal } from "@preact/signals";
import { concerns, onChange } from "./api/changes";
import { get, type Schemas } from "./api/client";
import { query } from "./router";

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

async function refresh(): Promise<void> {
  try {
    projects.value = await get("/api/projects");
  } catch {
    // The pages that show them say what is wrong.
  }
}

export function followProjects(): void {
  onChange((topics) => concerns(topics, "projects") && void refresh());
  void refresh();
}
