// What a change does to captions and files, before it is done: every one of them, before and after.
import type { Schemas } from "../api/client";
import { quantity } from "../format";
import { Button } from "./button";
import { Picture } from "./picture";
import { Problems } from "./problems";

type Changes = Schemas["ChangesRecord"];
type Row = Schemas["ChangeRow"];

interface Props {
  changes: Changes;
  rows: readonly Row[];
  /** An image's path and version, by its name. */
  imageOf: (name: string) => { path: string; v: string } | null;
  onMore?: (() => unknown) | undefined;
}

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

export function ChangesPreview({ changes, rows, imageOf, onMore }: Props) {
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
          const image = row.image ? imageOf(row.image) : null;
          return (
            <li key={`${row.file} ${row.kind}`}>
              {image && <Picture path={image.path} v={image.v} size={96} alt="" />}
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
      {rows.length < changes.total && onMore && (
        <Button onClick={onMore}>
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

const tagsOf = (text: string): string[] => text.split(/[,\n]/).flatMap((tag) => tag.trim() || []);

type Part = ["+" | "-" | "=" | "…", string];
const AROUND = 2;

/** The longest common sequence of two lists of tags, and what is not of it. */
export function difference(before: string[], after: string[]): Part[] {
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
