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

const groups: { current: Key[] }[] = [];
/** Rises when other keys count. */
export const keysVersion = signal(0);

export const allKeys = (): Key[] => groups.flatMap((group) => group.current);

/** While the component is shown, these keys do what they say; the component shown last goes first. */
export function useKeys(keys: Key[]): void {
  const group = useRef(keys);
  group.current = keys;
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

export function nameOf(event: KeyboardEvent): string {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  // "?" is typed with Shift on some keyboards and without on others.
  const isNamed = event.key.length > 1 || event.ctrlKey || event.metaKey || event.altKey;
  const shift = event.shiftKey && isNamed ? "Shift+" : "";
  return `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${event.altKey ? "Alt+" : ""}${shift}${key}`;
}

/** Whether keys write text where the event comes from. */
export function isTyping(target: EventTarget | null): boolean {
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
    // What lies over the page has the keys, and the page none.
    const isOver = document.querySelector("dialog[open]") !== null;
    const found = allKeys().find((key) => key.keys === name && (!isOver || inDialog(key)));
    if (!found) return;
    event.preventDefault();
    found.run(event);
  });
}

const dialogKeys = new WeakSet<Key>();

/** Keys that count while a dialog is open. */
export function ofDialog(keys: Key[]): Key[] {
  for (const key of keys) dialogKeys.add(key);
  return keys;
}

const inDialog = (key: Key): boolean => dialogKeys.has(key);
