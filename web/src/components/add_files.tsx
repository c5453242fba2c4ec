// A button that opens the browser's own choice of files.
import type { ComponentChildren } from "preact";
import { useRef } from "preact/hooks";
import { chosenFiles, type Dropped } from "../dropping";

interface Props {
  onFiles: (files: Dropped[]) => void;
  /** Which are offered; by itself pictures and what belongs to them. */
  accept?: string;
  single?: boolean;
  /** The button, given what opens the choice. */
  children: (choose: () => void) => ComponentChildren;
}

export function AddFiles({ onFiles, accept = "image/*,.txt,.caption,.zip,.cbz", single = false, children }: Props) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <span>
      {children(() => input.current?.click())}
      <input
        ref={input}
        type="file"
        multiple={!single}
        class="unseen"
        tabIndex={-1}
        aria-hidden="true"
        accept={accept}
        onChange={(event) => {
          const files = chosenFiles(event.currentTarget);
          event.currentTarget.value = "";
          if (files.length) onFiles(files);
        }}
      />
    </span>
  );
}
