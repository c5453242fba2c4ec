// Short words at the page's edge: what was done, or what failed.
import { effect, signal } from "@preact/signals";
import { useLayoutEffect, useState } from "preact/hooks";
import type { Problem } from "../api/client";
import { connected } from "../api/changes";
import { path } from "../router";
import { Button } from "./button";

interface Notice {
  id: number;
  text: string;
  hint: string;
  isProblem: boolean;
  /** A button beside the words, such as undo. */
  action?: { label: string; run: () => unknown } | undefined;
}

const STAYS = 6000;
const notices = signal<Notice[]>([]);
let last = 0;

export function say(text: string, action?: Notice["action"]): void {
  show({ id: ++last, text, hint: "", isProblem: false, action });
}

/** Problems stay until they are put away. */
export function sayProblems(problems: Problem[]): void {
  for (const { where, what, hint } of problems) {
    show({ id: ++last, text: where ? `${where}: ${what}` : what, hint, isProblem: true });
  }
}

/** What was said with an Undo that is no longer what one would undo. */
export function forgetUndos(): void {
  notices.value = notices.value.filter((each) => each.action?.label !== "Undo");
}

function show(notice: Notice): void {
  const others = notices.value.filter((each) => each.text !== notice.text);
  notices.value = [...others, notice].slice(-4);
  if (!notice.isProblem) setTimeout(() => putAway(notice.id), STAYS);
}

// What failed on a page is not said on another, nor that the studio did not answer once it does.
effect(() => {
  path.value;
  if (!connected.value) return;
  notices.value = notices.peek().filter((each) => !each.isProblem);
});

const putAway = (id: number) => (notices.value = notices.value.filter((each) => each.id !== id));

/** Where notices may be: on the page, and in each dialog that is open. */
const places = signal<readonly symbol[]>([]);

/** Shown in the place that came last: beside an open dialog nothing is to be seen or clicked. */
export function Notices() {
  const [place] = useState(Symbol);
  useLayoutEffect(() => {
    places.value = [...places.peek(), place];
    return () => void (places.value = places.peek().filter((each) => each !== place));
  }, []);
  if (places.value.at(-1) !== place) return null;
  return (
    <div class="notices" role="status" aria-live="polite">
      {notices.value.map((notice) => (
        <div key={notice.id} class={notice.isProblem ? "notice problem" : "notice"}>
          <div>
            {notice.text}
            {notice.hint && <div class="soft">{notice.hint}</div>}
          </div>
          {notice.action && (
            <Button kind="quiet" onClick={() => (putAway(notice.id), notice.action?.run())}>
              {notice.action.label}
            </Button>
          )}
          <Button kind="quiet" icon="close" label="Put away" onClick={() => putAway(notice.id)} />
        </div>
      ))}
    </div>
  );
}
