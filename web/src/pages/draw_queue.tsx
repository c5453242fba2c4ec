// What is being drawn, step by step, what waits, and what ended last.
import { useEffect } from "preact/hooks";
import { post } from "../api/client";
import { onChange, onDrawing, concerns } from "../api/changes";
import { Button } from "../components/button";
import { Picture } from "../components/picture";
import { Problems } from "../components/problems";
import { duration, quantity } from "../format";
import { alter } from "../router";
import { type Drawing, isOpen, openOnes, records, refreshRecords, takeRecord } from "./draw_store";

export function useRecords(): void {
  useEffect(() => {
    void refreshRecords();
    // That the studio does not answer is said above every page.
    const follow = () => void refreshRecords().catch(() => {});
    const ends = [onDrawing(takeRecord), onChange((topics) => concerns(topics, "drawings") && follow())];
    return () => ends.forEach((end) => end());
  }, []);
}

const cancel = async (record: Drawing) =>
  takeRecord(await post("/api/draw/{number}/cancel", { path: { number: record.id } }));

export function Now() {
  const head = records.value[0];
  const waiting = openOnes.value.filter((record) => record !== head);
  if (!head)
    return (
      <p class="empty">
        Write what to draw, choose a LoRA among the cards, and press Draw, or Ctrl and Enter. The first drawing loads
        the base model; the next ones begin at once.
      </p>
    );
  return (
    <section class="draw-now" aria-label="What is drawn">
      <Head key={head.id} record={head} />
      {waiting.length > 0 && (
        <>
          <div class="row">
            <h2>{quantity(waiting.length, "drawing")} waiting</h2>
            <Button kind="quiet" class="push" onClick={() => Promise.all(waiting.map(cancel))}>
              Cancel all that wait
            </Button>
          </div>
          <ol class="waiting">
            {waiting.map((record) => (
              <li key={record.id} class="row">
                <span class="cut">{wordsOf(record)}</span>
                <Button
                  class="push"
                  kind="quiet"
                  icon="close"
                  label={`Cancel ${wordsOf(record)}`}
                  onClick={() => cancel(record)}
                />
              </li>
            ))}
          </ol>
        </>
      )}
    </section>
  );
}

function wordsOf({ drawing }: Drawing): string {
  const loras = drawing.loras.map((use) => `${use.name} ${use.strength}`).join(", ");
  return [drawing.prompt || "no words", loras].filter(Boolean).join(" · ");
}

function Head({ record }: { record: Drawing }) {
  const pictures = record.pictures ?? [];
  const previews = (record.previews ?? []).filter((preview) => preview.place >= pictures.length);
  const words = record.state === "waiting" && record.why ? `waits: ${record.why}` : STATES[record.state];
  const took = record.began && record.ended ? ` in ${duration(record.ended - record.began)}` : "";
  const open = isOpen(record);
  const isNew = pictures.length + previews.length > 0;
  // What was there stays until the new is.
  const last = open && !isNew ? records.value.find((each) => each.state === "done")?.pictures : undefined;
  return (
    <>
      <div class="row">
        <span class="cut" title={wordsOf(record)}>
          {wordsOf(record)}
        </span>
        <span class={`push tag ${open ? "running" : record.state === "failed" ? "danger" : ""}`} role="status">
          {words}
          {record.state === "done" && took}
        </span>
        {open && <Button onClick={() => cancel(record)}>Cancel</Button>}
      </div>
      {record.state === "drawing" && (
        <div class="row small soft number">
          <progress
            class="progress"
            max={Math.max(1, record.total)}
            value={record.done}
            aria-label={record.what || "Drawing"}
          />
          <span class="one-line">
            {record.what || "begins"}
            {record.total > 0 && `, ${record.done} of ${record.total}`}
          </span>
        </div>
      )}
      {last && (
        <ul class={`now-pictures former ${last.length === 1 ? "single" : ""}`} aria-hidden="true">
          {last.map((path) => (
            <li key={path}>
              <Picture path={path} alt="" lazy={false} />
            </li>
          ))}
        </ul>
      )}
      {isNew && (
        <ul class={`now-pictures ${pictures.length + previews.length === 1 ? "single" : ""}`} aria-label="Its pictures">
          {pictures.map((path, at) => (
            <li key={at}>
              <button
                type="button"
                onClick={() => alter({ show: "drawings", picture: path }, { replace: false })}
                aria-label={`Picture ${at + 1}, large`}
              >
                <Picture path={path} alt="" lazy={false} />
              </button>
            </li>
          ))}
          {previews.map((preview) => (
            <li key={preview.place}>
              <Picture
                path={preview.path}
                v={preview.version}
                alt={`Picture ${preview.place + 1}, unfinished`}
                lazy={false}
              />
            </li>
          ))}
        </ul>
      )}
      {(record.problems ?? []).length > 0 && <Problems problems={record.problems!} />}
      {(record.notes ?? []).length > 0 && <p class="soft small">{record.notes!.join(" · ")}</p>}
    </>
  );
}

const STATES: Record<Drawing["state"], string> = {
  waiting: "waits",
  drawing: "is drawn",
  done: "drawn",
  failed: "failed",
  cancelled: "cancelled",
};
