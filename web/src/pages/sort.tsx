// One picture at a time: a key puts it into a folder, gives it tags, or throws it away.
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { concerns, onChange } from "../api/changes";
import { get, imageAddress, post } from "../api/client";
import { Button } from "../components/button";
import { Combobox } from "../components/combobox";
import { Failed } from "../components/problems";
import { completeCaption, tagsOf } from "../components/tag_words";
import { baseName, joined, quantity } from "../format";
import { type Key, useKeys } from "../keys";
import { query, to } from "../router";
import { remember, remembered, rememberedValue } from "../session";
import type { Listing } from "./dataset_store";
import { type Decision, type Item, SortQueue } from "./sort_queue";

const KINDS = {
  move: "into folder",
  copy: "copy into folder",
  add: "add tag",
  remove: "remove tag",
  trash: "into the trash",
} as const;
type Kind = keyof typeof KINDS;

interface Rule {
  key: string;
  kind: Kind;
  value: string;
}

const FIRST: Rule[] = [
  { key: "1", kind: "move", value: "" },
  { key: "2", kind: "move", value: "" },
  { key: "x", kind: "trash", value: "" },
];
/** Pictures that are there before they are asked for. */
const AHEAD = 6;
/** px; what comes is small enough to be decoded at once. */
const SIDE = 1536;
const RESERVED = [" ", "?", "/"];

export function SortPage() {
  const path = query.value.get("path") || query.value.get("project");
  if (path) return <Loaded key={path} path={path} />;
  return (
    <main id="content">
      <div class="empty">
        <h1>No dataset is open</h1>
        <p>Open one on the Dataset page, and sort it from there.</p>
        <a class="button" href="/dataset">
          Dataset
        </a>
      </div>
    </main>
  );
}

function Loaded({ path }: { path: string }) {
  const where = query.value.get("where") ?? "";
  const [loaded, setLoaded] = useState<{ listing: Listing; names: string[] } | null>(null);
  const [error, setError] = useState<unknown>();
  useEffect(() => {
    load(path, where).then(setLoaded, setError);
  }, [path, where]);
  const listing = loaded?.listing;
  // A large folder can be sorted while its captions are read.
  useEffect(() => {
    if (!listing?.reading) return;
    const look = async () => {
      const next = await get("/api/dataset/images", { query: { path, version: listing.version } });
      if (!next.unchanged) setLoaded((before) => before && { ...before, listing: next });
    };
    void look();
    return onChange((topics) => concerns(topics, `dataset:${listing.folder}`) && void look());
  }, [listing]);
  if (!loaded)
    return (
      <main id="content">
        {error !== undefined ? <Failed error={error} /> : <p class="soft">Reading the folder…</p>}
      </main>
    );
  return <Sort path={path} where={where} listing={loaded.listing} names={loaded.names} />;
}

async function load(path: string, where: string): Promise<{ listing: Listing; names: string[] }> {
  const listing = await get("/api/dataset/images", { query: { path } });
  if (!where.trim()) return { listing, names: listing.names };
  const taken = await post("/api/dataset/filter", { query: { path }, body: { where } });
  return { listing, names: taken.images.map((place) => listing.names[place]!) };
}

interface SortProps {
  path: string;
  where: string;
  listing: Listing;
  names: string[];
}

