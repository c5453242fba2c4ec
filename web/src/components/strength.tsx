// How strongly a LoRA, or a block of one, is drawn with.

interface Props {
  label: string;
  text: string;
  value: number;
  onChange: (value: number) => void;
}

/** A slider, and a field for what lies beyond it. */
export function Strength({ label, text, value, onChange }: Props) {
  return (
    <div class="strength">
      <span class="small soft" aria-hidden="true">
        {text}
      </span>
      <input
        type="range"
        aria-label={label}
        min={Math.min(-1, value)}
        max={Math.max(2, value)}
        step={0.05}
        value={value}
        onInput={(event) => onChange(Number(event.currentTarget.value))}
      />
      <input
        class="input number"
        type="number"
        aria-label={`${label}, as a number`}
        step={0.05}
        value={Math.round(value * 1000) / 1000}
        onInput={(event) => event.currentTarget.value !== "" && onChange(Number(event.currentTarget.value))}
      />
    </div>
  );
}
