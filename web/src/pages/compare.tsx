// Grids: all that there are and a new one; or one of them, to look at, to vote on and to take away.
import { useEffect, useMemo, useState } from "preact/hooks";
import { get, withQuery, type Schemas } from "../api/client";
import { useFetched } from "../api/fetched";
import { Button } from "../components/button";
import { CommandLine } from "../components/command_line";
import { Picture } from "../components/picture";
import { Failed } from "../components/problems";
import { bytes, quantity, shellWord, when } from "../format";
import { pickOfRun } from "../jobs";
import { useKeys } from "../keys";
import { project } from "../project";
import { alter, query, to } from "../router";
import { queuePick } from "../runs";
import { Beside } from "./compare_beside";
import { CellGrid, rowLabelWidth } from "./compare_grid";
import { NewGrid } from "./compare_new";
import { keyOf, placeOf, samePlace, sizeOf, told, wordsOf, type Grid, type Place } from "./compare_shared";
import { TallyTable, Vote } from "./compare_vote";

type Votes = Schemas["VotesRecord"];

export function ComparePage() {
  const path = query.value.get("path") ?? "";
  return path ? <OneGrid key={path} path={path} /> : <AllGrids />;
}

function AllGrids() {
  const within = project.value;
  const grids = useFetched(
    (signal) => get("/api/grids", { query: { project: within }, signal }),
    [within],
    ["projects", "jobs"],
  );
  const run = query.value.get("run") ?? "";
  return (
    <main id="content" class="compare fills">
      <section class="pane" aria-label="Grids">
        <div class="compare-bar row wrap">
          <h1>Compare</h1>
          <span class="soft number push" role="status">
            {grids.data && quantity(grids.data.length, "grid")}
          </span>
        </div>
        {grids.error !== undefined && <Failed error={grids.error} />}
        {grids.data?.length === 0 && (
          <p class="empty">
            There are no grids here yet. Queue a run's epochs by strengths: it tells at a glance which epoch came out
            right. What <code>lorasmith grid</code> draws in the workspace is found, too.
          </p>
        )}
        {!!grids.data?.length && (
          <ul class="grid-cards">
            {grids.data.map((grid) => (
              <li key={grid.path}>
                <a class="grid-card" href={to("/compare", { path: grid.path, project: query.value.get("project") })}>
                  <div class="grid-cover">
                    {grid.cover ? (
                      <Picture path={grid.cover} size={768} v={grid.cover_version} alt="" />
                    ) : (
                      <span class="soft">{grid.drawn ? `${grid.drawn} drawn so far` : "nothing drawn yet"}</span>
                    )}
                  </div>
                  <strong class="cut">{grid.title || "without a prompt"}</strong>
                  <span class="soft small cut">
                    {grid.run_name && `${grid.run_name} · `}
                    {grid.axes.map((axis) => `${axis.title} (${axis.values.length})`).join(" × ")}
                  </span>
                  <span class="soft small number">
                    {grid.drawn < grid.total ? `${grid.drawn} of ${grid.total}` : quantity(grid.total, "picture")} ·{" "}
                    {when(grid.changed)}
                  </span>
                </a>
              </li>
            ))}
          </ul>
        )}
      </section>
      <aside class="pane side compare-side" aria-label="A new grid">
        <NewGrid key={run} project={within} run={run} />
      </aside>
    </main>
  );
}

function OneGrid({ path }: { path: string }) {
  const found = useFetched(
    (signal) => get("/api/grids/grid", { query: { path }, signal }),
    [path],
    ["projects", "jobs", "progress"],
  );
  if (found.data && found.error === undefined) return <GridView grid={found.data} />;
  return (
    <main id="content" class="column">
      {found.error !== undefined && (
        <>
          <Failed error={found.error} />
          <a href={to("/compare", { project: query.value.get("project") })}>All grids</a>
        </>
      )}
    </main>
  );
}

