// One picture large: what training uses of it, a crop that is recorded, a mask that is painted.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { fetchAhead, get, imageAddress, put, type Schemas } from "../api/client";
import { useFetched } from "../api/fetched";
import { Button } from "../components/button";
import { say } from "../components/notices";
import { Failed, Problems } from "../components/problems";
import { ResolutionChoice, useResolution } from "../components/resolution_choice";
import { baseName, bytes, percent } from "../format";
import { useKeys } from "../keys";
import { follow } from "../pointer";
import { remember, remembered } from "../session";
import type { DatasetStore } from "./dataset_store";
import { LossMask } from "./dataset_mask";
import { knownTagger, ToldTags, useTold } from "./dataset_told";

type PictureRecord = Schemas["PictureRecord"];
type Box = [number, number, number, number];

interface Props {
  store: DatasetStore;
  name: string;
  onMove: (step: number) => void;
  onClose: () => void;
}

export function LargeView({ store, name, onMove, onClose }: Props) {
  const [resolution, setResolution] = useResolution();
  const [tool, setTool] = useState<"" | "crop" | "mask">("");
  const [shows, setShows] = useState(remembered("shows-bucket") !== "no");
  const query = { path: store.path, name, width: resolution, height: resolution };
  const found = useFetched(
    (signal) => get("/api/dataset/picture", { query, signal }),
    [name, resolution, store.changes.value],
  );
  const known = useRef<PictureRecord | null>(null);
  if (found.data?.name === name) known.current = found.data;
  const picture = known.current?.name === name ? known.current : null;
  const main = useRef<HTMLElement>(null);
  const [asks, turnAsks] = useTold();
  const scores = useFetched((signal) => get("/api/dataset/scores", { query: { path: store.path }, signal }), [store]);
  const tagger = knownTagger(scores.data?.tagger ?? "");
  useEffect(() => setTool(""), [name]);
  // At once: later the focus may be elsewhere.
  useLayoutEffect(() => main.current?.focus(), []);

  // The neighbours are there before they are asked for.
  const place = store.places.value.get(name);
  useEffect(() => {
    const at = store.shown.value.indexOf(place ?? -1);
    for (const near of [at + 1, at + 2, at - 1]) {
      const other = store.names.value[store.shown.value[near] ?? -1];
      if (other) fetchAhead(store.imagePath(other), store.versionOf(other));
    }
  }, [name]);

  useKeys([
    { keys: "ArrowLeft", does: "Picture: the one before", run: () => onMove(-1) },
    { keys: "ArrowRight", does: "Picture: the next", run: () => onMove(1) },
    { keys: "Escape", does: "Picture: back to all", run: () => (tool ? setTool("") : onClose()) },
    { keys: "b", does: "Picture: what training sees of it", run: () => toggleBucket() },
    { keys: "c", does: "Picture: record a crop", run: () => setTool(tool === "crop" ? "" : "crop") },
    { keys: "m", does: "Picture: paint a mask", run: () => setTool(tool === "mask" ? "" : "mask") },
  ]);

  function toggleBucket() {
    remember("shows-bucket", shows ? "no" : "yes");
    setShows(!shows);
  }

  async function recordCrop(box: Box | null) {
    const body = { names: [name], box, apply: true };
    const done = await put("/api/dataset/crop", { query: { path: store.path }, body });
    if (done.skipped.length) throw new Error(done.skipped[0]!.what);
    say(
      box ? "The crop is recorded; the file stays whole." : "The recorded crop is taken away.",
      store.takeBack(done.entry),
    );
    setTool("");
    await store.reload();
  }

  const position = store.shown.value.indexOf(place ?? -1) + 1;
  return (
    <section class="large-view" aria-label={name} ref={main} tabIndex={-1}>
      <header class="row wrap">
        <Button kind="quiet" icon="left" onClick={onClose}>
          All
        </Button>
        <span class="number soft">
          {position} of {store.shown.value.length}
        </span>
        <h2 class="cut" title={name}>
          {baseName(name)}
        </h2>
        <span class="push" />
        <label class="row">
          <input type="checkbox" checked={shows} onChange={toggleBucket} /> Bucket
        </label>
        <ResolutionChoice value={resolution} onChange={setResolution} />
        <Button
          aria-pressed={asks}
          disabled={!tagger}
          title={tagger ? `What ${tagger} says of this picture` : "Choose a tagger in the panel Tagger first"}
          onClick={turnAsks}
        >
          Ask the tagger
        </Button>
        <Button
          aria-pressed={tool === "crop"}
          disabled={!picture}
          onClick={() => setTool(tool === "crop" ? "" : "crop")}
        >
          Crop
        </Button>
        <Button
          aria-pressed={tool === "mask"}
          disabled={!picture}
          onClick={() => setTool(tool === "mask" ? "" : "mask")}
        >
          Mask
        </Button>
      </header>
      {found.error !== undefined && <Failed error={found.error} />}
      {picture?.crop_problem && <Problems problems={[picture.crop_problem]} warning />}
      {picture && (
        <p class="soft small number">
          {picture.width}×{picture.height}, {bytes(picture.file_bytes)}
          {picture.placement &&
            ` · bucket ${picture.placement.bucket.join("×")}, ${picture.placement.scale > 1 ? "enlarged" : "scaled"} ×${picture.placement.scale.toFixed(2)}, ${percent(picture.placement.cropped)} cut off`}
          {picture.crop && ` · crop ${picture.crop[2] - picture.crop[0]}×${picture.crop[3] - picture.crop[1]}`}
          {picture.mask && " · has a mask"}
        </p>
      )}
      {asks && tagger && <ToldTags store={store} name={name} tagger={tagger} />}
      {tool === "mask" && picture ? (
        <LossMask store={store} picture={picture} onDone={() => setTool("")} />
      ) : (
        <Stage store={store} name={name} picture={picture} shows={shows} crops={tool === "crop"} onCrop={recordCrop} />
      )}
    </section>
  );
}

