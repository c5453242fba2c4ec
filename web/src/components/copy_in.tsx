// Pictures that were dropped or chosen, copied into a project.
import { useMemo, useRef, useState } from "preact/hooks";
import { ApiError, get, post, type Problem, problemsOf, upload } from "../api/client";
import { Button } from "./button";
import { Dialog } from "./dialog";
import { Problems } from "./problems";
import { commonFolder, type Dropped, isArchive, isCaption, isImage, isOfDataset } from "../dropping";
import { baseName, bytes, joined, parentOf, percent, quantity, stemOf } from "../format";
import { go, path, to } from "../router";

interface Props {
  dropped: readonly Dropped[];
  /** A project or a dataset to which they are added; else a new project. */
  into: string | null;
  onClose: () => void;
  /** Where to go with what was copied, given the project and its dataset; by itself to the dataset's page. */
  target?: (project: string, dataset: string) => string;
}

/** A dataset is called as its project is. */
const folderName = (folder: string): string =>
  baseName(folder) === "dataset" ? baseName(parentOf(folder)) : baseName(folder);

export function CopyIn({ dropped, into, onClose, target }: Props) {
  const taken = useMemo(() => dropped.filter((each) => isOfDataset(each.file.name)), [dropped]);
  const outer = commonFolder(dropped);
  const archive = taken.length === 1 && isArchive(taken[0]!.file.name) ? stemOf(taken[0]!.file.name) : "";
  /** Of a project that was made for them there is one also where all files were refused. */
  const [project, setProject] = useState(into);
  const [name, setName] = useState(into ? baseName(into) : outer || archive || "pictures");
  const [share, setShare] = useState<number | null>(null);
  const [problems, setProblems] = useState<Problem[]>([]);
  // Where files were copied to, and how many, where not all were.
  const [partly, setPartly] = useState<{ address: string; copied: number } | null>(null);
  const stopping = useRef(new AbortController());
  const size = taken.reduce((sum, each) => sum + each.file.size, 0);
  const images = taken.filter((each) => isImage(each.file.name)).length;
  const captions = taken.filter((each) => isCaption(each.file.name)).length;
  const archives = taken.length - images - captions;
  const left = dropped.length - taken.length;
  const parts = [quantity(images, "picture")];
  if (captions) parts.push(quantity(captions, "caption file"));
  if (archives) parts.push(quantity(archives, "archive"));

  async function copy() {
    setProblems([]);
    setShare(0);
    stopping.current = new AbortController();
    const told: Problem[] = [];
    let address = "";
    let copied = 0;
    try {
      const place = project ?? (await post("/api/projects", { body: { name: name.trim() } })).path;
      setProject(place);
      const { dataset } = await get("/api/project", { query: { path: place } });
      // Who adds to what is shown stays there; the page asks anew by itself.
      const isShown = into !== null && path.value === "/dataset";
      if (target) address = target(place, dataset);
      else address = isShown ? location.pathname + location.search : to("/dataset", { path: dataset, project: place });
      let sent = 0;
      for (const { file, folders } of taken) {
        const inner = outer ? folders.slice(1) : folders;
        try {
          const answer = await upload(
            file,
            joined(dataset, ...inner),
            file.name,
            (part) => setShare((sent + part * file.size) / Math.max(1, size)),
            stopping.current.signal,
          );
          told.push(...answer.problems);
          copied++;
        } catch (error) {
          // One bad file keeps none of the others out; a studio that is gone does.
          if (!(error instanceof ApiError) || error.status === 0) throw error;
          told.push(...problemsOf(error));
        }
        sent += file.size;
        setShare(sent / Math.max(1, size));
      }
      if (!told.length) {
        onClose();
        return go(address);
      }
    } catch (error) {
      if (!(error instanceof DOMException && error.name === "AbortError")) told.push(...problemsOf(error));
    } finally {
      setProblems(told);
      if (copied) setPartly({ address, copied });
      setShare(null);
    }
  }

  const busy = share !== null;
  return (
    <Dialog
      title={into ? `Add to ${folderName(into)}` : "New project"}
      onClose={() => (stopping.current.abort(), onClose())}
      footer={
        partly ? (
          <Button kind="primary" onClick={() => (onClose(), go(partly.address))}>
            Go on with what was copied
          </Button>
        ) : (
          <>
            <Button onClick={() => (stopping.current.abort(), busy || onClose())}>{busy ? "Stop" : "Cancel"}</Button>
            <Button kind="primary" type="submit" form="new-project" disabled={busy || !taken.length || !name.trim()}>
              Copy {quantity(taken.length, "file")} in
            </Button>
          </>
        )
      }
    >
      <form
        id="new-project"
        class="column"
        onSubmit={(event) => {
          event.preventDefault();
          if (!partly) void copy();
        }}
      >
        {!into && (
          <label class="field">
            Name
            <input
              class="input"
              value={name}
              onInput={(event) => (setName(event.currentTarget.value), setProblems([]))}
              disabled={busy || project !== null}
              autofocus
              required
            />
          </label>
        )}
        <p>
          {parts.join(", ")}, {bytes(size)}
        </p>
        {left > 0 && <p class="soft">{quantity(left, "file")} of other kinds stay out.</p>}
        {!taken.length && <p class="soft">There are no pictures, captions or zips among these files.</p>}
        {busy && (
          <>
            <progress class="progress" max={1} value={share} aria-label="Copied" />
            <p class="soft number">{percent(share)}</p>
          </>
        )}
        {partly && (
          <p role="status">
            {partly.copied} of {taken.length} are copied{problems.length > 0 && "; these are not"}.
          </p>
        )}
        <Problems problems={problems} />
      </form>
    </Dialog>
  );
}
