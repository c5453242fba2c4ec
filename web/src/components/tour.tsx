// The tour: a note at a time, beside what it is about, on the pages themselves.
import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { get } from "../api/client";
import { useFetched } from "../api/fetched";
import { demoJob, demoProject, tryDemo } from "../demo";
import { useKeys } from "../keys";
import { projectsKnown } from "../project";
import { go, path } from "../router";
import { leaveTour, tourStep } from "../tour";
import { TOUR } from "../tour_steps";
import { Button } from "./button";

/** Between the note and what it is about, and the window's edge, px. */
const GAP = 12;

export function Tour() {
  const number = Math.min(tourStep.value ?? 0, TOUR.length - 1);
  const step = TOUR[number]!;
  const folder = demoProject.value?.path ?? "";
  const found = useFetched(
    async (signal) => (folder ? await get("/api/project/status", { query: { path: folder }, signal }) : null),
    [folder],
    ["projects", "jobs"],
  );
  const demo = found.data?.path === folder ? found.data : null;
  const id = useId();
  const note = useRef<HTMLElement>(null);
  /** A step that was asked for before it was known where it is. */
  const awaited = useRef<number | null>(null);
  const before = useRef(document.activeElement as HTMLElement | null);

  const isHere = number === 0 ? path.value === "/" : demo !== null && isPage(step.address(demo));
  const { area, place } = usePlace(note, isHere ? step.about : [], number);
  // Who hears the page, or goes by keys, is taken along.
  useEffect(() => note.current?.focus({ preventScroll: true }), [number, isHere]);
  useEffect(
    () => () => {
      const last = before.current;
      (last?.isConnected && last !== document.body ? last : document.querySelector<HTMLElement>(".bar .mark"))?.focus();
    },
    [],
  );

  function show(to: number) {
    awaited.current = null;
    if (to < 0) return;
    if (to >= TOUR.length) return leaveTour();
    if (to > 0 && !demo) {
      // Where the demo's pages are, is known in a moment, if there is one.
      if (folder || !projectsKnown.value) awaited.current = to;
      return;
    }
    tourStep.value = to;
    go(to && demo ? TOUR[to]!.address(demo) : "/");
  }
  useEffect(() => {
    if (demo && awaited.current !== null) show(awaited.current);
  }, [demo === null]);
  const moves: Record<string, () => void> = {
    ArrowRight: () => show(number + 1),
    ArrowLeft: () => show(number - 1),
    Escape: leaveTour,
  };
  // Also where the focus is elsewhere, and the page has no other use for them.
  useKeys([
    { keys: "ArrowRight", does: "Tour: the next step", run: () => moves.ArrowRight!() },
    { keys: "ArrowLeft", does: "Tour: the step before", run: () => moves.ArrowLeft!() },
    { keys: "Escape", does: "Leave the tour", run: leaveTour },
  ]);
  function onKeyDown(event: KeyboardEvent) {
    const move = event.ctrlKey || event.altKey || event.metaKey || event.shiftKey ? undefined : moves[event.key];
    if (!move) return;
    event.preventDefault();
    move();
  }

  const taken = demo && step.takes && demo.steps.find((each) => each.name === step.takes);
  const isLast = number === TOUR.length - 1;
  return (
    <>
      {area && <div class="tour-about" style={area} />}
      <section
        ref={note}
        class="tour"
        style={place}
        role="dialog"
        aria-labelledby={`${id}-title`}
        aria-describedby={`${id}-text`}
        tabIndex={-1}
        onKeyDown={onKeyDown}
      >
        <header class="row">
          <h2 id={`${id}-title`}>{step.title}</h2>
          <span class="soft small number push">
            <span class="unseen">Tour, step </span>
            {number + 1} of {TOUR.length}
          </span>
          <Button kind="quiet" icon="close" label="Leave the tour" onClick={leaveTour} />
        </header>
        <div id={`${id}-text`} class="column">
          <p>{step.text}</p>
          {number === 0 && !folder && projectsKnown.value && <NoDemo />}
          {taken && !taken.path && <p class="soft">The demo is still at work: there is more to see here soon.</p>}
          {!isHere && (number === 0 || demo) && <p class="soft">This step is on another page.</p>}
        </div>
        <footer class="row">
          <span class="soft small">
            <kbd>←</kbd> <kbd>→</kbd> <kbd>Esc</kbd>
          </span>
          <Button class="push" icon="left" disabled={number === 0} onClick={() => show(number - 1)}>
            Back
          </Button>
          {isHere || !demo ? (
            <Button kind={demo ? "primary" : "plain"} disabled={!demo} onClick={() => show(number + 1)}>
              {isLast ? "Done" : "Next"}
            </Button>
          ) : (
            <Button kind="primary" onClick={() => show(number)}>
              Go there
            </Button>
          )}
        </footer>
      </section>
    </>
  );
}

