// What a report of a bug needs, as one zip: what is in it is said before it is saved.
import { useState } from "preact/hooks";
import { get, type Schemas, withQuery } from "../api/client";
import { useFetched } from "../api/fetched";
import { bytes, quantity } from "../format";
import { path, query } from "../router";
import { CommandLine } from "./command_line";
import { Dialog } from "./dialog";
import { Failed } from "./problems";

const ZIP = "lorasmith-report.zip";

export function BugReport({ onClose }: { onClose: () => void }) {
  // Whoever asks for it on a run's page has trouble with that run.
  const [run, setRun] = useState(path.value === "/run" ? (query.value.get("path") ?? "") : "");
  const [captions, setCaptions] = useState(false);
  const runs = useFetched((signal) => get("/api/runs", { signal }), []);
  const asked = { ...(run && { run: [run] }), captions };
  const report = useFetched((signal) => get("/api/bug-report", { query: asked, signal }), [run, captions]);
  const isNew = !report.loading && report.error === undefined;
  return (
    <Dialog
      title="Report a bug"
      onClose={onClose}
      footer={
        <>
          <span class="soft small">Nothing is sent: the browser saves it, and you look into it first.</span>
          <a
            class="button primary push"
            href={isNew ? withQuery("/api/bug-report/zip", { run, captions: captions || undefined }) : undefined}
            aria-disabled={!isNew}
            download={ZIP}
          >
            Save the zip{report.data && ` (${bytes(report.data.bytes)})`}
          </a>
        </>
      }
    >
      <div class="column">
        <p>
          What a report needs, as plain text in one zip: versions, the computer, the queue, settings, metrics and logs.
          No pictures, no LoRAs. Home folders, your name and the computer's, tokens and passwords are taken out.
        </p>
        <div class="row wrap">
          <label class="row">
            About
            <select class="input" value={run} onChange={(event) => setRun(event.currentTarget.value)}>
              <option value="">the newest runs</option>
              {runs.data?.map((one) => (
                <option key={one.path} value={one.path}>
                  {one.name}
                </option>
              ))}
            </select>
          </label>
          <label class="row">
            <input type="checkbox" checked={captions} onChange={(event) => setCaptions(event.currentTarget.checked)} />
            With what it found in the pictures, and captions
          </label>
        </div>
        {report.error !== undefined && <Failed error={report.error} />}
        {!report.data && report.loading && <p class="soft">Looking at what would be in it…</p>}
        {report.data && <Contents report={report.data} />}
      </div>
    </Dialog>
  );
}

function Contents({ report }: { report: Schemas["ReportContents"] }) {
  return (
    <>
      <table class="lines">
        <caption class="unseen">What is in the zip</caption>
        <thead>
          <tr>
            <th scope="col">File</th>
            <th scope="col" class="right">
              Size
            </th>
            <th scope="col">Taken out</th>
          </tr>
        </thead>
        <tbody>
          {report.files.map((file) => (
            <tr key={file.name}>
              <td class="mono breaks">{file.name}</td>
              <td class="right number">{bytes(file.bytes)}</td>
              <td class="soft">
                {[file.lines_changed > 0 && `of ${quantity(file.lines_changed, "line")}`, file.cut && "all but its end"]
                  .filter(Boolean)
                  .join("; ") || "nothing"}
              </td>
            </tr>
          ))}
          {report.left_out.map((name) => (
            <tr key={name}>
              <td class="mono breaks">{name}</td>
              <td />
              <td class="soft">all of it: is no text</td>
            </tr>
          ))}
        </tbody>
      </table>
      <CommandLine line={report.command_line} />
    </>
  );
}
