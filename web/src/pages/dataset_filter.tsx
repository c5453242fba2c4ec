// What is shown of a dataset: the filter, and the tags, a click on which filters.
import { useComputed, useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { post, problemsOf } from "../api/client";
import { Button } from "../components/button";
import { Combobox } from "../components/combobox";
import type { Option } from "../components/suggestions";
import { percent, quantity } from "../format";
import { useKeys } from "../keys";
import { type DatasetStore, withTerm, written } from "./dataset_store";

const WAIT = 150;

export function FilterBox({ store, onFilter }: { store: DatasetStore; onFilter: (where: string) => void }) {
  const [text, setText] = useState(store.where.value);
  const input = useRef<HTMLInputElement>(null);
  const timer = useRef(0);
  // A click on a tag, or the way back, changes it from outside.
  const where = store.where.value;
  useLayoutEffect(() => setText(where), [where]);
  useEffect(() => () => clearTimeout(timer.current), []);
  useKeys([{ keys: "/", does: "Filter: go to the field", run: () => input.current?.focus() }]);

  async function complete(value: string, cursor: number, signal: AbortSignal): Promise<Option[]> {
    const body = { text: value, cursor };
    const found = await post("/api/dataset/complete", { query: { path: store.path }, body, signal });
    return found.map((one) => ({
      text: one.text,
      start: one.start,
      end: one.end,
      note: one.images != null ? String(one.images) : one.description || one.kind,
    }));
  }

  function change(value: string) {
    setText(value);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => onFilter(value), WAIT);
  }

  const error = store.whereError.value;
  return (
    <div class="filter-box">
      <Combobox
        value={text}
        label="Filter"
        placeholder="Filter: tag:hat -tag:smile tokens:>75"
        complete={complete}
        onInput={change}
        onEnter={(value) => (clearTimeout(timer.current), setText(value), onFilter(value))}
        onEscape={() => (text ? change("") : input.current?.blur())}
        invalid={error !== undefined}
        describedBy="filter-problem"
        inputRef={input}
      >
        {text && (
          <Button
            kind="quiet"
            class="clear"
            icon="close"
            label="Show all"
            onClick={() => (setText(""), onFilter(""))}
          />
        )}
      </Combobox>
      <p id="filter-problem" class="filter-problem" role="status">
        {error !== undefined &&
          problemsOf(error).map((one) => (
            <>
              {one.what.split("\n")[0]}
              {one.hint && <span class="soft"> {one.hint}</span>}
            </>
          ))}
      </p>
    </div>
  );
}

const ROW = 24;
const ORDERS = ["by count", "by name", "of the shown"] as const;

