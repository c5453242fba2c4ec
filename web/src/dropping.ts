// Files and folders that are dropped on a page, or chosen: with their paths below what was dropped.
import { signal } from "@preact/signals";
import { useState } from "preact/hooks";

export interface Dropped {
  file: File;
  /** Folders above it, from what was dropped on: ["10_zorp"]. */
  folders: string[];
}

const IMAGES = /\.(png|jpe?g|webp|bmp|gif|tiff?|avif|jxl|heic|heif)$/i;
const CAPTIONS = /\.(txt|caption|json|jsonl|csv)$/i;
const ARCHIVES = /\.(zip|cbz)$/i;
const SETTINGS = /\.(toml|json|sh|bat|ps1|cmd)$/i;

export const isImage = (name: string): boolean => IMAGES.test(name);
export const isCaption = (name: string): boolean => CAPTIONS.test(name);
export const isArchive = (name: string): boolean => ARCHIVES.test(name);
export const isOfDataset = (name: string): boolean => IMAGES.test(name) || CAPTIONS.test(name) || ARCHIVES.test(name);

/** One file by itself that can only be settings. */
export function settingsAmong(dropped: readonly Dropped[]): File | null {
  const only = dropped.length === 1 ? dropped[0] : undefined;
  return only && SETTINGS.test(only.file.name) ? only.file : null;
}

/** A settings file of any trainer that was dropped elsewhere, for the page that trains; it takes it away. */
export const incomingSettings = signal<File | null>(null);

/** Everything in what was dropped, folders read to their end. */
async function droppedFiles(transfer: DataTransfer): Promise<Dropped[]> {
  // Entries must be asked for before the event is over.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  if (!entries.length) return [...transfer.files].map((file) => ({ file, folders: [] }));
  const found: Dropped[] = [];
  for (const entry of entries) await walk(entry, [], found);
  return found;
}

async function walk(entry: FileSystemEntry, folders: string[], found: Dropped[]): Promise<void> {
  if (entry.name.startsWith(".")) return;
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    found.push({ file, folders });
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  // A browser gives a hundred at a time.
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const each of some) await walk(each, [...folders, entry.name], found);
  }
}

/**
 * What a page takes that is dropped on it: whether something is held over it, and the events for its element.
 *
 * @param take given everything that was dropped, once it is read.
 */
export function useFileDrop(take: (files: Dropped[]) => void) {
  const [over, setOver] = useState(false);
  const hasFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
  const events = {
    onDragOver: (event: DragEvent) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      setOver(true);
    },
    onDragLeave: (event: DragEvent) => event.target === event.currentTarget && setOver(false),
    onDrop: async (event: DragEvent) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      setOver(false);
      take(await droppedFiles(event.dataTransfer!));
    },
  };
  return { over, events };
}

/** Elsewhere a browser would leave the studio and show the file. */
export function ignoreOtherDrops(): void {
  for (const kind of ["dragover", "drop"]) {
    addEventListener(kind, (event) => {
      const { dataTransfer } = event as DragEvent;
      if (event.defaultPrevented || !dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      dataTransfer.dropEffect = "none";
    });
  }
}

/** Of an `<input type=file>`, also one that takes a folder. */
export function chosenFiles(input: HTMLInputElement): Dropped[] {
  return [...(input.files ?? [])].map((file) => ({ file, folders: file.webkitRelativePath.split("/").slice(0, -1) }));
}

/** A folder's name for the project, where one folder was dropped; what is in it then lies right in the dataset. */
export function commonFolder(dropped: readonly Dropped[]): string {
  const first = dropped[0]?.folders[0];
  return first !== undefined && dropped.every((each) => each.folders[0] === first) ? first : "";
}
