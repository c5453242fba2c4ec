// Lists of prompts and files of wildcards kept in the workspace: written here, tried with seeds, sent to Draw and Train.
import { useEffect, useState } from "preact/hooks";
import { ApiError, get, post, type Problem, problemsOf, put, type Schemas } from "../api/client";
import { useFetched } from "../api/fetched";
import { Button } from "../components/button";
import { CommandLine } from "../components/command_line";
import { Dialog } from "../components/dialog";
import { say } from "../components/notices";
import { Failed, Problems } from "../components/problems";
import { PromptBox } from "../components/prompt_box";
import { completeTag } from "../components/tag_words";
import { useKeys } from "../keys";
import { project } from "../project";
import { go, query, to } from "../router";
import { remember, rememberedValue } from "../session";
import { PromptPreview } from "./prompts_preview";

export type Kind = Schemas["PromptFile"]["kind"];
type Listed = Schemas["PromptFile"];
type Opened = Schemas["FileOnPage"];

const KINDS: Record<Kind, { title: string; one: string; empty: string; begin: string }> = {
  prompts: {
    title: "Prompts",
    one: "list of prompts",
    empty: "A prompt a line. What follows it, as --w 640 --d 7, is of that line alone.",
    begin: "# A prompt a line; behind it --n negative --w width --h height --d seed --s steps --l cfg\n",
  },
  wildcards: {
    title: "Wildcards",
    one: "file of wildcards",
    empty: "A choice a line. A prompt that says __name__ gets one of them by its seed.",
    begin: "# A choice a line, of which __name__ in a prompt becomes one\n",
  },
};
/** Beyond this the colours of a text would be slow. */
const LONG = 60_000;

/** What was written and not saved, in this tab, also after it is loaded anew. */
interface Draft {
  text: string;
  version: string;
}
const draftName = (kind: Kind, name: string) => `prompts.${kind}/${name}`;
const draftOf = (kind: Kind, name: string) => rememberedValue(draftName(kind, name), "tab") as Draft | null;
const keepDraft = (kind: Kind, name: string, draft: Draft | null) =>
  remember(draftName(kind, name), draft ? JSON.stringify(draft) : "", "tab");

const place = (file: { kind: Kind; name: string } | null) =>
  to("/prompts", { project: project.value, kind: file?.kind, name: file?.name });

export function PromptsPage() {
  const name = query.value.get("name") ?? "";
  const kind: Kind = query.value.get("kind") === "wildcards" ? "wildcards" : "prompts";
  const [making, setMaking] = useState<Kind | null>(null);
  const files = useFetched((signal) => get("/api/prompts", { signal }), [], ["prompts"]);
  return (
    <main id="content" class="prompts fills">
      <nav class="prompt-files" aria-label="Prompts and wildcards">
        <h1 class="unseen">Prompts and wildcards</h1>
        {files.error !== undefined && <Failed error={files.error} />}
        {(["prompts", "wildcards"] as const).map((each) => (
          <FileList
            key={each}
            kind={each}
            files={files.data?.filter((file) => file.kind === each)}
            current={each === kind ? name : ""}
            onNew={() => setMaking(each)}
          />
        ))}
      </nav>
      {name ? (
        <Editor key={`${kind}/${name}`} kind={kind} name={name} onChanged={files.reload} />
      ) : (
        <Begin onNew={setMaking} />
      )}
      {making && (
        <NewFile
          kind={making}
          onClose={() => setMaking(null)}
          onMade={(file) => (setMaking(null), files.reload(), go(place(file)))}
        />
      )}
    </main>
  );
}

interface ListProps {
  kind: Kind;
  files: readonly Listed[] | undefined;
  current: string;
  onNew: () => void;
}

