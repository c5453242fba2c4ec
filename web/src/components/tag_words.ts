// Tags as they are written: what one may become, and those of a text.
import { get, type Schemas } from "../api/client";
import { project } from "../project";
import { remembered } from "../session";
import type { Option } from "./suggestions";

type Word = Schemas["WordRecord"];

/** Under which the path of the user's list of tags is remembered. */
export const WORD_LIST = "word-list";

/** @param ask with the path of the user's list, "" for none. */
async function askWords(ask: (words: string) => Promise<Word[]>, signal: AbortSignal): Promise<Word[]> {
  const words = remembered(WORD_LIST);
  return ask(words).catch((error: unknown) => {
    if (!words || signal.aborted) throw error;
    return ask(""); // The list is gone, or no list.
  });
}

const noteOf = (word: Word): string =>
  [word.alias && `for ${word.alias}`, word.category, word.images != null ? String(word.images) : ""]
    .filter(Boolean)
    .join(" · ");

const optionsOf = (words: readonly Word[], prefix: string): Option[] =>
  words.filter((one) => one.tag !== prefix).map((one) => ({ text: one.tag, note: noteOf(one) }));

/** What a tag of a prompt may become. */
export async function completeTag(prefix: string, signal: AbortSignal): Promise<Option[]> {
  const query = { project: project.value, prefix, most: 12 };
  return optionsOf(
    await askWords((words) => get("/api/draw/words", { query: { ...query, words }, signal }), signal),
    prefix,
  );
}

/** What the last tag of a text may become, in a caption of the dataset at `path`. */
export async function completeCaption(path: string, text: string, signal: AbortSignal): Promise<Option[]> {
  const prefix = text.slice(text.lastIndexOf(",") + 1).trimStart();
  if (!prefix) return [];
  const query = { path, prefix, most: 12 };
  const found = await askWords((words) => get("/api/dataset/words", { query: { ...query, words }, signal }), signal);
  return optionsOf(found, prefix).map((one) => ({ ...one, start: text.length - prefix.length, end: text.length }));
}

/** The tags of a text. */
export const tagsOf = (text: string): string[] => text.split(/[,\n]/).flatMap((tag) => tag.trim() || []);
