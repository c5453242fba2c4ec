// Edits of many captions, with all that they change before they do.
import { useEffect, useRef, useState } from "preact/hooks";
import { get, type Schemas } from "../api/client";
import { useFetched } from "../api/fetched";
import { Button } from "../components/button";
import { ChangesPreview, countsText } from "../components/changes_preview";
import { CommandLine } from "../components/command_line";
import { say } from "../components/notices";
import { Failed } from "../components/problems";
import { askWords, noteOf } from "../components/tag_words";
import { quantity } from "../format";
import { type Step, StepFields, stepOf, textsOf } from "./dataset_edit_step";
import type { Changes, DatasetStore } from "./dataset_store";

type Row = Schemas["ChangeRow"];
type Of = "selection" | "shown";

const FIRST: Step[] = [stepOf("add")];
const WAIT = 250;

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

/** A plan that is shown anew whenever its question changes, a part at a time. */
export function usePreview(
  store: DatasetStore,
  question: object | null,
  ask: (part: { offset: number; limit: number }, signal: AbortSignal) => Promise<Changes>,
) {
  const [state, setState] = useState<{ changes: Changes | null; rows: Row[]; error: unknown; stale: boolean }>({
    changes: null,
    rows: [],
    error: undefined,
    stale: false,
  });
  const key = JSON.stringify(question);
  const changes = store.changes.value;
  const asking = useRef<AbortController | null>(null);
  useEffect(() => {
    asking.current?.abort();
    if (!question) {
      setState({ changes: null, rows: [], error: undefined, stale: false });
      return;
    }
    const controller = (asking.current = new AbortController());
    setState((before) => ({ ...before, stale: true }));
    const timer = setTimeout(() => {
      ask({ offset: 0, limit: 50 }, controller.signal).then(
        (found) => setState({ changes: found, rows: found.rows, error: undefined, stale: false }),
        (error: unknown) => !controller.signal.aborted && setState({ changes: null, rows: [], error, stale: false }),
      );
    }, WAIT);
    return () => (clearTimeout(timer), controller.abort());
  }, [key, changes]);
  async function more() {
    const found = await ask({ offset: state.rows.length, limit: 200 }, new AbortController().signal);
    setState((before) => ({ ...before, rows: [...before.rows, ...found.rows] }));
  }
  return { ...state, more };
}

export const imageOf = (store: DatasetStore) => (name: string) =>
  store.places.value.has(name) ? { path: store.imagePath(name), v: store.versionOf(name) } : null;

export function EditPanel({ store }: { store: DatasetStore }) {
  const [steps, setSteps] = useState<Step[]>(FIRST);
  const [create, setCreate] = useState(false);
  const operations = useFetched((signal) => get("/api/dataset/operations", { signal }), []);
  const target = useTarget(store);
  const kinds = new Map(operations.data?.map((one) => [one.name, one]));
  const texts = steps.flatMap((step) => textsOf(step, kinds.get(step.name)));
  const body = {
    operations: texts,
    create,
    ...target.question,
  };
  const preview = usePreview(store, texts.length ? body : null, (part, signal) =>
    store.edit({ ...body, ...part }, signal),
  );

  async function apply() {
    const done = await store.edit({ ...body, apply: true, limit: 0 });
    say(`Done: ${countsText(done)}`, store.takeBack(done.entry));
    setSteps(FIRST);
    await store.reload();
  }

  const change = (at: number, values: Partial<Step>) =>
    setSteps(steps.map((step, number) => (number === at ? { ...step, ...values } : step)));
  const changes = preview.changes;
  return (
    <div class="panel-body">
      {target.choice}
      <ol class="steps" aria-label="What is done, in this order">
        {steps.map((step, at) => (
          <li key={at}>
            <StepFields
              step={step}
              number={at + 1}
              operations={operations.data ?? []}
              complete={(text, signal) => completeTag(store, text, signal)}
              onChange={(values) => change(at, values)}
              onRemove={steps.length > 1 ? () => setSteps(steps.filter((_, number) => number !== at)) : undefined}
            />
          </li>
        ))}
      </ol>
      <div class="row wrap">
        <Button icon="add" onClick={() => setSteps([...steps, stepOf("dedupe")])}>
          Another step
        </Button>
        <label class="row">
          <input type="checkbox" checked={create} onChange={(event) => setCreate(event.currentTarget.checked)} />
          Also where there is no caption
        </label>
      </div>
      {preview.error !== undefined && <Failed error={preview.error} />}
      {changes && (
        <>
          <div class="row apply">
            <Button kind="primary" disabled={!changes.total || preview.stale} onClick={apply}>
              Change {quantity(changes.total, "caption")}
            </Button>
            <span class="soft small">of {quantity(target.count, "picture")}; can be undone</span>
          </div>
          {changes.command_line && <CommandLine line={changes.command_line} />}
          <ChangesPreview changes={changes} rows={preview.rows} imageOf={imageOf(store)} onMore={preview.more} />
        </>
      )}
      {!changes && preview.error === undefined && (
        <p class="empty">Say what is to be done; every caption that changes is then shown here, before anything is.</p>
      )}
    </div>
  );
}

export async function completeTag(store: DatasetStore, text: string, signal: AbortSignal) {
  // The tag that is being written, behind the last comma.
  const begin = text.lastIndexOf(",") + 1;
  const prefix = text.slice(begin).trimStart();
  if (!prefix) return [];
  const start = text.length - prefix.length;
  const query = { path: store.path, prefix, most: 12 };
  const found = await askWords((words) => get("/api/dataset/words", { query: { ...query, words }, signal }), signal);
  return found
    .filter((one) => one.tag !== prefix)
    .map((one) => ({ text: one.tag, start, end: text.length, note: noteOf(one) }));
}
