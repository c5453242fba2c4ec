// Drawn on 16 by 16; they stand beside a word, or have one for who hears the page.
const PATHS = {
  add: "M8 3v10M3 8h10",
  arrowDown: "M8 3v10M4 9l4 4 4-4",
  arrowUp: "M8 13V3M4 7l4-4 4 4",
  check: "M3 8.5l3.5 3.5L13 5",
  close: "M4 4l8 8M12 4l-8 8",
  copy: "M6 6h7v7H6zM3 10V3h7",
  drag: "M6 4h.01M10 4h.01M6 8h.01M10 8h.01M6 12h.01M10 12h.01",
  file: "M4 2h5l3 3v9H4zM9 2v3h3",
  folder: "M2 4h4l1.5 2H14v7H2z",
  image: "M2 3h12v10H2zM2 11l3.5-3.5L9 11l2-2 3 3M10.5 6h.01",
  left: "M10 3L5 8l5 5",
  lock: "M4 7h8v6H4zM6 7V5a2 2 0 0 1 4 0v2",
  moon: "M12.5 9.5A5 5 0 0 1 6.5 3.5a5 5 0 1 0 6 6z",
  open: "M8 12.5a4.5 4.5 0 1 0 0-9 4.5 4.5 0 0 0 0 9z",
  pause: "M5.5 3.5v9M10.5 3.5v9",
  pen: "M3 13l.5-3L11 2.5 13.5 5 6 12.5z",
  play: "M5 3l8 5-8 5z",
  queue: "M3 4h10M3 8h10M3 12h6",
  redo: "M11 3l3 3-3 3M14 6H7a4 4 0 0 0 0 8h2",
  retry: "M13 8a5 5 0 1 1-1.5-3.5M13 2v3h-3",
  right: "M6 3l5 5-5 5",
  search: "M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10zM11 11l3 3",
  stop: "M4 4h8v8H4z",
  sun: "M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M3 13l1-1M12 4l1-1",
  trash: "M3 4h10M6 4V2.5h4V4M4.5 4l.5 9.5h6l.5-9.5",
  undo: "M5 3L2 6l3 3M2 6h7a4 4 0 0 1 0 8H7",
  up: "M3 10l5-5 5 5",
  warning: "M8 2L14.5 13.5H1.5zM8 6.5v3M8 11.5h.01",
};

export type IconName = keyof typeof PATHS;

export function Icon({ name, label }: { name: IconName; label?: string }) {
  return (
    <svg
      class="icon"
      viewBox="0 0 16 16"
      aria-hidden={label ? undefined : "true"}
      role={label ? "img" : undefined}
      aria-label={label}
    >
      <path d={PATHS[name]} />
    </svg>
  );
}
