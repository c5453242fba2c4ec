// The drawings of a round: a grid that is gone through by arrows, one of them large, and what is known of it.
import { useEffect, useRef, useState } from "preact/hooks";
import { fetchAhead, imageAddress, put } from "../api/client";
import { Button } from "../components/button";
import { Dialog } from "../components/dialog";
import { Icon } from "../components/icons";
import { Picture } from "../components/picture";
import { percent } from "../format";
import { useDialogKeys } from "../keys";
import type { Round } from "./bootstrap_one";

type Drawing = Round["drawings"][number];

interface GridProps {
  drawings: readonly Drawing[];
  marked: ReadonlySet<number>;
  at: number;
  onGo: (number: number) => void;
  onOpen: (number: number) => void;
  /** Without it nothing is to be chosen. */
  onToggle?: ((number: number) => void) | undefined;
  /** They were measured. */
  judged: boolean;
}

export function Drawings({ drawings, marked, at, onGo, onOpen, onToggle, judged }: GridProps) {
  const list = useRef<HTMLUListElement>(null);
  function key(event: KeyboardEvent) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const items = [...list.current!.children] as HTMLElement[];
    const here = drawings.findIndex((each) => each.number === at);
    const columns = getComputedStyle(list.current!).gridTemplateColumns.split(" ").length;
    const steps: Record<string, number> = {
      ArrowLeft: -1,
      ArrowRight: 1,
      ArrowUp: -columns,
      ArrowDown: columns,
      Home: -here,
      End: items.length - 1 - here,
    };
    const step = steps[event.key];
    if (step !== undefined) {
      event.preventDefault();
      const next = Math.min(items.length - 1, Math.max(0, here + step));
      onGo(drawings[next]!.number);
      items[next]!.focus();
    } else if (event.key === " ") {
      event.preventDefault();
      onToggle?.(at);
    } else if (event.key === "Enter") {
      event.preventDefault();
      onOpen(at);
    }
  }
  return (
    <ul
      class="boot-drawings"
      ref={list}
      role="listbox"
      aria-multiselectable="true"
      aria-readonly={onToggle ? undefined : "true"}
      aria-label={
        onToggle ? "Drawings: Space keeps one or not, Enter shows it large" : "Drawings: Enter shows one large"
      }
      onKeyDown={key}
    >
      {drawings.map((each) => (
        <li
          key={each.number}
          role="option"
          class={each.number === at ? "boot-cell current" : "boot-cell"}
          aria-selected={marked.has(each.number)}
          aria-label={`${each.number}: ${each.caption}`}
          tabIndex={each.number === at ? 0 : -1}
          onFocus={() => onGo(each.number)}
          onClick={() => (onGo(each.number), onToggle ? onToggle(each.number) : onOpen(each.number))}
          onDblClick={() => onToggle && onOpen(each.number)}
        >
          <div class="boot-thumb">
            {each.version ? (
              <Picture path={each.path} v={each.version} size={768} alt="" lazy={false} />
            ) : (
              <span class="soft small">to be drawn</span>
            )}
            {marked.has(each.number) && (
              <span class="boot-kept">
                <Icon name="check" />
              </span>
            )}
          </div>
          <div class="boot-words small">
            <b class="number">{each.number}</b>
            <span class="cut soft">{each.caption.replace(/^[^,]*,\s*/, "")}</span>
            {judged && each.likeness != null && <span class="number push">{percent(each.likeness)}</span>}
          </div>
        </li>
      ))}
    </ul>
  );
}

interface PanelProps {
  path: string;
  drawing: Drawing;
  choosing: boolean;
  onChanged: () => void;
  onOpen: () => void;
}

