// A text field that says what may be written next.
import type { ComponentChildren, Ref } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { BEFORE_ASKING, chosenNext, type Option, Suggestions } from "./suggestions";

interface Props {
  value: string;
  label: string;
  placeholder?: string;
  /** What may stand at the cursor. */
  complete: (text: string, cursor: number, signal: AbortSignal) => Promise<Option[]>;
  onInput: (value: string) => void;
  /** Enter, where no option is chosen; or an option, where `takesWhole`. */
  onEnter?: (value: string) => void;
  onEscape?: () => void;
  /** Other keys, before all else; true where it has done something. */
  onKey?: (event: KeyboardEvent) => boolean;
  onBlur?: () => void;
  /** An option is the whole value, and is entered at once. */
  takesWhole?: boolean;
  invalid?: boolean;
  describedBy?: string;
  inputRef?: Ref<HTMLInputElement>;
  class?: string;
  children?: ComponentChildren;
}

export function Combobox(props: Props) {
  const { value, label, complete, onInput, takesWhole } = props;
  const [options, setOptions] = useState<Option[]>([]);
  const open = options.length > 0;
  const [chosen, setChosen] = useState(-1);
  const id = useId();
  const input = useRef<HTMLInputElement | null>(null);
  const asking = useRef<AbortController | null>(null);
  const timer = useRef(0);
  useEffect(() => () => (asking.current?.abort(), clearTimeout(timer.current)), []);

  function ask(text: string) {
    clearTimeout(timer.current);
    timer.current = setTimeout(async () => {
      asking.current?.abort();
      const controller = (asking.current = new AbortController());
      try {
        const found = await complete(text, input.current?.selectionStart ?? text.length, controller.signal);
        if (controller.signal.aborted || document.activeElement !== input.current) return;
        setOptions(found);
        setChosen(-1);
      } catch {
        setOptions([]); // What is wrong with the text is said elsewhere.
      }
    }, BEFORE_ASKING);
  }

  function close() {
    clearTimeout(timer.current);
    asking.current?.abort();
    setOptions([]);
    setChosen(-1);
  }

  function take(option: Option) {
    close();
    if (takesWhole) {
      props.onEnter?.(option.text);
      return;
    }
    const start = option.start ?? 0;
    const next = value.slice(0, start) + option.text + value.slice(option.end ?? value.length);
    onInput(next);
    const cursor = start + option.text.length;
    requestAnimationFrame(() => input.current?.setSelectionRange(cursor, cursor));
    if (option.text.endsWith(":")) ask(next);
  }

  function key(event: KeyboardEvent) {
    if (props.onKey?.(event)) {
      event.preventDefault();
      return;
    }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && !event.altKey) {
      event.preventDefault();
      if (!open) return ask(value);
      setChosen(chosenNext(chosen, step, options.length));
      return;
    }
    if (event.key === "Enter" || (event.key === "Tab" && open && chosen >= 0)) {
      event.preventDefault();
      const option = options[chosen];
      if (option) take(option);
      else (close(), props.onEnter?.(value));
    }
    if (event.key === "Escape") {
      if (!open && !props.onEscape) return;
      event.preventDefault();
      event.stopPropagation();
      if (open) close();
      else props.onEscape?.();
    }
  }

  return (
    <div class={`combobox ${props.class ?? ""}`}>
      <input
        ref={(element) => {
          input.current = element;
          if (typeof props.inputRef === "function") props.inputRef(element);
          else if (props.inputRef) props.inputRef.current = element;
        }}
        class="input"
        type="text"
        role="combobox"
        autocomplete="off"
        spellcheck={false}
        aria-label={label}
        aria-expanded={open}
        aria-controls={`${id}-list`}
        aria-autocomplete="list"
        aria-activedescendant={open && chosen >= 0 ? `${id}-${chosen}` : undefined}
        aria-invalid={props.invalid || undefined}
        aria-describedby={props.describedBy}
        placeholder={props.placeholder}
        value={value}
        onInput={(event) => {
          onInput(event.currentTarget.value);
          if (event.currentTarget.value) ask(event.currentTarget.value);
          else close(); // All words there are would lie over the page: the arrow shows them.
        }}
        onKeyDown={key}
        onBlur={() => (close(), props.onBlur?.())}
      />
      {props.children}
      <Suggestions id={id} label={label} options={options} chosen={chosen} onTake={take} />
    </div>
  );
}
