// Pictures that were dropped or chosen, copied into a project.
import { useMemo, useRef, useState } from "preact/hooks";
import { ApiError, get, post, type Problem, problemsOf, upload } from "../api/client";
import { Button } from "../components/button";
import { Dialog } from "../components/dialog";
import { Problems } from "../components/problems";
import { commonFolder, type Dropped, isArchive, isImage, isOfDataset } from "../dropping";
import { baseName, bytes, joined, percent, quantity } from "../format";
import { go, to } from "../router";

interface Props {
  dropped: readonly Dropped[];
  /** A project to which they are added; else a new one. */
  into: string | null;
  onClose: () => void;
}

export function NewProject({ dropped, into, onClose }: Props) {
  const taken = useMemo(() => dropped.filter((each) => isOfDataset(each.file.name)), [dropped]);
  const outer = commonFolder(dropped);
  const archive = taken.length === 1 && isArchive(taken[0]!.file.name) ? taken[0]!.file.name.replace(/\.\w+$/, "") : "";
  const [name, setName] = useState(into ? baseName(into) : outer || archive || "pictures");
  const [share, setShare] = useState<number | null>(null);
  const [problems, setProblems] = useState<Problem[]>([]);
  const stopping = useRef(new AbortController());
  const size = taken.reduce((sum, each) => sum + each.file.size, 0);
  const images = taken.filter((each) => isImage(each.file.name)).length;
  const left = dropped.length - taken.length;

  async function copy() {
    setProblems([]);
    setShare(0);
    stopping.current = new AbortController();
    const told: Problem[] = [];
    try {
      const project = into ?? (await post("/api/projects", { body: { name: name.trim() } })).path;
      const dataset = (await get("/api/project", { query: { path: project } })).dataset;
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
        } catch (error) {
          // One bad file keeps none of the others out; a studio that is gone does.
          if (!(error instanceof ApiError) || error.status === 0) throw error;
          told.push(...problemsOf(error));
        }
        sent += file.size;
        setShare(sent / Math.max(1, size));
      }
      if (told.length) setProblems(told);
      else go(to("/dataset", { path: dataset, project }));
    } catch (error) {
      if (!(error instanceof DOMException && error.name === "AbortError")) setProblems([...told, ...problemsOf(error)]);
    } finally {
      setShare(null);
    }
  }

  const busy = share !== null;
  return (
    <Dialog
      title={into ? "Add to the project" : "New project"}
      onClose={() => (stopping.current.abort(), onClose())}
      footer={
        <>
          <Button onClick={() => (stopping.current.abort(), onClose())}>{busy ? "Stop" : "Cancel"}</Button>
          <Button kind="primary" type="submit" form="new-project" disabled={busy || !taken.length || !name.trim()}>
            Copy {quantity(taken.length, "file")} in
          </Button>
        </>
      }
    >
      <form
        id="new-project"
        class="column"
        onSubmit={(event) => {
          event.preventDefault();
          void copy();
        }}
      >
        {!into && (
          <label class="field">
            Name
            <input
              class="input"
              value={name}
              onInput={(event) => setName(event.currentTarget.value)}
              autofocus
              required
            />
          </label>
        )}
        <p>
          {quantity(images, "picture")}, {quantity(taken.length - images, "other file")}, {bytes(size)}
        </p>
        {left > 0 && <p class="soft">{quantity(left, "file")} of other kinds stay out.</p>}
        {!taken.length && <p class="soft">There are no pictures, captions or zips among these files.</p>}
        {busy && (
          <>
            <progress class="progress" max={1} value={share} aria-label="Copied" />
            <p class="soft number">{percent(share)}</p>
          </>
        )}
        <Problems problems={problems} />
      </form>
    </Dialog>
  );
}