/** What is known of the drawing that one is at. */
export function DrawingPanel({ path, drawing, choosing, onChanged, onOpen }: PanelProps) {
  const [text, setText] = useState<string | null>(null);
  async function write() {
    const caption = text?.trim();
    if (!caption || caption === drawing.caption) return setText(null);
    await put("/api/bootstraps/caption", { body: { path, number: drawing.number, caption } });
    setText(null);
    onChanged();
  }
  return (
    <section class="boot-part column" aria-label={`Drawing ${drawing.number}`}>
      <header class="row">
        <h2>Drawing {drawing.number}</h2>
        <Button class="push" kind="quiet" onClick={onOpen} disabled={!drawing.version} title="Enter">
          Large
        </Button>
      </header>
      {choosing ? (
        <label class="field">
          <span class="soft small">Caption: what it is trained with</span>
          <textarea
            id="drawing-caption"
            class="input"
            rows={2}
            spellcheck={false}
            value={text ?? drawing.caption}
            onInput={(event) => setText(event.currentTarget.value)}
            onBlur={write}
            onKeyDown={(event) => {
              if (event.key === "Enter") (event.preventDefault(), event.currentTarget.blur());
            }}
          />
        </label>
      ) : (
        <p>{drawing.caption}</p>
      )}
      <div class="boot-about">
        {drawing.base && (
          <figure>
            <Picture path={drawing.base} v={drawing.base_version} size={192} alt="" />
            <figcaption class="soft small">the base alone</figcaption>
          </figure>
        )}
        <dl class="file-facts small">
          {drawing.likeness != null && (
            <div>
              <dt class="soft">likeness</dt>
              <dd class="number">{percent(drawing.likeness)}</dd>
            </div>
          )}
          {drawing.nearest && (
            <div>
              <dt class="soft">nearest</dt>
              <dd class="breaks">{drawing.nearest}</dd>
            </div>
          )}
          {drawing.source && (
            <div>
              <dt class="soft">began with</dt>
              <dd class="breaks">{drawing.source}</dd>
            </div>
          )}
          <div>
            <dt class="soft">seed</dt>
            <dd class="number">{drawing.seed}</dd>
          </div>
        </dl>
      </div>
      {drawing.likeness != null && (
        <p class="small">
          {drawing.reason ? <span class="soft">auto leaves it out: {drawing.reason}</span> : "auto would keep it"}
        </p>
      )}
    </section>
  );
}

interface LargeProps {
  drawings: readonly Drawing[];
  at: number;
  marked: ReadonlySet<number>;
  onToggle?: ((number: number) => void) | undefined;
  onShow: (number: number | null) => void;
}

export function LargeDrawing({ drawings, at, marked, onToggle, onShow }: LargeProps) {
  const place = drawings.findIndex((each) => each.number === at);
  const drawing = drawings[place]!;
  const [base, setBase] = useState(false);
  const move = (step: number) => {
    const next = drawings[place + step];
    if (next) onShow(next.number);
  };
  useEffect(() => {
    for (const near of [drawings[place - 1], drawings[place + 1]])
      if (near?.version) fetchAhead(near.path, near.version);
  }, [at]);
  useDialogKeys([
    { keys: "ArrowLeft", does: "Large: the drawing before", run: () => move(-1) },
    { keys: "ArrowRight", does: "Large: the next drawing", run: () => move(1) },
    { keys: " ", does: "Large: keep it, or not", run: () => onToggle?.(at) },
    { keys: "b", does: "Large: what the base model drew at this seed, or the drawing", run: () => setBase(!base) },
  ]);
  const isKept = marked.has(at);
  const shown =
    base && drawing.base ? { path: drawing.base, v: drawing.base_version } : { path: drawing.path, v: drawing.version };
  return (
    <Dialog
      kind="full"
      title={base && drawing.base ? `Drawing ${at}: the base model alone` : `Drawing ${at}`}
      onClose={() => onShow(null)}
      aside={
        <div class="row wrap push">
          <Button icon="left" label="The drawing before" disabled={place === 0} onClick={() => move(-1)} />
          <Button
            icon="right"
            label="The next drawing"
            disabled={place === drawings.length - 1}
            onClick={() => move(1)}
          />
          {onToggle && (
            <Button kind="primary" onClick={() => onToggle(at)} title="Space">
              {isKept ? "Leave it out" : "Keep it"}
            </Button>
          )}
          {drawing.base && (
            <Button aria-pressed={base} onClick={() => setBase(!base)} title="b">
              The base alone
            </Button>
          )}
        </div>
      }
    >
      <div class="large" tabIndex={0} autofocus role="group" aria-label="The drawing">
        <img src={imageAddress(shown.path, undefined, shown.v)} alt={drawing.caption} />
      </div>
      <div class="caption drawn-words">
        <p>
          {isKept && <span class="tag running">kept</span>} {drawing.caption}
        </p>
        <p class="soft small number">
          {drawing.likeness != null && `likeness ${percent(drawing.likeness)} · `}seed {drawing.seed}
          {drawing.reason && ` · ${drawing.reason}`}
        </p>
      </div>
    </Dialog>
  );
}
