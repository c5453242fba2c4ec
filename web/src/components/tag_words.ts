// What a tag may become while somebody writes it.
import { get, type Schemas } from "../api/client";
import { project } from "../project";
import { remembered } from "../session";

type Word = Schemas["WordRecord"];

/** Under which the path of the user's list of tags is remembered. */
export const WORD_LIST = "word-list";

/** @param ask with the path of the user's list, "" for none. */
export async function askWords(ask: (words: string) => Promise<Word[]>, signal: AbortSignal): Promise<Word[]> {
  const words = remembered(WORD_LIST);
  return ask(words).catch((error: unknown) => {
    if (!words || signal.aborted) throw error;
    return ask(""); // The list is gone, or no list.
  });
}

export const noteOf = (word: Word): string =>
  [word.alias && `for ${word.alias}`, word.category, word.images != null ? String(word.images) : ""]
    .filter(Boolean)
    .join(" · ");

/** What a tag of a prompt may become. */
export async function completeTag(prefix: string, signal: AbortSignal) {
  const ask = (words: string) =>
    get("/api/draw/words", { query: { project: project.value, prefix, words, most: 12 }, signal });
  const found = await askWords(ask, signal);
  return found.filter((one) => one.tag !== prefix).map((one) => ({ text: one.tag, note: noteOf(one) }));
}
