// The LoRAs of a drawing with their strengths, and all that there are as cards.
import { useMemo, useRef, useState } from "preact/hooks";
import type { Schemas } from "../api/client";
import { Button } from "../components/button";
import { Picture } from "../components/picture";
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
            least={-1}
            most={2}
            onChange={(value) => changeLora(use.name, { blocks: { ...blocks, [block]: value } })}
          />
        ))}
      </div>
    </>
  );
}

interface StrengthProps {
  label: string;
  text: string;
  value: number;
  least?: number;
  most?: number;
  onChange: (value: number) => void;
}

/** A slider, and a field for what lies beyond it. */
export function Strength({ label, text, value, least = -1, most = 2, onChange }: StrengthProps) {
  return (
    <div class="strength">
      <span class="small soft" aria-hidden="true">
        {text}
      </span>
      <input
        type="range"
        aria-label={label}
        min={Math.min(least, value)}
        max={Math.max(most, value)}
        step={0.05}
        value={value}
        onInput={(event) => onChange(Number(event.currentTarget.value))}
      />
      <input
        class="input number"
        type="number"
        aria-label={`${label}, as a number`}
        step={0.05}
        value={Math.round(value * 1000) / 1000}
        onInput={(event) => event.currentTarget.value !== "" && onChange(Number(event.currentTarget.value))}
      />
    </div>
  );
}

/** All that there are; a click draws with one, or no more. */
export function LoraCardGrid() {
  const [search, setSearch] = useState("");
  const [focus, setFocus] = useState("");
  const list = useRef<HTMLUListElement>(null);
  const all = cards.value?.loras;
  const shown = useMemo(() => {
    const words = search.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (card: LoraCard) => {
      const text = `${card.name} ${card.trigger} ${card.base}`.toLowerCase();
      return words.every((word) => text.includes(word));
    };
    return (all ?? []).filter(fits).sort((a, b) => b.changed - a.changed);
  }, [all, search]);
  const stop = shown.some((card) => card.name === focus) ? focus : shown[0]?.name;

  function key(event: KeyboardEvent) {
    const items = [...list.current!.querySelectorAll<HTMLElement>("button")];
    const at = items.indexOf(document.activeElement as HTMLElement);
    if (at < 0) return;
    const top = items[0]!.offsetTop;
    const columns = Math.max(1, items.findIndex((item) => item.offsetTop > top) + 1 || items.length + 1) - 1;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
    if (!step) return;
    event.preventDefault();
    items[Math.min(items.length - 1, Math.max(0, at + step))]!.focus();
  }

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
      <ul class="lora-cards" ref={list} onKeyDown={key} aria-label="LoRAs; Enter draws with one, or no more">
        {shown.map((card) => {
          const use = usesOf(card.name);
          return (
            <li key={card.name}>
              <button
                type="button"
                class="lora-card"
                aria-pressed={use !== undefined}
                tabIndex={card.name === stop ? 0 : -1}
                onFocus={() => setFocus(card.name)}
                onClick={() => toggleLora(card)}
                title={[card.name, card.trigger, card.base].filter(Boolean).join("\n")}
              >
                {card.preview ? (
                  <Picture path={card.preview} size={256} v={card.preview_version} alt="" />
                ) : (
                  <span class="no-preview" aria-hidden="true" />
                )}
                <span class="cut">{card.name}</span>
                <span class="cut soft small">
                  {use ? `drawn with, ${figure(use.strength)}` : card.trigger || card.base || "no trigger said"}
                </span>
              </button>
            </li>
          );
        })}
      </ul>
    </div>
  );
}
