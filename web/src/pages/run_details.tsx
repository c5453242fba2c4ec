// Beside a run's curves: what it says in words, its LoRAs, its settings, the dataset as it was.
import { useState } from "preact/hooks";
import { to } from "../router";
import { get, type Schemas } from "../api/client";
import { useFetched } from "../api/fetched";
import { Button } from "../components/button";
import { CommandLine, copyText } from "../components/command_line";
import { Picture } from "../components/picture";
import { Failed } from "../components/problems";
import { CopyLora } from "../components/run_changes";
import { Tabs } from "../components/tabs";
import { breakable, bytes, quantity, valueText } from "../format";
import { JUDGED, nameInProject } from "../runs";

type Run = Schemas["RunDetail"];

const SPEAKERS: Record<string, string> = {
  training: "training",
  watchdog: "watchdog",
  best: "stop when best",
  pick: "pick",
  request: "asked for",
  rate: "rate finder",
};
const PARTS = ["Says", "Files", "Settings", "Dataset"] as const;

export function RunDetails({ run, path }: { run: Run; path: string }) {
  const [part, setPart] = useState<(typeof PARTS)[number]>("Says");
  return (
    <aside class="panel run-details" aria-label="About the run">
      <header>
        <Tabs names={PARTS} chosen={part} onChoose={setPart} label="About the run" controls="about" />
      </header>
      <div class="body" id="about" role="tabpanel" aria-label={part}>
        {part === "Says" && <Says run={run} />}
        {part === "Files" && <Files run={run} />}
        {part === "Settings" && <Settings run={run} path={path} />}
        {part === "Dataset" && <Dataset path={path} />}
      </div>
    </aside>
  );
}

function Says({ run }: { run: Run }) {
  const says = run.says.filter((sentence) => sentence.by !== "pick").reverse();
  const picked = run.says.filter((sentence) => sentence.by === "pick");
  return (
    <div class="column">
      {picked.length > 0 && (
        <section class="column">
          <h3>What pick found</h3>
          {picked.map((sentence, index) => (
            <p key={index} class={index ? "soft" : ""}>
              {sentence.text}
            </p>
          ))}
          {run.pick_chart && (
            <a href={to("/api/image", { path: run.pick_chart })} target="_blank" rel="noopener">
              <Picture path={run.pick_chart} size={768} alt="Likeness and leak of each snapshot, larger by a click" />
            </a>
          )}
        </section>
      )}
      {run.changed.length > 0 && (
        <section>
          <h3>Changed on the way</h3>
          <ul class="column">
            {run.changed.map((line) => (
              <li key={line}>{line}</li>
            ))}
          </ul>
        </section>
      )}
      {says.length ? (
        <ol class="says">
          {says.map((sentence, index) => (
            <li key={says.length - index} class={sentence.warning ? "warning" : ""}>
              <span class="soft small number">
                {SPEAKERS[sentence.by]}
                {sentence.step != null && ` · step ${sentence.step}`}
              </span>
              <p>{sentence.text}</p>
            </li>
          ))}
        </ol>
      ) : (
        <p class="soft">It has said nothing so far; what its watchdog finds, and what is asked of it, stands here.</p>
      )}
    </div>
  );
}

function Files({ run }: { run: Run }) {
  const words = (lora: Run["loras"][number]) =>
    [
      lora.final ? "the result" : lora.epoch != null ? `epoch ${lora.epoch}` : lora.step != null && `step ${lora.step}`,
      bytes(lora.bytes),
      JUDGED[lora.judged],
    ].filter(Boolean);
  return (
    <div class="column">
      {run.loras.length === 0 && <p class="soft">No LoRA is saved yet.</p>}
      <ul class="run-files">
        {[...run.loras].reverse().map((lora) => (
          <li key={lora.path} class="row">
            <div class="file">
              <a
                class="mono cut"
                href={to("/api/lora", { path: lora.path })}
                download={lora.name}
                title={`Save ${lora.path}`}
              >
                {lora.name}
              </a>
              <span class="soft small number">
                {lora.picked && <span class="tag running">keep</span>} {words(lora).join(" · ")}
              </span>
            </div>
            <CopyLora path={lora.path} kind="quiet" icon="folder" label={`Copy ${lora.name} into a folder…`} />
            <Button
              kind="quiet"
              icon="copy"
              label={`Copy the path of ${lora.name}`}
              onClick={() => copyText(lora.path)}
            />
          </li>
        ))}
      </ul>
      <h3>Folder</h3>
      <p class="mono breaks">{run.path}</p>
      {run.resume && (
        <>
          <h3>Go on from a terminal</h3>
          <CommandLine line={run.resume} />
        </>
      )}
    </div>
  );
}