interface StageProps {
  store: DatasetStore;
  name: string;
  picture: PictureRecord | null;
  shows: boolean;
  crops: boolean;
  onCrop: (box: Box | null) => Promise<void>;
}

/** The picture as large as fits, with what lies over it in its own pixels. */
function Stage({ store, name, picture, shows, crops, onCrop }: StageProps) {
  const [box, setBox] = useState<Box | null>(null);
  const area = useRef<SVGSVGElement>(null);
  useEffect(() => setBox(picture?.crop ?? null), [picture, crops]);
  const width = picture?.width || 1;
  const height = picture?.height || 1;
  const placed = picture?.placement?.crop;

  function point(event: PointerEvent): [number, number] {
    const bounds = area.current!.getBoundingClientRect();
    const x = ((event.clientX - bounds.left) / bounds.width) * width;
    const y = ((event.clientY - bounds.top) / bounds.height) * height;
    return [Math.round(Math.min(width, Math.max(0, x))), Math.round(Math.min(height, Math.max(0, y)))];
  }
  function draw(event: PointerEvent) {
    if (!crops || event.button !== 0) return;
    const [x0, y0] = point(event);
    follow(event, (next) => {
      const [x1, y1] = point(next);
      setBox([Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)]);
    });
  }

  const lines: [Box, string][] = [];
  if (shows && placed && !crops) lines.push([placed as Box, "bucket"]);
  if (picture?.crop && !crops) lines.push([picture.crop as Box, "crop"]);
  if (crops && box) lines.push([box, "crop"]);
  return (
    <>
      {crops && (
        <CropFields box={box} width={width} height={height} onBox={setBox} onCrop={onCrop} had={!!picture?.crop} />
      )}
      <div class="stage">
        <div class="stage-fit" style={{ aspectRatio: `${width} / ${height}`, "--shape": String(width / height) }}>
          <img
            key={name}
            src={imageAddress(store.imagePath(name), undefined, store.versionOf(name))}
            alt={name}
            draggable={false}
          />
          {picture?.mask && (
            <img
              class="mask-over"
              src={imageAddress(picture.mask, undefined, picture.mask_version)}
              alt=""
              draggable={false}
            />
          )}
          {picture && (
            <svg
              ref={area}
              class={crops ? "over draws" : "over"}
              viewBox={`0 0 ${width} ${height}`}
              preserveAspectRatio="none"
              aria-hidden="true"
              onPointerDown={draw}
            >
              {lines.map(([[left, top, right, bottom], kind]) => (
                <g key={kind}>
                  <path
                    class="outside"
                    fill-rule="evenodd"
                    d={`M0 0H${width}V${height}H0zM${left} ${top}V${bottom}H${right}V${top}z`}
                  />
                  <rect class={kind} x={left} y={top} width={right - left} height={bottom - top} />
                </g>
              ))}
            </svg>
          )}
        </div>
      </div>
    </>
  );
}

interface CropProps {
  box: Box | null;
  width: number;
  height: number;
  had: boolean;
  onBox: (box: Box) => void;
  onCrop: (box: Box | null) => Promise<void>;
}

const EDGES = ["Left", "Top", "Right", "Bottom"] as const;

function CropFields({ box, width, height, had, onBox, onCrop }: CropProps) {
  const whole: Box = [0, 0, width, height];
  const now = box ?? whole;
  const change = (edge: number, value: number) => {
    const next = [...now] as Box;
    next[edge] = value;
    onBox(next);
  };
  return (
    <div class="row wrap tool-row" role="group" aria-label="Crop">
      <span class="soft small">Draw on the picture, or</span>
      {EDGES.map((name, edge) => (
        <label key={name} class="row small">
          {name}
          <input
            class="input edge"
            type="number"
            min={0}
            max={edge % 2 ? height : width}
            value={now[edge]}
            onInput={(event) => change(edge, Number(event.currentTarget.value))}
          />
        </label>
      ))}
      <span class="number small soft">
        {now[2] - now[0]}×{now[3] - now[1]}
      </span>
      <Button disabled={!box} onClick={() => onCrop(box)}>
        Record the crop
      </Button>
      {had && <Button onClick={() => onCrop(null)}>Take it away</Button>}
    </div>
  );
}
