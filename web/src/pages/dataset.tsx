// A dataset: all its pictures, its tags, and what is done to them.
import { useSignalEffect } from "@preact/signals";
import { useEffect, useMemo, useState } from "preact/hooks";
import { AddFiles } from "../components/add_files";
import { Button } from "../components/button";
import { ChooseButton, OpenFolder } from "../components/choose_button";
import { CopyIn } from "../components/on_demand";
import { Failed, Problems } from "../components/problems";
import { WORD_LIST } from "../components/tag_words";
import { Tabs } from "../components/tabs";
import { type Dropped, useFileDrop } from "../dropping";
import { baseName, quantity } from "../format";
import { useKeys } from "../keys";
import { FEW_PICTURES, project, projects } from "../project";
import { lazily } from "../lazily";
import { alter, query, to } from "../router";
import { remember, remembered } from "../session";
import { CaptionEditor } from "./dataset_caption";
import { FilterBox, TagList } from "./dataset_filter";
import { DatasetGrid } from "./dataset_grid";
import { DatasetStore } from "./dataset_store";

export function DatasetPage() {
  const path = query.value.get("path") || query.value.get("project");
  return path ? <Dataset key={path} path={path} /> : <NoDataset />;
}

function NoDataset() {
  return (
    <main id="content">
      <div class="column">
        <h1>No dataset is open</h1>
        <p class="soft">A dataset is a folder of pictures with their captions. It is worked on where it lies.</p>
        <ul class="row wrap">
          {projects.value.map((each) => (
            <li key={each.path}>
              <a class="button" href={to("/dataset", { path: each.path, project: each.path })}>
                {each.name}
              </a>
            </li>
          ))}
          <li>
            <OpenFolder />
          </li>
        </ul>
      </div>
    </main>
  );
}

// What is not there at first, and large; its code comes with the first sign that somebody will ask for it.
const LargeView = lazily(async () => (await import("./dataset_large")).LargeView, false);
const EditPanel = lazily(async () => (await import("./dataset_edit")).EditPanel, false);
const TaggerPanel = lazily(async () => (await import("./dataset_tagger")).TaggerPanel, false);
const FindingsPanel = lazily(async () => (await import("./dataset_findings")).FindingsPanel, false);
const BucketsPanel = lazily(async () => (await import("./dataset_buckets")).BucketsPanel, false);
const Deleting = lazily(async () => (await import("./dataset_delete")).Deleting, false);

const PANELS = ["Caption", "Edit", "Tagger", "Findings", "Buckets"] as const;
type Panel = (typeof PANELS)[number];
const SIZES = [96, 128, 160, 208, 264];

