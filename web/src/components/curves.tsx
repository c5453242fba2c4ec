// Curves over the steps: of one run, with others laid over.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { figure } from "../format";
import { theme } from "../session";

export interface Curve {
  /** Of its run; the first is the one that the page is about. */
  run: string;
  name: string;
  steps: (number | null)[];
  values: (number | null)[];
}

interface Props {
  curves: readonly Curve[];
  label: string;
  /** How values are written. */
  write?: (value: number) => string;
  /** What each is raised from: `true` for a scale of powers of ten. */
  log?: boolean;
  height?: number;
}

const COLOURS = 6;
const FAINT = /^(loss|training)$/;

interface Drawn {
  key: string;
  label: string;
  colour: string;
  width: number;
  dash: number[];
}

/** A colour of the design, as the browser draws it now. */
function resolved(name: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

export function Curves({ curves, label, write = figure, log = false, height = 260 }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const [at, setAt] = useState<number | null>(null);
  const names = curves.map((curve) => `${curve.run}\n${curve.name}`).join("\t");

  const data = useMemo(() => {
    if (!curves.length) return [[]] as unknown as uPlot.AlignedData;
    return uPlot.join(curves.map((curve) => [curve.steps, curve.values] as unknown as uPlot.AlignedData));
  }, [curves]);

  const drawn = useMemo<Drawn[]>(() => {
    const runs = [...new Set(curves.map((curve) => curve.run))];
    const kinds = [...new Set(curves.map((curve) => curve.name))];
    return curves.map((curve) => {
      const other = runs.indexOf(curve.run);
      // One run: a colour for each curve. Several: a colour for each run, a dash for each curve.
      const colour = runs.length > 1 ? other : kinds.indexOf(curve.name);
      return {
        key: `${curve.run}\n${curve.name}`,
        label: runs.length > 1 ? `${curve.name} of ${curve.run}` : curve.name,
        colour: `curve-${(colour % COLOURS) + 1}`,
        width: FAINT.test(curve.name) ? 0.6 : 1.8,
        dash: runs.length > 1 && kinds.indexOf(curve.name) > 0 ? [2 + 3 * kinds.indexOf(curve.name), 3] : [],
      };
    });
  }, [names]);

  // The scheme that counts now, also where it is the system's.
  const [dark, setDark] = useState(matchMedia("(prefers-color-scheme: dark)").matches);
  useEffect(() => {
    const query = matchMedia("(prefers-color-scheme: dark)");
    const changed = () => setDark(query.matches);
    query.addEventListener("change", changed);
    return () => query.removeEventListener("change", changed);
  }, []);

  useEffect(() => {
    const target = place.current!;
    if (!curves.length) return;
    const ink = resolved("text-soft");
    const line = resolved("line");
    const axis: uPlot.Axis = {
      stroke: ink,
      grid: { stroke: line, width: 1 },
      ticks: { stroke: line, width: 1 },
      font: `12px ${getComputedStyle(document.body).fontFamily}`,
    };
    const made = new uPlot(
      {
        width: Math.max(200, target.clientWidth),
        height,
        legend: { show: false },
        scales: { x: { time: false }, y: log ? { distr: 3 } : {} },
        cursor: { drag: { x: true, y: false }, points: { size: 6 } },
        axes: [
          { ...axis, size: 34 },
          { ...axis, size: 64, values: (_, splits) => splits.map((value) => (value === null ? "" : write(value))) },
        ],
        series: [
          {},
          ...drawn.map((each) => ({
            label: each.label,
            stroke: resolved(each.colour),
            width: each.width,
            dash: each.dash,
            spanGaps: true,
            points: { show: false },
            show: !hidden.has(each.key),
          })),
        ],
        hooks: { setCursor: [(self) => setAt(self.cursor.idx ?? null)] },
      },
      data,
      target,
    );
    plot.current = made;
    const resize = new ResizeObserver(() => made.setSize({ width: Math.max(200, target.clientWidth), height }));
    resize.observe(target);
    return () => {
      resize.disconnect();
      made.destroy();
      plot.current = null;
    };
    // A new plot where its series or its colours are others; values alone are set below.
  }, [drawn, log, height, dark, theme.value]);

  useEffect(() => {
    const self = plot.current;
    if (!self) return;
    const { min, max } = self.scales.x!;
    const xs = self.data[0];
    const zoomed = xs.length > 1 && min != null && max != null && (min > xs[0]! || max < xs[xs.length - 1]!);
    self.setData(data, !zoomed);
  }, [data]);

  useEffect(() => {
    drawn.forEach((each, index) => plot.current?.setSeries(index + 1, { show: !hidden.has(each.key) }));
  }, [hidden]);

  function zoom(factor: number, shift: number) {
    const self = plot.current;
    const xs = data[0];
    if (!self || xs.length < 2) return;
    const [first, last] = [xs[0]!, xs[xs.length - 1]!];
    const min = self.scales.x!.min ?? first;
    const max = self.scales.x!.max ?? last;
    const width = Math.min((max - min) * factor, last - first);
    const middle = (min + max) / 2 + shift * width;
    const from = Math.max(first, Math.min(last - width, middle - width / 2));
    self.setScale("x", { min: from, max: from + width });
  }

  function key(event: KeyboardEvent) {
    const moves: Record<string, [number, number]> = {
      "+": [0.6, 0],
      "=": [0.6, 0],
      "-": [1 / 0.6, 0],
      ArrowLeft: [1, -0.2],
      ArrowRight: [1, 0.2],
      "0": [1e9, 0],
    };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    event.stopPropagation();
    zoom(...move);
  }

  if (!curves.length) return <p class="empty">Nothing has been logged of this yet.</p>;
  const row = at ?? (data[0]?.length ?? 0) - 1;
  return (
    <figure class="curves">
      <ul class="legend" aria-label={`Curves of ${label}`}>
        <li class="soft number">step {data[0]?.[row] ?? "–"}</li>
        {drawn.map((each, index) => (
          <li key={each.key}>
            <button
              type="button"
              class="curve-name"
              aria-pressed={!hidden.has(each.key)}
              title="Show or hide"
              onClick={() => {
                const others = new Set(hidden);
                if (!others.delete(each.key)) others.add(each.key);
                setHidden(others);
              }}
            >
              <i class={each.colour} />
              {each.label}
              <span class="number soft">{figure(lastBefore(data[index + 1], row))}</span>
            </button>
          </li>
        ))}
      </ul>
      <div
        ref={place}
        class="plot"
        tabIndex={0}
        role="img"
        aria-label={`${label} over the steps. Keys: + and - zoom, the arrows move, 0 shows all.`}
        title="Drag over a part to see it larger; double-click shows all"
        onKeyDown={key}
      />
    </figure>
  );
}

/** What is logged seldom has its value at the step before. */
function lastBefore(values: ArrayLike<number | null | undefined> | undefined, row: number): number | null {
  for (let index = Math.min(row, (values?.length ?? 0) - 1); index >= 0; index--) {
    const value = values?.[index];
    if (value != null) return value;
  }
  return null;
}
