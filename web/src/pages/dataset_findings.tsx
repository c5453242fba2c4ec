// What the audit found, as cards; each is mended after a look at what that changes.
import { useState } from "preact/hooks";
import { get, post, type Schemas } from "../api/client";
import { useFetched } from "../api/fetched";
import { Button } from "../components/button";
import { CommandLine } from "../components/command_line";
import { Dialog } from "../components/dialog";
import { JobLine } from "../components/job_list";
import { Picture } from "../components/picture";
import { Failed } from "../components/problems";
import { ResolutionChoice, useResolution } from "../components/resolution_choice";
import { baseName, quantity, when } from "../format";
import { jobs, refreshJobs } from "../jobs";
import { carriedOut, ChangesPreview, countsText, usePreview } from "./dataset_changes";
import type { DatasetStore } from "./dataset_store";

type Finding = Schemas["FindingRecord"];

const KINDS = ["character", "style", "concept", "object"] as const;
/** Findings of a rule, pictures of a finding, that are shown at first; and findings at most. */
const SHOWN = 3;
const IMAGES = 6;
const MOST = 300;

export function FindingsPanel({ store, onOpen }: { store: DatasetStore; onOpen: (name: string) => void }) {
  const query = { path: store.path };
  const folder = store.listing.value?.folder ?? "";
  const found = useFetched(
    (signal) => get("/api/dataset/findings", { query, signal }),
    [store, store.changes.value],
    ["jobs", `dataset:${folder}`],
  );
  const [kind, setKind] = useState<(typeof KINDS)[number] | "">("");
  const [mending, setMending] = useState<string[] | null>(null);
  const [resolution, setResolution] = useResolution();
  // Until one looks again, what was mended is not shown as if it were still so.
  const [mended, setMended] = useState<{ time: number | null | undefined; ids: ReadonlySet<string> }>({
    time: null,
    ids: new Set(),
  });
  const job = jobs.value.find(
    (each) => each.command[1] === "audit" && each.command[2] === folder && ["running", "queued"].includes(each.state),
  );
  const data = found.data;

  async function audit() {
    await post("/api/dataset/audit", { query, body: { kind: kind || null, resolution } });
    await refreshJobs();
  }
  async function ignore(ids: string[], again = false) {
    await post("/api/dataset/ignore", { query, body: { ids, again } });
    found.reload();
  }

  const isMended = (one: Finding) =>
    mended.time === data?.time &&
    (mended.ids.has(one.id) || mended.ids.has(one.rule) || (mended.ids.has("all-safe") && one.safe && one.mendable));
  const all = data?.findings ?? [];
  const findings = all.filter((one) => !isMended(one));
  const groups = groupsOf(findings);
  const safe = findings.filter((one) => one.safe && one.mendable);
  return (
    <div class="panel-body">
      <div class="row wrap">
        <Button kind={data?.looked ? "plain" : "primary"} disabled={job !== undefined} onClick={audit}>
          {data?.looked ? "Look again" : "Look at the dataset"}
        </Button>
        <select
          class="input kind"
          aria-label="What is to be learned"
          value={kind || data?.kind || ""}
          onChange={(event) => setKind(event.currentTarget.value as typeof kind)}
        >
          <option value="">any subject</option>
          {KINDS.map((each) => (
            <option key={each} value={each}>
              {/^[aeiou]/.test(each) ? "an" : "a"} {each}
            </option>
          ))}
        </select>
        <ResolutionChoice value={resolution} onChange={setResolution} />
      </div>
      {job && <JobLine job={job} />}
      {found.error !== undefined && <Failed error={found.error} />}
      {data && !data.looked && !job && (
        <p class="empty">
          lorasmith looks at every picture and caption once, and says what would cost quality: copies, blur, tags that
          contradict each other, captions that are cut off. Most of it can be mended here.
        </p>
      )}
      {data?.looked && (
        <p class="soft small">
          {when(data.time!)}: {quantity(data.images!, "picture")}, {quantity(findings.length, "finding")}
          {(data.changed || mended.time === data.time) && (
            <span class="lacks"> – files were changed since; look again</span>
          )}
        </p>
      )}
      {safe.length > 0 && (
        <Button onClick={() => setMending(["all-safe"])}>Mend what loses nothing ({safe.length})…</Button>
      )}
      {data?.looked && !findings.length && <p class="empty">Nothing is wrong that these rules see.</p>}
      <ol class="findings" aria-label="Findings">
        {groups.map((group) => (
          <Group
            key={`${group[0]!.rule} ${group[0]!.severity}`}
            store={store}
            findings={group}
            onOpen={onOpen}
            onMend={setMending}
            onIgnore={(ids) => ignore(ids)}
          />
        ))}
      </ol>
      {data && data.ignored!.length > 0 && (
        <details class="small">
          <summary>{quantity(data.ignored!.length, "finding")} ignored</summary>
          <ul class="column">
            {data.ignored!.slice(0, 200).map((one) => (
              <li key={one.id} class="row">
                <span>
                  {one.title}: {one.what}
                </span>
                <Button class="push" kind="quiet" onClick={() => ignore([one.id, one.rule], true)}>
                  Tell again
                </Button>
              </li>
            ))}
          </ul>
        </details>
      )}
      {data && Object.keys(data.skipped!).length > 0 && (
        <details class="small">
          <summary>{quantity(Object.keys(data.skipped!).length, "rule")} could not look</summary>
          <ul class="column">
            {Object.entries(data.skipped!).map(([title, missing]) => (
              <li key={title}>
                {title}: <span class="soft">{missing}</span>
              </li>
            ))}
          </ul>
        </details>
      )}
      {mending && (
        <Mending
          store={store}
          ids={mending}
          title={
            findings.find((one) => one.id === mending[0] || one.rule === mending[0])?.title ?? "what loses nothing"
          }
          onMended={() =>
            setMended({
              time: data?.time,
              ids: new Set([...(mended.time === data?.time ? mended.ids : []), ...mending]),
            })
          }
          onClose={() => (setMending(null), found.reload())}
        />
      )}
    </div>
  );
}

