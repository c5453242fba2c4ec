// Cards in a grid, of which one goes from one to the next, and selects several.
import type { ComponentChildren } from "preact";
import { useRef } from "preact/hooks";
import { GridBox, useGridView } from "./grid_view";

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
  /** Where cards are not selected by going to them: what a click, Enter and Space do with one. */
  onTake?: (card: One) => void;
  /** `resting` is false while one scrolls: pictures are asked for when it is true. */
  draw: (card: One, resting: boolean) => ComponentChildren;
}

export function CardGrid<One extends Card>(props: Props<One>) {
  const { cards, label, width, height, current, selected, onGo, onTake, draw } = props;
  const grid = useGridView(cards.length, width, height);
  const anchor = useRef("");
  const indexOf = (key: string) => cards.findIndex((card) => card.key === key);
  const at = indexOf(current);

  grid.useRevealed(at);

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
    if (onTake && event instanceof MouseEvent) onTake(card);
    grid.reveal(indexOf(card.key));
  }

  function key(event: KeyboardEvent) {
    const target = grid.moved(event.key, Math.max(0, at));
    if (target !== undefined && !event.altKey) {
      event.preventDefault();
      go(at < 0 && event.key !== "End" ? 0 : target, event);
    } else if (onTake && (event.key === " " || event.key === "Enter") && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      event.stopPropagation();
      if (cards[at]) onTake(cards[at]);
    } else if (event.key === " " && at >= 0) {
      event.preventDefault();
      onGo(current, toggled(current));
    }
  }

  return (
    <GridBox
      view={grid}
      label={label}
      name="card"
      at={at}
      onKeyDown={key}
      cell={(index, left) => {
        const card = cards[index]!;
        return (
          <div
            id={`card-${index}`}
            role="gridcell"
            class={card.key === current ? "card current" : "card"}
            aria-selected={selected.has(card.key)}
            aria-label={card.label}
            style={{ left: `${left}px`, width: `${width}px`, height: `${height}px` }}
            onClick={(event) => go(index, event)}
          >
            {draw(card, grid.resting.value)}
          </div>
        );
      }}
    />
  );
}
