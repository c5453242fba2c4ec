// The pictures that were drawn, whoever drew them; one of them large.
import { useEffect, useRef, useState } from "preact/hooks";
import { fetchAhead, get, imageAddress, put } from "../api/client";
import { useFetched } from "../api/fetched";
import { Button } from "../components/button";
import { Dialog } from "../components/dialog";
import { say } from "../components/notices";
import { Picture } from "../components/picture";
import { Failed } from "../components/problems";
import { baseName } from "../format";
import { useDialogKeys } from "../keys";
import { project } from "../project";
import { alter, query } from "../router";
import { cards, change, type DrawnPicture, refreshCards, takeSettings, usesOf } from "./draw_store";

const PAGE = 60;

export function History() {
  const [older, setOlder] = useState<{ pictures: DrawnPicture[]; before: string } | null>(null);
  const [focus, setFocus] = useState("");
  const list = useRef<HTMLUListElement>(null);
  const newest = useFetched(
    (signal) => get("/api/draw/history", { query: { project: project.value, limit: PAGE }, signal }),
    [project.value],
    ["drawings"],
  );
  useEffect(() => setOlder(null), [project.value]);
  const first = newest.data?.pictures ?? [];
  const known = new Set(first.map((each) => each.path));
  const pictures = [...first, ...(older?.pictures ?? []).filter((each) => !known.has(each.path))];
  const before = older ? older.before : newest.data?.before;

  async function more() {
    const found = await get("/api/draw/history", { query: { project: project.value, limit: PAGE, before } });
    setOlder({ pictures: [...pictures, ...found.pictures], before: found.before });
  }

  const asked = query.value.get("picture") ?? "";
  const at = pictures.findIndex((each) => each.path === asked);
  const show = (place: number | null) =>
    alter({ picture: place === null ? null : pictures[place]?.path }, { replace: at >= 0 });
  const stop = pictures.some((each) => each.path === focus) ? focus : pictures[0]?.path;

  function key(event: KeyboardEvent) {
    const items = [...list.current!.querySelectorAll<HTMLElement>("[data-path]")];
    const here = items.indexOf(document.activeElement as HTMLElement);
    if (here < 0) return;
    if (event.key === "t") {
      event.preventDefault();
      void takeSettings(items[here]!.dataset.path!);
      return;
    }
    const columns = getComputedStyle(list.current!).gridTemplateColumns.split(" ").length;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
    if (!step) return;
    event.preventDefault();
    items[Math.min(items.length - 1, Math.max(0, here + step))]!.focus();
  }

  if (newest.error !== undefined) return <Failed error={newest.error} />;
  if (newest.data && !pictures.length) return <p class="empty">What is drawn is kept here, with all that made it.</p>;
  return (
    <>
      <ul
        class="drawn"
        ref={list}
        onKeyDown={key}
        aria-label="Drawings, the newest first; Enter shows one large, t takes its settings"
      >
        {pictures.map((picture, place) => (
          <li key={picture.path}>
            <button
              type="button"
              data-path={picture.path}
              tabIndex={picture.path === stop ? 0 : -1}
              onFocus={() => setFocus(picture.path)}
              onClick={() => show(place)}
              title={picture.prompt.slice(0, 400)}
              aria-label={`${baseName(picture.path)}: ${picture.prompt.slice(0, 120)}`}
            >
              <Picture path={picture.path} size={256} v={picture.version} alt="" />
            </button>
            <Button class="take" tabIndex={-1} onClick={() => takeSettings(picture.path)}>
              Take its settings
            </Button>
          </li>
        ))}
      </ul>
      {before && (
        <div class="row">
          <Button onClick={more}>Older ones</Button>
        </div>
      )}
      {at >= 0 && <Large pictures={pictures} at={at} onShow={show} />}
    </>
  );
}

interface LargeProps {
  pictures: readonly DrawnPicture[];
  at: number;
  onShow: (place: number | null) => void;
}

function Large({ pictures, at, onShow }: LargeProps) {
  const picture = pictures[at]!;
  const move = (step: number) => onShow(Math.min(pictures.length - 1, Math.max(0, at + step)));
  // The neighbours are there before they are asked for.
  useEffect(() => {
    for (const near of [pictures[at - 1], pictures[at + 1]]) if (near) fetchAhead(near.path, near.version);
  }, [at]);

  async function takeIt() {
    onShow(null);
    await takeSettings(picture.path);
  }
  function beginFrom() {
    change({ init: picture.path, mask: undefined });
    say("The next drawing begins from this picture.");
    onShow(null);
  }
  useDialogKeys([
    { keys: "ArrowLeft", does: "Drawing: the newer one", run: () => move(-1) },
    { keys: "ArrowRight", does: "Drawing: the older one", run: () => move(1) },
    { keys: "t", does: "Drawing: take its settings", run: () => void takeIt() },
    { keys: "b", does: "Drawing: begin from it", run: beginFrom },
  ]);
  const settings = Object.entries(picture.settings);
  return (
    <Dialog
      kind="full"
      title={baseName(picture.path)}
      onClose={() => onShow(null)}
      aside={
        <div class="row wrap push">
          <Button icon="left" label="The newer one" disabled={at === 0} onClick={() => move(-1)} />
          <Button icon="right" label="The older one" disabled={at === pictures.length - 1} onClick={() => move(1)} />
          <Button kind="primary" onClick={() => void takeIt()} title="t">
            Take its settings
          </Button>
          <Button onClick={beginFrom} title="b">
            Begin from it
          </Button>
          <PreviewOf picture={picture} />
        </div>
      }
    >
      <div class="large" tabIndex={0} autofocus role="group" aria-label="The drawing">
        <img src={imageAddress(picture.path, undefined, picture.version)} alt={picture.prompt.slice(0, 400)} />
      </div>
      <div class="caption drawn-words">
        <p>{picture.prompt}</p>
        {picture.negative && <p class="soft">without: {picture.negative}</p>}
        <p class="soft small number">
          {picture.width}×{picture.height}
          {settings.map(([name, value]) => ` · ${name}: ${value}`)}
        </p>
      </div>
    </Dialog>
  );
}

/** Puts the picture beside a LoRA, as web UIs show it. */
function PreviewOf({ picture }: { picture: DrawnPicture }) {
  const loras = cards.value?.loras ?? [];
  const named = loras.filter((card) => picture.prompt.includes(`:${card.name}:`) || usesOf(card.name));
  const first = named.length ? named : loras;
  const others = loras.filter((card) => !first.includes(card));
  const [chosen, setChosen] = useState("");
  const [told, setTold] = useState("");
  if (!loras.length) return null;
  const card = loras.find((each) => each.path === chosen);
  async function set() {
    const made = await put("/api/draw/lora-preview", { body: { lora: chosen, picture: picture.path } });
    setTold(`${baseName(made.path)} lies beside it.`);
    await refreshCards();
  }
  return (
    <div class="row one-line">
      <label class="row one-line">
        Preview of
        <select
          class="input"
          value={chosen}
          onChange={(event) => {
            setChosen(event.currentTarget.value);
            setTold("");
          }}
        >
          <option value="">a LoRA …</option>
          {[...first, ...others].map((each) => (
            <option key={each.path} value={each.path}>
              {each.name}
            </option>
          ))}
        </select>
      </label>
      {card && !told && (
        <Button onClick={set} title="As web UIs show it">
          {card.preview ? "Replace its preview" : "Set"}
        </Button>
      )}
      <span class="soft" role="status">
        {told}
      </span>
    </div>
  );
}
