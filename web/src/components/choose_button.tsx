// A button that opens the choice of a folder or file of the server's.
import type { ComponentProps } from "preact";
import { useState } from "preact/hooks";
import { go, to } from "../router";
import { Button } from "./button";
import { Chooser } from "./on_demand";

type Choice = Pick<ComponentProps<typeof Chooser>, "kinds" | "start" | "choose" | "onChoose">;

interface Props extends Choice, Omit<ComponentProps<typeof Button>, keyof Choice | "onClick"> {
  /** Above the choice; by itself what the button is called. */
  heading?: string;
}

export function ChooseButton({ heading, kinds, start, choose, onChoose, ...button }: Props) {
  const [open, setOpen] = useState(false);
  return (
    <>
      <Button {...button} aria-haspopup="dialog" onClick={() => setOpen(true)} />
      {open && (
        <Chooser
          title={heading ?? button.label ?? ""}
          {...{ kinds, start, choose }}
          // What cannot be done with it leaves the choice open.
          onChoose={async (path) => (await onChoose(path), setOpen(false))}
          onClose={() => setOpen(false)}
        />
      )}
    </>
  );
}

export const OpenFolder = () => (
  <ChooseButton
    kind="primary"
    icon="folder"
    heading="Open a folder of pictures"
    kinds={["folder"]}
    onChoose={(path) => go(to("/dataset", { path }))}
  >
    Open a folder…
  </ChooseButton>
);
