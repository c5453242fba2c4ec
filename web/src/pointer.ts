/** Follows a pointer that was pressed on an element until it is let go, also beyond the element's edge. */
export function follow(press: PointerEvent, move: (event: PointerEvent) => void): void {
  const target = press.currentTarget as HTMLElement;
  press.preventDefault();
  target.setPointerCapture(press.pointerId);
  const over = new AbortController();
  const { signal } = over;
  target.addEventListener("pointermove", move, { signal });
  for (const end of ["pointerup", "pointercancel"]) target.addEventListener(end, () => over.abort(), { signal });
}
