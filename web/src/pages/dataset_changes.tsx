// What changes of captions and files do before they are done, and carrying them out.
import { useEffect, useState } from "preact/hooks";
import type { Schemas } from "../api/client";
import { useRested } from "../api/fetched";
import { Button } from "../components/button";
import { say } from "../components/notices";
import { Picture } from "../components/picture";
import { Failed, Problems } from "../components/problems";
import { tagsOf } from "../components/tag_words";
import { quantity } from "../format";
import type { Changes, DatasetStore } from "./dataset_store";

type Row = Schemas["ChangeRow"];
type Of = "selection" | "shown";

const KINDS: Record<Row["kind"], string> = {
  write: "changed",
  new: "new",
  move: "moved",
  remove: "into the trash",
  folder: "new folder",
};

export function countsText(changes: Changes): string {
  const parts = Object.entries(changes.counts).map(
    ([kind, count]) => `${quantity(count ?? 0, "file")} ${KINDS[kind as Row["kind"]]}`,
  );
  return parts.join(", ") || "nothing to change";
}

/** Says what was done, and how it is taken back; done once it is to be seen. */
export async function carriedOut(store: DatasetStore, word: string, done: Changes): Promise<void> {
  say(`${word}: ${countsText(done)}`, store.takeBack(done.entry));
  await store.reload();
}

/** Which pictures a change is of: those chosen, else those shown. */
export function useTarget(store: DatasetStore) {
  const [of, setOf] = useState<Of | null>(null);
  const selected = store.selected.value.size;
  const effective: Of = of === "shown" || !selected ? "shown" : "selection";
  const subset = store.subset.value;
  const names =
    effective === "selection"
      ? [...store.selected.value]
      : subset
        ? store.shown.value.map((place) => store.names.value[place]!)
        : null;
  const question = names ? { images: names, where: "" } : { images: null, where: store.shownWhere.value };
  const choice = (
    <div class="row wrap" role="group" aria-label="Which pictures">
      <Button aria-pressed={effective === "selection"} disabled={!selected} onClick={() => setOf("selection")}>
        {quantity(selected, "chosen picture")}
      </Button>
      <Button aria-pressed={effective === "shown"} onClick={() => setOf("shown")}>
        {store.shownWhere.value || subset ? `${store.shown.value.length} shown` : `all ${store.shown.value.length}`}
      </Button>
    </div>
  );
  return { question, choice, count: names ? names.length : store.shown.value.length };
}

interface Preview {
  changes: Changes | null;
  rows: readonly Row[];
  error: unknown;
  /** It is of another question than is asked now. */
  stale: boolean;
}
const NO_PREVIEW: Preview = { changes: null, rows: [], error: undefined, stale: false };

/** What a change would do, asked for anew whenever its question or the dataset is another, a part at a time. */
export function usePreview(
  store: DatasetStore,
  question: object | null,
  ask: (part: { offset: number; limit: number }, signal?: AbortSignal) => Promise<Changes>,
): Preview & { more: () => Promise<void> } {
  const [state, setState] = useState(NO_PREVIEW);
  const of = [JSON.stringify(question), store.changes.value];
  useEffect(() => setState((before) => (question ? { ...before, stale: true } : NO_PREVIEW)), of);
  useRested(
    of,
    (signal) => (question ? ask({ offset: 0, limit: 50 }, signal) : null),
    (found) => setState({ ...NO_PREVIEW, changes: found, rows: found.rows }),
    (error) => setState({ ...NO_PREVIEW, error }),
  );
  async function more() {
    const found = await ask({ offset: state.rows.length, limit: 200 });
    setState((before) => ({ ...before, rows: [...before.rows, ...found.rows] }));
  }
  return { ...state, more };
}