/** Tags with the pictures that have them: a click shows these, Alt and a click the others. */
export function TagList({ store, onFilter }: { store: DatasetStore; onFilter: (where: string) => void }) {
  const [search, setSearch] = useState("");
  const [order, setOrder] = useState<(typeof ORDERS)[number]>("by count");
  const box = useRef<HTMLDivElement>(null);
  const height = useSignal(0);
  const top = useSignal(0);
  const [focus, setFocus] = useState(0);
  const listing = store.listing.value!;
  const counts = store.counts.value;
  const total = store.names.value.length;
  const shown = useComputed(() => store.shown.value.length).value;

  useLayoutEffect(() => {
    const watch = new ResizeObserver(() => (height.value = box.current?.clientHeight ?? 0));
    watch.observe(box.current!);
    return () => watch.disconnect();
  }, []);

  const tags = useMemo(() => {
    const small = search.trim().toLowerCase();
    const found = listing.tag_names.map((_, tag) => tag);
    const some = small ? found.filter((tag) => listing.tag_names[tag]!.toLowerCase().includes(small)) : found;
    if (order === "by name") some.sort((a, b) => listing.tag_names[a]!.localeCompare(listing.tag_names[b]!));
    if (order === "of the shown") some.sort((a, b) => (counts[b] ?? 0) - (counts[a] ?? 0));
    return some;
  }, [listing, search, order, order === "of the shown" ? counts : null]);

  const toggle = (tag: number, exclude: boolean) =>
    onFilter(withTerm(store.where.value, `${exclude ? "-" : ""}tag:${written(listing.tag_names[tag]!)}`));

  function key(event: KeyboardEvent) {
    const moves: Record<string, number> = {
      ArrowDown: focus + 1,
      ArrowUp: focus - 1,
      Home: 0,
      End: tags.length - 1,
      PageDown: focus + Math.floor(height.value / ROW),
      PageUp: focus - Math.floor(height.value / ROW),
    };
    const target = moves[event.key];
    if (target !== undefined) {
      event.preventDefault();
      const next = Math.min(tags.length - 1, Math.max(0, target));
      setFocus(next);
      const element = box.current!;
      if (next * ROW < element.scrollTop) element.scrollTop = next * ROW;
      if ((next + 1) * ROW > element.scrollTop + element.clientHeight)
        element.scrollTop = (next + 1) * ROW - element.clientHeight;
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      const tag = tags[focus];
      if (tag !== undefined) toggle(tag, event.altKey);
    }
  }

  const first = Math.max(0, Math.floor(top.value / ROW) - 2);
  const some = tags.slice(first, first + Math.ceil(height.value / ROW) + 5);
  const where = ` ${store.where.value} `;
  return (
    <section class="tag-list" aria-label="Tags">
      <div class="row">
        <input
          class="input"
          type="search"
          aria-label="Search tags"
          placeholder={quantity(listing.tag_names.length, "tag")}
          value={search}
          onInput={(event) => (setSearch(event.currentTarget.value), setFocus(0), box.current?.scrollTo(0, 0))}
        />
        <select
          class="input order"
          aria-label="Order of tags"
          value={order}
          onChange={(event) => setOrder(event.currentTarget.value as typeof order)}
        >
          {ORDERS.map((each) => (
            <option>{each}</option>
          ))}
        </select>
      </div>
      <div
        ref={box}
        class="tag-rows"
        role="listbox"
        aria-label="Tags; Enter shows the pictures with one, Alt+Enter those without"
        aria-multiselectable="true"
        aria-activedescendant={tags.length ? `tag-${focus}` : undefined}
        tabIndex={0}
        onKeyDown={key}
        onScroll={(event) => (top.value = event.currentTarget.scrollTop)}
      >
        <div role="presentation" style={{ height: `${tags.length * ROW}px` }}>
          {some.map((tag, number) => {
            const name = listing.tag_names[tag]!;
            const all = listing.tag_counts[tag]!;
            const here = counts[tag] ?? 0;
            const term = `tag:${written(name)}`;
            const state = where.includes(` -${term} `) ? "excluded" : where.includes(` ${term} `) ? "included" : "";
            return (
              <div
                key={tag}
                id={`tag-${first + number}`}
                role="option"
                class={`tag-row ${state} ${first + number === focus ? "focus" : ""}`}
                aria-selected={state === "included"}
                aria-label={`${name}: ${here} of the ${shown} shown, ${all} of all${state ? `, ${state}` : ""}`}
                style={{ top: `${(first + number) * ROW}px` }}
                title={`${name}: on ${all}, not on ${total - all} (${percent(all / total)}). Click: only these; Alt+click: without them.`}
                onClick={(event) => (setFocus(first + number), toggle(tag, event.altKey))}
              >
                <span class="share" style={{ width: `${(100 * all) / total}%` }} />
                <span class="name cut">{name}</span>
                <span class="number soft">{here === all ? all : `${here} / ${all}`}</span>
              </div>
            );
          })}
        </div>
      </div>
      {!tags.length && (
        <p class="empty">
          {store.lacksCaptions.value
            ? "The captions are still being read."
            : search
              ? "No tag has this in its name."
              : "No caption has a tag yet."}
        </p>
      )}
    </section>
  );
}
