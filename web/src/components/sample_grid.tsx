// What a run drew: a row for each time, a column for each prompt; one of them large, to compare.
import { useEffect, useMemo, useState } from "preact/hooks";
import { fetchAhead, imageAddress, type Schemas } from "../api/client";
import { useDialogKeys } from "../keys";
import { alter, query } from "../router";
import { Button } from "./button";
import { Dialog } from "./dialog";
import { Picture } from "./picture";

type Sample = Schemas["SampleImage"];

interface Row {
  step: number;
  name: string;
  /** By the prompt's number. */
  cells: Map<number, Sample>;
}

function rowName(sample: Sample): string {
  if (sample.step === 0) return "base model";
  if (sample.epoch != null) return `epoch ${sample.epoch}`;
  return sample.step === null ? "no step known" : `step ${sample.step}`;
}

interface Props {
  samples: readonly Sample[];
  /** After which step the snapshot is that pick says to keep. */
  kept?: number | null | undefined;
}

export function SampleGrid({ samples, kept }: Props) {
  const rows = useMemo(() => {
    const found = new Map<number, Row>();
    for (const sample of samples) {
      const step = sample.step ?? -1;
      const row = found.get(step) ?? { step, name: rowName(sample), cells: new Map() };
      row.cells.set(sample.index, sample);
      found.set(step, row);
    }
    return [...found.values()].sort((a, b) => a.step - b.step);
  }, [samples]);
  const prompts = useMemo(() => {
    const found = new Map<number, string>();
    for (const sample of samples) found.set(sample.index, sample.prompt || found.get(sample.index) || "");
    return [...found].sort((a, b) => a[0] - b[0]);
  }, [samples]);
  const [size, setSize] = useState(128);
  // In the address, so that the way back closes it.
  const asked = query.value.get("sample")?.split(".").map(Number);
  const at: [number, number] = [
    rows.findIndex((row) => row.step === asked?.[0]),
    prompts.findIndex(([index]) => index === asked?.[1]),
  ];
  const open = at[0] >= 0 && at[1] >= 0 ? at : null;
  const setOpen = (next: [number, number] | null) =>
    alter({ sample: next && `${rows[next[0]]!.step}.${prompts[next[1]]![0]}` }, { replace: open !== null });
  const [focus, setFocus] = useState<[number, number]>([0, 0]);

  if (!rows.length)
    return (
      <p class="empty">
        No samples yet. They come as the settings of section “sample” say, or at once with “Sample now”.
      </p>
    );

  function key(event: KeyboardEvent) {
    const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!move) return;
    event.preventDefault();
    const row = Math.min(rows.length - 1, Math.max(0, focus[0] + move[0]!));
    const column = Math.min(prompts.length - 1, Math.max(0, focus[1] + move[1]!));
    setFocus([row, column]);
    const table = event.currentTarget as HTMLElement;
    table.querySelector<HTMLElement>(`[data-at="${row} ${column}"]`)?.focus();
  }

  return (
    <div class="column">
      <label class="row soft sample-size">
        Size
        <input
          type="range"
          min={64}
          max={384}
          step={32}
          value={size}
          onInput={(event) => setSize(Number(event.currentTarget.value))}
        />
      </label>
      <div class="scrolls samples" onKeyDown={key}>
        <table
          role="grid"
          aria-label="Samples: a row for each time, a column for each prompt"
          aria-rowcount={rows.length + 1}
        >
          <thead>
            <tr>
              <th scope="col">
                <span class="unseen">When</span>
              </th>
              {prompts.map(([index, prompt]) => (
                <th scope="col" key={index} title={prompt} style={{ width: `${size}px` }}>
                  <span class="prompt">{prompt || `prompt ${index + 1}`}</span>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map((row, down) => (
              <tr key={row.step}>
                <th scope="row" class="number">
                  {row.name}
                  {row.step > 0 && row.name.startsWith("epoch") && <span class="soft small"> step {row.step}</span>}
                  {row.step === kept && (
                    <span class="tag running" title="What pick says to keep">
                      keep
                    </span>
                  )}
                </th>
                {prompts.map(([index, prompt], across) => {
                  const sample = row.cells.get(index);
                  const isFocus = focus[0] === down && focus[1] === across;
                  return (
                    <td key={index}>
                      {sample && (
                        <button
                          type="button"
                          class="sample"
                          data-at={`${down} ${across}`}
                          tabIndex={isFocus ? 0 : -1}
                          onFocus={() => setFocus([down, across])}
                          onClick={() => setOpen([down, across])}
                          aria-label={`${row.name}, ${prompt || `prompt ${index + 1}`}`}
                          style={{ width: `${size}px`, height: `${size}px` }}
                        >
                          <Picture path={sample.path} size={size > 192 ? 768 : 384} v={sample.version} alt="" />
                        </button>
                      )}
                    </td>
                  );
                })}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {open && <Large rows={rows} prompts={prompts} at={open} onMove={setOpen} onClose={() => setOpen(null)} />}
    </div>
  );
}

interface LargeProps {
  rows: readonly Row[];
  prompts: readonly [number, string][];
  at: [number, number];
  onMove: (at: [number, number]) => void;
  onClose: () => void;
}

/** One sample, as large as the window; Space shows the other time in its place, so that eyes see what moved. */
function Large({ rows, prompts, at, onMove, onClose }: LargeProps) {
  const [down, across] = at;
  const [other, setOther] = useState(0);
  const [showsOther, setShowsOther] = useState(false);
  const [flickers, setFlickers] = useState(false);
  const [scale, setScale] = useState(0);
  const [natural, setNatural] = useState(0);
  const index = prompts[across]![0];
  const row = rows[showsOther ? other : down]!;
  const sample = row.cells.get(index);

  useEffect(() => {
    if (!flickers) return;
    const timer = setInterval(() => setShowsOther((before) => !before), 600);
    return () => (clearInterval(timer), setShowsOther(false));
  }, [flickers]);

  // Both are there before they are asked for.
  useEffect(() => {
    const near = [
      rows[down - 1]?.cells.get(index),
      rows[down + 1]?.cells.get(index),
      rows[other]?.cells.get(index),
      rows[down]?.cells.get(prompts[across + 1]?.[0] ?? -1),
    ];
    for (const each of near) if (each) fetchAhead(each.path, each.version);
  }, [down, across, other]);

  const move = (y: number, x: number) => {
    setShowsOther(false);
    onMove([Math.min(rows.length - 1, Math.max(0, down + y)), Math.min(prompts.length - 1, Math.max(0, across + x))]);
  };
  useDialogKeys([
    { keys: "ArrowLeft", does: "Sample: the prompt before", run: () => move(0, -1) },
    { keys: "ArrowRight", does: "Sample: the next prompt", run: () => move(0, 1) },
    { keys: "ArrowUp", does: "Sample: the time before", run: () => move(-1, 0) },
    { keys: "ArrowDown", does: "Sample: the next time", run: () => move(1, 0) },
    {
      keys: " ",
      does: "Sample: the other time in its place, and back",
      run: () => setShowsOther((before) => !before),
    },
    {
      keys: "z",
      does: "Sample: as large as fits, or by whole pixels",
      run: () => setScale((before) => (before + 1) % 4),
    },
  ]);
  return (
    <Dialog
      kind="full"
      title={row.name}
      onClose={onClose}
      aside={
        <div class="row wrap push">
          <label class="row one-line">
            Compare with
            <select class="input" value={other} onChange={(event) => setOther(Number(event.currentTarget.value))}>
              {rows.map((each, number) => (
                <option key={each.step} value={number}>
                  {each.name}
                </option>
              ))}
            </select>
          </label>
          <Button aria-pressed={showsOther} onClick={() => setShowsOther(!showsOther)} title="Space">
            Show it
          </Button>
          <Button aria-pressed={flickers} onClick={() => setFlickers(!flickers)}>
            Flicker
          </Button>
          <Button onClick={() => setScale((scale + 1) % 4)} title="z">
            {scale === 0 ? "Fit" : `${scale} : 1`}
          </Button>
        </div>
      }
    >
      <div class="large" tabIndex={0} autofocus role="group" aria-label="The sample">
        {sample ? (
          <img
            class={scale ? "by-pixels" : ""}
            style={scale ? { width: `${scale * natural}px` } : {}}
            src={imageAddress(sample.path, undefined, sample.version)}
            alt={`${row.name}: ${sample.prompt}`}
            onLoad={(event) => setNatural(event.currentTarget.naturalWidth)}
          />
        ) : (
          <p class="empty">At this time this prompt was not drawn.</p>
        )}
      </div>
      <p class="caption">
        {prompts[across]![1]}
        {sample && <span class="soft"> · seed {sample.seed}</span>}
      </p>
    </Dialog>
  );
}
