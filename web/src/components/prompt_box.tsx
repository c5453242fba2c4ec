// A prompt while it is written: its signs in colours, and what a tag may become.
import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { type Change, escaped, type Kind, signsOf, weighed } from "./prompt_text";
import { BEFORE_ASKING, chosenNext, type Option, Suggestions } from "./suggestions";

interface Props {
  value: string;
  label: string;
  /** What a tag that begins so may become. */
  complete: (prefix: string, signal: AbortSignal) => Promise<Option[]>;
  /** Names of wildcards like this. */
  wildcards?: (prefix: string, signal: AbortSignal) => Promise<Option[]>;
  /** Names of LoRAs, for their tags. */
  loras: readonly string[];
  onInput: (value: string) => void;
  placeholder?: string;
  invalid?: boolean;
  rows?: number;
}

const MOST = 12;
/** Of a tag, characters. */
const LONGEST = 200;
const WEIGHT_STEP = 0.1;

export function PromptBox(props: Props) {
  const { value, label, complete, wildcards, loras, onInput, placeholder, invalid, rows = 4 } = props;
  const [options, setOptions] = useState<Option[]>([]);
  const [chosen, setChosen] = useState(-1);
  const [place, setPlace] = useState({ left: 0, top: 0 });
  const id = useId();
  const field = useRef<HTMLTextAreaElement>(null);
  const colours = useRef<HTMLDivElement>(null);
  const asking = useRef<AbortController | null>(null);
  const timer = useRef(0);
  const open = options.length > 0;

  useEffect(() => () => (asking.current?.abort(), clearTimeout(timer.current)), []);
  useLayoutEffect(() => paint(colours.current!, value), [value]);
  useLayoutEffect(() => {
    const element = colours.current!;
    return () => erase(element);
  }, []);

  function close() {
    clearTimeout(timer.current);
    asking.current?.abort();
    setOptions([]);
    setChosen(-1);
  }

  function ask() {
    clearTimeout(timer.current);
    timer.current = setTimeout(async () => {
      asking.current?.abort();
      const controller = (asking.current = new AbortController());
      const { value: text, selectionStart: cursor, selectionEnd } = field.current!;
      const word = cursor === selectionEnd ? wordBefore(text, cursor) : null;
      if (!word || (word.kind === "wildcard" && !wildcards)) return close();
      try {
        const found =
          word.kind === "lora"
            ? lorasLike(loras, word.text)
            : await (word.kind === "wildcard" ? wildcards! : complete)(word.text, controller.signal);
        if (controller.signal.aborted || document.activeElement !== field.current) return;
        setOptions(
          found.map((option) => ({
            ...option,
            text: WRITTEN[word.kind](option.text),
            start: word.start,
            end: cursor,
          })),
        );
        setChosen(-1);
        setPlace(placeOf(colours.current!, word.start));
      } catch {
        close(); // What a prompt may say does not depend on a list.
      }
    }, BEFORE_ASKING);
  }

  function write(change: Change) {
    const box = field.current!;
    box.setSelectionRange(change.start, change.end);
    // So that the browser's own undo takes it back.
    if (!document.execCommand("insertText", false, change.text)) {
      box.setRangeText(change.text);
      onInput(box.value);
    }
    const [begin, end] = change.marked;
    box.setSelectionRange(change.start + begin, change.start + end);
  }

  function take(option: Option) {
    const cursor = option.text.length;
    write({ start: option.start!, end: option.end!, text: option.text, marked: [cursor, cursor] });
    close();
  }

  function key(event: KeyboardEvent) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      const { value: text, selectionStart, selectionEnd } = field.current!;
      const change = weighed(text, selectionStart, selectionEnd, -step * WEIGHT_STEP);
      if (change) write(change);
      return;
    }
    if (!open) return;
    if (step && !event.altKey) {
      event.preventDefault();
      setChosen(chosenNext(chosen, step, options.length));
    } else if ((event.key === "Enter" || event.key === "Tab") && options[chosen] && !event.ctrlKey) {
      event.preventDefault();
      take(options[chosen]);
    } else if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      close();
    } else if (event.key.startsWith("Arrow") || event.key === "Home" || event.key === "End") close();
  }

  return (
    <div class="prompt-box">
      <div class="prompt-scroll">
        <div ref={colours} class="prompt-colours" aria-hidden="true" />
        <textarea
          ref={field}
          aria-label={label}
          aria-invalid={invalid || undefined}
          aria-autocomplete="list"
          aria-controls={`${id}-list`}
          aria-activedescendant={open && chosen >= 0 ? `${id}-${chosen}` : undefined}
          placeholder={placeholder}
          rows={rows}
          spellcheck={false}
          value={value}
          onInput={(event) => (onInput(event.currentTarget.value), ask())}
          onKeyDown={key}
          onBlur={close}
          onClick={close}
        />
      </div>
      <Suggestions
        id={id}
        label={label}
        options={options}
        chosen={chosen}
        style={{ left: `${place.left}px`, top: `${place.top}px` }}
        onTake={take}
      />
    </div>
  );
}

/** How what is chosen goes on from what was typed. */
const WRITTEN = {
  lora: (name: string) => `${name}:1>`,
  wildcard: (name: string) => `${name}__`,
  tag: escaped,
};

interface Begun {
  text: string;
  start: number;
  kind: keyof typeof WRITTEN;
}

