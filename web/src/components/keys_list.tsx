// The keys that count on the page that is shown, and where else there is help.
import { allKeys, keysVersion } from "../keys";
import { Button } from "./button";
import { Dialog } from "./dialog";

interface Props {
  onTour: () => void;
  onReport: () => void;
  onClose: () => void;
}

export function Keys({ onTour, onReport, onClose }: Props) {
  keysVersion.value;
  return (
    <Dialog
      title="Keys"
      onClose={onClose}
      footer={
        <>
          <Button kind="quiet" icon="right" onClick={onTour}>
            Show me around
          </Button>
          <Button kind="quiet" icon="warning" onClick={onReport}>
            Report a bug…
          </Button>
        </>
      }
    >
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