function Dataset({ path }: { path: string }) {
  const store = useMemo(() => {
    const made = new DatasetStore(path);
    made.where.value = query.value.get("where") ?? "";
    return made;
  }, [path]);
  const [size, setSize] = useState(Number(remembered("thumbnail")) || 128);
  const [deleting, setDeleting] = useState<string[] | null>(null);
  const asked = query.value.get("panel");
  const panel: Panel = PANELS.find((each) => each === asked) ?? "Caption";
  const open = query.value.get("image") ?? "";
  const where = query.value.get("where") ?? "";

  useEffect(() => store.follow(), [store]);
  useSignalEffect(() => void (store.current.value && LargeView.ahead()));
  const ready = store.listing.value !== null;
  useEffect(() => void (ready && where !== store.appliedWhere && store.filter(where)), [where, ready]);
  useEffect(() => void (open && (store.current.value = open)), [open]);

  const filter = (next: string) => {
    store.subset.value = null;
    // At once, not when the page is drawn with its new address.
    if (ready) void store.filter(next);
    alter({ where: next });
  };
  const show = (name: string | null) => {
    if (name) {
      store.current.value = name;
      // Keys are about the picture that is to be seen.
      store.select([name]);
    }
    alter({ image: name }, { replace: !!open && !!name });
  };
  const move = (step: number) => {
    const shown = store.shown.value;
    const at = shown.indexOf(store.places.value.get(open) ?? -1);
    const next = store.names.value[shown[Math.min(shown.length - 1, Math.max(0, at + step))] ?? -1];
    if (next && next !== open) show(next);
  };

  useKeys([
    {
      keys: "Arrows",
      does: "Grid: go to another picture; with Shift choose up to it, with Ctrl only go",
      run: nothing,
    },
    { keys: "Space", does: "Grid: choose the picture too, or not", run: nothing },
    {
      keys: "Ctrl+a",
      does: "Choose all that are shown",
      run: () => store.select(store.shown.value.map((at) => store.names.value[at]!)),
    },
    { keys: "Enter", does: "Show the picture large", run: () => store.current.value && show(store.current.value) },
    { keys: "Ctrl+z", does: "Undo the last change of the dataset", run: () => void store.turn("undo") },
    { keys: "Ctrl+y", does: "Do it again", run: () => void store.turn("redo") },
    { keys: "Ctrl+Shift+z", does: "Do it again, too", run: () => void store.turn("redo") },
    {
      keys: "Delete",
      does: "Put what is chosen into the trash…",
      run: () => store.chosen.value.length && setDeleting(store.chosen.value),
    },
    { keys: "-", does: "Smaller thumbnails", run: () => resize(sizeAt - 1) },
    { keys: "+", does: "Larger thumbnails", run: () => resize(sizeAt + 1) },
    { keys: "]", does: "The next panel", run: () => turnPanel(1) },
    { keys: "[", does: "The panel before", run: () => turnPanel(-1) },
  ]);

  function turnPanel(step: number) {
    alter({ panel: PANELS[(PANELS.indexOf(panel) + step + PANELS.length) % PANELS.length]! });
  }

  const sizeAt = Math.max(0, SIZES.indexOf(size));
  function resize(at: number) {
    const next = SIZES[Math.min(SIZES.length - 1, Math.max(0, at))]!;
    setSize(next);
    remember("thumbnail", String(next));
  }

  const [dropped, setDropped] = useState<Dropped[] | null>(null);
  const { over, events } = useFileDrop(setDropped);
  const listing = store.listing.value;
  if (!listing)
    return (
      <main id="content">
        {store.error.value !== undefined ? (
          <Failed error={store.error.value} />
        ) : (
          <p class="soft">Reading the folder…</p>
        )}
      </main>
    );
  const history = store.history.value;
  const subset = store.subset.value;
  const total = listing.names.length;
  return (
    <main id="content" class={over ? "fills dataset over" : "fills dataset"} {...events}>
      <h1 class="unseen">Dataset {baseName(listing.folder)}</h1>
      <aside class="dataset-tags">
        <TagList store={store} onFilter={filter} />
      </aside>
      <div class="pane">
        <div class="row toolbar" role="toolbar" aria-label="What is shown, and undo">
          <FilterBox store={store} onFilter={filter} />
          {subset && (
            <Button aria-pressed="true" icon="close" onClick={() => (store.subset.value = null)}>
              {subset.title} ({subset.names.length})
            </Button>
          )}
          <span class="number soft counts" role="status">
            {store.shown.value.length === total
              ? quantity(total, "picture")
              : `${store.shown.value.length} of ${total}`}
            {store.selected.value.size > 1 && `, ${store.selected.value.size} chosen`}
          </span>
          <ReadingShown store={store} />
          <Button
            icon="undo"
            kind="quiet"
            label={history?.undo ? `Undo: ${history.undo.command}` : "Nothing to undo"}
            disabled={!history?.undo}
            onClick={() => store.turn("undo")}
          />
          <Button
            icon="redo"
            kind="quiet"
            label={history?.redo ? `Redo: ${history.redo.command}` : "Nothing to redo"}
            disabled={!history?.redo}
            onClick={() => store.turn("redo")}
          />
          <Button
            icon="trash"
            kind="quiet"
            label="Into the trash…"
            disabled={!store.chosen.value.length}
            onClick={() => setDeleting(store.chosen.value)}
          />
          <AddFiles onFiles={setDropped}>
            {(choose) => <Button icon="add" kind="quiet" label="Add pictures…" onClick={choose} />}
          </AddFiles>
          <label class="row">
            <span class="unseen">Size of thumbnails</span>
            <input
              type="range"
              min={0}
              max={SIZES.length - 1}
              value={sizeAt}
              onInput={(event) => resize(Number(event.currentTarget.value))}
            />
          </label>
          <a class="button" href={to("/sort", { path, where, project: query.value.get("project") })}>
            Sort…
          </a>
          {total > 0 && total < FEW_PICTURES && project.value && (
            <a class="button" href={to("/bootstrap", { project: project.value })}>
              Bootstrap…
            </a>
          )}
          <a class="button" href={to("/train", { data: listing.folder, project: query.value.get("project") })}>
            Train…
          </a>
        </div>
        {store.error.value !== undefined && <Failed error={store.error.value} />}
        <Problems problems={listing.problems} warning />
        {open && store.places.value.has(open) ? (
          <LargeView store={store} name={open} onMove={move} onClose={() => show(null)} />
        ) : total === 0 ? (
          <div class="empty">
            <p>There is no picture in {listing.folder}.</p>
            <p>Drop pictures, a folder or a zip here.</p>
            <AddFiles onFiles={setDropped}>
              {(choose) => (
                <Button kind="primary" icon="image" onClick={choose}>
                  Add pictures…
                </Button>
              )}
            </AddFiles>
          </div>
        ) : store.shown.value.length === 0 ? (
          <div class="empty">
            <p>The filter takes no picture.</p>
            <Button onClick={() => filter("")}>Show all</Button>
          </div>
        ) : (
          <DatasetGrid store={store} size={size} onOpen={show} />
        )}
      </div>
      <aside
        class="pane side dataset-side"
        aria-label="Caption, edits, tagger, findings, buckets"
        onPointerEnter={() => [EditPanel, TaggerPanel, FindingsPanel, BucketsPanel].forEach((one) => one.ahead())}
      >
        <Tabs
          names={PANELS}
          chosen={panel}
          onChoose={(name) => alter({ panel: name })}
          label="Panels"
          controls="panel"
        />
        <div id="panel" role="tabpanel" aria-label={panel} class="side-panel">
          {panel === "Caption" && <CaptionPanel store={store} open={open} onOpen={show} />}
          {panel === "Edit" && <EditPanel store={store} />}
          {panel === "Tagger" && <TaggerPanel store={store} />}
          {panel === "Buckets" && <BucketsPanel store={store} />}
          {panel === "Findings" && <FindingsPanel store={store} onOpen={show} />}
        </div>
        <QuickTags store={store} />
      </aside>
      {deleting && <Deleting store={store} names={deleting} onClose={() => setDeleting(null)} />}
      {dropped && <CopyIn dropped={dropped} into={listing.folder} onClose={() => setDropped(null)} />}
    </main>
  );
}

