import type { ComponentChildren } from "preact";
import { useId, useLayoutEffect, useRef } from "preact/hooks";
import { Button } from "./button";
import { Notices } from "./notices";

interface Props {
  title: string;
  onClose: () => void;
  kind?: "box" | "drawer" | "full";
  footer?: ComponentChildren;
  /** Beside the title. */
  aside?: ComponentChildren;
  children: ComponentChildren;
}

/** What lies over the page: the browser keeps the focus in it, and Escape closes it. */
export function Dialog({ title, onClose, kind = "box", footer, aside, children }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  // Before anything in the dialog takes it.
  const before = useRef(document.activeElement as HTMLElement | null);
  useLayoutEffect(() => {
    const shown = dialog.current!;
    shown.showModal();
    return () => {
      // While it is open nothing beside it can have the focus.
      shown.close();
      before.current?.focus?.();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      class={kind}
      aria-labelledby={id}
      onCancel={(event) => (event.preventDefault(), onClose())}
      onMouseDown={(event) => event.target === dialog.current && onClose()}
    >
      <header>
        <h2 id={id}>{title}</h2>
        {aside}
        <Button class="push" kind="quiet" icon="close" label="Close" onClick={onClose} />
      </header>
      <div class="body">{children}</div>
      {footer && <footer>{footer}</footer>}
      <Notices />
    </dialog>
  );
}