const ORDERS = [
  [0, 1, 2],
  [1, 0, 2],
  [0, 2, 1],
  [2, 0, 1],
  [1, 2, 0],
  [2, 1, 0],
] as const;
const LEAST = 40;
const MOST = 512;

function GridView({ grid }: { grid: Grid }) {
  const values = query.value;
  const count = grid.axes.length;
  const order = ORDERS.find((each) => each.join("") === values.get("order")) ?? ORDERS[0];
  const [across, down, pages] = order;
  const [pointed, setPointed] = useState<Place | null>(null);
  const [chosen, setChosen] = useState<readonly string[]>([]);
  const [size, setSize] = useState(0);
  const cells = useMemo(() => new Map(grid.cells.map((cell) => [keyOf(cell.place), cell])), [grid]);
  const inside = (place: Place | null): place is Place =>
    place !== null && place.every((each, axis) => each < sizeOf(grid, axis));
  const asked = placeOf(values.get("cell") ?? "");
  const current: Place = inside(asked) ? asked : [0, 0, 0];
  const besides = (values.get("beside") ?? "").split(" ").map(placeOf).filter(inside);
  const usual = useMemo(() => fitting(grid, across, down), [grid.path, across, down]);
  const width = size || usual;
  const shown = pointed && inside(pointed) ? pointed : current;

  const go = (place: Place, more: boolean) => {
    const id = keyOf(place);
    if (more) {
      // The one that one was at is meant, too, when a second is chosen.
      const before = chosen.length || samePlace(place, current) ? chosen : [keyOf(current)];
      setChosen(before.includes(id) ? before.filter((each) => each !== id) : [...before, id]);
    }
    alter({ cell: id });
  };
  const open = (places: readonly Place[]) =>
    alter({ beside: places.map(keyOf).join(" ") }, { replace: besides.length > 0 });
  const openChosen = () => open(chosen.length > 1 ? chosen.map((each) => placeOf(each)!) : [current]);
  const turn = () => alter({ order: [down, across, pages].join("") });
  const resize = (factor: number) => setSize(Math.min(MOST, Math.max(LEAST, Math.round(width * factor))));

  const seed = Number(values.get("round") ?? 0) || 0;
  const by = (values.get("by") ?? "").split("\n").filter((each) => grid.axes.some((axis) => axis.title === each));
  const ballot = useFetched(
    (signal) => get("/api/grids/votes", { query: { path: grid.path, by: by.join("\n"), seed }, signal }),
    [grid.path, by.join("\n"), seed, grid.drawn],
    grid.run ? [`run:${grid.run}`] : [],
  );
  const [cast, setCast] = useState<Votes | null>(null);
  const votes = cast ?? ballot.data;
  const isVoting = values.get("vote") === "1" && votes !== undefined;
  // What was asked for before the last vote was written may arrive after it.
  useEffect(() => void (isVoting || setCast(null)), [ballot.data]);
  useEffect(() => setCast(null), [grid.path, by.join("\n"), seed]);
  const vote = () => alter({ vote: 1 }, { replace: false });
  useKeys([
    { keys: "v", does: "Vote blind", run: vote },
    { keys: "b", does: "Show the chosen beside each other", run: openChosen },
    { keys: "t", does: "Turn the grid: rows become columns", run: () => count > 1 && turn() },
    { keys: "+", does: "Larger pictures", run: () => resize(1.2) },
    { keys: "-", does: "Smaller pictures", run: () => resize(1 / 1.2) },
    { keys: "g", does: "Go to the pictures", run: () => document.querySelector<HTMLElement>(".cell-grid")?.focus() },
    { keys: "Escape", does: "Choose none", run: () => setChosen([]) },
  ]);

  const cell = cells.get(keyOf(shown));
  const page = current[pages];
  return (
    <main id="content" class="compare fills">
      <section class="pane" aria-label="The grid">
        <div class="compare-bar row wrap">
          <a class="soft" href={to("/compare", { project: values.get("project") ?? project.value })}>
            Compare
          </a>
          <span class="soft">/</span>
          <h1 class="cut compare-title" title={grid.title}>
            {grid.title || "without a prompt"}
          </h1>
          {grid.run && <a href={to("/run", { path: grid.run, project: values.get("project") })}>{grid.run_name}</a>}
          <span class="soft number" role="status">
            {grid.drawn < grid.total ? `${grid.drawn} of ${grid.total} drawn` : quantity(grid.total, "picture")}
          </span>
          <span class="push" />
          {chosen.length > 1 && (
            <Button onClick={openChosen} title="Show those that are chosen at their full size (b)">
              {chosen.length} beside each other
            </Button>
          )}
          <Button kind="primary" onClick={vote} title="Two pictures at a time, without a word of what they are (v)">
            Vote blind
          </Button>
        </div>
        <div class="compare-bar row wrap">
          {count > 1 &&
            (["columns", "rows", "pages"] as const).slice(0, count).map((name, side) => (
              <label class="row soft" key={name}>
                {name}
                <select
                  class="input"
                  value={order[side]}
                  onChange={(event) => alter({ order: swapped(order, side, Number(event.currentTarget.value)) })}
                >
                  {grid.axes.map((axis, number) => (
                    <option key={number} value={number}>
                      {axis.title}
                    </option>
                  ))}
                </select>
              </label>
            ))}
          {sizeOf(grid, pages) > 1 && (
            <label class="row soft">
              page
              <select
                class="input"
                value={page}
                onChange={(event) => {
                  const place = current.map((at, axis) => (axis === pages ? Number(event.currentTarget.value) : at));
                  alter({ cell: place.join(".") });
                }}
              >
                {grid.axes[pages]!.values.map((value, number) => (
                  <option key={number} value={number}>
                    {told(grid.axes[pages]!, value)}
                  </option>
                ))}
              </select>
            </label>
          )}
          <label class="row soft">
            size
            <input
              type="range"
              min={LEAST}
              max={MOST}
              step={8}
              value={width}
              onInput={(event) => setSize(Number(event.currentTarget.value))}
            />
          </label>
          <span class="push" />
          <Export grid={grid} />
        </div>
        <CellGrid
          grid={grid}
          cells={cells}
          order={order}
          size={width}
          current={current}
          chosen={chosen}
          onGo={go}
          onPoint={setPointed}
          onOpen={(place) => (chosen.length > 1 ? openChosen() : open([place]))}
        />
      </section>
      <aside class="pane side compare-side" aria-label="The picture, and the votes">
        <figure class="pointed">
          <div class="pointed-view" style={{ aspectRatio: `${grid.width} / ${grid.height}` }}>
            {cell?.path ? (
              <Picture
                path={cell.path}
                v={cell.version}
                alt={wordsOf(grid, shown)}
                class={grid.width <= 256 ? "by-pixels" : ""}
                lazy={false}
              />
            ) : (
              <span class="soft">not drawn yet</span>
            )}
          </div>
          <figcaption>
            <strong>{wordsOf(grid, shown)}</strong>
            <p class="soft small prompt-of">{cell?.prompt}</p>
          </figcaption>
        </figure>
        <VotesPart grid={grid} votes={votes} error={ballot.error} onVote={vote} />
      </aside>
      {besides.length > 0 && !isVoting && (
        <Beside
          grid={grid}
          cells={cells}
          order={order}
          places={besides}
          onMove={open}
          onClose={() => alter({ beside: null })}
        />
      )}
      {isVoting && (
        <Vote
          key={seed}
          grid={grid}
          votes={votes}
          onVotes={setCast}
          onAgain={() => alter({ round: seed + 1 })}
          onClose={() => alter({ vote: null })}
        />
      )}
    </main>
  );
}

