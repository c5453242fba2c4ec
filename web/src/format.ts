// Numbers, sizes and times as people read them.

export function bytes(count: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${value >= 99.5 || unit === 0 ? value.toFixed(0) : value.toFixed(1)} ${units[unit]}`;
}

/** "8 s", "1:05", "2:03:40". */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const two = (value: number) => String(value).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}:${two(whole % 60)}`;
  return `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
}

/** Of Unix seconds. */
export function when(seconds: number): string {
  const date = new Date(seconds * 1000);
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  if (date.toDateString() === new Date().toDateString()) return time;
  return `${date.toLocaleDateString([], { day: "numeric", month: "short", year: date.getFullYear() === new Date().getFullYear() ? undefined : "numeric" })}, ${time}`;
}

export function quantity(count: number, one: string, many = `${one}s`): string {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

/** To three digits: 0.0842, 12.3, 4.00e-5. */
export function figure(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 0.001 || size >= 1e5) return value.toExponential(2).replace("e+", "e");
  return String(Number(value.toPrecision(3)));
}

export const percent = (share: number): string => `${Math.round(share * 100)} %`;

/** A setting's value, as the command line has it. */
export function valueText(value: unknown): string {
  if (value === null || value === undefined) return "none";
  if (value === true) return "yes";
  if (value === false) return "no";
  if (typeof value === "number") return String(value);
  if (typeof value === "string") return value === "" ? "(empty)" : value;
  if (Array.isArray(value))
    return value.length > 3 ? quantity(value.length, "value") : value.map(valueText).join(", ") || "(empty)";
  return JSON.stringify(value);
}

/** A setting's name, with places where it may be broken. */
export const breakable = (name: string): string => name.replace(/([._/])/g, "$1\u200b");

/** The last part of a path, of whatever system. */
export const baseName = (path: string): string => path.split(/[\\/]/).filter(Boolean).at(-1) ?? path;

/** Without its last part. */
export function parentOf(path: string): string {
  const cut = Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\"));
  return cut > 0 ? path.slice(0, cut) : path;
}

/** The folder in a path that somebody writes; undefined where it has none. */
export const folderIn = (path: string): string | undefined => (/[\\/]/.test(path) ? parentOf(path) : undefined);

/** The name of a file without its ending. */
export const stemOf = (path: string): string => baseName(path).replace(/\.[^.]+$/, "");

/** A file below a folder. */
export const joined = (folder: string, ...names: string[]): string =>
  [folder, ...names].join(folder.includes("\\") ? "\\" : "/");

/** A word as a shell takes it. */
export const shellWord = (word: string): string =>
  /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
