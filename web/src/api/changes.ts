// What has changed on the server, told as it happens; pages ask anew for what they show.
import { signal } from "@preact/signals";

type Listener = (topics: string[]) => void;

const listeners = new Set<Listener>();

/** Whether the server tells of changes at present. */
export const connected = signal(true);

/** Calls `listener` with the topics that changed: "jobs", "projects", "run:PATH". Returns what ends it. */
export function onChange(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Listens for as long as the page is open; browsers connect anew by themselves. */
export function listen(): void {
  const source = new EventSource("/api/events");
  source.addEventListener("open", () => (connected.value = true));
  source.addEventListener("error", () => (connected.value = false));
  source.addEventListener("changed", (event) => {
    const { topics } = JSON.parse((event as MessageEvent<string>).data) as { topics: string[] };
    for (const listener of [...listeners]) listener(topics);
  });
}
