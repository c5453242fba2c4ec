// The keys that count on the page that is shown.
import { allKeys, keysVersion } from "../keys";
import { Dialog } from "./dialog";

export function Keys({ onClose }: { onClose: () => void }) {
  keysVersion.value;
  return (
    <Dialog title="Keys" onClose={onClose}>
      <dl class="keys">
        {allKeys()
          .filter((key) => key.does)
          .map((key) => (
            <div key={key.keys}>
              <dt>
                <kbd>{key.keys.replace(/Arrow(?=[A-Z])/, "")}</kbd>
              </dt>
              <dd>{key.does}</dd>
            </div>
          ))}
        <div>
          <dt>
            <kbd>Tab</kbd>
          </dt>
          <dd>Go to the next thing that can be done</dd>
        </div>
      </dl>
    </Dialog>
  );
}
