// A folder or file of the server's: only where the studio may look.
import { useState } from "preact/hooks";
import { get, type Schemas } from "../api/client";
import { useFetched } from "../api/fetched";
import { quantity } from "../format";
import { session } from "../session";
import { Button } from "./button";
import { Dialog } from "./dialog";
import { Icon, type IconName } from "./icons";
import { Failed } from "./problems";

type Kind = Schemas["Entry"]["kind"];

interface Props {
  title: string;
  /** What may be chosen: a folder, or files of these kinds. */
  kinds: readonly Kind[];
  start?: string | undefined;
  /** What the button says. */
  choose?: string;
  onChoose: (path: string) => unknown;
  onClose: () => void;
}

const ICONS: Partial<Record<Kind, IconName>> = { folder: "folder", image: "image" };

export function Chooser({ title, kinds, start, choose = "Open this folder", onChoose, onClose }: Props) {
  const roots = session.value?.roots ?? [];
  const [folder, setFolder] = useState(start ?? roots[0]?.path ?? ".");
  const found = useFetched((signal) => get("/api/folders", { query: { path: folder }, signal }), [folder]);
  const forFolder = kinds.includes("folder");
  const shown = found.data?.entries.filter((entry) => entry.kind === "folder" || kinds.includes(entry.kind)) ?? [];
  const here = found.data?.path ?? folder;
  const images = found.data?.entries.filter((entry) => entry.kind === "image").length ?? 0;
  return (
    <Dialog
      title={title}
      onClose={onClose}
      footer={
        <>
          {forFolder && images > 0 && <span class="soft">{quantity(images, "picture")} right in it</span>}
          <Button onClick={onClose}>Cancel</Button>
          {forFolder && (
            <Button kind="primary" disabled={!found.data} onClick={() => onChoose(here)}>
              {choose}
            </Button>
          )}
        </>
      }
    >
      <div class="column">
        {roots.length > 1 && (
          <div class="row wrap">
            {roots.map((root) => (
              <Button aria-pressed={here.startsWith(root.path)} onClick={() => setFolder(root.path)}>
                {root.name}
              </Button>
            ))}
          </div>
        )}
        <div class="row">
          <Button
            icon="up"
            label="The folder above"
            disabled={!found.data?.parent}
            onClick={() => found.data?.parent && setFolder(found.data.parent)}
          />
          <span class="mono cut" title={here}>
            {here}
          </span>
        </div>
        {found.error !== undefined && (
          <>
            <Failed error={found.error} />
            {start === folder && roots[0] && (
              <div class="row">
                <Button onClick={() => setFolder(roots[0]!.path)}>To {roots[0].name}</Button>
              </div>
            )}
          </>
        )}
        <ul class="chooser-list" aria-label={`In ${here}`}>
          {shown.map((entry) => (
            <li key={entry.path}>
              <button
                type="button"
                onClick={() => (entry.kind === "folder" ? setFolder(entry.path) : onChoose(entry.path))}
              >
                <Icon name={ICONS[entry.kind] ?? "file"} />
                <span class="cut">{entry.name}</span>
                {entry.images > 0 && <span class="soft push number">{quantity(entry.images, "picture")}</span>}
              </button>
            </li>
          ))}
          {found.data && !shown.length && <li class="empty">There is nothing here that can be chosen.</li>}
        </ul>
        <p class="soft small">
          The studio opens what lies in its workspace and in the folders named with <code>--allow</code> when it was
          started.
        </p>
      </div>
    </Dialog>
  );
}
