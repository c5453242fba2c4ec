// A loss mask of a picture: what is painted is not learned.
import { imageAddress, put, type Schemas } from "../api/client";
import { MaskPainter } from "../components/mask_painter";
import { say } from "../components/notices";
import type { DatasetStore } from "./dataset_store";

interface Props {
  store: DatasetStore;
  picture: Schemas["PictureRecord"];
  onDone: () => void;
}

export function LossMask({ store, picture, onDone }: Props) {
  async function write(png: string) {
    const body = { name: picture.name, png, apply: true };
    const done = await put("/api/dataset/mask", { query: { path: store.path }, body });
    say(png ? "The mask lies beside the picture." : "The mask is in the trash.", store.takeBack(done.entry));
    await store.reload();
  }
  return (
    // Another picture has a painter of its own, that saves to it.
    <MaskPainter
      key={picture.name}
      picture={imageAddress(picture.path, undefined, picture.version)}
      name={picture.name}
      width={picture.width}
      height={picture.height}
      mask={picture.mask ? imageAddress(picture.mask, undefined, picture.mask_version) : undefined}
      painted={0}
      words="What you paint is not learned."
      save={(mask) => write(mask.toDataURL("image/png").split(",")[1]!)}
      saves="Save the mask"
      remove={picture.mask ? () => write("") : undefined}
      onDone={onDone}
    />
  );
}
