// What is being set up on the Train page: settings, several values of some, and what that gives.
import type { Schemas } from "../api/client";
import { shellWord } from "../format";
import { type Keeper, remember, rememberedValue } from "../session";

export type Setting = Schemas["SettingRecord"];
export type Values = Record<string, unknown>;
/** Settings that take several values, one training for each combination. */
export type Several = Record<string, string[]>;

export interface Draft {
  values: Values;
  several: Several;
  preset: string;
}

export const EMPTY: Draft = { values: {}, several: {}, preset: "" };

/** As many as are planned beforehand; more can be queued. */
const PLANNED = 12;
/** As many as the queue takes at once. */
export const MOST_VARIANTS = 200;
// Browsers and servers differ in how long an address may be; all take this.
const LONGEST = 6000;

/** The part of a page's address that says so; empty where it is too long, and stays in this tab alone. */
export function written(draft: Draft): { preset: string; set: string; sweep: string } {
  const text = (value: object) => (Object.keys(value).length ? JSON.stringify(value) : "");
  const set = text(draft.values);
  const sweep = text(draft.several);
  const fits = set.length + sweep.length <= LONGEST;
  return { preset: draft.preset, set: fits ? set : "", sweep: fits ? sweep : "" };
}

export function read(params: URLSearchParams): Draft {
  return {
    preset: params.get("preset") ?? "",
    values: table(params.get("set")),
    several: Object.fromEntries(
      Object.entries(table(params.get("sweep"))).filter((entry): entry is [string, string[]] =>
        Array.isArray(entry[1]),
      ),
    ),
  };
}

function draftIn(project: string, keeper: Keeper): Draft | null {
  const found = rememberedValue(`train.${project}`, keeper) as Draft | null;
  return found?.values && found.several ? found : null;
}

/** The draft of a project as it was left in this tab, also where it is too long for an address. */
export const kept = (project: string): Draft | null => draftIn(project, "tab");

export const keep = (project: string, draft: Draft): void => remember(`train.${project}`, JSON.stringify(draft), "tab");

/** What was set up for a project last, in whatever tab; null where nothing was. */
export function last(project: string): Draft | null {
  const found = draftIn(project, "browser");
  return found && !isEmpty(found) ? found : null;
}

/** What is as it is by itself takes nothing's place. */
export function keepLast(project: string, draft: Draft): void {
  if (!isEmpty(draft)) remember(`train.${project}`, JSON.stringify(draft));
}

export const isEmpty = (draft: Draft): boolean =>
  !draft.preset && !Object.keys(draft.values).length && !Object.keys(draft.several).length;

/** How many settings it says, its preset as one. */
export const sizeOf = (draft: Draft): number =>
  Object.keys({ ...draft.values, ...draft.several }).length + (draft.preset ? 1 : 0);

function table(text: string | null): Values {
  try {
    const value: unknown = JSON.parse(text ?? "{}");
    return value && typeof value === "object" && !Array.isArray(value) ? (value as Values) : {};
  } catch {
    return {};
  }
}

export function withValue(draft: Draft, path: string, value: unknown): Draft {
  const several = without(draft.several, path);
  return {
    ...draft,
    several,
    values: value === undefined ? without(draft.values, path) : { ...draft.values, [path]: value },
  };
}

/** One value is a value; several are one training each. */
export function withSeveral(draft: Draft, path: string, texts: readonly string[]): Draft {
  const different = [...new Set(texts.map((each) => each.trim()).filter(Boolean))];
  if (different.length < 2) return withValue(draft, path, different[0]);
  return { ...draft, values: without(draft.values, path), several: { ...draft.several, [path]: different } };
}

function without<T>(of: Record<string, T>, path: string): Record<string, T> {
  return Object.fromEntries(Object.entries(of).filter(([name]) => name !== path));
}

export const isGiven = (draft: Draft, path: string): boolean => path in draft.values || path in draft.several;

export interface Variant {
  /** "lr 1e-4, rank 8"; "" where nothing differs. */
  name: string;
  values: Values;
}

/** How many trainings several values make. */
export const countOf = (several: Several): number =>
  Object.values(several).reduce((count, texts) => count * texts.length, 1);

/** The first combinations of the several values, in the order in which the queue makes them. */
export function firstVariants(several: Several): Variant[] {
  let found: Variant[] = [{ name: "", values: {} }];
  for (const [path, texts] of Object.entries(several)) {
    found = found
      .flatMap((before) =>
        texts.map((text) => ({
          name: `${before.name}${before.name ? ", " : ""}${path.split(".").at(-1)} ${text}`,
          values: { ...before.values, [path]: text },
        })),
      )
      .slice(0, PLANNED);
  }
  return found;
}

/** Settings as words to enter them by; lists have an entry a line. */
export function textOf(setting: Setting, value: unknown): string {
  if (value === undefined) return "";
  if (value === null) return "none";
  if (setting.input === "list" && Array.isArray(value)) {
    return value.map((each) => (typeof each === "string" ? each : JSON.stringify(each))).join("\n");
  }
  if (setting.input === "table" && typeof value === "object") {
    return Object.entries(value)
      .map(([name, each]) => `${name}=${typeof each === "string" ? each : JSON.stringify(each)}`)
      .join("\n");
  }
  if (typeof value === "boolean") return value ? "true" : "false";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** What such words mean; the server reads texts as a command line's. */
export function valueOf(setting: Setting, text: string): unknown {
  if (!text.trim()) return undefined;
  if (text.trim() === "none") return null;
  if (setting.input !== "list" && setting.input !== "table") return text;
  const lines = text.split("\n").filter((line) => line.trim());
  if (setting.input === "table") return lines.map((line) => line.trim());
  return lines.map((line) => {
    if (!line.trimStart().startsWith("{")) return line.trim();
    try {
      return JSON.parse(line) as unknown;
    } catch {
      return line.trim();
    }
  });
}

type Told = { where: string; what: string };

/**
 * The settings that something told is about: it names one (`data.folders[1].path` is `data.folders`), the section of
 * some that its words name, or the file that one of them is.
 */
export function settingsOf({ where, what }: Told, known: ReadonlyMap<string, Setting>, given: Values): string[] {
  const path = where.replace(/\[.*$/, "");
  if (known.has(path)) return [path];
  const inSection = [...known.values()].filter(
    (each) => each.section === path && new RegExp(`\\b${each.name}\\b`).test(what),
  );
  if (inSection.length) return inSection.map((each) => each.path);
  const files = Object.entries(given).filter(
    ([, value]) => typeof value === "string" && value !== "" && value === where,
  );
  return files.map(([name]) => name).filter((name) => known.has(name));
}

/** Whether a setting is as advised: it is that, or is left to what is advised, such as "auto". */
export function isAsAdvised(setting: Setting, given: unknown, effective: unknown, advised: unknown): boolean {
  const text = textOf(setting, advised);
  if (given !== undefined) return textOf(setting, given) === text;
  return textOf(setting, effective) === text || textOf(setting, setting.default) === text;
}

/** As a list of values takes it: one with a comma of its own stands in quotes. */
const quoted = (text: string): string => (/[,"']/.test(text) && !text.startsWith("[") ? JSON.stringify(text) : text);

/** A command that queues every combination, made of the one that trains without them. */
export function sweepCommand(command: string, several: Several): string {
  const options = Object.entries(several).map(([path, texts]) => {
    return `--sweep ${shellWord(`${path}=${texts.map(quoted).join(",")}`)}`;
  });
  return command.replace(/^lorasmith /, `lorasmith queue add ${options.join(" ")} `);
}