function Settings({ run, path }: { run: Run; path: string }) {
  const [other, setOther] = useState("");
  const runs = useFetched((signal) => get("/api/runs", { signal }), []);
  const compared = useFetched(
    (signal) => (other ? get("/api/run/compare", { query: { path, other }, signal }) : Promise.resolve(null)),
    [path, other],
  );
  const rows = other ? compared.data : run.differs_from_default;
  return (
    <div class="column">
      <label class="field">
        Compared with
        <select class="input" value={other} onChange={(event) => setOther(event.currentTarget.value)}>
          <option value="">the defaults</option>
          {runs.data
            ?.filter((each) => each.path !== path)
            .map((each) => (
              <option key={each.path} value={each.path}>
                {nameInProject(each)}
              </option>
            ))}
        </select>
      </label>
      {compared.error !== undefined && <Failed error={compared.error} />}
      {rows?.length === 0 && <p class="soft">No setting differs.</p>}
      {!!rows?.length && (
        <table class="settings-table lines">
          <thead>
            <tr>
              <th scope="col">Setting</th>
              <th scope="col">Here</th>
              <th scope="col">{other ? "There" : "Default"}</th>
            </tr>
          </thead>
          <tbody>
            {rows.map((each) => (
              <tr key={each.path}>
                <th scope="row" class="mono">
                  {breakable(each.path)}
                </th>
                <td>{valueText(each.value)}</td>
                <td class="soft">{valueText(each.other)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      <details>
        <summary>The settings file</summary>
        <pre class="log" tabIndex={0}>
          {run.settings_text}
        </pre>
      </details>
    </div>
  );
}

interface SeenDataset {
  steps?: { because?: string };
  captions?: Record<string, number>;
  folders?: { path: string; pictures: number; repeats: number; reg?: boolean }[];
  buckets?: { width: number; height: number; pictures: number }[];
  warnings?: { where: string; what: string; hint: string }[];
}

function Dataset({ path }: { path: string }) {
  const found = useFetched((signal) => get("/api/run/dataset", { query: { path }, signal }), [path]);
  const data = found.data as SeenDataset | undefined;
  if (found.error !== undefined) return <Failed error={found.error} />;
  if (data && !data.folders) return <p class="soft">The run has not written down what it found yet.</p>;
  return (
    <div class="column">
      {data?.steps?.because && <p>{data.steps.because}</p>}
      {data?.folders?.map((folder) => (
        <p key={folder.path}>
          <span class="mono breaks">{folder.path}</span>
          <br />
          <span class="soft number">
            {quantity(folder.pictures, "picture")}, {folder.repeats === 1 ? "once" : `${folder.repeats} times`} each in
            an epoch
            {folder.reg ? ", to regularise by" : ""}
          </span>
        </p>
      ))}
      {!!data?.buckets?.length && (
        <>
          <h3>Sizes</h3>
          <ul class="number">
            {data.buckets.map((bucket) => (
              <li key={`${bucket.width} ${bucket.height}`}>
                {bucket.width} × {bucket.height} <span class="soft">{quantity(bucket.pictures, "picture")}</span>
              </li>
            ))}
          </ul>
        </>
      )}
      {data?.warnings?.map((each) => (
        <p key={each.what} class="soft">
          {each.where}: {each.what}
          {each.hint && `; ${each.hint}`}
        </p>
      ))}
    </div>
  );
}
