// What a drawing is asked with, what was asked for, and the LoRAs that there are.
import { computed, signal } from "@preact/signals";
import { get, post, type Schemas, upload } from "../api/client";
import { say } from "../components/notices";
import { baseName, joined } from "../format";
import { project } from "../project";
import { remember, rememberedValue } from "../session";

export type LoraUse = Schemas["LoraUse"];
export type LoraCard = Schemas["LoraCard"];
export type Drawing = Schemas["DrawingRecord"];
export type DrawnPicture = Schemas["DrawnPicture"];
/** What is not named is left to lorasmith. */
export type Form = Partial<Omit<Schemas["NewDrawing"], "project">> & { prompt: string; loras: LoraUse[] };

/** Without its words, which change with each key. */
export type Settings = Omit<Form, "prompt" | "negative">;

const KEPT = "drawing";
const EMPTY: Form = { prompt: "", loras: [] };

export const form = signal<Form>({ ...EMPTY, ...(rememberedValue(KEPT) as Partial<Form> | null) });
/** Of the picture whose settings were taken last: what of it is not here, or cannot be followed. */
export const told = signal<string[]>([]);

export function change(values: Partial<Form>): void {
  const next: Record<string, unknown> = { ...form.value, ...values };
  // Left alone again.
  for (const [name, value] of Object.entries(next)) if (value === undefined || value === null) delete next[name];
  form.value = next as Form;
  remember(KEPT, JSON.stringify(next));
}

const { is: same } = Object;

/** All of it but its words; another one only where something is another. */
export const settings = computed<Settings>((): Settings => {
  const { prompt: _, negative: __, ...next } = form.value;
  const names = Object.keys(next) as (keyof typeof next)[];
  const isSame =
    kept && Object.keys(kept).length === names.length && names.every((name) => same(kept![name], next[name]));
  return isSame ? kept! : (kept = next);
});
let kept: Settings | undefined;
export const hasWords = computed(() => form.value.prompt.trim() !== "");

export const body = computed(() => ({ ...form.value, project: project.value }));

export const records = signal<Drawing[]>([]);
export const openOnes = computed(() => records.value.filter((record) => isOpen(record)));
export const isOpen = (record: Drawing): boolean => record.state === "waiting" || record.state === "drawing";

export async function refreshRecords(): Promise<void> {
  records.value = await get("/api/draw");
}

/** A drawing as it is now. */
export function takeRecord(record: Drawing): void {
  if (record.drawing.trial) return; // Another page's.
  const others = records.value;
  const at = others.findIndex((each) => each.id === record.id);
  if (at >= 0) records.value = others.with(at, record);
  else records.value = [...others.filter(isOpen), record, ...others.filter((each) => !isOpen(each))];
}

export async function draw(): Promise<void> {
  takeRecord(await post("/api/draw", { body: body.value }));
}

export const cards = signal<Schemas["LoraCards"] | null>(null);

export async function refreshCards(): Promise<void> {
  cards.value = await get("/api/draw/loras", { query: { folder: project.value } });
}

export const usesOf = (name: string): LoraUse | undefined => settings.value.loras.find((use) => use.name === name);

/** Adds a LoRA with the words that call it, or takes it away. */
export function toggleLora(card: LoraCard): void {
  const { loras, prompt, negative = "" } = form.value;
  if (usesOf(card.name)) return change({ loras: loras.filter((use) => use.name !== card.name) });
  const values: Partial<Form> = { loras: [...loras, { name: card.name, strength: card.strength ?? 1 }] };
  if (card.trigger && !prompt.includes(card.trigger)) values.prompt = [card.trigger, prompt].filter(Boolean).join(", ");
  if (card.negative && !negative?.includes(card.negative))
    values.negative = [negative, card.negative].filter(Boolean).join(", ");
  change(values);
}

export function changeLora(name: string, values: Partial<LoraUse>): void {
  change({ loras: form.value.loras.map((use) => (use.name === name ? { ...use, ...values } : use)) });
}

/** What a picture does not say, and is the user's own. */
const OWN = ["model", "vae", "lora_dir", "embedding_dir", "wildcard_dir", "precision", "device", "batch"] as const;

/** What a picture says made it becomes what is asked for. */
export async function takeSettings(path: string): Promise<void> {
  const found = await get("/api/draw/settings", { query: { path, project: project.value } });
  const before = form.value;
  const own = Object.fromEntries(OWN.map((name) => [name, before[name]]));
  const { project: _, ...drawing } = found.drawing;
  const plain = Object.fromEntries(Object.entries(drawing).filter(([, value]) => value !== null));
  form.value = EMPTY;
  change({ ...plain, ...own, prompt: drawing.prompt, loras: drawing.loras });
  const model = found.model && found.model !== (before.model ?? "demo") ? [`made with the model ${found.model}`] : [];
  const missing = found.missing.map((name) => `the LoRA ${name} is not here`);
  told.value = [...model, ...missing, ...found.notes];
  say(`The settings of ${baseName(path)} are taken.`, {
    label: "Undo",
    run: () => {
      form.value = EMPTY;
      told.value = [];
      change(before);
    },
  });
}

/** Puts a file beside the drawings, where no dataset takes it for its own; returns its path. */
export async function bring(file: File): Promise<string> {
  const base = cards.value?.folder ?? project.value;
  const plain = file.name.replace(/[^\w.-]+/g, "_").slice(-60);
  const name = `${Date.now().toString(36)}-${plain}`;
  const { files } = await upload(file, joined(base, "drawings", "inputs"), name);
  return files[0]!;
}