/** The order in which `axis` stands at `side`; what stood there takes its place. */
function swapped(order: readonly number[], side: number, axis: number): string {
  const next = [...order];
  next[next.indexOf(axis)] = next[side]!;
  next[side] = axis;
  return next.join("");
}

/** px at which all columns are seen, if they are not too small then. */
function fitting(grid: Grid, across: number, down: number): number {
  const room = Math.max(320, innerWidth > 900 ? innerWidth - 400 : innerWidth);
  const left = room - rowLabelWidth(grid.axes[down]?.values ?? []) - 24;
  const own = Math.max(160, Math.min(grid.width, 320));
  return Math.round(Math.min(own, Math.max(64, left / sizeOf(grid, across) - 3)));
}

function Export({ grid }: { grid: Grid }) {
  const files = [
    ["sheet", "PNG", grid.sheet],
    ["page", "page", grid.page],
  ] as const;
  if (!grid.sheet && !grid.page)
    return <span class="soft small">To be saved as one file when the drawing has ended</span>;
  return (
    <div class="row" role="group" aria-label="Save the grid as one file">
      <span class="soft">save as</span>
      {files.map(
        ([kind, name, file]) =>
          file && (
            <a
              key={kind}
              class="button"
              href={withQuery("/api/grids/file", { path: grid.path, kind })}
              download
              title={
                kind === "page" ? "A page that needs nothing else, to send to anyone" : "All pictures with their labels"
              }
            >
              {name} <span class="soft small number">{bytes(file.bytes)}</span>
            </a>
          ),
      )}
    </div>
  );
}

