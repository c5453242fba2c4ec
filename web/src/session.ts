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

/** Kept in this browser; "" where there is nothing, or the browser keeps nothing. */
export function remembered(name: string): string {
  try {
    return localStorage.getItem(`lorasmith.${name}`) ?? "";
  } catch {
    return "";
  }
}

export function remember(name: string, value: string): void {
  try {
    localStorage.setItem(`lorasmith.${name}`, value);
  } catch {
    // A browser that keeps nothing shows what is usual, each time.
  }
}
