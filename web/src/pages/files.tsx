// LoRA files: cards of all that there are, what one is, and the tools that make others of them.
import { useMemo, useState } from "preact/hooks";
import { get, imageAddress, type Schemas } from "../api/client";
import { useFetched } from "../api/fetched";
import { CardGrid } from "../components/card_grid";
import { Failed } from "../components/problems";
import { Tabs } from "../components/tabs";
import { isThere, Thumb } from "../components/thumb";
import { bytes, quantity, when } from "../format";
import { useKeys } from "../keys";
import { project } from "../project";
import { alter, query, to } from "../router";
import { session } from "../session";
import { BlocksView } from "./files_blocks";
import { FileView } from "./files_details";
import { ToolView } from "./files_tool";

type Lora = Schemas["LoraCard"] & { key: string; label: string };

const PARTS = ["File", "Blocks", "Resize", "Merge", "Extract", "Bake", "Convert"] as const;
type Part = (typeof PARTS)[number];

const WIDTH = 150;
const THUMB = 132;
const HEIGHT = THUMB + 42;

const ORDERS: Record<string, (a: Lora, b: Lora) => number> = {
  name: (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }),
  newest: (a, b) => b.changed - a.changed,
  largest: (a, b) => b.file_bytes - a.file_bytes,
};

async function loadAll(folders: readonly string[], signal: AbortSignal): Promise<Lora[]> {
  const found = await Promise.all(folders.map((folder) => get("/api/draw/loras", { query: { folder }, signal })));
  const byPath = new Map<string, Lora>();
  for (const card of found.flatMap((each) => each.loras)) {
    const label = [card.name, card.base, bytes(card.file_bytes)].filter(Boolean).join(", ");
    byPath.set(card.path, { ...card, key: card.path, label });
  }
  return [...byPath.values()];
}

export function FilesPage() {
  const current = query.value.get("lora") ?? "";
  const tool = query.value.get("tool") ?? "";
  const part: Part = PARTS.find((each) => each.toLowerCase() === tool) ?? "File";
  const [chosen, setChosen] = useState<readonly string[]>(current ? [current] : []);
  const [words, setWords] = useState("");
  const [order, setOrder] = useState("newest");
  const roots = session.value?.roots.map((root) => root.path) ?? [];
  const folders = project.value ? [project.value] : roots;
  const found = useFetched((signal) => loadAll(folders, signal), [folders.join("\n")], ["projects", "jobs"]);
  const shown = useMemo(() => {
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (lora: Lora) => {
      const text = `${lora.path}\n${lora.base}\n${lora.trigger}`.toLowerCase();
      return wanted.every((word) => text.includes(word));
    };
    return (found.data ?? []).filter(fits).sort(ORDERS[order]);
  }, [found.data, words, order]);
  const selected = useMemo(() => new Set(chosen), [chosen]);
  const card = found.data?.find((each) => each.path === current);

  function show(next: Part) {
    alter({ tool: next === "File" ? null : next.toLowerCase() });
  }
  const written = (path: string) => (found.reload(), setChosen([path]), alter({ lora: path }));
  function focusGrid() {
    document.querySelector<HTMLElement>(".card-grid")?.focus();
  }
  useKeys([
    { keys: "/", does: "Search the files", run: () => document.querySelector<HTMLElement>("#search")?.focus() },
    { keys: "g", does: "Go to the cards", run: focusGrid },
    { keys: "i", does: "Show what the file is", run: () => show("File") },
    { keys: "w", does: "Weigh its blocks", run: () => show("Blocks") },
    { keys: "r", does: "Resize it", run: () => show("Resize") },
    { keys: "m", does: "Merge those that are selected", run: () => show("Merge") },
  ]);

  return (
    <main id="content" class="files fills">
      <section class="pane" aria-label="LoRA files">
        <div class="files-bar row wrap">
          <h1>LoRA files</h1>
          <input
            id="search"
            class="input"
            type="search"
            placeholder="Name, folder, base or trigger"
            aria-label="Search"
            value={words}
            onInput={(event) => setWords(event.currentTarget.value)}
            onKeyDown={(event) => {
              if (event.key === "ArrowDown" || event.key === "Enter") focusGrid();
            }}
          />
          <select
            class="input"
            aria-label="Order"
            value={order}
            onChange={(event) => setOrder(event.currentTarget.value)}
          >
            <option value="newest">newest first</option>
            <option value="name">by name</option>
            <option value="largest">largest first</option>
          </select>
          <span class="soft number push" role="status">
            {found.data && quantity(shown.length, "file")}
            {chosen.length > 1 && `, ${chosen.length} selected`}
          </span>
        </div>
        {found.error !== undefined && <Failed error={found.error} />}
        {found.data?.length === 0 ? (
          <p class="empty">
            There is no LoRA here yet. <a href={to("/train", { project: project.value })}>Train one</a>, or put files
            into the workspace.
          </p>
        ) : (
          found.data && (
            <CardGrid
              cards={shown}
              label={`LoRA files: ${shown.length}`}
              width={WIDTH}
              height={HEIGHT}
              current={current}
              selected={selected}
              onGo={(key, all) => (setChosen(all), alter({ lora: key }))}
              draw={drawn}
            />
          )
        )}
      </section>
      <aside class="pane side files-side" aria-label="The file and the tools">
        <Tabs names={PARTS} chosen={part} onChoose={show} label="The file and the tools" controls="about" />
        <div class="files-part" id="about" role="tabpanel" aria-label={part}>
          {part === "Blocks" ? (
            <BlocksView key={current} path={current} card={card} onWritten={written} />
          ) : part === "File" ? (
            (found.data || found.error !== undefined) && (
              <FileView key={current} path={current} card={card} onChanged={found.reload} />
            )
          ) : (
            <ToolView
              key={part}
              verb={part.toLowerCase() as Schemas["ToolForm"]["verb"]}
              current={current}
              selected={chosen}
              onWritten={written}
              onChanged={found.reload}
            />
          )}
        </div>
      </aside>
    </main>
  );
}

function drawn(lora: Lora, resting: boolean) {
  const address = lora.preview ? imageAddress(lora.preview, 384, lora.preview_version) : "";
  return (
    <>
      <div class="card-thumb" style={{ height: `${THUMB}px` }}>
        {address ? (
          (resting || isThere(address)) && <Thumb key={address} address={address} />
        ) : (
          <span class="card-none" aria-hidden="true">
            {lora.name.slice(0, 2)}
          </span>
        )}
      </div>
      <div class="card-name cut" title={lora.path}>
        {lora.name}
      </div>
      <div class="card-words soft small number cut">
        {bytes(lora.file_bytes)} · {when(lora.changed)}
      </div>
    </>
  );
}
