// Edits of many captions, with all that they change before they do.
import { useEffect, useState } from "preact/hooks";
import { get } from "../api/client";
import { useFetched } from "../api/fetched";
import { Button } from "../components/button";
import { CommandLine } from "../components/command_line";
import { completeCaption } from "../components/tag_words";
import { quantity } from "../format";
import { carriedOut, ChangesPreview, usePreview, useTarget } from "./dataset_changes";
import { type Step, StepFields, stepOf, textsOf } from "./dataset_edit_step";
import type { DatasetStore } from "./dataset_store";

const FIRST: Step[] = [stepOf("add")];
/** What was filled in, by dataset, while one looks at other panels. */
const drafts = new Map<string, Step[]>();

export function EditPanel({ store }: { store: DatasetStore }) {
  const [steps, setSteps] = useState(drafts.get(store.path) ?? FIRST);
  useEffect(() => void drafts.set(store.path, steps), [steps]);
  const [create, setCreate] = useState(false);
  const operations = useFetched((signal) => get("/api/dataset/operations", { signal }), []);
  const target = useTarget(store);
  const kinds = new Map(operations.data?.map((one) => [one.name, one]));
  const texts = steps.flatMap((step) => textsOf(step, kinds.get(step.name)));
  const body = { operations: texts, create, ...target.question };
  const preview = usePreview(store, texts.length ? body : null, (part, signal) =>
    store.edit({ ...body, ...part }, signal),
  );

  async function apply() {
    const done = await store.edit({ ...body, apply: true, limit: 0 });
    setSteps(FIRST);
    await carriedOut(store, "Done", done);
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
              complete={(text, signal) => completeCaption(store.path, text, signal)}
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
      {changes && (
        <div class="row apply">
          <Button kind="primary" disabled={!changes.total || preview.stale} onClick={apply}>
            Change {quantity(changes.total, "caption")}
          </Button>
          <span class="soft small">of {quantity(target.count, "picture")}; can be undone</span>
        </div>
      )}
      {changes?.command_line && <CommandLine line={changes.command_line} />}
      <ChangesPreview store={store} preview={preview} />
      {!changes && preview.error === undefined && (
        <p class="empty">Say what is to be done; every caption that changes is then shown here, before anything is.</p>
      )}
    </div>
  );
}