function Sort({ path, where, listing, names: all }: SortProps) {
  const stored = `sort.${listing.folder}`;
  const [rules, setRules] = useState<Rule[]>(() => storedRules(stored));
  const [goesOn, setGoesOn] = useState(remembered("sort.goes-on") !== "no");
  const [at, setAt] = useState(0);
  const [tags, setTags] = useState<{ add: string[]; remove: string[] }>({ add: [], remove: [] });
  // Those that lie in a folder of a key already are sorted.
  const names = useMemo(() => {
    const targets = rules.filter((rule) => rule.kind === "move" && rule.value).map((rule) => `${rule.value}/`);
    return all.filter((name) => !targets.some((target) => name.startsWith(target)));
  }, []);
  const queue = useMemo(
    () =>
      new SortQueue(path, (failed) => {
        const first = Math.min(...failed.map((item) => names.indexOf(item.name)));
        setAt((now) => Math.min(now, Math.max(0, first)));
      }),
    [path],
  );
  const places = useMemo(() => new Map(listing.names.map((name, place) => [name, place])), [listing]);
  const addressOf = (name: string) =>
    imageAddress(joined(listing.folder, ...name.split("/")), SIDE, listing.versions[places.get(name)!]);

  useEffect(() => {
    const leave = () => document.visibilityState === "hidden" && void queue.flush();
    // Who closes the tab is asked while some are not carried out; meanwhile they are.
    const close = (event: BeforeUnloadEvent) => {
      if (!queue.unfinished.value) return;
      event.preventDefault();
      void queue.flush();
    };
    document.addEventListener("visibilitychange", leave);
    addEventListener("beforeunload", close);
    return () => {
      document.removeEventListener("visibilitychange", leave);
      removeEventListener("beforeunload", close);
      void queue.flush();
    };
  }, [queue]);

  const name = names[at];

  function decide(key: string, decision: Decision | null) {
    if (name === undefined) return;
    queue.add(name, key, decision);
    setTags({ add: [], remove: [] });
    setAt(at + 1);
  }

  function press(rule: Rule) {
    if (name === undefined) return;
    const value = rule.value.trim();
    if (rule.kind === "trash") return decide(rule.key, { ...NOTHING, delete: true });
    if (!value) return;
    if (rule.kind === "move" || rule.kind === "copy")
      return decide(rule.key, { ...NOTHING, folder: value, copy_it: rule.kind === "copy" });
    const more = tagsOf(value);
    if (goesOn) return decide(rule.key, { ...NOTHING, [rule.kind]: more });
    setTags((before) => {
      const these = before[rule.kind as "add" | "remove"];
      const has = more.every((tag) => these.includes(tag));
      const next = has ? these.filter((tag) => !more.includes(tag)) : [...new Set([...these, ...more])];
      return { ...before, [rule.kind]: next };
    });
  }

  function pass() {
    const isTagged = tags.add.length > 0 || tags.remove.length > 0;
    decide(isTagged ? "tags" : "", isTagged ? { ...NOTHING, ...tags } : null);
  }

  async function back() {
    setTags({ add: [], remove: [] });
    const last = await queue.takeBack();
    if (last) setAt(Math.max(0, names.indexOf(last.name)));
  }

  const keys: Key[] = [
    { keys: " ", does: "Sort: go on; with tags, give them", run: pass },
    { keys: "Backspace", does: "Sort: take the last decision back", run: () => void back() },
    ...rules
      .filter((rule) => rule.key && !RESERVED.includes(rule.key))
      .map((rule) => ({ keys: rule.key, does: `Sort: ${wordsOf(rule)}`, run: () => press(rule) })),
  ];
  useKeys(keys);

  const items = queue.items.value;
  const change = (next: Rule[]) => {
    setRules(next);
    remember(stored, JSON.stringify(next));
  };
  const place = name === undefined ? undefined : places.get(name);
  return (
    <main id="content" class="fills sort">
      <h1 class="unseen">Sort {baseName(listing.folder)}</h1>
      <div class="pane sort-middle">
        <header class="row">
          <a class="button quiet" href={to("/dataset", { path, where, project: query.value.get("project") })}>
            Back to the dataset
          </a>
          <span class="number" role="status">
            {names.length - at} left of {names.length}
          </span>
          <progress class="progress" max={Math.max(1, names.length)} value={at} aria-label="Sorted" />
          <Button icon="undo" disabled={!items.length} onClick={back} title="Backspace">
            Take back
          </Button>
          <Button disabled={name === undefined} onClick={pass} title="Space">
            Go on
          </Button>
        </header>
        {name === undefined ? (
          <Done
            items={items}
            rules={rules}
            total={names.length}
            path={path}
            where={where}
            waiting={queue.waiting.value}
          />
        ) : (
          <>
            <Shown name={name} address={addressOf(name)} next={names.slice(at + 1, at + 1 + AHEAD).map(addressOf)} />
            <footer class="sort-words">
              <span class="cut" title={name}>
                {name}
              </span>
              <span class="soft small cut">
                {(listing.tags[place!] ?? []).map((tag) => listing.tag_names[tag]).join(", ") ||
                  (listing.reading?.what === "captions" ? "" : "no caption")}
              </span>
              {(tags.add.length > 0 || tags.remove.length > 0) && (
                <span class="row wrap">
                  {tags.add.map((tag) => (
                    <span key={tag} class="tag running">
                      + {tag}
                    </span>
                  ))}
                  {tags.remove.map((tag) => (
                    <span key={tag} class="tag danger">
                      − {tag}
                    </span>
                  ))}
                </span>
              )}
            </footer>
          </>
        )}
      </div>
      <aside class="side sort-side" aria-label="Keys">
        <div class="panel-body">
          <h2>Keys</h2>
          <ol class="sort-rules">
            {rules.map((rule, number) => (
              <RuleRow
                key={number}
                rule={rule}
                path={path}
                folders={foldersOf(listing)}
                count={items.filter((item) => item.decision && item.key === rule.key).length}
                doubled={rules.some((other, place) => place < number && other.key === rule.key && rule.key !== "")}
                onChange={(next) => change(rules.map((each, place) => (place === number ? next : each)))}
                onRemove={() => change(rules.filter((_, place) => place !== number))}
                onPress={() => press(rule)}
              />
            ))}
          </ol>
          <Button icon="add" onClick={() => change([...rules, { key: freeKey(rules), kind: "move", value: "" }])}>
            Another key
          </Button>
          <label class="row">
            <input
              type="checkbox"
              checked={goesOn}
              onChange={(event) => {
                setGoesOn(event.currentTarget.checked);
                remember("sort.goes-on", event.currentTarget.checked ? "yes" : "no");
              }}
            />
            Tags go on to the next picture
          </label>
          <p class="soft small">
            <kbd>Space</kbd> goes on, <kbd>Backspace</kbd> takes back. What you decide is carried out as you go;
            captions and masks go along, and all of it can be undone on the Dataset page, too.
          </p>
          <p class="soft small" role="status">
            {queue.waiting.value > 0 ? `${quantity(queue.waiting.value, "decision")} to be carried out` : ""}
          </p>
        </div>
      </aside>
    </main>
  );
}