export function ChangesPreview({ store, preview }: { store: DatasetStore; preview: ReturnType<typeof usePreview> }) {
  const { changes, rows, error, more } = preview;
  if (error !== undefined) return <Failed error={error} />;
  if (!changes) return null;
  const tags = changes.tags.slice(0, 12);
  return (
    <div class="changes">
      <Problems problems={changes.problems} />
      <Problems problems={changes.warnings} warning />
      {changes.skipped.length > 0 && (
        <details class="small">
          <summary>{quantity(changes.skipped.length, "file")} left out</summary>
          <Problems problems={changes.skipped} warning />
        </details>
      )}
      {changes.notes.map((note) => (
        <p class="soft small">{note}</p>
      ))}
      {tags.length > 0 && (
        <ul class="tag-changes" aria-label="Tags whose counts change">
          {tags.map((tag) => (
            <li key={tag.tag} class="tag">
              <span class="cut">{tag.tag}</span>
              <span class="number soft">
                {tag.before} → {tag.after}
              </span>
            </li>
          ))}
          {changes.tags.length > tags.length && (
            <li class="soft small">and {changes.tags.length - tags.length} more</li>
          )}
        </ul>
      )}
      <ol class="change-rows" aria-label="Changes">
        {rows.map((row) => {
          const image = row.image && store.places.value.has(row.image) ? row.image : "";
          return (
            <li key={`${row.file} ${row.kind}`}>
              {image && <Picture path={store.imagePath(image)} v={store.versionOf(image)} size={96} alt="" />}
              <div>
                <div class="small soft cut" title={row.file}>
                  {row.file}
                  {row.target && ` → ${row.target}`}
                  {row.after === null && !row.target && ` · ${row.what || KINDS[row.kind]}`}
                </div>
                {row.after !== null && row.kind !== "move" && (
                  <Difference before={row.before ?? ""} after={row.after} />
                )}
              </div>
            </li>
          );
        })}
      </ol>
      {rows.length < changes.total && (
        <Button onClick={more}>
          Show more ({rows.length} of {changes.total})
        </Button>
      )}
    </div>
  );
}

/** Tag by tag: what goes, what comes, and all that stays. */
function Difference({ before, after }: { before: string; after: string }) {
  const parts = difference(tagsOf(before), tagsOf(after));
  return (
    <p class="difference">
      {parts.map(([kind, text], number) => (
        <>
          {number > 0 && ", "}
          {kind === "-" ? (
            <del>{text}</del>
          ) : kind === "+" ? (
            <ins>{text}</ins>
          ) : kind === "…" ? (
            <span class="soft">…</span>
          ) : (
            <span>{text}</span>
          )}
        </>
      ))}
      {parts.every(([kind]) => kind !== "+" && kind !== "-") && <span class="soft"> (spaces, commas or lines)</span>}
    </p>
  );
}

type Part = ["+" | "-" | "=" | "…", string];
const AROUND = 2;

/** The longest common sequence of two lists of tags, and what is not of it. */
function difference(before: string[], after: string[]): Part[] {
  const longest = before.map(() => new Uint16Array(after.length + 1));
  longest.push(new Uint16Array(after.length + 1));
  for (let i = before.length - 1; i >= 0; i--)
    for (let j = after.length - 1; j >= 0; j--)
      longest[i]![j] =
        before[i] === after[j] ? longest[i + 1]![j + 1]! + 1 : Math.max(longest[i + 1]![j]!, longest[i]![j + 1]!);
  const parts: Part[] = [];
  let i = 0;
  let j = 0;
  while (i < before.length || j < after.length) {
    if (i < before.length && j < after.length && before[i] === after[j]) {
      parts.push(["=", before[i]!]);
      i++;
      j++;
    } else if (j >= after.length || (i < before.length && longest[i + 1]![j]! >= longest[i]![j + 1]!)) {
      parts.push(["-", before[i++]!]);
    } else {
      parts.push(["+", after[j++]!]);
    }
  }
  return shortened(parts);
}

/** Long runs of what stays are left out but for their ends. */
function shortened(parts: Part[]): Part[] {
  const near = parts.map((_, at) =>
    parts.slice(Math.max(0, at - AROUND), at + AROUND + 1).some(([kind]) => kind !== "="),
  );
  const short: Part[] = [];
  parts.forEach((part, at) => {
    if (near[at]) short.push(part);
    else if (short.at(-1)?.[0] !== "…") short.push(["…", ""]);
  });
  return parts.length <= 8 ? parts : short;
}
