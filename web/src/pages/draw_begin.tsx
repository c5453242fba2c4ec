// A picture that a drawing begins from, and a mask of what is drawn anew.
import { useEffect, useState } from "preact/hooks";
import { imageAddress, type Schemas } from "../api/client";
import { AddFiles } from "../components/add_files";
import { Button } from "../components/button";
import { ChooseButton } from "../components/choose_button";
import { Dialog } from "../components/dialog";
import { MaskPainter } from "../components/mask_painter";
import { Picture } from "../components/picture";
import { baseName } from "../format";
import { bring, change, settings } from "./draw_store";
import { ChoiceField, NumberField } from "./draw_form";

const CONTENT = { original: "what the picture has", noise: "noise" };

export function Begin({ options }: { options: Schemas["DrawingOptions"] | undefined }) {
  const { init, mask } = settings.value;
  const [paints, setPaints] = useState(false);
  const take = (path: string) => change({ init: path, mask: undefined });
  const none = () =>
    change({
      init: undefined,
      denoise: undefined,
      mask: undefined,
      ...WITHOUT_MASK,
    });
  return (
    <div class="column">
      <div class="row wrap">
        <AddFiles single accept="image/*" onFiles={async ([one]) => one && take(await bring(one.file))}>
          {(choose) => <Button onClick={choose}>Choose a file</Button>}
        </AddFiles>
        <ChooseButton icon="folder" heading="Begin from a picture" kinds={["image"]} onChoose={take}>
          From the workspace
        </ChooseButton>
        {init && (
          <Button kind="quiet" icon="close" onClick={none}>
            Without it
          </Button>
        )}
      </div>
      {!init && <p class="soft small">Or open one of the drawings large, and begin from it.</p>}
      {init && (
        <>
          <div class="begin-picture">
            <Picture path={init} size={384} alt={`Begins from ${baseName(init)}`} />
            {mask && <Picture class="mask-over" path={mask} size={384} alt="Its mask: white is drawn anew" />}
          </div>
          <div class="row wrap">
            <Button icon="pen" onClick={() => setPaints(true)}>
              {mask ? "Change the mask" : "Paint a mask"}
            </Button>
            {mask && (
              <Button kind="quiet" icon="close" onClick={() => change({ mask: undefined, ...WITHOUT_MASK })}>
                No mask
              </Button>
            )}
          </div>
          <div class="draw-fields">
            <NumberField name="denoise" label="Drawn anew" options={options} step={0.05} />
            {mask && (
              <>
                <ChoiceField name="masked_content" label="Under the mask" options={options} titles={CONTENT} />
                <NumberField name="mask_blur" label="Soft seam, px" options={options} />
                <NumberField name="mask_padding" label="Around it, px" options={options} usual="the whole" />
              </>
            )}
          </div>
        </>
      )}
      {init && paints && <Painter init={init} mask={mask ?? undefined} onClose={() => setPaints(false)} />}
    </div>
  );
}

const WITHOUT_MASK = { masked_content: undefined, mask_blur: undefined, mask_padding: undefined };

function Painter({ init, mask, onClose }: { init: string; mask: string | undefined; onClose: () => void }) {
  const [size, setSize] = useState<[number, number] | null>(null);
  const address = imageAddress(init);
  useEffect(() => {
    const image = new Image();
    image.onload = () => setSize([image.naturalWidth, image.naturalHeight]);
    image.src = address;
  }, [address]);

  async function save(sheet: HTMLCanvasElement) {
    const png = await new Promise<Blob | null>((done) => sheet.toBlob(done, "image/png"));
    if (!png) throw new Error("the browser made no picture of the mask; the picture may be too large for it");
    change({ mask: await bring(new File([png], "mask.png")) });
  }
  return (
    <Dialog kind="full" title="What is drawn anew" onClose={onClose}>
      <div class="begin-painter">
        {size && (
          <MaskPainter
            picture={address}
            name={baseName(init)}
            width={size[0]}
            height={size[1]}
            mask={mask && imageAddress(mask)}
            painted={255}
            words="What you paint is drawn anew; the rest stays."
            save={save}
            saves="Take the mask"
            onDone={onClose}
          />
        )}
      </div>
    </Dialog>
  );
}
