// All that a drawing is asked with beside its prompt.
import type { ComponentChildren } from "preact";
import { useEffect, useId, useState } from "preact/hooks";
import type { Schemas } from "../api/client";
import { ChooseButton } from "../components/choose_button";
import { folderIn } from "../format";
import { change, type Settings, settings } from "./draw_store";

type Options = Schemas["DrawingOptions"];
type Names<T> = { [Name in keyof Settings]-?: NonNullable<Settings[Name]> extends T ? Name : never }[keyof Settings];

interface FieldProps<Name> {
  name: Name;
  label: string;
  options: Options | undefined;
  /** Of what lorasmith does by itself, where its default does not say it. */
  usual?: string;
}

/** A number; empty leaves it to lorasmith. */
export function NumberField(props: FieldProps<Names<number>> & { step?: number; whole?: boolean }) {
  const { name, label, options, usual, step } = props;
  const value = settings.value[name];
  const [text, setText] = useState(value?.toString() ?? "");
  // What is typed is kept as it is; what comes from elsewhere is shown.
  useEffect(() => {
    if (Number(text) !== value || (text === "") !== (value === undefined)) setText(value?.toString() ?? "");
  }, [value]);
  const fallback = options?.defaults[name];
  const [least, most] = options?.limits[name] ?? [];
  return (
    <label class="field">
      <span>{label}</span>
      <input
        class="input number"
        type="number"
        min={least}
        max={most}
        step={step ?? (Number.isInteger(fallback) || fallback === null ? 1 : "any")}
        placeholder={usual ?? (fallback === null || fallback === undefined ? "" : String(fallback))}
        value={text}
        onInput={(event) => {
          const next = event.currentTarget.value;
          setText(next);
          change({ [name]: next === "" ? undefined : Number(next) });
        }}
      />
    </label>
  );
}

export function ChoiceField(props: FieldProps<Names<string>> & { titles: Record<string, string> }) {
  const { name, label, options, usual, titles } = props;
  const fallback = String(options?.defaults[name] ?? "");
  return (
    <label class="field">
      <span>{label}</span>
      <select
        class="input"
        value={settings.value[name] ?? ""}
        onChange={(event) => change({ [name]: event.currentTarget.value || undefined })}
      >
        <option value="">{usual ?? `${titles[fallback] ?? fallback} (as usual)`}</option>
        {Object.entries(titles).map(([value, title]) => (
          <option key={value} value={value}>
            {title}
          </option>
        ))}
      </select>
    </label>
  );
}

/** A file or folder by its path; empty leaves it to lorasmith. */
function PathField(props: FieldProps<Names<string>> & { kinds: readonly Schemas["Entry"]["kind"][] }) {
  const { name, label, options, usual, kinds } = props;
  const id = useId();
  const value = settings.value[name] ?? "";
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <div class="row">
        <input
          id={id}
          class="input"
          type="text"
          placeholder={usual ?? String(options?.defaults[name] ?? "")}
          value={value}
          onInput={(event) => change({ [name]: event.currentTarget.value || undefined })}
        />
        <ChooseButton
          icon="folder"
          label={`Choose: ${label}`}
          kinds={kinds}
          start={folderIn(value)}
          onChoose={(path) => change({ [name]: path })}
        />
      </div>
    </div>
  );
}

/** Width and height, which are one option. */
function SizeFields() {
  const found = /^(\d*)x(\d*)$/.exec(settings.value.size ?? "");
  const [width, height] = [found?.[1] ?? "", found?.[2] ?? ""];
  const write = (w: string, h: string) => change({ size: w || h ? `${w || h}x${h || w}` : undefined });
  return (
    <>
      <label class="field">
        <span>Width</span>
        <SideField value={width} onChange={(value) => write(value, height)} />
      </label>
      <label class="field">
        <span>Height</span>
        <SideField value={height} onChange={(value) => write(width, value)} />
      </label>
    </>
  );
}

function SideField({ value, onChange }: { value: string; onChange: (value: string) => void }) {
  return (
    <input
      class="input number"
      type="number"
      min={8}
      max={4096}
      step={8}
      placeholder="auto"
      value={value}
      onInput={(event) => onChange(event.currentTarget.value)}
    />
  );
}

export function Sections({ options, begin }: { options: Options | undefined; begin: ComponentChildren }) {
  const { value } = settings;
  const has = (...names: (keyof Settings)[]) => names.some((name) => value[name] !== undefined);
  return (
    <>
      <div class="draw-fields">
        <SizeFields />
        <NumberField name="steps" label="Steps" options={options} usual="by model" />
        <NumberField name="cfg" label="CFG" options={options} usual="by model" step={0.5} />
        <ChoiceField
          name="sampler"
          label="Sampler"
          options={options}
          usual="By the model"
          titles={options?.samplers ?? {}}
        />
        <ChoiceField name="schedule" label="Schedule" options={options} titles={options?.schedules ?? {}} />
        <NumberField name="seed" label="Seed" options={options} usual="a new one" step={1} />
        <NumberField name="count" label="Pictures" options={options} step={1} />
      </div>
      <Section title="Second pass at a larger size (hires)" isOn={has("hires")}>
        <div class="draw-fields">
          <NumberField name="hires" label="Times larger" options={options} usual="none" step={0.25} />
          <NumberField name="hires_denoise" label="Drawn anew" options={options} step={0.05} />
          <NumberField name="hires_steps" label="Steps of it" options={options} usual="as many" />
          <ChoiceField
            name="hires_upscaler"
            label="Made larger by"
            options={options}
            titles={options?.upscalers ?? {}}
          />
        </div>
      </Section>
      <Section title="Begin from a picture" isOn={has("init")}>
        {begin}
      </Section>
      <Section
        title="Model and more"
        isOn={has("model", "vae", "clip_skip", "cfg_rescale", "eta", "batch", "wildcard_dir")}
      >
        <div class="column">
          <PathField name="model" label="Base model" options={options} kinds={["lora", "folder"]} />
          <PathField name="vae" label="VAE" options={options} usual="the model's own" kinds={["lora", "folder"]} />
          <div class="draw-fields">
            <NumberField name="clip_skip" label="Clip skip" options={options} />
            <NumberField name="batch" label="At once" options={options} usual="by size" />
            <NumberField name="cfg_rescale" label="CFG rescale" options={options} step={0.05} />
            <NumberField name="eta" label="Eta of DDIM" options={options} step={0.05} />
          </div>
          <PathField
            name="wildcard_dir"
            label="Folder of wildcards"
            options={options}
            usual="wildcards, in the workspace"
            kinds={["folder"]}
          />
          <PathField
            name="embedding_dir"
            label="Folder of embeddings"
            options={options}
            usual="that of the LoRAs"
            kinds={["folder"]}
          />
        </div>
      </Section>
    </>
  );
}

/** What is seldom needed; open where something in it is set. */
function Section({ title, isOn, children }: { title: string; isOn: boolean; children: ComponentChildren }) {
  const [open, setOpen] = useState(isOn);
  useEffect(() => void (isOn && setOpen(true)), [isOn]);
  return (
    <details open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        {title}
        {isOn && !open && <span class="soft small"> set</span>}
      </summary>
      <div class="section-body">{children}</div>
    </details>
  );
}