/** By rule, in their order; a rule's graver findings by themselves. */
function groupsOf(findings: readonly Finding[]): Finding[][] {
  const groups = new Map<string, Finding[]>();
  for (const one of findings) {
    const key = `${one.severity} ${one.rule}`;
    groups.set(key, [...(groups.get(key) ?? []), one]);
  }
  return [...groups.values()];
}

const WORDS = { error: "error", warning: "warning", note: "note" } as const;
const TONES = { error: "danger", warning: "warning", note: "" } as const;

interface GroupProps {
  store: DatasetStore;
  findings: readonly Finding[];
  onOpen: (name: string) => void;
  onMend: (ids: string[]) => void;
  onIgnore: (ids: string[]) => unknown;
}

/** What one rule found. */
function Group({ store, findings, onOpen, onMend, onIgnore }: GroupProps) {
  const [all, setAll] = useState(false);
  const first = findings[0]!;
  const names = [...new Set(findings.flatMap((one) => one.images))].filter((name) => store.places.value.has(name));
  const shown = all ? findings.slice(0, MOST) : findings.slice(0, SHOWN);
  const one = findings.length === 1;
  return (
    <li class="finding panel">
      <div class="row">
        <span class={`tag ${TONES[first.severity]}`}>{WORDS[first.severity]}</span>
        <h2>{first.title}</h2>
        {!one && <span class="number soft push">{findings.length}</span>}
      </div>
      <ul class="column">
        {shown.map((each) => (
          <Single
            key={each.id}
            store={store}
            finding={each}
            alone={one}
            onOpen={onOpen}
            onMend={onMend}
            onIgnore={onIgnore}
          />
        ))}
      </ul>
      {findings.length > shown.length && (
        <Button kind="quiet" onClick={() => setAll(true)}>
          Show {Math.min(MOST, findings.length) - shown.length} more
        </Button>
      )}
      <p class="soft small">{first.why}</p>
      <div class="row wrap">
        {first.mendable && (
          <Button onClick={() => onMend([one ? first.id : first.rule])}>
            {one ? "Mend…" : `Mend all ${findings.length}…`}
          </Button>
        )}
        {names.length > 0 && (
          <Button
            kind="quiet"
            onClick={() => {
              store.subset.value = { title: first.title, names };
              store.select([]);
            }}
          >
            Show {quantity(names.length, "picture")}
          </Button>
        )}
        {first.severity !== "error" && (
          <Button kind="quiet" onClick={() => onIgnore([one ? first.id : first.rule])}>
            {one ? "Ignore" : "Ignore the rule"}
          </Button>
        )}
      </div>
      {!first.mendable && one && first.command && <CommandLine line={first.command} />}
    </li>
  );
}

