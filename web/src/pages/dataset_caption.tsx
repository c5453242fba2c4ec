// One picture's caption: its tags as chips, or as text, and how many tokens it takes.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { ApiError, post, problemsOf, type Schemas } from "../api/client";
import { useRested } from "../api/fetched";
import { Button } from "../components/button";
import { Combobox } from "../components/combobox";
import { say, sayProblems } from "../components/notices";
import { Failed } from "../components/problems";
import { completeCaption, tagsOf } from "../components/tag_words";
import { limitOf, TokenBar } from "../components/token_bar";
import { baseName } from "../format";
import { useKeys } from "../keys";
import { useLeavingAsked } from "../router";
import { remember, remembered } from "../session";
import type { Caption, DatasetStore } from "./dataset_store";

type Tokens = Schemas["TokensRecord"];

export function CaptionEditor({ store, name }: { store: DatasetStore; name: string }) {
  const [caption, setCaption] = useState<Caption | null>(null);
  const [error, setError] = useState<unknown>();
  const [asText, setAsText] = useState(remembered("caption-as-text") === "yes");
  const changes = store.changes.value;
  // Writes wait for each other; an answer that was asked for before one is not shown behind it.
  const writes = useRef({ count: 0, open: 0, last: Promise.resolve() });
  const [ended, setEnded] = useState(0);

  useEffect(() => {
    const state = writes.current;
    if (state.open) return;
    const before = state.count;
    const controller = new AbortController();
    store.caption(name, controller.signal).then(
      (found) => state.count === before && (setCaption(found), setError(undefined)),
      (failed: unknown) => !controller.signal.aborted && setError(failed),
    );
    return () => controller.abort();
  }, [name, changes, ended]);

  function write(text: string) {
    if (!caption || text === caption.text) return;
    const former = caption.text;
    const state = writes.current;
    // At once, so that the next key works on it.
    setCaption({ ...caption, text, tags: tagsOf(text) });
    state.count++;
    state.open++;
    state.last = state.last
      .then(() => send(caption.name, former, text))
      .finally(() => {
        state.open--;
        // Another picture may wait to be shown.
        if (!state.open) setEnded((count) => count + 1);
      });
  }

  async function send(image: string, former: string, text: string) {
    const state = writes.current;
    try {
      const written = await store.writeCaption(image, former, text);
      if (state.open === 1) setCaption(written);
    } catch (failed) {
      if (failed instanceof ApiError && failed.status === 409)
        say("Somebody else changed this caption; theirs is shown.");
      else sayProblems(problemsOf(failed));
      const theirs = await store.caption(image).catch(() => null);
      if (theirs) setCaption(theirs);
    }
  }

  if (error !== undefined) return <Failed error={error} />;
  if (!caption || caption.name !== name) return <div class="caption-editor" aria-busy="true" />;
  const lines = caption.text.split("\n").filter((line) => line.trim()).length;
  // Chips are of one line of tags.
  const text = asText || lines > 1 || !caption.is_text;
  return (
    <div class="caption-editor">
      <div class="row">
        <h2>Caption</h2>
        <span class="soft small cut" title={caption.file}>
          {caption.exists ? baseName(caption.file) : "no file yet"}
        </span>
        <Button
          class="push"
          kind="quiet"
          aria-pressed={text}
          disabled={lines > 1 || !caption.is_text}
          onClick={() => (setAsText(!asText), remember("caption-as-text", asText ? "" : "yes"))}
        >
          As text
        </Button>
      </div>
      {!caption.is_text && <p class="lacks">The file is not text, and is left alone.</p>}
      {caption.images.length > 0 && <p class="soft small">Also the caption of {caption.images.join(", ")}.</p>}
      <TokenCounter tokens={caption.tokens} />
      {text ? (
        <CaptionText caption={caption} onWrite={write} />
      ) : (
        <Chips key={caption.name} store={store} caption={caption} onWrite={(tags) => write(tags.join(", "))} />
      )}
    </div>
  );
}