/** What stands before the cursor since the last sign: the beginning of a tag, or of a LoRA's or wildcard's name. */
function wordBefore(text: string, cursor: number): Begun | null {
  const before = text.slice(Math.max(0, cursor - LONGEST), cursor);
  const lora = /<(?:lora|lyco):([^<>:\n]*)$/.exec(before);
  if (lora) return { text: lora[1]!, start: cursor - lora[1]!.length, kind: "lora" };
  // Two low lines begin a name, the next two end it.
  const marks = [...before.matchAll(/__/g)];
  const name = marks.length % 2 ? before.slice(marks.at(-1)!.index + 2) : null;
  if (name !== null && /^(?:\w[\w./\- ]*)?$/.test(name))
    return { text: name, start: cursor - name.length, kind: "wildcard" };
  const word = /(?:^|[,\n()[\]{}|:<>])\s*((?:\\.|[^,\n()[\]{}|:<>\\])*)$/.exec(before)?.[1] ?? "";
  return word.trim().length > 1 ? { text: word, start: cursor - word.length, kind: "tag" } : null;
}

function lorasLike(names: readonly string[], text: string): Option[] {
  const small = text.toLowerCase();
  return names
    .filter((name) => name.toLowerCase().includes(small))
    .slice(0, MOST)
    .map((name) => ({ text: name }));
}

/** The place in the box of a character, below its line. */
function placeOf(colours: HTMLElement, offset: number): { left: number; top: number } {
  const box = colours.parentElement!.parentElement!.getBoundingClientRect();
  const range = document.createRange();
  for (const { node } of painted.get(colours) ?? []) {
    if (offset < node.length) {
      range.setStart(node, offset);
      break;
    }
    offset -= node.length;
  }
  const at = range.getBoundingClientRect();
  return { left: Math.max(0, Math.min(at.left - box.left, box.width - 220)), top: at.bottom - box.top + 2 };
}

/** One for each kind of sign, with the ranges of all boxes: no element for each sign, which would be laid out anew with each key. */
const highlights = new Map<Kind, Highlight>();

/** Of a prompt, so that a key changes little: with what its coloured signs are, by places in it. */
interface Part {
  node: Text;
  signs: string;
  ranges: [Kind, StaticRange][];
}
const painted = new WeakMap<HTMLElement, Part[]>();
/** Characters. */
const LONG = 200;

function highlight(kind: Kind): Highlight {
  let found = highlights.get(kind);
  if (!found) {
    found = new Highlight();
    highlights.set(kind, found);
    CSS.highlights.set(`sign-${kind}`, found);
  }
  return found;
}

function erase(element: HTMLElement): void {
  painted.get(element)?.forEach(unmark);
  painted.delete(element);
}

function unmark(part: Part): void {
  for (const [kind, range] of part.ranges) highlights.get(kind)?.delete(range);
  part.ranges = [];
  part.signs = "";
}

/** Writes the prompt, its signs in their colours. */
function paint(element: HTMLElement, prompt: string): void {
  // A line that has just begun has a height, too.
  const parts = written(element, `${prompt}\u200b`);
  painted.set(element, parts);
  if (!("highlights" in CSS)) return; // An older browser shows it without colours.
  const signs: [Kind, number, number][] = [];
  let at = 0;
  for (const { kind, text } of signsOf(prompt)) {
    if (kind !== "text") signs.push([kind, at, at + text.length]);
    at += text.length;
  }
  let next = 0;
  let begin = 0;
  for (const part of parts) {
    const end = begin + part.node.length;
    const within: [Kind, number, number][] = [];
    for (; next < signs.length && signs[next]![1] < end; next++) {
      const [kind, from, to] = signs[next]!;
      within.push([kind, Math.max(from, begin) - begin, Math.min(to, end) - begin]);
      if (to > end) break; // It goes on in the next part.
    }
    mark(part, within);
    begin = end;
  }
}

function mark(part: Part, signs: [Kind, number, number][]): void {
  const words = signs.join(" ");
  if (words === part.signs) return;
  unmark(part);
  part.signs = words;
  const { node } = part;
  for (const [kind, startOffset, endOffset] of signs) {
    const range = new StaticRange({ startContainer: node, startOffset, endContainer: node, endOffset });
    highlight(kind).add(range);
    part.ranges.push([kind, range]);
  }
}

/** The parts of a text, of which those stay that are as they were. */
function written(element: HTMLElement, text: string): Part[] {
  const before = painted.get(element) ?? [];
  let [first, last, at, end] = [0, before.length, 0, text.length];
  while (first < last && text.startsWith(before[first]!.node.data, at)) at += before[first++]!.node.length;
  while (last > first) {
    const part = before[last - 1]!.node;
    if (end - part.length < at || !text.endsWith(part.data, end)) break;
    end -= part.length;
    last--;
  }
  // What is typed between two parts belongs to the first.
  if (first === last && first > 0 && at < end) at -= before[--first]!.node.length;
  const others = before.slice(first, last);
  const next = before[last]?.node ?? null;
  const made = pieces(text.slice(at, end)).map((piece): Part => {
    const part = others.shift();
    if (!part) return { node: element.insertBefore(document.createTextNode(piece), next), signs: "", ranges: [] };
    unmark(part);
    part.node.data = piece;
    return part;
  });
  for (const part of others) {
    unmark(part);
    part.node.remove();
  }
  return [...before.slice(0, first), ...made, ...before.slice(last)];
}

/** A text in pieces that end with a word. */
function pieces(text: string): string[] {
  const found: string[] = [];
  while (text.length > 2 * LONG) {
    const end = text.slice(0, LONG).search(/\s\S*$/) + 1 || LONG;
    found.push(text.slice(0, end));
    text = text.slice(end);
  }
  return text ? [...found, text] : found;
}
