// Tags and captions by models: which, and from which score on, on what they said already.
import { useState } from "preact/hooks";
import { get, post } from "../api/client";
import { useFetched } from "../api/fetched";
import { Button } from "../components/button";
import { CommandLine } from "../components/command_line";
import { JobLine } from "../components/job_list";
import { say } from "../components/notices";
import { quantity } from "../format";
import { jobs, refreshJobs } from "../jobs";
import { remember, remembered } from "../session";
import { carriedOut, ChangesPreview, usePreview, useTarget } from "./dataset_changes";
import type { DatasetStore } from "./dataset_store";

const TAGGERS = [
  ["wd-vit-tagger-v3", "the usual one; fetched once from the Hugging Face hub (400 MB)"],
  ["wd-eva02-large-tagger-v3", "more exact, and slower (1.3 GB)"],
  ["cl_tagger", "newer names of characters"],
  ["demo", "ships with lorasmith; knows the demo's creatures alone"],
] as const;
const CAPTIONERS = ["florence2", "florence2-large", "blip", "blip-large", "joycaption", "qwen", "smolvlm"];
const MODES = [
  ["if-empty", "only where there is none"],
  ["append", "behind what is there"],
  ["prepend", "before what is there"],
  ["replace", "in place of what is there"],
] as const;
type Question = ReturnType<typeof useTarget>["question"];
type Mode = (typeof MODES)[number][0];

export function TaggerPanel({ store }: { store: DatasetStore }) {
  const query = { path: store.path };
  const folder = store.listing.value?.folder ?? "";
  const scores = useFetched(
    (signal) => get("/api/dataset/scores", { query, signal }),
    [store],
    ["jobs", `dataset:${folder}`],
  );
  const [tagger, setTagger] = useState(remembered("tagger") || TAGGERS[0][0]);
  const [mode, setMode] = useState<Mode>("if-empty");
  const [thresholds, setThresholds] = useState<Record<string, number>>({});
  const job = jobs.value.find(
    (each) =>
      ["tag", "caption"].includes(each.command[1] ?? "") &&
      each.command[2] === folder &&
      ["running", "queued"].includes(each.state),
  );
  const target = useTarget(store);
  const known = scores.data;
  const general = thresholds.general ?? known?.categories.general ?? 0.35;
  const character = thresholds.character ?? known?.categories.character ?? 0.85;
  const limits = { general, character };
  const body = { thresholds: limits, mode, ...target.question };
  const preview = usePreview(store, known?.images ? body : null, (part, signal) =>
    post("/api/dataset/tags", { query, body: { ...body, ...part }, signal }),
  );
  const changes = preview.changes;

  async function apply() {
    const done = await post("/api/dataset/tags", { query, body: { ...body, apply: true, limit: 0 } });
    await carriedOut(store, "Tagged", done);
  }
  async function run(look: boolean) {
    remember("tagger", tagger);
    const of = look ? { images: null, where: "" } : target.question;
    await post("/api/dataset/tag", { query, body: { tagger, mode, thresholds: limits, look, ...of } });
    await refreshJobs();
    say(
      look
        ? "The tagger is in the queue; when it has looked, the sliders show what its scores give."
        : "The tagger is in the queue; captions come when it has looked at the pictures.",
    );
  }

  return (
    <div class="panel-body">
      <h2>Tagger</h2>
      <div class="row">
        <KnownOr
          label="Tagger"
          known={TAGGERS.map(([name]) => name)}
          value={tagger}
          placeholder="a folder, or owner/model of the hub"
          onChange={setTagger}
        />
      </div>
      <p class="soft small">
        {TAGGERS.find(([name]) => name === tagger)?.[1] ?? "a folder with a tagger, or owner/model of the hub"}
      </p>
      {target.choice}
      <div class="row wrap">
        <Button disabled={!tagger.trim() || job !== undefined} onClick={() => run(true)}>
          Look at all, write nothing
        </Button>
        <Button disabled={!tagger.trim() || job !== undefined} onClick={() => run(false)}>
          Look and write
        </Button>
      </div>
      <label class="field">
        Write tags
        <ModeChoice mode={mode} onChange={setMode} />
      </label>
      <Threshold
        name="General tags"
        value={general}
        onChange={(value) => setThresholds({ ...thresholds, general: value })}
      />
      <Threshold
        name="Characters"
        value={character}
        onChange={(value) => setThresholds({ ...thresholds, character: value })}
      />
      {job && <JobLine job={job} />}
      {known && known.images > 0 && (
        <>
          <p class="soft small">
            {known.tagger} looked at {known.images} of {quantity(known.total, "picture")}; its scores are kept, so the
            sliders work at once.
          </p>
          {changes && (
            <>
              <div class="row apply">
                <Button kind="primary" disabled={!changes.total || preview.stale} onClick={apply}>
                  Write {quantity(changes.total, "caption")}
                </Button>
                <span class="soft small">can be undone</span>
              </div>
              <CommandLine line={changes.command_line} />
            </>
          )}
          <ChangesPreview store={store} preview={preview} />
        </>
      )}
      {known && !known.images && !job && (
        <p class="empty">
          A tagger looks at each picture once. What it said is kept in the dataset: afterwards you move the sliders, and
          see what they change, without it.
        </p>
      )}
      <Captioner store={store} busy={job !== undefined} question={target.question} />
    </div>
  );
}