const NOTHING: Decision = { folder: "", copy_it: false, delete: false, add: [], remove: [] };

const wordsOf = (rule: Rule): string => `${KINDS[rule.kind]} ${rule.kind === "trash" ? "" : rule.value}`.trim();

function storedRules(name: string): Rule[] {
  const rules = rememberedValue(name);
  if (!Array.isArray(rules)) return FIRST;
  return rules.filter(
    (rule: Partial<Rule> | null): rule is Rule =>
      typeof rule?.key === "string" && typeof rule.value === "string" && String(rule.kind) in KINDS,
  );
}

const freeKey = (rules: Rule[]): string =>
  [..."123456789abcdefghijklmnoprstuvwyz"].find((key) => !rules.some((rule) => rule.key === key)) ?? "";

function foldersOf(listing: Listing): string[] {
  const folders = listing.names.map((name) => name.split("/").slice(0, -1).join("/"));
  return [...new Set(folders)].filter(Boolean).sort();
}

/** Pictures that the browser has decoded, by their addresses. */
const decoded = new Map<string, HTMLImageElement>();

function imageAt(address: string): HTMLImageElement {
  const known = decoded.get(address);
  if (known) return known;
  const image = new Image();
  image.draggable = false;
  image.decoding = "sync";
  image.src = address;
  // Before it is on the page, so that showing it takes no time.
  image.decode().catch(() => {});
  decoded.set(address, image);
  // The oldest go.
  for (const old of decoded.keys()) {
    if (decoded.size <= 3 * AHEAD) break;
    decoded.delete(old);
  }
  return image;
}

