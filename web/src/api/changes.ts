// What has changed on the server, told as it happens; pages ask anew for what they show.
import { signal } from "@preact/signals";
import type { Schemas } from "./client";

/** Of nothing in particular where changes may have been missed. */
export type Topics = string[] | "any";
type Listener = (topics: Topics) => void;
type Drawing = Schemas["DrawingRecord"];

const listeners = new Set<Listener>();
const drawingListeners = new Set<(drawing: Drawing) => void>();

/** Whether the server tells of changes at present. */
export const connected = signal(true);

/** Calls `listener` with the topics that changed: "jobs", "projects", "run:PATH", "dataset:PATH", "drawings". Returns what ends it. */
export function onChange(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Calls `listener` with a drawing as it is now, at each of its steps. Returns what ends it. */
export function onDrawing(listener: (drawing: Drawing) => void): () => void {
  drawingListeners.add(listener);
  return () => drawingListeners.delete(listener);
}

/** Whether a change is one of these. */
export const concerns = (changed: Topics, ...topics: string[]): boolean =>
  changed === "any" || topics.some((topic) => changed.includes(topic));

type Message = { topics: Topics } | { connected: boolean } | { drawing: Drawing };

function take(message: Message): void {
  if ("topics" in message) for (const listener of [...listeners]) listener(message.topics);
  else if ("drawing" in message) for (const listener of [...drawingListeners]) listener(message.drawing);
  else connected.value = message.connected;
}

/** ms. */
const FIRST_LOOK = 1500;

/** Asks the server; browsers connect anew by themselves. */
function connect(tell: (message: Message) => void): void {
  const source = new EventSource("/api/events");
  // Its first event is "any". A page has just asked for all that it shows: what changed since then can wait until it
  // is shown, what was missed by a connection that broke cannot.
  let isNew = true;
  source.addEventListener("open", () => tell({ connected: true }));
  source.addEventListener("error", () => tell({ connected: false }));
  source.addEventListener("changed", (event) => {
    const message = JSON.parse((event as MessageEvent<string>).data) as Message;
    if (isNew) setTimeout(() => tell(message), FIRST_LOOK);
    else tell(message);
    isNew = false;
  });
  source.addEventListener("drawing", (event) =>
    tell({ drawing: JSON.parse((event as MessageEvent<string>).data) as Drawing }),
  );
}

/** Listens for as long as the page is open. */
export function listen(): void {
  // A browser opens six connections to one server, and each tab would keep one for itself: so one tab asks and tells
  // the others. Where a page may have no locks, as one from another computer, it asks by itself.
  if (!navigator.locks) {
    connect(take);
    return;
  }
  const others = new BroadcastChannel("lorasmith.changes");
  others.addEventListener("message", (event: MessageEvent<Message>) => take(event.data));
  void navigator.locks.request("lorasmith.changes", () => {
    connect((message) => {
      take(message);
      others.postMessage(message);
    });
    return new Promise(() => {});
  });
}
