// What is known of this studio, and how the user wants it shown.
import { effect, signal } from "@preact/signals";
import { get, type Schemas } from "./api/client";

export const session = signal<Schemas["Session"] | null>(null);

export async function openSession(): Promise<void> {
  session.value = await get("/api/session");
}

type Theme = "system" | "light" | "dark";

function stored(): Theme {
  const value = remembered("theme");
  return value === "light" || value === "dark" ? value : "system";
}

export const theme = signal<Theme>(stored());

effect(() => {
  const root = document.documentElement;
  if (theme.value === "system") delete root.dataset.theme;
  else root.dataset.theme = theme.value;
  remember("theme", theme.value);
});

/** For how long something is kept: in this browser, or until the tab is closed. */
export type Keeper = "browser" | "tab";
const storage = (of: Keeper): Storage => (of === "tab" ? sessionStorage : localStorage);

/** "" where there is nothing, or the browser keeps nothing. */
export function remembered(name: string, of: Keeper = "browser"): string {
  try {
    return storage(of).getItem(`lorasmith.${name}`) ?? "";
  } catch {
    return "";
  }
}

/** What was kept as JSON; null where there is nothing that can be read. */
export function rememberedValue(name: string, of: Keeper = "browser"): unknown {
  try {
    return JSON.parse(remembered(name, of) || "null");
  } catch {
    return null;
  }
}

export function remember(name: string, value: string, of: Keeper = "browser"): void {
  try {
    if (value) storage(of).setItem(`lorasmith.${name}`, value);
    else storage(of).removeItem(`lorasmith.${name}`);
  } catch {
    // A browser that keeps nothing shows what is usual, each time.
  }
}