interface KnownProps {
  label: string;
  known: readonly string[];
  value: string;
  placeholder: string;
  onChange: (value: string) => void;
}

/** One of those that are known, or another one's name. */
function KnownOr({ label, known, value, placeholder, onChange }: KnownProps) {
  const [other, setOther] = useState(!known.includes(value));
  return (
    <div class="column grows">
      <select
        class="input"
        aria-label={label}
        value={other ? "" : value}
        onChange={(event) => {
          const chosen = event.currentTarget.value;
          setOther(!chosen);
          onChange(chosen);
        }}
      >
        {known.map((name) => (
          <option key={name} value={name}>
            {name}
          </option>
        ))}
        <option value="">another…</option>
      </select>
      {other && (
        <input
          class="input"
          aria-label={`${label}: its name`}
          placeholder={placeholder}
          value={value}
          onInput={(event) => onChange(event.currentTarget.value)}
        />
      )}
    </div>
  );
}

function ModeChoice({ mode, onChange }: { mode: Mode; onChange: (mode: Mode) => void }) {
  return (
    <select class="input" value={mode} onChange={(event) => onChange(event.currentTarget.value as Mode)}>
      {MODES.map(([value, words]) => (
        <option key={value} value={value}>
          {words}
        </option>
      ))}
    </select>
  );
}

function Threshold({ name, value, onChange }: { name: string; value: number; onChange: (value: number) => void }) {
  return (
    <label class="threshold">
      <span>{name}</span>
      <input
        type="range"
        min={0.05}
        max={1}
        step={0.01}
        value={Math.min(1, value)}
        onInput={(event) => onChange(Number(event.currentTarget.value))}
      />
      <span class="number">{value.toFixed(2)}</span>
    </label>
  );
}

function Captioner({ store, busy, question }: { store: DatasetStore; busy: boolean; question: Question }) {
  const [model, setModel] = useState(CAPTIONERS[0]!);
  const [mode, setMode] = useState<Mode>("if-empty");
  const [endpoint, setEndpoint] = useState("");
  async function run() {
    // A server has models of its own.
    const body = { model: endpoint && CAPTIONERS.includes(model) ? "" : model, endpoint, mode, ...question };
    await post("/api/dataset/captions", { query: { path: store.path }, body });
    await refreshJobs();
    say("The captioner is in the queue.");
  }
  return (
    <details>
      <summary>Captions in sentences</summary>
      <div class="column">
        <KnownOr
          label="Captioner"
          known={CAPTIONERS}
          value={model}
          placeholder="a folder, or owner/model of the hub"
          onChange={setModel}
        />
        <label class="field">
          Or a server on this computer (Ollama, LM Studio, vLLM)
          <input
            class="input"
            placeholder="http://localhost:11434/v1"
            value={endpoint}
            onInput={(event) => setEndpoint(event.currentTarget.value)}
          />
        </label>
        <label class="field">
          Captions that are there
          <ModeChoice mode={mode} onChange={setMode} />
        </label>
        <Button disabled={busy || !(model || endpoint)} onClick={run}>
          Caption pictures
        </Button>
      </div>
    </details>
  );
}
