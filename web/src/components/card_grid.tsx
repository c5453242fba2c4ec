// Cards in rows, of which only those in sight are on the page: thousands scroll like twenty.
import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";

export interface Card {
  key: string;
  /** What who hears the page is told of it. */
  label: string;
}

interface Props<One extends Card> {
  cards: readonly One[];
  label: string;
  /** px of a card. */
  width: number;
  height: number;
  current: string;
  selected: ReadonlySet<string>;
  /** The one that is gone to, and all that are selected then. */
  onGo: (key: string, selected: string[]) => void;
  /** `resting` is false while one scrolls: pictures are asked for when it is true. */
  draw: (card: One, resting: boolean) => ComponentChildren;
}

const GAP = 8;
/** ms of rest after which pictures are asked for: who scrolls past thousands asks for none of them. */
const REST = 60;
const OVERSCAN = 1;

export function CardGrid<One extends Card>(props: Props<One>) {
  const { cards, label, width, height, current, selected, onGo, draw } = props;
  const box = useRef<HTMLDivElement>(null);
  const view = useSignal({ width: 0, height: 0 });
  const firstRow = useSignal(0);
  const resting = useSignal(true);
  const anchor = useRef("");

  const step = height + GAP;
  const columns = Math.max(1, Math.floor((view.value.width - GAP) / (width + GAP)));
  const rows = Math.ceil(cards.length / columns);
  const indexOf = (key: string) => cards.findIndex((card) => card.key === key);
  const at = indexOf(current);

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
    const below = top + step + GAP - element.clientHeight;
    if (below > element.scrollTop) element.scrollTop = below;
  }

  // Once it is known how large the grid is, the current one is in sight.
  const isNew = useRef(true);
  useLayoutEffect(() => {
    if (!view.value.height || !isNew.current || at < 0) return;
    isNew.current = false;
    reveal(at);
  }, [view.value.height, at]);

  function toggled(key: string): string[] {
    return selected.has(key) ? [...selected].filter((each) => each !== key) : [...selected, key];
  }

  function go(index: number, event: KeyboardEvent | MouseEvent) {
    const card = cards[Math.min(cards.length - 1, Math.max(0, index))];
    if (!card) return;
    if (event.shiftKey) {
      const from = Math.max(0, indexOf(anchor.current || current));
      const [low, high] = from < index ? [from, index] : [index, from];
      onGo(
        card.key,
        cards.slice(Math.max(0, low), high + 1).map((each) => each.key),
      );
    } else if (event.ctrlKey || event.metaKey) {
      onGo(card.key, event instanceof MouseEvent ? toggled(card.key) : [...selected]);
    } else {
      anchor.current = card.key;
      onGo(card.key, [card.key]);
    }
    reveal(indexOf(card.key));
  }

  function key(event: KeyboardEvent) {
    const index = Math.max(0, at);
    const perPage = Math.max(1, Math.floor(view.value.height / step)) * columns;
    const moves: Record<string, number> = {
      ArrowLeft: index - 1,
      ArrowRight: index + 1,
      ArrowUp: index - columns >= 0 ? index - columns : index,
      ArrowDown: index + columns < cards.length ? index + columns : index,
      Home: 0,
      End: cards.length - 1,
      PageUp: Math.max(0, index - perPage),
      PageDown: Math.min(cards.length - 1, index + perPage),
    };
    const target = moves[event.key];
    if (target !== undefined && !event.altKey) {
      event.preventDefault();
      go(at < 0 && event.key !== "End" ? 0 : target, event);
    } else if (event.key === " " && at >= 0) {
      event.preventDefault();
      onGo(current, toggled(current));
    }
  }

  const visible = Math.ceil(view.value.height / step) + 2 * OVERSCAN + 1;
  const first = Math.min(firstRow.value, Math.max(0, rows - visible));
  const some: preact.JSX.Element[] = [];
  for (let row = first; row < Math.min(rows, first + visible); row++) {
    some.push(
      <div
        key={row % visible}
        role="row"
        aria-rowindex={row + 1}
        style={{ transform: `translateY(${GAP + row * step}px)` }}
      >
        {cards.slice(row * columns, (row + 1) * columns).map((card, column) => (
          <div
            key={column}
            id={`card-${row * columns + column}`}
            role="gridcell"
            class={card.key === current ? "card current" : "card"}
            aria-selected={selected.has(card.key)}
            aria-label={card.label}
            style={{ left: `${GAP + column * (width + GAP)}px`, width: `${width}px`, height: `${height}px` }}
            onClick={(event) => go(row * columns + column, event)}
          >
            {draw(card, resting.value)}
          </div>
        ))}
      </div>,
    );
  }
  return (
    <div
      ref={box}
      class="card-grid"
      role="grid"
      aria-label={label}
      aria-multiselectable="true"
      aria-rowcount={rows}
      aria-colcount={columns}
      aria-activedescendant={at >= 0 ? `card-${at}` : undefined}
      tabIndex={0}
      onKeyDown={key}
    >
      <div class="card-rows" role="presentation" style={{ height: `${rows * step + GAP}px` }}>
        {some}
      </div>
    </div>
  );
}
