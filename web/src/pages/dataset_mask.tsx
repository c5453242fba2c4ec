// A loss mask, painted over its picture: what is painted is not learned.
import { useEffect, useRef, useState } from "preact/hooks";
import { imageAddress, problemsOf, put, type Schemas } from "../api/client";
import { Button } from "../components/button";
import { say, sayProblems } from "../components/notices";
import { useKeys } from "../keys";
import type { DatasetStore } from "./dataset_store";

type PictureRecord = Schemas["PictureRecord"];

interface Props {
  store: DatasetStore;
  picture: PictureRecord;
  onDone: () => void;
}

const MOST_UNDO = 20;
/** Of all steps that can be taken back: one of 16 megapixels has 64 MB. */
const UNDO_BYTES = 256_000_000;

export function MaskPainter({ store, picture, onDone }: Props) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const past = useRef<ImageData[]>([]);
  const [brush, setBrush] = useState(Math.round(Math.max(picture.width, picture.height) / 16));
  const [erases, setErases] = useState(false);
  const [painted, setPainted] = useState(false);
  // What is painted and not saved yet, for whoever leaves.
  const unsaved = useRef(false);
  unsaved.current = painted;
  const context = () => canvas.current!.getContext("2d", { willReadFrequently: true })!;

  // Black is not learned; the canvas has it as a colour over the picture, and nothing where one learns.
  useEffect(() => {
    past.current = [];
    setPainted(false);
    const { width, height } = picture;
    context().clearRect(0, 0, width, height);
    if (!picture.mask) return;
    const image = new Image();
    image.onload = () => {
      if (!canvas.current) return;
      const to = context();
      to.drawImage(image, 0, 0, width, height);
      const pixels = to.getImageData(0, 0, width, height);
      for (let at = 0; at < pixels.data.length; at += 4) {
        pixels.data[at + 3] = 255 - pixels.data[at]!;
        pixels.data.set(COLOUR, at);
      }
      to.putImageData(pixels, 0, 0);
    };
    image.src = imageAddress(picture.mask, undefined, picture.mask_version);
  }, [picture.name, picture.mask_version]);

  // Nothing that was painted is lost by an arrow or Escape: it is saved, and can be taken back.
  useEffect(() => {
    const sheet = canvas.current!;
    return () => {
      if (!unsaved.current) return;
      unsaved.current = false;
      write(asPng(sheet)).catch((failed: unknown) => sayProblems(problemsOf(failed)));
    };
  }, [picture.name]);
  useEffect(() => {
    if (!painted) return;
    const ask = (event: BeforeUnloadEvent) => event.preventDefault();
    addEventListener("beforeunload", ask);
    return () => removeEventListener("beforeunload", ask);
  }, [painted]);

  function point(event: PointerEvent): [number, number] {
    const bounds = canvas.current!.getBoundingClientRect();
    return [
      ((event.clientX - bounds.left) / bounds.width) * picture.width,
      ((event.clientY - bounds.top) / bounds.height) * picture.height,
    ];
  }

  function keepPast() {
    const most = Math.floor(UNDO_BYTES / (4 * picture.width * picture.height));
    const kept = Math.max(1, Math.min(MOST_UNDO, most));
    past.current = [...past.current, context().getImageData(0, 0, picture.width, picture.height)].slice(-kept);
    setPainted(true);
  }

  function draw(event: PointerEvent) {
    if (event.button !== 0) return;
    event.preventDefault();
    const target = canvas.current!;
    target.setPointerCapture(event.pointerId);
    keepPast();
    const to = context();
    to.globalCompositeOperation = erases || event.shiftKey ? "destination-out" : "source-over";
    to.strokeStyle = to.fillStyle = `rgb(${COLOUR.join(" ")})`;
    to.lineWidth = brush;
    to.lineCap = to.lineJoin = "round";
    let [x, y] = point(event);
    const line = (x1: number, y1: number) => {
      to.beginPath();
      to.moveTo(x, y);
      to.lineTo(x1, y1);
      to.stroke();
      [x, y] = [x1, y1];
    };
    line(x, y + 0.01);
    const move = (e: PointerEvent) => line(...point(e));
    const release = () => {
      target.removeEventListener("pointermove", move);
      target.removeEventListener("pointerup", release);
      target.removeEventListener("pointercancel", release);
    };
    target.addEventListener("pointermove", move);
    target.addEventListener("pointerup", release);
    target.addEventListener("pointercancel", release);
  }

  function back() {
    const before = past.current.pop();
    if (before) context().putImageData(before, 0, 0);
    setPainted(past.current.length > 0);
  }

  function fill(all: boolean) {
    keepPast();
    const to = context();
    to.globalCompositeOperation = "source-over";
    to.clearRect(0, 0, picture.width, picture.height);
    if (!all) return;
    to.fillStyle = `rgb(${COLOUR.join(" ")})`;
    to.fillRect(0, 0, picture.width, picture.height);
  }

  async function write(png: string) {
    const body = { name: picture.name, png, apply: true };
    const done = await put("/api/dataset/mask", { query: { path: store.path }, body });
    say(png ? "The mask lies beside the picture." : "The mask is in the trash.", store.takeBack(done.entry));
    await store.reload();
  }

  async function save(png: string) {
    await write(png);
    setPainted(false);
    unsaved.current = false;
    onDone();
  }

  function asPng(from: HTMLCanvasElement): string {
    const { width, height } = from;
    const pixels = from.getContext("2d")!.getImageData(0, 0, width, height);
    for (let at = 0; at < pixels.data.length; at += 4) {
      const learned = 255 - pixels.data[at + 3]!;
      pixels.data.set([learned, learned, learned, 255], at);
    }
    const sheet = Object.assign(document.createElement("canvas"), { width, height });
    sheet.getContext("2d")!.putImageData(pixels, 0, 0);
    return sheet.toDataURL("image/png").split(",")[1]!;
  }

  useKeys([
    { keys: "[", does: "Mask: a smaller brush", run: () => setBrush(Math.max(1, Math.round(brush / 1.3))) },
    { keys: "]", does: "Mask: a larger brush", run: () => setBrush(Math.round(brush * 1.3) + 1) },
    { keys: "e", does: "Mask: paint, or take paint away", run: () => setErases(!erases) },
    { keys: "Ctrl+z", does: "Mask: take the last stroke back", run: back },
  ]);

  return (
    <>
      <div class="row wrap tool-row" role="group" aria-label="Mask">
        <span class="soft small">What you paint is not learned.</span>
        <label class="row small">
          Brush
          <input
            type="range"
            min={1}
            max={Math.round(Math.max(picture.width, picture.height) / 2)}
            value={brush}
            onInput={(event) => setBrush(Number(event.currentTarget.value))}
          />
          <span class="number">{brush} px</span>
        </label>
        <Button aria-pressed={erases} onClick={() => setErases(!erases)} title="e; or Shift while painting">
          Take away
        </Button>
        <Button icon="undo" label="Take the last stroke back" disabled={!painted} onClick={back} />
        <Button onClick={() => fill(true)}>All</Button>
        <Button onClick={() => fill(false)}>None</Button>
        <Button kind="primary" disabled={!painted} onClick={() => save(asPng(canvas.current!))}>
          Save the mask
        </Button>
        {picture.mask && (
          <Button kind="danger" onClick={() => save("")}>
            No mask
          </Button>
        )}
      </div>
      <div class="stage">
        <div
          class="stage-fit"
          style={{
            aspectRatio: `${picture.width} / ${picture.height}`,
            "--shape": String(picture.width / picture.height),
          }}
        >
          <img src={imageAddress(picture.path, undefined, picture.version)} alt={picture.name} draggable={false} />
          <canvas
            ref={canvas}
            class="mask-canvas"
            width={picture.width}
            height={picture.height}
            aria-label={`Mask of ${picture.name}`}
            onPointerDown={draw}
          />
        </div>
      </div>
    </>
  );
}

const COLOUR = [220, 30, 120] as const;
