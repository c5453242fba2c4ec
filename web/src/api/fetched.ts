// Values that a component shows, asked for anew whenever they change on the server.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { concerns, onChange } from "./changes";

export interface Fetched<T> {
  /** The last answer, also while a newer one is on its way. */
  data: T | undefined;
  error: unknown;
  loading: boolean;
  reload: () => void;
}

/**
 * @param load asked when the component is first shown and when one of `of` changes.
 * @param topics of the server's changes that make it ask again.
 */
export function useFetched<T>(
  load: (signal: AbortSignal) => Promise<T>,
  of: readonly unknown[],
  topics: readonly string[] = [],
): Fetched<T> {
  const [state, setState] = useState<{ data: T | undefined; error: unknown; loading: boolean }>({
    data: undefined,
    error: undefined,
    loading: true,
  });
  const asking = useRef<AbortController | null>(null);
  const again = useRef(false);
  const latest = useRef(load);
  latest.current = load;

  const ask = useCallback((isNew: boolean) => {
    if (asking.current && !isNew) {
      again.current = true;
      return;
    }
    asking.current?.abort();
    const controller = new AbortController();
    asking.current = controller;
    again.current = false;
    setState((before) => ({ data: isNew ? undefined : before.data, error: undefined, loading: true }));
    latest.current(controller.signal).then(
      (data) => done({ data, error: undefined }),
      (error: unknown) => done({ error }),
    );
    function done(found: { data?: T; error: unknown }) {
      if (asking.current !== controller) return;
      asking.current = null;
      setState((before) => ({ data: found.data ?? before.data, error: found.error, loading: false }));
      if (again.current) ask(false);
    }
  }, []);

  useEffect(() => {
    ask(true);
    return () => {
      asking.current?.abort();
      asking.current = null;
    };
  }, of);
  const wanted = topics.join("\n");
  useEffect(
    () => (wanted ? onChange((changed) => concerns(changed, ...wanted.split("\n")) && ask(false)) : undefined),
    [wanted],
  );
  const reload = useCallback(() => ask(false), []);
  return { ...state, reload };
}
