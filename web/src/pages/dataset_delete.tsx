// Pictures go into the trash with what belongs to them, after a look at what that is.
import { Button } from "../components/button";
import { Dialog } from "../components/dialog";
import { quantity } from "../format";
import { carriedOut, ChangesPreview, usePreview } from "./dataset_changes";
import type { DatasetStore } from "./dataset_store";

export function Deleting({ store, names, onClose }: { store: DatasetStore; names: string[]; onClose: () => void }) {
  const preview = usePreview(store, { names }, (part, signal) =>
    store.edit({ delete: true, images: names, ...part }, signal),
  );
  async function remove() {
    const done = await store.edit({ delete: true, images: names, apply: true, limit: 0 });
    store.select([]);
    onClose();
    await carriedOut(store, "In the trash", done);
  }
  return (
    <Dialog
      title={`${quantity(names.length, "picture")} into the trash`}
      onClose={onClose}
      footer={
        <>
          <span class="soft">Undo brings them back.</span>
          <Button onClick={onClose}>Keep them</Button>
          <Button kind="danger" disabled={!preview.changes?.total} onClick={remove}>
            Put them into the trash
          </Button>
        </>
      }
    >
      <ChangesPreview store={store} preview={preview} />
    </Dialog>
  );
}
