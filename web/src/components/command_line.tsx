import { Button } from "./button";
import { say } from "./notices";

/** What does the same in a terminal. */
export function CommandLine({ line }: { line: string }) {
  async function copy() {
    try {
      await navigator.clipboard.writeText(line);
      say("Copied.");
    } catch {
      // Only pages of this computer, or with encryption, may.
      say("The browser does not let this page copy; mark the line and copy it.");
    }
  }
  return (
    <div class="command">
      <code>
        {line.split(" ").map((word, index) => (
          <>
            {index > 0 && " "}
            <span>{word}</span>
          </>
        ))}
      </code>
      <Button kind="quiet" icon="copy" label="Copy the command" onClick={copy} />
    </div>
  );
}
