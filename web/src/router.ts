// Every page has an address of its own: what it shows stands in it.
import { computed, signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { withQuery } from "./api/client";

export const address = signal(new URL(location.href));

export const path = computed(() => address.value.pathname);
export const query = computed(() => address.value.searchParams);

type Values = Record<string, string | number | null | undefined>;

/** A page's address. */
export const to = (page: string, values: Values = {}): string => withQuery(page, values);

/** Shows another page, or this one with other values. */
export function go(target: string, { replace = false } = {}): void {
  const url = new URL(target, location.href);
  if (replace) history.replaceState(null, "", url);
  else history.pushState(null, "", url);
  const isOther = url.pathname !== address.value.pathname;
  address.value = url;
  if (isOther) scrollTo(0, 0);
}

/** This page with other values in its address; `null` takes one away. */
export function alter(values: Values, { replace = true } = {}): void {
  const params = new URLSearchParams(address.value.search);
  for (const [name, value] of Object.entries(values)) {
    if (value === null || value === undefined || value === "") params.delete(name);
    else params.set(name, String(value));
  }
  const text = params.toString();
  go(address.value.pathname + (text ? `?${text}` : ""), { replace });
}

/** The browser asks whoever closes the tab while something is not saved. */
export function useLeavingAsked(unsaved: boolean): void {
  useEffect(() => {
    if (!unsaved) return;
    const ask = (event: BeforeUnloadEvent) => event.preventDefault();
    addEventListener("beforeunload", ask);
    return () => removeEventListener("beforeunload", ask);
  }, [unsaved]);
}

/** Links within the studio don't load it anew. */
export function followLinks(): void {
  addEventListener("popstate", () => (address.value = new URL(location.href)));
  document.addEventListener("click", (event) => {
    const link = (event.target as Element | null)?.closest?.("a[href]") as HTMLAnchorElement | null;
    const plain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
    const isOurs =
      link &&
      link.origin === location.origin &&
      !link.target &&
      !link.pathname.startsWith("/api/") &&
      !link.hasAttribute("download");
    if (!plain || !isOurs || event.defaultPrevented) return;
    // Within a page (#…) the browser goes by itself.
    if (link.hash && link.pathname === location.pathname && link.search === location.search) return;
    event.preventDefault();
    go(link.href);
  });
}
