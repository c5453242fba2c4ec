// The LoRAs of a drawing with their strengths, and all that there are as cards.
import { useMemo, useState } from "preact/hooks";
import { imageAddress, type Schemas } from "../api/client";
import { Button } from "../components/button";
import { CardGrid } from "../components/card_grid";
import { Strength } from "../components/strength";
import { Thumb, isThere } from "../components/thumb";
import { figure, quantity } from "../format";
import { cards, change, changeLora, type LoraCard, type LoraUse, settings, toggleLora, usesOf } from "./draw_store";

type Options = Schemas["DrawingOptions"];

/** Those that are drawn with. */
export function UsedLoras({ options }: { options: Options | undefined }) {
  const loras = settings.value.loras;
  if (!loras.length) return <p class="soft small">No LoRA yet: choose one among the cards, or write its tag.</p>;
  return (
    <ul class="used-loras" aria-label="LoRAs of the drawing">
      {loras.map((use) => (
        <Used key={use.name} use={use} options={options} />
      ))}
    </ul>
  );
}

function Used({ use, options }: { use: LoraUse; options: Options | undefined }) {
  const card = cards.value?.loras.find((each) => each.name === use.name);
  const encoder = use.text_encoder ?? null;
  return (
    <li>
      <div class="row">
        <strong class="cut" title={use.name}>
          {use.name}
        </strong>
        {cards.value && !card && <span class="tag warning">not here</span>}
        <Button
          class="push"
          kind="quiet"
          icon="close"
          label={`Without ${use.name}`}
          onClick={() => change({ loras: settings.value.loras.filter((each) => each.name !== use.name) })}
        />
      </div>
      <Strength
        label={`Strength of ${use.name}`}
        text={encoder === null ? "Strength" : "UNet"}
        value={use.strength}
        onChange={(strength) => changeLora(use.name, { strength })}
      />
      <details>
        <summary class="small">Text encoder and blocks{isEven(use.blocks) ? "" : " (weighed)"}</summary>
        <div class="column">
          <label class="row small">
            <input
              type="checkbox"
              checked={encoder !== null}
              onChange={(event) =>
                changeLora(use.name, { text_encoder: event.currentTarget.checked ? use.strength : null })
              }
            />
            Another strength on the text encoder
          </label>
          {encoder !== null && (
            <Strength
              label={`Strength of ${use.name} on the text encoder`}
              text="Text encoder"
              value={encoder}
              onChange={(value) => changeLora(use.name, { text_encoder: value })}
            />
          )}
          {options && <Blocks use={use} options={options} />}
        </div>
      </details>
    </li>
  );
}

const isEven = (blocks: LoraUse["blocks"]): boolean => Object.values(blocks ?? {}).every((weight) => weight === 1);

function Blocks({ use, options }: { use: LoraUse; options: Options }) {
  const blocks = use.blocks ?? {};
  const weight = (block: string) => blocks[block] ?? 1;
  const preset = Object.entries(options.block_presets).find(([, weights]) =>
    options.blocks.every((block) => weights[block] === weight(block)),
  )?.[0];
  return (
    <>
      <label class="row small">
        Blocks
        <select
          class="input"
          value={preset ?? ""}
          onChange={(event) => {
            const weights = options.block_presets[event.currentTarget.value];
            if (weights) changeLora(use.name, { blocks: event.currentTarget.value === "ALL" ? null : { ...weights } });
          }}
        >
          {!preset && <option value="">by hand</option>}
          {Object.keys(options.block_presets).map((name) => (
            <option key={name} value={name}>
              {name === "ALL" ? "all alike" : name}
            </option>
          ))}
        </select>
      </label>
      <div class="blocks" role="group" aria-label={`Block weights of ${use.name}`}>
        {options.blocks.map((block) => (
          <Strength
            key={block}
            label={`${block} of ${use.name}`}
            text={block}
            value={weight(block)}
            onChange={(value) => changeLora(use.name, { blocks: { ...blocks, [block]: value } })}
          />
        ))}
      </div>
    </>
  );
}

const WIDTH = 138;
const THUMB = 132;
const HEIGHT = THUMB + 44;

/** All that there are; a click draws with one, or no more. */
export function LoraCardGrid() {
  const [search, setSearch] = useState("");
  const [current, setCurrent] = useState("");
  const all = cards.value?.loras;
  const shown = useMemo(() => {
    const words = search.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (card: LoraCard) => {
      const text = `${card.name} ${card.trigger} ${card.base}`.toLowerCase();
      return words.every((word) => text.includes(word));
    };
    const found = (all ?? []).filter(fits).sort((a, b) => b.changed - a.changed);
    return found.map((card) => ({
      ...card,
      key: card.path,
      label: [card.name, card.trigger, card.base].filter(Boolean).join(", "),
    }));
  }, [all, search]);
  const loras = settings.value.loras;
  const used = useMemo(() => {
    const names = new Set(loras.map((use) => use.name));
    return new Set(shown.filter((card) => names.has(card.name)).map((card) => card.key));
  }, [shown, loras]);

  if (all && !all.length)
    return (
      <p class="empty">
        There is no LoRA here yet. Train one, or copy files (.safetensors) into the workspace: they are shown as soon as
        they lie in it.
      </p>
    );
  return (
    <div class="column">
      <div class="row">
        <input
          class="input search"
          type="search"
          aria-label="Find a LoRA"
          placeholder="Find a LoRA"
          value={search}
          onInput={(event) => setSearch(event.currentTarget.value)}
        />
        <span class="soft small number">{all ? quantity(shown.length, "LoRA") : ""}</span>
      </div>
      {shown.length > 0 && (
        <CardGrid
          cards={shown}
          label="LoRAs; Enter draws with one, or no more"
          width={WIDTH}
          height={HEIGHT}
          current={shown.some((card) => card.key === current) ? current : shown[0]!.key}
          selected={used}
          onGo={setCurrent}
          onTake={toggleLora}
          draw={drawn}
        />
      )}
    </div>
  );
}

function drawn(card: LoraCard, resting: boolean) {
  const address = card.preview ? imageAddress(card.preview, 256, card.preview_version) : "";
  const use = usesOf(card.name);
  return (
    <div class="lora-card" title={[card.name, card.trigger, card.base].filter(Boolean).join("\n")}>
      <div class="card-thumb" style={{ height: `${THUMB}px` }}>
        {address && (resting || isThere(address)) && <Thumb key={address} address={address} />}
      </div>
      <div class="card-name cut">{card.name}</div>
      <div class="card-words soft small cut">
        {use ? `drawn with, ${figure(use.strength)}` : card.trigger || card.base || "no trigger said"}
      </div>
    </div>
  );
}
