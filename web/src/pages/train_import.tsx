// Settings from a file of any trainer: what becomes of each thing in it, before it is taken.
import { useEffect, useState } from "preact/hooks";
import { post, type Schemas } from "../api/client";
import { Button } from "../components/button";
import { Dialog } from "../components/dialog";
import { Failed, Problems } from "../components/problems";
import { quantity, valueText } from "../format";
import type { Values } from "./train_draft";

type Imported = Schemas["ImportedSettings"];

/** A file that was dropped or chosen, or one on the server. */
export type ImportSource = { file: File } | { path: string };

// The server takes texts up to this, and a script has some thousand.
const LARGEST = 2_500_000;

interface Props {
  source: ImportSource;
  /** What the page has of its own, and a file's need not replace. */
  keeps: readonly string[];
  onTake: (values: Values) => void;
  onClose: () => void;
}

async function imported(source: ImportSource): Promise<Imported> {
  if ("path" in source) return post("/api/import-settings", { body: { path: source.path } });
  const { file } = source;
  if (file.size > LARGEST) {
    throw new Error(`${file.name} is too large for settings; put a LoRA into the workspace, and choose it there`);
  }
  return post("/api/import-settings", { body: { name: file.name, content: await base64(file) } });
}

function base64(file: File): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result).replace(/^[^,]*,/, ""));
    reader.onerror = () => reject(new Error(`${file.name} cannot be read`));
    reader.readAsDataURL(file);
  });
}

const GROUPS = [
  ["noted", "To know"],
  ["dropped", "Not carried over"],
  ["always", "Done in any case"],
] as const;

export function ImportDialog({ source, keeps, onTake, onClose }: Props) {
  const [found, setFound] = useState<Imported | null>(null);
  const [error, setError] = useState<unknown>();
  const [keep, setKeep] = useState(true);
  useEffect(() => {
    imported(source).then(setFound, setError);
  }, []);
  const name = "path" in source ? source.path : source.file.name;
  const settings = found?.notes.filter((note) => note.setting) ?? [];
  const from = new Map(settings.map((note) => [note.setting, note]));
  const kept = keeps.filter((path) => found && path in found.values);
  const taken = Object.entries(found?.values ?? {}).filter(([path]) => !keep || !kept.includes(path));
  return (
    <Dialog
      title="Import settings"
      onClose={onClose}
      footer={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" disabled={!taken.length} onClick={() => onTake(Object.fromEntries(taken))}>
            Take {quantity(taken.length, "setting")}
          </Button>
        </>
      }
    >
      <div class="column">
        <p class="mono breaks">{name}</p>
        {error !== undefined && <Failed error={error} />}
        {found && found.problems.length > 0 && (
          <>
            <p>What is asked for and can't be had, or is wrong; it is left out:</p>
            <Problems problems={found.problems} />
          </>
        )}
        {kept.length > 0 && (
          <label class="row">
            <input type="checkbox" checked={keep} onChange={(event) => setKeep(event.currentTarget.checked)} />
            <span>
              Keep this page's <span class="mono">{kept.join(", ")}</span>
            </span>
          </label>
        )}
        {found && (
          <table class="settings-table of-import lines">
            <thead>
              <tr>
                <th scope="col">Setting</th>
                <th scope="col">Value</th>
                <th scope="col">From</th>
              </tr>
            </thead>
            <tbody>
              {taken.map(([path, value]) => (
                <tr key={path}>
                  <th scope="row" class="mono">
                    {path}
                  </th>
                  <td>{valueText(value)}</td>
                  <td class="soft">
                    {from.get(path)?.source} {from.get(path)?.note && `(${from.get(path)?.note})`}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
        {GROUPS.map(([kind, title]) => {
          const notes = found?.notes.filter((note) => note.kind === kind) ?? [];
          return (
            notes.length > 0 && (
              <details key={kind} open={kind !== "always"}>
                <summary>
                  {title} ({notes.length})
                </summary>
                <ul class="column small">
                  {notes.map((note) => (
                    <li key={note.source + note.note}>
                      <span class="mono">{note.source}</span>: <span class="soft">{note.note}</span>
                    </li>
                  ))}
                </ul>
              </details>
            )
          );
        })}
      </div>
    </Dialog>
  );
}