function CaptionText({ caption, onWrite }: { caption: Caption; onWrite: (text: string) => void }) {
  const [text, setText] = useState(caption.text);
  // The caption that the text was begun from.
  const [base, setBase] = useState(caption.text);
  const isMine = text !== base;
  const isElsewhere = isMine && base !== caption.text;
  const take = (next: string) => (setText(next), setBase(caption.text));
  // At once: what is typed before a later moment would be taken for what was there.
  useLayoutEffect(() => {
    if (!isMine) take(caption.text);
    else if (text === caption.text) setBase(text);
  }, [caption.text]);
  useLeavingAsked(isMine);
  return (
    <>
      {isElsewhere && (
        <div class="problems warning">
          <p>
            This caption was changed elsewhere meanwhile, to: <b>{caption.text || "nothing"}</b>
          </p>
          <div class="row">
            <Button onClick={() => take(caption.text)}>Take that</Button>
            <Button onClick={() => (setBase(caption.text), onWrite(text))}>Write mine</Button>
          </div>
        </div>
      )}
      <textarea
        class="input caption-text"
        aria-label={`Caption of ${caption.name}`}
        readOnly={!caption.is_text}
        rows={6}
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
        onBlur={() => isMine && !isElsewhere && onWrite(text)}
        onKeyDown={(event) => {
          if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) onWrite(text);
          if (event.key === "Escape") {
            event.stopPropagation();
            take(caption.text);
          }
        }}
      />
      {text !== caption.text && <LiveTokens text={text} />}
    </>
  );
}

function LiveTokens({ text }: { text: string }) {
  const [tokens, setTokens] = useState<Tokens | null>(null);
  useRested([text], (signal) => post("/api/dataset/tokens", { body: { text }, signal }), setTokens);
  return (
    <p class="soft small">{tokens ? `${tokens.tokens} tokens as written; ` : ""}Ctrl+Enter writes, Escape drops it</p>
  );
}

interface ChipsProps {
  store: DatasetStore;
  caption: Caption;
  onWrite: (tags: string[]) => void;
}