const isPage = (address: string): boolean => new URL(address, location.href).pathname === path.value;

function NoDemo() {
  const job = demoJob.value;
  if (job) {
    return (
      <p class="soft" role="status">
        {job.state === "running"
          ? "The demo begins; go on in a moment."
          : "The demo waits in the queue; go on once it runs."}
      </p>
    );
  }
  return (
    <>
      <p class="soft">
        It is not there yet. One click trains it, in a few minutes on any computer; the tour goes on meanwhile.
      </p>
      <Button kind="primary" icon="play" onClick={tryDemo}>
        Try the demo
      </Button>
    </>
  );
}

type Edges = { left: string; top: string; width: string; height: string };
/** Empty where the styles say it. */
type Place = Partial<Record<"left" | "top" | "right" | "bottom", string>>;

/** Where the note is, beside the first of `about` that is there, and what that covers of the window. */
function usePlace(note: { current: HTMLElement | null }, about: readonly string[], number: number) {
  const [found, setFound] = useState<{ area: Edges | null; place: Place }>({ area: null, place: {} });
  const selectors = about.join("\n");
  useLayoutEffect(() => {
    let frame = 0;
    let shown: Element | null = null;
    const sizes = new ResizeObserver(soon);
    function measure() {
      frame = 0;
      const element = about.map((each) => document.querySelector(each)).find(Boolean) ?? null;
      if (element !== shown) {
        if (shown) sizes.unobserve(shown);
        if (element) {
          sizes.observe(element);
          element.scrollIntoView({ block: "nearest" });
        }
        shown = element;
      }
      const next = element && note.current ? placed(element, note.current) : { area: null, place: {} };
      setFound((last) => (JSON.stringify(last) === JSON.stringify(next) ? last : next));
    }
    function soon() {
      frame ||= requestAnimationFrame(measure);
    }
    measure();
    // What a page shows comes once it is read.
    const changes = new MutationObserver(soon);
    changes.observe(document.body, { childList: true, subtree: true });
    addEventListener("resize", soon);
    addEventListener("scroll", soon, true);
    return () => {
      cancelAnimationFrame(frame);
      sizes.disconnect();
      changes.disconnect();
      removeEventListener("resize", soon);
      removeEventListener("scroll", soon, true);
    };
  }, [selectors, number]);
  return found;
}

function placed(element: Element, note: HTMLElement): { area: Edges; place: Place } {
  const { clientWidth: width, clientHeight: height } = document.documentElement;
  const box = element.getBoundingClientRect();
  // No more of it than is to be seen.
  const left = Math.max(2, box.left - 2);
  const top = Math.max(2, box.top - 2);
  const right = Math.min(width - 2, box.right + 2);
  const bottom = Math.min(height - 2, box.bottom + 2);
  const px = (value: number) => `${Math.round(value)}px`;
  const area = {
    left: px(left),
    top: px(top),
    width: px(Math.max(0, right - left)),
    height: px(Math.max(0, bottom - top)),
  };
  if (matchMedia("(max-width: 820px)").matches) return { area, place: {} };
  const [w, h] = [note.offsetWidth, note.offsetHeight];
  const within = (value: number, most: number) => Math.max(GAP, Math.min(value, most - GAP));
  const x = within(left, width - w);
  const y = within(top, height - h);
  let place;
  if (width - right >= w + 2 * GAP) place = { left: right + GAP, top: y };
  else if (left >= w + 2 * GAP) place = { left: left - GAP - w, top: y };
  else if (height - bottom >= h + 2 * GAP) place = { left: x, top: bottom + GAP };
  else if (top >= h + 2 * GAP) place = { left: x, top: top - GAP - h };
  // Over it, in its corner.
  else place = { left: within(right - w - GAP, width - w), top: within(bottom - h - GAP, height - h) };
  return { area, place: { left: px(place.left), top: px(place.top), right: "auto", bottom: "auto" } };
}
