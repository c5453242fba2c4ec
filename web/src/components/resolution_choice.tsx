import { useState } from "preact/hooks";
import { remember, remembered } from "../session";

/** The first is the demo model's. */
const RESOLUTIONS = [64, 256, 512, 768, 1024];

/** The resolution of training that the pages speak of, px; kept in this browser. */
export function useResolution(): [number, (next: number) => void] {
  const [resolution, setResolution] = useState(Number(remembered("resolution")) || 512);
  return [resolution, (next) => (setResolution(next), remember("resolution", String(next)))];
}

export function ResolutionChoice({ value, onChange }: { value: number; onChange: (next: number) => void }) {
  return (
    <select
      class="input resolution"
      aria-label="Resolution of training, px"
      value={value}
      onChange={(event) => onChange(Number(event.currentTarget.value))}
    >
      {RESOLUTIONS.map((each) => (
        <option key={each} value={each}>
          {each} px
        </option>
      ))}
    </select>
  );
}