interface VotesProps {
  grid: Grid;
  votes: Votes | undefined;
  error: unknown;
  onVote: () => void;
}

function VotesPart({ grid, votes, error, onVote }: VotesProps) {
  if (error !== undefined) return <Failed error={error} />;
  if (!votes) return null;
  const picking = grid.run ? pickOfRun(grid.run) : undefined;
  const showsRun = votes.by.length > 0 && grid.axes.some((axis) => axis.name === "epoch");
  const toggle = (title: string, on: boolean) => {
    const next = grid.axes.map((axis) => axis.title).filter((each) => (each === title ? on : votes.by.includes(each)));
    if (next.length) alter({ by: next.join("\n") });
  };
  return (
    <section class="column votes" aria-label="Votes">
      <div class="row wrap">
        <h2>Votes</h2>
        <span class="push" />
        {grid.axes.length > 1 && (
          <div class="row wrap soft" role="group" aria-label="What is compared">
            {grid.axes.map((axis) => (
              <label class="row" key={axis.title}>
                <input
                  type="checkbox"
                  checked={votes.by.includes(axis.title)}
                  onChange={(event) => toggle(axis.title, event.currentTarget.checked)}
                />
                {axis.title}
              </label>
            ))}
          </div>
        )}
      </div>
      {votes.votes === 0 ? (
        <>
          <p class="soft">
            Two pictures that differ in {votes.by.join(" or ")} alone, side by side, without a word of what they are:
            say with the arrow keys which is better. A dozen votes begin to tell.
          </p>
          <div class="row">
            <Button onClick={onVote} disabled={!votes.total}>
              Begin: {quantity(votes.total, "pair")}
            </Button>
          </div>
        </>
      ) : (
        <p role="status">
          <strong>{sentence(votes.summary)}</strong>
        </p>
      )}
      {(votes.votes > 0 || votes.standings.some((each) => each.judged)) && <TallyTable votes={votes} />}
      {votes.lost > 0 && (
        <p class="soft small">
          {quantity(votes.lost, "vote")} {votes.lost === 1 ? "is" : "are"} of pictures that the grid no longer has, and
          not counted.
        </p>
      )}
      {votes.pick ? (
        <p class="pick-says">
          <span class="tag">pick</span> {votes.pick}
        </p>
      ) : (
        grid.run &&
        showsRun && (
          <div class="row wrap">
            <span class="soft">pick has not looked at this run.</span>
            <Button disabled={picking !== undefined} onClick={() => queuePick(grid.run)}>
              {picking ? `Job ${picking.id} picks` : "Pick the best snapshot"}
            </Button>
          </div>
        )
      )}
      <CommandLine line={`lorasmith votes ${shellWord(grid.path)}`} />
    </section>
  );
}

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
