import { Button } from "./button";
import { say } from "./notices";

export async function copyText(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied.");
  } catch {
    // Only pages of this computer, or with encryption, may.
    say("The browser does not let this page copy; mark the text and copy it.");
  }
}

/** Characters, from which on words are no elements of their own: thousands of them would be slow. */
const LONG = 2000;

/** What does the same in a terminal. */
export function CommandLine({ line }: { line: string }) {
  return (
    <div class="command">
      <code>
        {(line.length > LONG ? [line] : line.split(" ")).map((word, index) => (
          <>
            {index > 0 && " "}
            <span>{word}</span>
          </>
        ))}
      </code>
      <Button kind="quiet" icon="copy" label="Copy the command" onClick={() => copyText(line)} />
    </div>
  );
}
