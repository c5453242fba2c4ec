// A run gets another name, or goes into the trash; a LoRA file goes where a web UI looks for it.
import type { ComponentProps } from "preact";
import { useState } from "preact/hooks";
import { post, problemsOf, type Problem } from "../api/client";
import { baseName, shellWord, stemOf } from "../format";
import { alter, query } from "../router";
import { remember, remembered } from "../session";
import { Button } from "./button";
import { ChooseButton } from "./choose_button";
import { CommandLine } from "./command_line";
import { Dialog } from "./dialog";
import { say } from "./notices";
import { Problems } from "./problems";

interface Of {
  path: string;
  name: string;
}

export function RenameRun({ run, onClose }: { run: Of; onClose: () => void }) {
  return (
    <Rename
      path={run.path}
      name={run.name}
      words="Its folder and its LoRA files are called so; what stands inside of them stays as it is."
      onClose={onClose}
      rename={async (name) => {
        const { path } = await post("/api/run/rename", { body: { path: run.path, name } });
        onClose();
        if (query.value.get("path") === run.path) alter({ path });
      }}
    />
  );
}

interface RenameLoraProps {
  path: string;
  onClose: () => void;
  onRenamed: (path: string) => void;
}

export function RenameLora({ path, onClose, onRenamed }: RenameLoraProps) {
  return (
    <Rename
      path={path}
      name={stemOf(path)}
      words="The cards and previews beside it are called so, too; what stands in them stays as it is."
      onClose={onClose}
      rename={async (name) => {
        const renamed = await post("/api/lora-files/rename", { body: { path, name } });
        onClose();
        onRenamed(renamed.path);
      }}
    />
  );
}

interface RenameProps extends Of {
  words: string;
  rename: (name: string) => Promise<void>;
  onClose: () => void;
}

function Rename({ path, name: before, words, rename, onClose }: RenameProps) {
  const [name, setName] = useState(before);
  const [problems, setProblems] = useState<Problem[]>([]);
  const wanted = name.trim();
  return (
    <Dialog
      title={`Rename ${before}`}
      onClose={onClose}
      footer={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" type="submit" form="rename" disabled={!wanted || wanted === before}>
            Rename
          </Button>
        </>
      }
    >
      <form
        id="rename"
        class="column"
        onSubmit={(event) => {
          event.preventDefault();
          rename(wanted).catch((error: unknown) => setProblems(problemsOf(error)));
        }}
      >
        <label class="field">
          Name
          <input
            class="input"
            value={name}
            autofocus
            onInput={(event) => (setName(event.currentTarget.value), setProblems([]))}
          />
        </label>
        <p class="soft">{words}</p>
        <Problems problems={problems} />
        <CommandLine line={`lorasmith runs rename ${shellWord(path)} ${shellWord(wanted || before)}`} />
      </form>
    </Dialog>
  );
}

/** Under what name the browser remembers where LoRA files were copied to last. */
const PLACE = "lora-folder";

export function CopyLora({ path, ...button }: { path: string } & ComponentProps<typeof Button>) {
  return (
    <ChooseButton
      {...button}
      heading={`Copy ${baseName(path)} into a folder`}
      kinds={["folder"]}
      choose="Copy it here"
      start={remembered(PLACE) || undefined}
      onChoose={async (folder) => {
        const copied = await post("/api/lora/copy", { body: { path, folder } });
        remember(PLACE, folder);
        say(`Copied to ${copied.path}`);
      }}
    />
  );
}
