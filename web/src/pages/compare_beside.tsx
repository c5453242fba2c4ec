// One picture of a grid as large as the window, or several beside each other at the same scale.
import { useEffect, useRef, useState } from "preact/hooks";
import { fetchAhead, imageAddress } from "../api/client";
import { Button } from "../components/button";
import { Dialog } from "../components/dialog";
import { useDialogKeys } from "../keys";
import { keyOf, sizeOf, told, type Grid, type GridCell, type Place } from "./compare_shared";

interface Props {
  grid: Grid;
  cells: ReadonlyMap<string, GridCell>;
  order: readonly [number, number, number];
  places: readonly Place[];
  onMove: (places: Place[]) => void;
  onClose: () => void;
}

/** As large as fits, then so many pixels for each of the picture's. */
const SCALES = [0, 1, 2, 4] as const;

const moved = (place: Place, axis: number, by: number): Place =>
  place.map((at, number) => (number === axis ? at + by : at)) as unknown as Place;

export function Beside({ grid, cells, order, places, onMove, onClose }: Props) {
  const [scale, setScale] = useState<(typeof SCALES)[number]>(0);
  /** Which of them is shown in the place of all; null while they stand side by side. */
  const [over, setOver] = useState<number | null>(null);
  const stage = useRef<HTMLDivElement>(null);
  const shown = over === null ? places : [places[over % places.length]!];
  const isOne = places.length === 1;
  const common = grid.axes.flatMap((axis, number) => {
    const values = new Set(places.map((place) => place[number]));
    return values.size === 1 ? [told(axis, axis.values[places[0]![number]!] ?? "")] : [];
  });

  function move(axis: number, by: number) {
    const next = places.map((place) => moved(place, axis, by));
    // All of them, or none: what one compares stays what it is.
    if (next.every((place) => place[axis]! >= 0 && place[axis]! < sizeOf(grid, axis))) onMove(next);
  }
  const next = () => setOver((now) => (now === null ? 0 : (now + 1) % places.length));
  const zoom = () => setScale(SCALES[(SCALES.indexOf(scale) + 1) % SCALES.length]!);
  const [across, down, pages] = order;
  useDialogKeys([
    { keys: "ArrowLeft", does: "Large: what stands one to the left", run: () => move(across, -1) },
    { keys: "ArrowRight", does: "Large: what stands one to the right", run: () => move(across, 1) },
    { keys: "ArrowUp", does: "Large: what stands above", run: () => move(down, -1) },
    { keys: "ArrowDown", does: "Large: what stands below", run: () => move(down, 1) },
    { keys: "PageUp", does: "Large: the page before", run: () => move(pages, -1) },
    { keys: "PageDown", does: "Large: the next page", run: () => move(pages, 1) },
    { keys: " ", does: "Large: one after the other in the same place", run: () => !isOne && next() },
    { keys: "s", does: "Large: side by side", run: () => setOver(null) },
    { keys: "z", does: "Large: as large as fits, or by whole pixels", run: zoom },
  ]);
  // What one arrow leads to is there before it is asked for.
  const key = places.map(keyOf).join(" ");
  useEffect(() => {
    for (const axis of [across, down])
      for (const by of [-1, 1])
        for (const place of places) {
          const cell = cells.get(keyOf(moved(place, axis, by)));
          if (cell?.path) fetchAhead(cell.path, cell.version);
        }
  }, [key]);

  /** What is scrolled in one is scrolled in all. */
  function follow(event: Event) {
    const from = event.currentTarget as HTMLElement;
    for (const each of stage.current?.querySelectorAll<HTMLElement>(".beside-view") ?? []) {
      if (each === from) continue;
      if (each.scrollLeft !== from.scrollLeft) each.scrollLeft = from.scrollLeft;
      if (each.scrollTop !== from.scrollTop) each.scrollTop = from.scrollTop;
    }
  }

  return (
    <Dialog
      title={isOne ? "Picture" : `${places.length} pictures beside each other`}
      kind="full"
      onClose={onClose}
      aside={
        <>
          <span class="soft cut grows">{!isOne && common.join(", ")}</span>
          {!isOne && (
            <Button aria-pressed={over !== null} onClick={() => setOver(over === null ? 0 : null)}>
              In one place
            </Button>
          )}
          <Button onClick={zoom} label={`Scale: ${scale === 0 ? "as fits" : `${100 * scale} %`}; change it`}>
            {scale === 0 ? "As fits" : `${100 * scale} %`}
          </Button>
        </>
      }
    >
      <div class="beside" ref={stage} tabIndex={-1} autofocus>
        {shown.map((place) => {
          const cell = cells.get(keyOf(place));
          const words = grid.axes
            .filter((_, number) => isOne || new Set(places.map((each) => each[number])).size > 1)
            .map((axis) => told(axis, axis.values[place[grid.axes.indexOf(axis)]!] ?? ""))
            .join(", ");
          return (
            <figure key={over === null ? keyOf(place) : "over"}>
              <div
                class={scale === 0 ? "beside-view" : "beside-view scaled"}
                tabIndex={scale === 0 ? undefined : 0}
                role={scale === 0 ? undefined : "group"}
                aria-label={scale === 0 ? undefined : words}
                onScroll={follow}
              >
                {cell?.path ? (
                  <img
                    class={scale > 0 || grid.width <= 256 ? "by-pixels" : ""}
                    src={imageAddress(cell.path, undefined, cell.version)}
                    alt={words}
                    style={scale > 0 ? { width: `${grid.width * scale}px` } : undefined}
                  />
                ) : (
                  <span class="soft">not drawn yet</span>
                )}
              </div>
              <figcaption>
                <strong>{words}</strong>
                {isOne && cell && <div class="soft small breaks">{cell.prompt}</div>}
              </figcaption>
            </figure>
          );
        })}
      </div>
    </Dialog>
  );
}