const nothing = () => {};

/** How far a large folder is read, whose pictures can be looked at meanwhile. */
function ReadingShown({ store }: { store: DatasetStore }) {
  const reading = store.reading.value;
  if (!reading) return null;
  const what = `Reading ${reading.what}`;
  return (
    <span class="reading soft">
      {what} <progress class="progress" max={reading.total} value={reading.done} aria-label={what} />
    </span>
  );
}

function CaptionPanel({ store, open, onOpen }: { store: DatasetStore; open: string; onOpen: (name: string) => void }) {
  const selected = store.selected.value;
  const name = store.places.value.has(store.current.value) ? store.current.value : "";
  if (!open && selected.size > 1)
    return (
      <div class="panel-body">
        <p>{quantity(selected.size, "picture")} chosen.</p>
        <CommonTags store={store} />
      </div>
    );
  if (!name)
    return (
      <p class="empty">
        Choose a picture to see its caption. Enter shows it large; with Ctrl, Shift or by drawing a frame you choose
        several.
      </p>
    );
  return (
    <div class="panel-body">
      {!open && (
        <div class="row">
          <h2 class="cut" title={name}>
            {baseName(name)}
          </h2>
          <Button class="push" kind="quiet" onClick={() => onOpen(name)}>
            Large
          </Button>
        </div>
      )}
      <CaptionEditor store={store} name={name} />
      <WordLists />
    </div>
  );
}