interface SingleProps extends Omit<GroupProps, "findings"> {
  finding: Finding;
  alone: boolean;
}

function Single({ store, finding, alone, onOpen, onMend, onIgnore }: SingleProps) {
  const images = finding.images.filter((name) => store.places.value.has(name));
  const pair = images.length === 2;
  const listing = store.listing.value!;
  return (
    <li class="single">
      <p>
        {finding.what}
        {!alone && images.length === 1 && <span class="soft small"> {baseName(images[0]!)}</span>}
      </p>
      {images.length > 0 && (
        <ul
          class={
            pair ? "finding-images pair" : images.length === 1 && !alone ? "finding-images small" : "finding-images"
          }
        >
          {images.slice(0, IMAGES).map((name) => {
            const place = store.places.value.get(name)!;
            return (
              <li key={name}>
                <button type="button" onClick={() => onOpen(name)} title={name}>
                  <Picture path={store.imagePath(name)} v={store.versionOf(name)} size={pair ? 384 : 192} alt={name} />
                  {pair && (
                    <span class="small cut">
                      {baseName(name)}{" "}
                      <span class="soft number">
                        {listing.widths[place] ? `${listing.widths[place]}×${listing.heights[place]}` : ""}
                      </span>
                    </span>
                  )}
                </button>
              </li>
            );
          })}
          {images.length > IMAGES && <li class="soft small">and {images.length - IMAGES} more</li>}
        </ul>
      )}
      {finding.tags.length > 0 && (
        <p class="row wrap">
          {finding.tags.slice(0, 8).map((tag) => (
            <span key={tag} class="tag">
              {tag}
            </span>
          ))}
          {finding.tags.length > 8 && <span class="soft small">and {finding.tags.length - 8} more</span>}
        </p>
      )}
      {!alone && (
        <div class="row">
          {finding.mendable && (
            <Button kind="quiet" onClick={() => onMend([finding.id])}>
              Mend…
            </Button>
          )}
          {finding.severity !== "error" && (
            <Button kind="quiet" onClick={() => onIgnore([finding.id])}>
              Ignore
            </Button>
          )}
        </div>
      )}
    </li>
  );
}

interface MendingProps {
  store: DatasetStore;
  ids: string[];
  title: string;
  onMended: () => void;
  onClose: () => void;
}

/** What mending changes, and the button that does it. */
function Mending({ store, ids, title, onMended, onClose }: MendingProps) {
  const query = { path: store.path };
  const preview = usePreview(store, { ids }, (part, signal) =>
    post("/api/dataset/mend", { query, body: { ids, ...part }, signal }),
  );
  const changes = preview.changes;
  async function mend() {
    const done = await post("/api/dataset/mend", { query, body: { ids, apply: true, limit: 0 } });
    onMended();
    onClose();
    await carriedOut(store, "Mended", done);
  }
  return (
    <Dialog
      title={`Mend: ${title}`}
      onClose={onClose}
      footer={
        <>
          <span class="soft">{changes ? countsText(changes) : ""}</span>
          <Button onClick={onClose}>Leave it</Button>
          <Button kind="primary" disabled={!changes?.total || preview.stale} onClick={mend}>
            Mend it
          </Button>
        </>
      }
    >
      {!changes && preview.error === undefined && <p class="soft">Working out what changes…</p>}
      <div class="column">
        <ChangesPreview store={store} preview={preview} />
        {changes?.command_line && <CommandLine line={changes.command_line} />}
      </div>
    </Dialog>
  );
}
