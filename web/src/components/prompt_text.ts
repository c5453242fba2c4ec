// What a prompt's signs mean, for the eyes: as lorasmith.prompts.grammar and .wildcards read them.

export type Kind = "text" | "tag" | "weight" | "schedule" | "wildcard" | "word" | "odd";

interface Sign {
  kind: Kind;
  text: string;
}

const NUMBER = String.raw`(?:\d+(?:\.\d*)?|\.\d+)`;
const SIGN = new RegExp(
  [
    String.raw`(?<tag><[A-Za-z]\w*:[^<>]*>)`,
    String.raw`(?<wildcard>__[\w*][\w*./\- ]*?__)`,
    String.raw`(?<escape>\\[\s\S]?)`,
    String.raw`(?<close>:\s*[+-]?${NUMBER}\s*\)|[)\]}])`,
    String.raw`(?<open>[([{])`,
    String.raw`(?<divider>[:|]|\$\$)`,
    String.raw`(?<word>\b(?:BREAK|AND)\b)`,
    // Up to the end of a tag, so that what is typed changes little.
    String.raw`(?<text>(?:(?!\b(?:BREAK|AND)\b|__|\$\$)[^\\()[\]{}:|<,\n])+[,\n]?|[\s\S])`,
  ].join("|"),
  "g",
);
const WHEN = new RegExp(`^\\s*${NUMBER}\\s*$`);
const OPENS: Record<string, string> = { ")": "(", "]": "[", "}": "{" };

/** Every part of a prompt with what it is; together they are the prompt. */
export function signsOf(prompt: string): Sign[] {
  const signs: Sign[] = [];
  // Brackets that are open: where, and which dividers stand directly within them.
  const waiting: { at: number; bracket: string; dividers: number[] }[] = [];
  for (const match of prompt.matchAll(SIGN)) {
    const groups = match.groups!;
    const text = match[0];
    const at = signs.length;
    const sign: Sign = { kind: "text", text };
    signs.push(sign);
    if (groups.tag) sign.kind = "tag";
    else if (groups.wildcard) sign.kind = "wildcard";
    else if (groups.word) sign.kind = "word";
    else if (groups.open) {
      sign.kind = "odd";
      waiting.push({ at, bracket: text, dividers: [] });
    } else if (groups.divider) waiting.at(-1)?.dividers.push(at);
    else if (groups.close) {
      sign.kind = "odd";
      const bracket = OPENS[text.at(-1)!]!;
      // A square bracket that closes leaves round ones within it without a partner.
      let place = waiting.length - 1;
      if (bracket !== "(") while (place >= 0 && waiting[place]!.bracket !== bracket) place--;
      const opened = waiting[place];
      if (opened?.bracket !== bracket) continue;
      waiting.length = place;
      pair(signs, opened.at, at, bracket, opened.dividers);
    }
  }
  return signs;
}

function pair(signs: Sign[], begin: number, end: number, bracket: string, dividers: number[]): void {
  const mark = (kind: Kind, ...places: number[]) => {
    for (const place of places) signs[place]!.kind = kind;
  };
  if (bracket === "(") return mark("weight", begin, end);
  const bars = dividers.filter((at) => signs[at]!.text !== ":");
  if (bracket === "{") {
    // Braces without a choice are text.
    return bars.length ? mark("wildcard", begin, end, ...bars) : mark("text", begin, end);
  }
  if (bars.length) return mark("schedule", begin, end, ...bars);
  const last = dividers.at(-1);
  const when = last === undefined ? "" : signs.slice(last + 1, end).reduce((sum, sign) => sum + sign.text, "");
  if (last === undefined || dividers.length > 2 || !WHEN.test(when)) return mark("weight", begin, end);
  mark("schedule", begin, end, ...dividers);
  for (let at = last + 1; at < end; at++) mark("schedule", at);
}

/** A place in a text where something else is written. */
export interface Change {
  start: number;
  end: number;
  text: string;
  /** What is marked afterwards, from `start` on. */
  marked: [number, number];
}

const rounded = (value: number): string => String(Math.round(value * 100) / 100);
const WORD = /[^\s,()[\]{}<>:|]/;

/** What is marked, or the word at the cursor, weighed more or less; a LoRA's tag gets another strength. */
export function weighed(prompt: string, from: number, to: number, step: number): Change | null {
  for (const match of prompt.matchAll(/<(?:lora|lyco):[^<>:]+:([+-]?[\d.]+)/g)) {
    const close = prompt.indexOf(">", match.index);
    if (from < match.index || to > close + 1) continue;
    const end = match.index + match[0].length;
    const start = end - match[1]!.length;
    const text = rounded(Number(match[1]) + step);
    return { start, end, text, marked: [0, text.length] };
  }
  let [start, end] = [from, to];
  if (start === end) {
    while (start > 0 && WORD.test(prompt[start - 1]!)) start--;
    while (end < prompt.length && WORD.test(prompt[end]!)) end++;
  }
  if (start === end) return null;
  const inner = prompt.slice(start, end);
  const weight = /^:([+-]?[\d.]+)\)/.exec(prompt.slice(end));
  const has = prompt[start - 1] === "(" && weight !== null;
  const next = rounded((has ? Number(weight[1]) : 1) + step);
  const [begin, stop] = has ? [start - 1, end + weight[0].length] : [start, end];
  if (next === "1") return { start: begin, end: stop, text: inner, marked: [0, inner.length] };
  return { start: begin, end: stop, text: `(${inner}:${next})`, marked: [1, 1 + inner.length] };
}

/** A tag as a prompt takes it: brackets in it weigh nothing. */
export const escaped = (tag: string): string => tag.replace(/[\\()[\]]/g, "\\$&");