/** A list of the user's, from which tags are completed besides those of the dataset and the tagger's. */
function WordLists() {
  const [list, setList] = useState(remembered(WORD_LIST));
  const choose = (path: string) => {
    remember(WORD_LIST, path);
    setList(path);
  };
  return (
    <details class="small">
      <summary>Completion</summary>
      <div class="column">
        <p class="soft">
          From the tags of this dataset{list ? ", your list" : ""}, and the words that a tagger knows. Lists are those
          of the web UI's tag completion (danbooru.csv).
        </p>
        {list && (
          <code class="cut" title={list}>
            {baseName(list)}
          </code>
        )}
        <div class="row">
          <ChooseButton heading="A list of tags" kinds={["other", "text"]} onChoose={choose}>
            {list ? "Another list…" : "Use a list of tags…"}
          </ChooseButton>
          {list && <Button onClick={() => choose("")}>No list</Button>}
        </div>
      </div>
    </details>
  );
}

/** The tags of several pictures, with how many of these have each; a click gives it to all, or takes it away. */
function CommonTags({ store }: { store: DatasetStore }) {
  if (store.lacksCaptions.value) return <p class="soft">Their captions are still being read.</p>;
  const listing = store.listing.value!;
  const chosen = store.chosen.value;
  const counts = new Map<number, number>();
  for (const name of chosen)
    for (const tag of new Set(listing.tags[store.places.value.get(name)!])) counts.set(tag, (counts.get(tag) ?? 0) + 1);
  const tags = [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, 200);
  return (
    <>
      <p class="soft small">A click gives the tag to all of them; where all have it, takes it away.</p>
      <ul class="chips">
        {tags.map(([tag, count]) => {
          const name = listing.tag_names[tag]!;
          return (
            <li key={name}>
              <button
                type="button"
                class={count === chosen.length ? "chip-button all" : "chip-button"}
                aria-pressed={count === chosen.length}
                onClick={() => store.toggleTag(name)}
              >
                {name} {count < chosen.length && <span class="soft number">{count}</span>}
              </button>
            </li>
          );
        })}
      </ul>
    </>
  );
}

const NINE = [1, 2, 3, 4, 5, 6, 7, 8, 9];

/** Tags on the keys 1 to 9, for what is chosen. */
function QuickTags({ store }: { store: DatasetStore }) {
  const key = `quick.${store.listing.value?.folder ?? ""}`;
  const [tags, setTags] = useState<string[]>(() => remembered(key).split("\n"));
  const [editing, setEditing] = useState(false);
  const change = (number: number, value: string) => {
    const next = NINE.map((each) => (each === number ? value.replaceAll("\n", " ") : (tags[each - 1] ?? "")));
    setTags(next);
    remember(key, next.join("\n"));
  };
  useKeys(
    NINE.filter((number) => tags[number - 1]?.trim()).map((number) => ({
      keys: String(number),
      does: `Give what is chosen the tag ${tags[number - 1]}, or take it away`,
      run: () => void store.toggleTag(tags[number - 1]?.trim() ?? ""),
    })),
  );
  return (
    <section class="quick-tags" aria-label="Quick tags">
      <div class="row">
        <h2>Quick tags</h2>
        <Button class="push" kind="quiet" aria-pressed={editing} onClick={() => setEditing(!editing)}>
          {editing ? "Done" : "Change"}
        </Button>
      </div>
      <ol>
        {NINE.map((number) =>
          editing ? (
            <li key={number}>
              <kbd>{number}</kbd>
              <input
                class="input"
                aria-label={`Tag on key ${number}`}
                value={tags[number - 1] ?? ""}
                onInput={(event) => change(number, event.currentTarget.value)}
              />
            </li>
          ) : tags[number - 1] ? (
            <li key={number}>
              <button type="button" class="chip-button" onClick={() => store.toggleTag(tags[number - 1]!)}>
                <kbd>{number}</kbd> {tags[number - 1]}
              </button>
            </li>
          ) : null,
        )}
      </ol>
      {!editing && !tags.some((tag) => tag) && (
        <p class="soft small">Put tags on the keys 1 to 9; a key then gives one to what is chosen, or takes it away.</p>
      )}
    </section>
  );
}
