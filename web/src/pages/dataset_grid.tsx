// All pictures of a dataset, of which only those in sight are on the page.
import { useComputed, useSignal, useSignalEffect } from "@preact/signals";
import { Component } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { baseName } from "../format";
import { imageAddress } from "../api/client";
import { GAP, GridBox, useGridView } from "../components/grid_view";
import { isThere, Thumb } from "../components/thumb";
import { CROPPED, type DatasetStore, MASKED, NO_CAPTION } from "./dataset_store";

interface Props {
  store: DatasetStore;
  /** px of a picture's longer side. */
  size: number;
  onOpen: (name: string) => void;
}

const WORDS = 20; // px of the line below a picture
/** px that a pointer moves before it draws a band. */
const DRAG = 5;

interface Band {
  x0: number;
  y0: number;
  x1: number;
  y1: number;
}

export function DatasetGrid({ store, size, onOpen }: Props) {
  const band = useSignal<Band | null>(null);
  const anchor = useRef("");

  const cell = size + 2;
  const height = size + WORDS + 2;
  const shown = store.shown.value;
  const grid = useGridView(shown.length, cell, height);
  const { box, columns, rows, step, resting, reveal } = grid;
  const pixels = size * devicePixelRatio <= 192 ? 192 : 384;

  // Who comes back from a large picture goes on by keys; who writes a filter goes on writing.
  useLayoutEffect(() => {
    if (document.activeElement === document.body && store.places.value.has(store.current.value))
      box.current!.focus({ preventScroll: true });
  }, []);

  // Where the shown become fewer, the browser scrolls up by itself; where they are others, one begins above.
  const where = useComputed(() => `${store.where.value}\n${store.subset.value?.title ?? ""}`);
  const seen = useRef(where.value);
  useSignalEffect(() => {
    if (where.value === seen.current) return;
    seen.current = where.value;
    box.current?.scrollTo(0, 0);
  });

  const nameAt = (index: number): string => store.names.value[shown[index] ?? -1] ?? "";
  const indexOf = (name: string): number => {
    const place = store.places.value.get(name);
    return place === undefined ? -1 : shown.indexOf(place);
  };

  // And sees where it stands.
  grid.useRevealed(indexOf(store.current.value));

  function range(from: number, to: number): string[] {
    const [low, high] = from < to ? [from, to] : [to, from];
    const names: string[] = [];
    for (let index = Math.max(0, low); index <= high; index++) names.push(nameAt(index));
    return names;
  }

  function go(index: number, event: KeyboardEvent | MouseEvent) {
    const next = Math.min(shown.length - 1, Math.max(0, index));
    const name = nameAt(next);
    if (!name) return;
    store.current.value = name;
    if (event.shiftKey) {
      store.select(range(Math.max(0, indexOf(anchor.current)), next));
    } else if (!(event.ctrlKey || event.metaKey)) {
      anchor.current = name;
      store.select([name]);
    }
    reveal(next);
  }

  function key(event: KeyboardEvent) {
    const index = Math.max(0, indexOf(store.current.value));
    const target = grid.moved(event.key, index);
    if (target !== undefined && !event.altKey) {
      event.preventDefault();
      const isSomewhere = indexOf(store.current.value) >= 0 || event.key === "End";
      go(isSomewhere ? target : 0, event);
    } else if (event.key === " ") {
      event.preventDefault();
      anchor.current = store.current.value;
      store.toggle(store.current.value);
    } else if (event.key === "a" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      store.select(shown.map((place) => store.names.value[place]!));
    } else if (event.key === "Escape" && store.selected.value.size) {
      event.preventDefault();
      store.select([]);
    } else if (event.key === "Enter" && store.current.value) {
      event.preventDefault();
      onOpen(store.current.value);
    }
  }

  /** The shown picture at a point of the whole grid, -1 between them. */
  function at(x: number, y: number): number {
    const column = Math.floor((x - GAP) / (cell + GAP));
    const row = Math.floor((y - GAP) / step);
    const isInside = column >= 0 && column < columns && (x - GAP) % (cell + GAP) < cell && (y - GAP) % step < height;
    const index = row * columns + column;
    return isInside && index >= 0 && index < shown.length ? index : -1;
  }

  function press(event: PointerEvent) {
    const element = box.current!;
    // Not the scroll bar.
    if (event.button !== 0 || event.offsetX > element.clientWidth) return;
    const bounds = element.getBoundingClientRect();
    const point = (e: PointerEvent) => ({
      x: e.clientX - bounds.left + element.scrollLeft,
      y: e.clientY - bounds.top + element.scrollTop,
    });
    const start = point(event);
    const index = at(start.x, start.y);
    const adds = event.ctrlKey || event.metaKey;
    const before = adds ? store.selected.value : new Set<string>();
    let last = event;
    let frame = 0;
    const draw = () => {
      frame = 0;
      const now = point(last);
      const next = { x0: start.x, y0: start.y, x1: now.x, y1: now.y };
      if (!band.value && Math.hypot(now.x - start.x, now.y - start.y) < DRAG) return;
      band.value = next;
      store.select([...before, ...within(next)]);
      // At the edge it goes on by itself.
      const beyond = last.clientY > bounds.bottom - 8 ? 1 : last.clientY < bounds.top + 8 ? -1 : 0;
      if (beyond) {
        element.scrollTop += beyond * 24;
        frame = requestAnimationFrame(draw);
      }
    };
    const move = (e: PointerEvent) => {
      last = e;
      frame ||= requestAnimationFrame(draw);
    };
    const release = () => {
      removeEventListener("pointermove", move);
      removeEventListener("pointerup", release);
      removeEventListener("pointercancel", release);
      cancelAnimationFrame(frame);
      const wasBand = band.value !== null;
      band.value = null;
      if (wasBand) return;
      if (index < 0) return store.select(adds ? before : []);
      const name = nameAt(index);
      if (adds) {
        store.current.value = name;
        anchor.current = name;
        store.toggle(name);
      } else go(index, event);
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", release);
    addEventListener("pointercancel", release);
  }

  function within({ x0, y0, x1, y1 }: Band): string[] {
    const [left, right] = x0 < x1 ? [x0, x1] : [x1, x0];
    const [top, bottom] = y0 < y1 ? [y0, y1] : [y1, y0];
    const names: string[] = [];
    const low = Math.max(0, Math.floor((top - GAP) / step));
    const high = Math.min(rows - 1, Math.floor((bottom - GAP) / step));
    for (let row = low; row <= high; row++) {
      if (GAP + row * step + height < top) continue;
      for (let column = 0; column < columns; column++) {
        const x = GAP + column * (cell + GAP);
        const name = x <= right && x + cell >= left ? nameAt(row * columns + column) : "";
        if (name) names.push(name);
      }
    }
    return names;
  }

  const listing = store.listing.value!;
  const selected = store.selected.value;
  const current = store.current.value;
  const lacksCaptions = store.lacksCaptions.value;
  const lines = band.value;
  return (
    <GridBox
      view={grid}
      class="image-grid"
      label={`Pictures: ${shown.length}`}
      name="image"
      at={indexOf(current)}
      onKeyDown={key}
      onPointerDown={press}
      onDblClick={() => store.current.value && onOpen(store.current.value)}
      cell={(index, left) => {
        const place = shown[index]!;
        const name = listing.names[place]!;
        const address = imageAddress(store.imagePath(name), pixels, listing.versions[place]);
        return (
          <Cell
            index={index}
            left={left}
            name={name}
            flags={listing.flags[place]!}
            tags={lacksCaptions ? null : listing.tags[place]!.length}
            selected={selected.has(name)}
            current={name === current}
            size={size}
            address={resting.value || isThere(address) ? address : ""}
          />
        );
      }}
    >
      {lines && (
        <div
          class="band"
          style={{
            left: `${Math.min(lines.x0, lines.x1)}px`,
            top: `${Math.min(lines.y0, lines.y1)}px`,
            width: `${Math.abs(lines.x1 - lines.x0)}px`,
            height: `${Math.abs(lines.y1 - lines.y0)}px`,
          }}
        />
      )}
    </GridBox>
  );
}

interface CellProps {
  index: number;
  left: number;
  name: string;
  flags: number;
  /** How many; null while nobody knows. */
  tags: number | null;
  selected: boolean;
  current: boolean;
  size: number;
  address: string;
}

/** Drawn anew only where something of it is another: most of what one scrolls past stays. */
class Cell extends Component<CellProps> {
  override shouldComponentUpdate(next: CellProps): boolean {
    return (Object.keys(next) as (keyof CellProps)[]).some((name) => next[name] !== this.props[name]);
  }

  override render({ index, left, name, flags, tags, selected, current, size, address }: CellProps) {
    const marks = [flags & MASKED ? "mask" : "", flags & CROPPED ? "crop" : ""].filter(Boolean);
    const words = flags & NO_CAPTION ? "no caption" : tags === null ? "" : `${tags} tags`;
    return (
      <div
        id={`image-${index}`}
        role="gridcell"
        class={current ? "card image-cell current" : "card image-cell"}
        aria-selected={selected}
        aria-label={`${name}${words && `, ${words}`}${flags & MASKED ? ", mask" : ""}${flags & CROPPED ? ", crop" : ""}`}
        style={{ left: `${left}px`, width: `${size + 2}px` }}
      >
        <div class="card-thumb" style={{ height: `${size}px` }}>
          {address && <Thumb key={address} address={address} />}
          {marks.length > 0 && <span class="marks small">{marks.join(" · ")}</span>}
        </div>
        <div class="image-words small">
          <span class="cut">{baseName(name)}</span>
          <span
            class={flags & NO_CAPTION ? "push lacks" : "push soft number"}
            title={(flags & NO_CAPTION ? "" : words) || undefined}
          >
            {flags & NO_CAPTION ? "no caption" : tags}
          </span>
        </div>
      </div>
    );
  }
}