function FileList({ kind, files, current, onNew }: ListProps) {
  return (
    <section>
      <header class="row">
        <h2>{KINDS[kind].title}</h2>
        <Button class="push" kind="quiet" icon="add" label={`New ${KINDS[kind].one}…`} onClick={onNew} />
      </header>
      {files?.length === 0 && <p class="soft small">{KINDS[kind].empty}</p>}
      <ul>
        {files?.map((file) => (
          <li key={file.path}>
            <a href={place(file)} aria-current={file.name === current ? "page" : undefined} title={file.path}>
              <span class="cut">{kind === "wildcards" ? `__${file.name}__` : file.name}</span>
              {draftOf(kind, file.name) && <span class="small">not saved</span>}
              {file.problem ? (
                <span class="push trouble-word small">{file.problem}</span>
              ) : (
                <span class="push soft small number">{file.lines}</span>
              )}
            </a>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Begin({ onNew }: { onNew: (kind: Kind) => void }) {
  return (
    <section class="prompt-begin">
      <div class="empty">
        <h2>Prompts that you use again</h2>
        <p>
          A list has a prompt a line: to draw them all, or as a training's samples. A file of wildcards has a choice a
          line: <code>a __colours__ hat</code> draws one of the lines of <code>colours</code> by the picture's seed.
          Both are plain text in the workspace, in <code>prompts</code> and <code>wildcards</code>; files of the web
          UI's dynamic prompts can be put there as they are.
        </p>
        <div class="row wrap">
          <Button kind="primary" icon="add" onClick={() => onNew("prompts")}>
            New list of prompts…
          </Button>
          <Button icon="add" onClick={() => onNew("wildcards")}>
            New file of wildcards…
          </Button>
        </div>
      </div>
    </section>
  );
}

interface EditorProps {
  kind: Kind;
  name: string;
  onChanged: () => void;
}

function Editor({ kind, name, onChanged }: EditorProps) {
  const found = useFetched(
    (signal) => get("/api/prompts/file", { query: { kind, name }, signal }),
    [kind, name],
    ["prompts"],
  );
  const [draft, setDraft] = useState<Draft | null>(() => draftOf(kind, name));
  const [wrong, setWrong] = useState<Problem[]>([]);
  const [renaming, setRenaming] = useState(false);
  const file = found.data;
  const isChanged = draft !== null && file !== undefined && draft.text !== file.text;
  const isElsewhere = isChanged && draft.version !== file.version;
  const text = draft?.text ?? file?.text ?? "";

  function write(next: string) {
    const now = { text: next, version: draft?.version ?? file?.version ?? "" };
    const isSame = file !== undefined && next === file.text;
    setDraft(isSame ? null : now);
    keepDraft(kind, name, isSame ? null : now);
  }
  function forget() {
    setDraft(null);
    keepDraft(kind, name, null);
    setWrong([]);
  }
  async function save(version = draft?.version ?? "") {
    if (!draft) return;
    try {
      await put("/api/prompts/file", { body: { kind, name, text: draft.text, version } });
      found.reload();
      forget();
      onChanged();
      say("Saved.");
    } catch (error) {
      setWrong(problemsOf(error));
      if (error instanceof ApiError && error.status === 409) found.reload();
    }
  }
  async function remove() {
    if (!file) return;
    await post("/api/prompts/remove", { body: { kind, name, version: file.version } });
    const again = { kind, name, text: file.text };
    keepDraft(kind, name, null);
    onChanged();
    go(place(null));
    say(`${name} is in the trash.`, {
      label: "Undo",
      run: () => put("/api/prompts/file", { body: again }).then(() => go(place({ kind, name }))),
    });
  }
  // Whoever comes back from an editor, which may have written in place.
  useEffect(() => {
    addEventListener("focus", found.reload);
    return () => removeEventListener("focus", found.reload);
  }, []);
  useKeys([{ keys: "Ctrl+s", does: "Save", run: () => void save() }]);

  if (found.error !== undefined && !file) {
    return (
      <section class="prompt-begin">
        <Failed error={found.error} />
        {draft && (
          <div class="empty">
            <p>What you wrote is still here:</p>
            <textarea class="input" readOnly rows={8} value={draft.text} aria-label="What you wrote" />
          </div>
        )}
      </section>
    );
  }
  return (
    <>
      <section
        class="pane prompt-editor"
        aria-label={`${KINDS[kind].one} ${name}`}
        onKeyDown={(event) => {
          if (event.key.toLowerCase() !== "s" || !(event.ctrlKey || event.metaKey)) return;
          event.preventDefault();
          void save();
        }}
      >
        <header class="row wrap">
          <h2 class="cut">{name}</h2>
          <span class="soft small" role="status">
            {isChanged ? "not saved" : file && "saved"}
          </span>
          <span class="push" />
          <Button
            kind="quiet"
            icon="pen"
            label="Rename…"
            disabled={isChanged || !file}
            onClick={() => setRenaming(true)}
          />
          <Button kind="quiet" icon="trash" label="Put into the trash" disabled={isChanged || !file} onClick={remove} />
          <Button disabled={!isChanged} onClick={forget}>
            Discard
          </Button>
          <Button kind="primary" disabled={!isChanged} onClick={() => save()} aria-keyshortcuts="Control+S">
            Save
          </Button>
        </header>
        {isElsewhere && (
          <div class="problems warning" role="alert">
            <span>It was changed elsewhere meanwhile. Your text is kept until you choose.</span>
            <div class="row wrap">
              <Button onClick={() => save(file.version)}>Save mine over it</Button>
              <Button onClick={forget}>Take what lies there</Button>
            </div>
          </div>
        )}
        {!isElsewhere && <Problems problems={wrong} />}
        {text.length > LONG ? (
          <textarea
            class="input mono prompt-plain"
            aria-label={name}
            spellcheck={false}
            value={text}
            onInput={(event) => write(event.currentTarget.value)}
          />
        ) : (
          <PromptBox label={name} value={text} complete={completeTag} loras={[]} rows={12} onInput={write} />
        )}
        {file?.command && <CommandLine line={file.command} />}
      </section>
      {file && <PromptPreview kind={kind} name={name} text={text} isSaved={!isChanged} />}
      {renaming && (
        <NewFile
          kind={kind}
          old={name}
          onClose={() => setRenaming(false)}
          onMade={(made) => (setRenaming(false), onChanged(), go(place(made), { replace: true }))}
        />
      )}
    </>
  );
}

interface NewProps {
  kind: Kind;
  /** Of one that gets another name. */
  old?: string;
  onClose: () => void;
  onMade: (file: Opened) => void;
}

function NewFile({ kind, old, onClose, onMade }: NewProps) {
  const [name, setName] = useState(old ?? "");
  const [wrong, setWrong] = useState<Problem[]>([]);
  const form = `new-${kind}`;
  async function make() {
    try {
      const made =
        old === undefined
          ? await put("/api/prompts/file", { body: { kind, name, text: KINDS[kind].begin, version: "" } })
          : await post("/api/prompts/rename", { body: { kind, name: old, new: name } });
      onMade(made);
    } catch (error) {
      setWrong(problemsOf(error));
    }
  }
  return (
    <Dialog
      title={old === undefined ? `New ${KINDS[kind].one}` : `Rename ${old}`}
      onClose={onClose}
      footer={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" type="submit" form={form} disabled={!name.trim() || name === old}>
            {old === undefined ? "Make it" : "Rename"}
          </Button>
        </>
      }
    >
      <form id={form} class="column" onSubmit={(event) => (event.preventDefault(), void make())}>
        <label class="field">
          <span>Name</span>
          <input class="input" value={name} autofocus onInput={(event) => setName(event.currentTarget.value)} />
        </label>
        <p class="soft small">
          {kind === "wildcards" ? (
            <>
              A prompt says <code>__{name || "name"}__</code>. With <code>/</code> in it, it lies in a folder.
            </>
          ) : (
            <>
              It lies in <code>prompts/{name || "name"}.txt</code>.
            </>
          )}
        </p>
        <Problems problems={wrong} />
      </form>
    </Dialog>
  );
}
