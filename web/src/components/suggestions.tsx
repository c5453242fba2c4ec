// What may be written next, below the field in which it is written.
import type { CSSProperties } from "preact";

export interface Option {
  text: string;
  /** Beside it, softly. */
  note?: string;
  /** Takes its place. */
  start?: number;
  end?: number;
}

/** ms after a key, before they are asked for. */
export const BEFORE_ASKING = 60;

/** Which is chosen by an arrow; after the last, and before the first, none (-1). */
export const chosenNext = (chosen: number, step: number, count: number): number =>
  ((chosen + 1 + step + count + 1) % (count + 1)) - 1;

interface Props {
  /** Its own is `id-list`, its options' are `id-0`, `id-1`. */
  id: string;
  label: string;
  options: readonly Option[];
  chosen: number;
  style?: CSSProperties;
  onTake: (option: Option) => void;
}

export function Suggestions({ id, label, options, chosen, style, onTake }: Props) {
  return (
    <ul
      id={`${id}-list`}
      class="suggestions"
      role="listbox"
      aria-label={`${label}: suggestions`}
      hidden={!options.length}
      style={style}
    >
      {options.map((option, number) => (
        <li
          key={number}
          id={`${id}-${number}`}
          role="option"
          aria-selected={number === chosen}
          // Before the field loses the focus.
          onMouseDown={(event) => (event.preventDefault(), onTake(option))}
        >
          <span class="cut">{option.text}</span>
          {option.note && <span class="soft push small cut">{option.note}</span>}
        </li>
      ))}
    </ul>
  );
}
