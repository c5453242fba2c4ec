interface Props<Name extends string> {
  names: readonly Name[];
  chosen: Name;
  onChoose: (name: Name) => void;
  label: string;
  /** Id of what they switch. */
  controls?: string;
}

/** Left and right arrows go through them, as browsers' own would. */
export function Tabs<Name extends string>({ names, chosen, onChoose, label, controls }: Props<Name>) {
  function key(event: KeyboardEvent) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = names[(names.indexOf(chosen) + step + names.length) % names.length];
    if (next === undefined) return;
    onChoose(next);
    const tabs = (event.currentTarget as HTMLElement).querySelectorAll<HTMLElement>("[role=tab]");
    tabs[names.indexOf(next)]?.focus();
  }
  return (
    <div class="tabs" role="tablist" aria-label={label} onKeyDown={key}>
      {names.map((name) => (
        <button
          type="button"
          role="tab"
          aria-selected={name === chosen}
          aria-controls={controls}
          tabIndex={name === chosen ? 0 : -1}
          onClick={() => onChoose(name)}
        >
          {name}
        </button>
      ))}
    </div>
  );
}
