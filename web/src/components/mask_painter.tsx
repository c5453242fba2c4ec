// A mask, painted over its picture.
import { useEffect, useRef, useState } from "preact/hooks";
import { problemsOf } from "../api/client";
import { useDialogKeys } from "../keys";
import { follow } from "../pointer";
import { useLeavingAsked } from "../router";
import { Button } from "./button";
import { sayProblems } from "./notices";

interface Props {
  /** Address of the picture. */
  picture: string;
  name: string;
  width: number;
  height: number;
  /** Address of the mask that there is. */
  mask?: string | undefined;
  /** What the mask has where it is painted: black, or white. */
  painted: 0 | 255;
  /** What painting means. */
  words: string;
  /** Keeps the mask; also when somebody leaves what they painted, which is not lost by that. */
  save: (mask: HTMLCanvasElement) => Promise<unknown>;
  /** What the button says that saves it. */
  saves: string;
  /** Takes the mask that there is away. */
  remove?: (() => Promise<unknown>) | undefined;
  /** One of the two is done, by its button. */
  onDone: () => void;
}

const MOST_UNDO = 20;
/** Of all steps that can be taken back: one of 16 megapixels has 64 MB. */
const UNDO_BYTES = 256_000_000;

export function MaskPainter(props: Props) {
  const { picture, name, width, height, mask, painted, words, saves } = props;
  const save = useRef(props.save);
  save.current = props.save;
  const canvas = useRef<HTMLCanvasElement>(null);
  const past = useRef<ImageData[]>([]);
  const [brush, setBrush] = useState(Math.round(Math.max(width, height) / 16));
  const [erases, setErases] = useState(false);
  const [isNew, setIsNew] = useState(false);
  // What is painted and not saved yet, for whoever leaves.
  const unsaved = useRef(false);
  unsaved.current = isNew;
  const context = () => canvas.current!.getContext("2d", { willReadFrequently: true })!;

  // The canvas has what is painted as a colour over the picture, and nothing elsewhere.
  useEffect(() => {
    past.current = [];
    setIsNew(false);
    context().clearRect(0, 0, width, height);
    if (!mask) return;
    const image = new Image();
    image.onload = () => {
      if (!canvas.current) return;
      const to = context();
      to.drawImage(image, 0, 0, width, height);
      const pixels = to.getImageData(0, 0, width, height);
      for (let at = 0; at < pixels.data.length; at += 4) {
        pixels.data[at + 3] = painted ? pixels.data[at]! : 255 - pixels.data[at]!;
        pixels.data.set(COLOUR, at);
      }
      to.putImageData(pixels, 0, 0);
    };
    image.src = mask;
  }, [picture, mask]);

  // Nothing that was painted is lost by an arrow or Escape: it is saved.
  useEffect(() => {
    const from = canvas.current!;
    return () => {
      if (!unsaved.current) return;
      unsaved.current = false;
      save.current(maskOf(from)).catch((failed: unknown) => sayProblems(problemsOf(failed)));
    };
  }, [picture]);
  useLeavingAsked(isNew);

  function point(event: PointerEvent): [number, number] {
    const bounds = canvas.current!.getBoundingClientRect();
    return [
      ((event.clientX - bounds.left) / bounds.width) * width,
      ((event.clientY - bounds.top) / bounds.height) * height,
    ];
  }

  function keepPast() {
    const most = Math.floor(UNDO_BYTES / (4 * width * height));
    const kept = Math.max(1, Math.min(MOST_UNDO, most));
    past.current = [...past.current, context().getImageData(0, 0, width, height)].slice(-kept);
    setIsNew(true);
  }

  function draw(event: PointerEvent) {
    if (event.button !== 0) return;
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
    follow(event, (next) => line(...point(next)));
  }

  function back() {
    const before = past.current.pop();
    if (before) context().putImageData(before, 0, 0);
    setIsNew(past.current.length > 0);
  }

  function fill(all: boolean) {
    keepPast();
    const to = context();
    to.globalCompositeOperation = "source-over";
    to.clearRect(0, 0, width, height);
    if (!all) return;
    to.fillStyle = `rgb(${COLOUR.join(" ")})`;
    to.fillRect(0, 0, width, height);
  }

  /** What was painted, as the picture that a mask is. */
  function maskOf(from: HTMLCanvasElement): HTMLCanvasElement {
    const pixels = from.getContext("2d")!.getImageData(0, 0, from.width, from.height);
    for (let at = 0; at < pixels.data.length; at += 4) {
      const paint = pixels.data[at + 3]!;
      const value = painted ? paint : 255 - paint;
      pixels.data.set([value, value, value, 255], at);
    }
    const { width, height } = from;
    const made = Object.assign(document.createElement("canvas"), { width, height });
    made.getContext("2d")!.putImageData(pixels, 0, 0);
    return made;
  }

  async function end(done: Promise<unknown>) {
    await done;
    setIsNew(false);
    unsaved.current = false;
    props.onDone();
  }

  // It may lie over the page.
  useDialogKeys([
    { keys: "[", does: "Mask: a smaller brush", run: () => setBrush(Math.max(1, Math.round(brush / 1.3))) },
    { keys: "]", does: "Mask: a larger brush", run: () => setBrush(Math.round(brush * 1.3) + 1) },
    { keys: "e", does: "Mask: paint, or take paint away", run: () => setErases(!erases) },
    { keys: "Ctrl+z", does: "Mask: take the last stroke back", run: back },
  ]);

  return (
    <>
      <div class="row wrap tool-row" role="group" aria-label="Mask">
        <span class="soft small">{words}</span>
        <label class="row small">
          Brush
          <input
            type="range"
            min={1}
            max={Math.round(Math.max(width, height) / 2)}
            value={brush}
            onInput={(event) => setBrush(Number(event.currentTarget.value))}
          />
          <span class="number">{brush} px</span>
        </label>
        <Button aria-pressed={erases} onClick={() => setErases(!erases)} title="e; or Shift while painting">
          Take away
        </Button>
        <Button icon="undo" label="Take the last stroke back" disabled={!isNew} onClick={back} />
        <Button onClick={() => fill(true)}>All</Button>
        <Button onClick={() => fill(false)}>None</Button>
        <Button kind="primary" disabled={!isNew} onClick={() => end(props.save(maskOf(canvas.current!)))}>
          {saves}
        </Button>
        {props.remove && (
          <Button kind="danger" onClick={() => end(props.remove!())}>
            No mask
          </Button>
        )}
      </div>
      <div class="stage">
        <div
          class="stage-fit"
          style={{
            aspectRatio: `${width} / ${height}`,
            "--shape": String(width / height),
          }}
        >
          <img src={picture} alt={name} draggable={false} />
          <canvas
            ref={canvas}
            class="mask-canvas"
            width={width}
            height={height}
            aria-label={`Mask of ${name}`}
            onPointerDown={draw}
          />
        </div>
      </div>
    </>
  );
}

const COLOUR = [220, 30, 120] as const;
