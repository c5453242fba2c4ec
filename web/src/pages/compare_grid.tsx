// The cells of a grid under their labels; only those in sight are on the page, also of ten thousand.
import { useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { imageAddress } from "../api/client";
import { isThere, Thumb } from "../components/thumb";
import { keyOf, sizeOf, told, wordsOf, type Grid, type GridCell, type Place } from "./compare_shared";

/** px between cells. */
const GAP = 4;
const HEAD = 28;
/** ms of rest after which pictures are asked for. */
const REST = 60;
/** Sizes of pictures that are asked for, so that a step of the slider asks for none. */
const SIZES = [96, 192, 384, 768];

interface Props {
  grid: Grid;
  cells: ReadonlyMap<string, GridCell>;
  /** Which axis is across, down and on pages. */
  order: readonly [number, number, number];
  /** px of a cell's width. */
  size: number;
  current: Place;
  chosen: readonly string[];
  /** `more`: with those that are chosen, rather than alone. */
  onGo: (place: Place, more: boolean) => void;
  onPoint: (place: Place | null) => void;
  onOpen: (place: Place) => void;
}

export function CellGrid({ grid, cells, order, size, current, chosen, onGo, onPoint, onOpen }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const view = useSignal({ width: 0, height: 0, left: 0, top: 0 });
  const resting = useSignal(true);
  const [across, down, pages] = order;
  const columns = sizeOf(grid, across);
  const rows = sizeOf(grid, down);
  const height = Math.round((size * grid.height) / Math.max(1, grid.width));
  const side = rowLabelWidth(grid.axes[down]?.values ?? []);
  const [stepX, stepY] = [size + GAP, height + GAP];

  useLayoutEffect(() => {
    const element = box.current!;
    let timer = 0;
    let frame = 0;
    const measure = () => {
      frame = 0;
      const { clientWidth, clientHeight, scrollLeft, scrollTop } = element;
      view.value = { width: clientWidth, height: clientHeight, left: scrollLeft, top: scrollTop };
    };
    const scrolled = () => {
      resting.value = false;
      clearTimeout(timer);
      timer = setTimeout(() => (resting.value = true), REST);
      frame ||= requestAnimationFrame(measure);
    };
    measure();
    const watch = new ResizeObserver(measure);
    watch.observe(element);
    element.addEventListener("scroll", scrolled, { passive: true });
    return () => {
      watch.disconnect();
      element.removeEventListener("scroll", scrolled);
      clearTimeout(timer);
      cancelAnimationFrame(frame);
    };
  }, []);

  const at = keyOf(current);
  useEffect(() => {
    const element = box.current!;
    const [x, y] = [current[across]! * stepX, current[down]! * stepY];
    const [roomX, roomY] = [element.clientWidth - side, element.clientHeight - HEAD];
    if (x < element.scrollLeft) element.scrollLeft = x;
    else if (x + stepX > element.scrollLeft + roomX) element.scrollLeft = x + stepX - roomX;
    if (y < element.scrollTop) element.scrollTop = y;
    else if (y + stepY > element.scrollTop + roomY) element.scrollTop = y + stepY - roomY;
  }, [at, size, across, down]);

  function key(event: KeyboardEvent) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const to = [...current] as [number, number, number];
    const move = (axis: number, by: number) =>
      (to[axis] = Math.min(sizeOf(grid, axis) - 1, Math.max(0, to[axis]! + by)));
    const keys: Record<string, () => unknown> = {
      ArrowLeft: () => move(across, -1),
      ArrowRight: () => move(across, 1),
      ArrowUp: () => move(down, -1),
      ArrowDown: () => move(down, 1),
      Home: () => (to[across] = 0),
      End: () => (to[across] = columns - 1),
      PageUp: () => move(pages, -1),
      PageDown: () => move(pages, 1),
    };
    if (event.key === "Enter") onOpen(current);
    else if (event.key === " ") onGo(current, true);
    else if (keys[event.key]) {
      keys[event.key]!();
      onGo(to, false);
    } else return;
    event.preventDefault();
  }

  const { left, top, width, height: tall } = view.value;
  const firstColumn = Math.max(0, Math.floor(left / stepX));
  const lastColumn = Math.min(columns, Math.ceil((left + width) / stepX));
  const firstRow = Math.max(0, Math.floor(top / stepY));
  const lastRow = Math.min(rows, Math.ceil((top + tall) / stepY));
  const isInSight =
    current[across]! >= firstColumn &&
    current[across]! < lastColumn &&
    current[down]! >= firstRow &&
    current[down]! < lastRow;
  const density = Math.min(2, devicePixelRatio);
  const wanted = SIZES.find((each) => each >= size * density) ?? SIZES.at(-1)!;
  const small = grid.thumbnails;
  const range = (from: number, to: number) => Array.from({ length: Math.max(0, to - from) }, (_, n) => from + n);
  const placeAt = (column: number, row: number): Place => {
    const place: [number, number, number] = [...current];
    place[across] = column;
    place[down] = row;
    return place;
  };

  return (
    <div
      ref={box}
      class={grid.width <= 256 ? "cell-grid by-pixels" : "cell-grid"}
      role="grid"
      aria-label={`Pictures: ${[grid.axes[across]?.title, grid.axes[down]?.title].filter(Boolean).join(" by ")}`}
      aria-multiselectable="true"
      aria-rowcount={rows + 1}
      aria-colcount={columns + 1}
      aria-activedescendant={isInSight ? `cell-${at}` : undefined}
      tabIndex={0}
      onKeyDown={key}
      onPointerLeave={() => onPoint(null)}
    >
      <div
        class="cell-space"
        role="presentation"
        style={{ width: `${side + columns * stepX}px`, height: `${HEAD + rows * stepY}px` }}
      >
        <div class="cell-heads" role="row" aria-rowindex={1} style={{ height: `${HEAD}px` }}>
          <span class="cell-corner" role="columnheader" aria-colindex={1} style={{ width: `${side}px` }}>
            <span class="unseen">{grid.axes[down]?.title ?? "Row"}</span>
          </span>
          {range(firstColumn, lastColumn).map((column) => {
            const label = grid.axes[across]?.values[column] ?? "";
            const isNow = column === current[across];
            return (
              <span
                key={column}
                role="columnheader"
                aria-colindex={column + 2}
                class={isNow ? "cell-head cut now" : "cell-head cut"}
                title={label}
                style={{ left: `${side + column * stepX}px`, width: `${size}px` }}
              >
                {label}
              </span>
            );
          })}
        </div>
        {range(firstRow, lastRow).map((row) => {
          const label = grid.axes[down]?.values[row] ?? "";
          return (
            <div
              key={row}
              role="row"
              aria-rowindex={row + 2}
              class="cell-row"
              style={{ top: `${HEAD + row * stepY}px`, height: `${height}px`, width: `${side + columns * stepX}px` }}
            >
              <span
                role="rowheader"
                aria-colindex={1}
                class={row === current[down] ? "cell-side now" : "cell-side"}
                title={grid.axes[down] && told(grid.axes[down], label)}
                style={{ width: `${side}px` }}
              >
                <span class="cell-label">{label}</span>
              </span>
              {range(firstColumn, lastColumn).map((column) => {
                const place = placeAt(column, row);
                const id = keyOf(place);
                const cell = cells.get(id);
                const sheet = cell?.small != null && size * density <= 1.4 * (small?.width ?? 0) ? cell.small : null;
                const address = cell?.path ? imageAddress(cell.path, wanted, cell.version) : "";
                return (
                  <div
                    key={column}
                    id={`cell-${id}`}
                    role="gridcell"
                    aria-colindex={column + 2}
                    aria-selected={chosen.includes(id)}
                    aria-label={wordsOf(grid, place) + (address ? "" : ", not drawn yet")}
                    class={id === at ? "cell current" : "cell"}
                    style={{ left: `${side + column * stepX}px`, width: `${size}px`, height: `${height}px` }}
                    onClick={(event) => onGo(place, event.ctrlKey || event.metaKey || event.shiftKey)}
                    onDblClick={() => onOpen(place)}
                    onPointerEnter={() => onPoint(place)}
                  >
                    {sheet !== null
                      ? small && <span class="cell-small" style={smallStyle(small, sheet, size, height)} />
                      : address
                        ? (resting.value || isThere(address)) && <Thumb key={address} address={address} />
                        : size >= 72 && <span class="soft small">not drawn</span>}
                    {chosen.includes(id) && <span class="cell-mark">{chosen.indexOf(id) + 1}</span>}
                  </div>
                );
              })}
            </div>
          );
        })}
      </div>
    </div>
  );
}

/** One of the thumbnails on their sheet, as large as a cell. */
function smallStyle(small: NonNullable<Grid["thumbnails"]>, number: number, width: number, height: number) {
  const scale = Math.min(width / small.width, height / small.height);
  const [w, h] = [small.width * scale, small.height * scale];
  return {
    width: `${w}px`,
    height: `${h}px`,
    backgroundImage: `url("${imageAddress(small.path, undefined, small.version)}")`,
    backgroundSize: `${w * small.columns}px ${h * small.rows}px`,
    backgroundPosition: `${-w * (number % small.columns)}px ${-h * Math.floor(number / small.columns)}px`,
  };
}

/** px for what stands beside the rows; longer labels are broken, and cut where they are longer still. */
export function rowLabelWidth(labels: readonly string[]): number {
  const longest = Math.max(0, ...labels.map((label) => label.length));
  return Math.min(150, Math.max(44, Math.ceil(longest * 7.2) + 16));
}