function Chips({ store, caption, onWrite }: ChipsProps) {
  const tags = caption.tags;
  const [focus, setFocus] = useState(0);
  const [editing, setEditing] = useState<number | null>(null);
  const [text, setText] = useState("");
  // Where the focus is to go is often where it was last.
  const [, drawAgain] = useState(0);
  const [dragged, setDragged] = useState<number | null>(null);
  const [over, setOver] = useState<number | null>(null);
  const list = useRef<HTMLUListElement>(null);
  const input = useRef<HTMLInputElement>(null);
  const wants = useRef(false);
  // Before the next key comes.
  useLayoutEffect(() => {
    if (!wants.current) return;
    wants.current = false;
    list.current?.querySelector<HTMLElement>(`[data-chip="${focus}"]`)?.focus();
  });

  const goTo = (at: number) => {
    wants.current = true;
    drawAgain((count) => count + 1);
    setFocus(Math.min(Math.max(0, at), Math.max(0, tags.length - 1)));
  };
  function move(from: number, to: number) {
    if (to < 0 || to >= tags.length || from === to) return;
    const next = [...tags];
    next.splice(to, 0, ...next.splice(from, 1));
    onWrite(next);
    goTo(to);
  }
  function removeAt(at: number) {
    onWrite(tags.filter((_, number) => number !== at));
    if (tags.length > 1) goTo(Math.min(at, tags.length - 2));
    else input.current?.focus();
  }
  function key(event: KeyboardEvent, at: number) {
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (step) {
      event.preventDefault();
      if (event.altKey) move(at, at + step);
      else if (at + step >= tags.length) input.current?.focus();
      else goTo(at + step);
    } else if (event.key === "Delete" || event.key === "Backspace") {
      event.preventDefault();
      removeAt(at);
    } else if (event.key === "Enter" || event.key === "F2") {
      event.preventDefault();
      setEditing(at);
    } else if (event.key === "Home" || event.key === "End") {
      event.preventDefault();
      goTo(event.key === "Home" ? 0 : tags.length - 1);
    }
  }
  function add(value: string) {
    const present = new Set(tags);
    const more = tagsOf(value).filter((tag) => !present.has(tag));
    setText("");
    if (more.length) onWrite([...tags, ...more]);
  }

  useKeys([{ keys: "t", does: "Caption: add a tag", run: () => input.current?.focus() }]);
  const after = caption.tokens.after_tags;
  return (
    <>
      <Combobox
        value={text}
        label="Add tags"
        placeholder="Add a tag"
        complete={(value, _, signal) => completeCaption(store.path, value, signal)}
        onInput={(value) => setText(value.trimStart())}
        onEnter={add}
        onEscape={toPictures}
        takesWhole
        onKey={(event) => {
          if ((event.key === "Backspace" || event.key === "ArrowLeft") && !text && tags.length) {
            goTo(tags.length - 1);
            return true;
          }
          if (event.key === "," && text.trim()) {
            add(text);
            return true;
          }
          return false;
        }}
        inputRef={input}
      />
      <ul
        ref={list}
        class="chips"
        aria-label={`Tags of ${caption.name}; Alt and the arrows move one, Delete takes it away, Enter changes it`}
      >
        {tags.map((tag, at) => {
          const before = at ? (after[at - 1] ?? 0) : 0;
          const limit = caption.tokens.limits!.find((each) => before <= each && (after[at] ?? 0) > each);
          return (
            <>
              {limit !== undefined && (
                <li class="limit" aria-label={`${limit} tokens`}>
                  {limit}
                </li>
              )}
              <li
                key={`${at} ${tag}`}
                class={`chip-place ${over === at && dragged !== null ? (dragged < at ? "drop-after" : "drop-before") : ""}`}
                draggable={editing !== at}
                onDragStart={(event) => {
                  setDragged(at);
                  event.dataTransfer?.setData("text/plain", tag);
                }}
                onDragOver={(event) => {
                  if (dragged === null) return;
                  event.preventDefault();
                  setOver(at);
                }}
                onDragEnd={() => (setDragged(null), setOver(null))}
                onDrop={(event) => {
                  event.preventDefault();
                  if (dragged !== null) move(dragged, at);
                  setDragged(null);
                  setOver(null);
                }}
              >
                {editing === at ? (
                  <ChipField
                    store={store}
                    tag={tag}
                    onDone={(value) => {
                      setEditing(null);
                      goTo(at);
                      if (value !== null && value !== tag)
                        onWrite(tags.flatMap((each, number) => (number === at ? tagsOf(value) : [each])));
                    }}
                  />
                ) : (
                  <span class="chip">
                    <button
                      type="button"
                      data-chip={at}
                      tabIndex={at === focus ? 0 : -1}
                      onFocus={() => setFocus(at)}
                      onKeyDown={(event) => key(event, at)}
                      onDblClick={() => setEditing(at)}
                    >
                      {tag}
                    </button>
                    <button
                      type="button"
                      class="off"
                      tabIndex={-1}
                      aria-label={`Without ${tag}`}
                      onClick={() => removeAt(at)}
                    >
                      ×
                    </button>
                  </span>
                )}
              </li>
            </>
          );
        })}
      </ul>
    </>
  );
}

/** From a caption back to the pictures. */
const toPictures = () => document.querySelector<HTMLElement>(".image-grid, .large-view")?.focus();

function ChipField(props: { store: DatasetStore; tag: string; onDone: (value: string | null) => void }) {
  const [value, setValue] = useState(props.tag);
  const input = useRef<HTMLInputElement>(null);
  const done = useRef(false);
  useLayoutEffect(() => (input.current?.focus(), input.current?.select()), []);
  const finish = (result: string | null) => {
    if (done.current) return;
    done.current = true;
    props.onDone(result);
  };
  return (
    <Combobox
      class="chip-field"
      value={value}
      label={`Change ${props.tag}`}
      complete={(text, _, signal) => completeCaption(props.store.path, text, signal)}
      onInput={setValue}
      onEnter={(text) => finish(text)}
      takesWhole
      onEscape={() => finish(null)}
      onBlur={() => finish(value)}
      inputRef={input}
    />
  );
}

function TokenCounter({ tokens }: { tokens: Tokens }) {
  const limits = tokens.limits!;
  const beyond = tokens.tokens > limits[0]!;
  return (
    <div>
      <TokenBar tokens={tokens.tokens} limits={limits} />
      <p class="small">
        <span class="number">{tokens.tokens}</span> of{" "}
        <span class="number">{limitOf(tokens.tokens, limits) ?? limits.at(-1)}</span> tokens
        {beyond && (
          <span class="lacks">
            {" "}
            – past {limits.filter((limit) => tokens.tokens > limit).at(-1)}, which is cut off where training reads fewer
          </span>
        )}
      </p>
    </div>
  );
}
