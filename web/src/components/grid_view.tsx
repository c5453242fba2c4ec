// What grids of thousands have in common: only the rows in sight are on the page.
import { useSignal } from "@preact/signals";
import type { ComponentChildren, HTMLAttributes, JSX } from "preact";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";

/** px between cells, and around them. */
export const GAP = 8;
/** ms of rest after which pictures are asked for: who scrolls past ten thousand asks for none of them. */
const REST = 60;
const OVERSCAN = 1;
/** px below the last row, so that it can be brought above a notice. */
const ROOM = 64;

/** The part of a grid that is seen in `box`, for `count` cells of that many px. */
export function useGridView(count: number, width: number, height: number) {
  const box = useRef<HTMLDivElement>(null);
  const view = useSignal({ width: 0, height: 0 });
  const firstRow = useSignal(0);
  const resting = useSignal(true);

  const step = height + GAP;
  const columns = Math.max(1, Math.floor((view.value.width - GAP) / (width + GAP)));
  const rows = Math.ceil(count / columns);
  const visible = Math.ceil(view.value.height / step) + 2 * OVERSCAN + 1;
  const first = Math.min(firstRow.value, Math.max(0, rows - visible));

  useLayoutEffect(() => {
    const element = box.current!;
    const measure = () => (view.value = { width: element.clientWidth, height: element.clientHeight });
    measure();
    const watch = new ResizeObserver(measure);
    watch.observe(element);
    return () => watch.disconnect();
  }, []);

  useEffect(() => {
    const element = box.current!;
    let frame = 0;
    let timer = 0;
    const scrolled = () => {
      resting.value = false;
      clearTimeout(timer);
      timer = setTimeout(() => (resting.value = true), REST);
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        firstRow.value = Math.max(0, Math.floor(element.scrollTop / step) - OVERSCAN);
      });
    };
    element.addEventListener("scroll", scrolled, { passive: true });
    scrolled();
    return () => (element.removeEventListener("scroll", scrolled), clearTimeout(timer), cancelAnimationFrame(frame));
  }, [step]);

  function reveal(index: number) {
    const element = box.current!;
    const top = Math.floor(index / columns) * step;
    if (top < element.scrollTop) element.scrollTop = top;
    const below = top + step + GAP + ROOM - element.clientHeight;
    if (below > element.scrollTop) element.scrollTop = Math.min(below, top);
  }

  // Once it is known how large the grid is, the cell that one has come for is in sight.
  const isNew = useRef(true);
  function useRevealed(index: number) {
    useLayoutEffect(() => {
      if (!view.value.height || !isNew.current || index < 0) return;
      isNew.current = false;
      reveal(index);
    }, [view.value.height, index]);
  }

  /** Where a key leads from a cell, perhaps beyond the last; undefined for keys that lead nowhere. */
  function moved(key: string, index: number): number | undefined {
    const page = Math.max(1, Math.floor(view.value.height / step)) * columns;
    const moves: Record<string, number> = {
      ArrowLeft: index - 1,
      ArrowRight: index + 1,
      ArrowUp: index - columns >= 0 ? index - columns : index,
      ArrowDown: index + columns < count ? index + columns : index,
      Home: 0,
      End: count - 1,
      PageUp: index - page,
      PageDown: index + page,
    };
    return moves[key];
  }

  return { box, resting, count, width, step, columns, rows, visible, first, reveal, useRevealed, moved };
}

interface Props extends Pick<HTMLAttributes<HTMLDivElement>, "onKeyDown" | "onPointerDown" | "onDblClick"> {
  view: ReturnType<typeof useGridView>;
  class?: string;
  label: string;
  /** What ids of cells begin with: "card" for card-0, card-1. */
  name: string;
  /** The cell that one is at; -1 for none. */
  at: number;
  /** A cell by its number; px from the left. */
  cell: (index: number, left: number) => JSX.Element;
  /** Over the rows. */
  children?: ComponentChildren;
}

export function GridBox({ view, class: more = "", label, name, at, cell, children, ...events }: Props) {
  const { count, width, step, columns, rows, visible, first } = view;
  const some: JSX.Element[] = [];
  for (let row = first; row < Math.min(rows, first + visible); row++) {
    const cells: JSX.Element[] = [];
    for (let column = 0; column < columns && row * columns + column < count; column++)
      cells.push(cell(row * columns + column, GAP + column * (width + GAP)));
    some.push(
      // The same elements are filled anew while one scrolls.
      <div
        key={row % visible}
        role="row"
        aria-rowindex={row + 1}
        style={{ transform: `translateY(${GAP + row * step}px)` }}
      >
        {cells}
      </div>,
    );
  }
  return (
    <div
      ref={view.box}
      class={`card-grid ${more}`}
      role="grid"
      aria-label={label}
      aria-multiselectable="true"
      aria-rowcount={rows}
      aria-colcount={columns}
      aria-activedescendant={at >= 0 ? `${name}-${at}` : undefined}
      tabIndex={0}
      {...events}
    >
      <div class="card-rows" role="presentation" style={{ height: `${rows * step + GAP + ROOM}px` }}>
        {some}
        {children}
      </div>
    </div>
  );
}
