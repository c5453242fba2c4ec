// Keys of the page that is shown. `?` lists them, so each says what it does.
import { signal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";

export interface Key {
  /** As `KeyboardEvent.key` has it, with "Ctrl+", "Alt+", "Shift+" before it. */
  keys: string;
  /** "" where another one says it, too. */
  does: string;
  run: (event: KeyboardEvent) => void;
}

interface Group {
  keys: Key[];
  inDialog: boolean;
}
const groups: Group[] = [];
/** Rises when other keys count. */
export const keysVersion = signal(0);

export const allKeys = (): Key[] => groups.flatMap((group) => group.keys);

/** While the component is shown, these keys do what they say; the component shown last goes first. */
export function useKeys(keys: Key[], inDialog = false): void {
  const group = useRef<Group>({ keys, inDialog }).current;
  group.keys = keys;
  // Once it is to be seen: a key that comes before the browser has drawn it counts, too.
  useLayoutEffect(() => {
    groups.unshift(group);
    keysVersion.value++;
    return () => {
      groups.splice(groups.indexOf(group), 1);
      keysVersion.value++;
    };
  }, []);
}

/** What lies over the page has the keys, and the page none. */
export const useDialogKeys = (keys: Key[]): void => useKeys(keys, true);

function nameOf(event: KeyboardEvent): string {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  // "?" is typed with Shift on some keyboards and without on others.
  const isNamed = event.key.length > 1 || event.ctrlKey || event.metaKey || event.altKey;
  const shift = event.shiftKey && isNamed ? "Shift+" : "";
  return `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${event.altKey ? "Alt+" : ""}${shift}${key}`;
}

/** Whether keys write text where the event comes from. */
function isTyping(target: EventTarget | null): boolean {
  const element = target as HTMLElement | null;
  if (!element?.matches) return false;
  if (element.isContentEditable || element.matches("textarea, select")) return true;
  return element.matches("input:not([type=checkbox], [type=radio], [type=range], [type=button])");
}

/** What takes these keys itself where it has the focus: a link is followed, a button pressed. */
function isPressed(target: EventTarget | null, name: string): boolean {
  const element = target as HTMLElement | null;
  if ((name !== "Enter" && name !== " ") || !element?.closest) return false;
  return element.closest("a[href], button, summary, [role=button], [role=tab], [role=option], input") !== null;
}

export function listenToKeys(): void {
  document.addEventListener("keydown", (event) => {
    const name = nameOf(event);
    const field = event.target as HTMLInputElement;
    // A search that has words loses these first. Behind a dialog's field Escape closes the dialog.
    if (name === "Escape" && !event.defaultPrevented && isTyping(field) && !(field.type === "search" && field.value)) {
      if (!field.closest("dialog")) field.blur();
      return;
    }
    if (event.defaultPrevented || isTyping(event.target) || isPressed(event.target, name)) return;
    const isOver = document.querySelector("dialog[open]") !== null;
    const found = groups
      .filter((group) => group.inDialog || !isOver)
      .flatMap((group) => group.keys)
      .find((key) => key.keys === name);
    if (!found) return;
    event.preventDefault();
    found.run(event);
  });
}
