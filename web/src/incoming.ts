// Files that were dropped on one page and are for another.
import { signal } from "@preact/signals";

/** A settings file of any trainer, for the page that trains; it takes it away. */
export const incomingSettings = signal<File | null>(null);