function Shown({ name, address, next }: { name: string; address: string; next: string[] }) {
  const stage = useRef<HTMLDivElement>(null);
  const [broken, setBroken] = useState(false);
  useLayoutEffect(() => {
    const image = imageAt(address);
    image.alt = name;
    image.onerror = () => setBroken(true);
    setBroken(image.complete && !image.naturalWidth);
    stage.current!.replaceChildren(image);
  }, [address]);
  useEffect(() => next.forEach(imageAt), [address]);
  return (
    <>
      {broken && <p class="lacks">This picture cannot be shown; it may be damaged.</p>}
      <div class="sort-stage" ref={stage} />
    </>
  );
}

interface RuleProps {
  rule: Rule;
  path: string;
  folders: string[];
  count: number;
  doubled: boolean;
  onChange: (rule: Rule) => void;
  onRemove: () => void;
  onPress: () => void;
}

function RuleRow({ rule, path, folders, count, doubled, onChange, onRemove, onPress }: RuleProps) {
  const isFolder = rule.kind === "move" || rule.kind === "copy";
  const wrong = doubled ? "another key is the same" : RESERVED.includes(rule.key) ? "this key has another meaning" : "";
  async function complete(text: string, signal: AbortSignal) {
    if (!isFolder) return completeCaption(path, text, signal);
    return folders.filter((folder) => folder !== text && folder.includes(text)).map((folder) => ({ text: folder }));
  }
  return (
    <li>
      <div class="row">
        <input
          class="input key"
          aria-label="Key"
          maxLength={1}
          value={rule.key}
          aria-invalid={wrong ? true : undefined}
          onFocus={(event) => event.currentTarget.select()}
          onInput={(event) => onChange({ ...rule, key: event.currentTarget.value.toLowerCase() })}
        />
        <select
          class="input"
          aria-label={`What ${rule.key} does`}
          value={rule.kind}
          onChange={(event) => onChange({ ...rule, kind: event.currentTarget.value as Kind })}
        >
          {Object.entries(KINDS).map(([kind, words]) => (
            <option key={kind} value={kind}>
              {words}
            </option>
          ))}
        </select>
        <Button
          kind="quiet"
          class="number"
          disabled={rule.kind !== "trash" && !rule.value}
          onClick={onPress}
          title={wordsOf(rule)}
        >
          {count || "–"}
          <span class="unseen"> so far; {wordsOf(rule)}</span>
        </Button>
        <Button kind="quiet" icon="close" label={`Without key ${rule.key}`} onClick={onRemove} />
      </div>
      {rule.kind !== "trash" && (
        <Combobox
          value={rule.value}
          label={isFolder ? `Folder of ${rule.key}` : `Tag of ${rule.key}`}
          placeholder={isFolder ? "a folder in the dataset" : "a tag, or several between commas"}
          complete={(text, _, signal) => complete(text, signal)}
          onInput={(value) => onChange({ ...rule, value })}
          onEnter={(value) => {
            onChange({ ...rule, value });
            (document.activeElement as HTMLElement | null)?.blur();
          }}
          onEscape={() => (document.activeElement as HTMLElement | null)?.blur()}
        />
      )}
      {wrong && <p class="lacks small">{wrong}</p>}
    </li>
  );
}

interface DoneProps {
  items: readonly Item[];
  rules: Rule[];
  total: number;
  path: string;
  where: string;
  waiting: number;
}

function Done({ items, rules, total, path, where, waiting }: DoneProps) {
  const counts = rules.map(
    (rule) => [rule, items.filter((item) => item.decision && item.key === rule.key).length] as const,
  );
  const passed = items.filter((item) => !item.decision).length;
  return (
    <div class="empty">
      <h2>{total ? "All are looked at" : "There is nothing to sort here"}</h2>
      <ul>
        {counts
          .filter(([, count]) => count > 0)
          .map(([rule, count]) => (
            <li key={rule.key}>
              {quantity(count, "picture")}: {wordsOf(rule)}
            </li>
          ))}
        {passed > 0 && <li>{quantity(passed, "picture")} left as they were</li>}
      </ul>
      {waiting > 0 && <p>Carrying out the last of it…</p>}
      <a class="button primary" href={to("/dataset", { path, where })}>
        Back to the dataset
      </a>
    </div>
  );
}
