// Values that a component shows, asked for anew whenever they change on the server.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { concerns, onChange } from "./changes";

interface State<T> {
  /** The last answer, also while a newer one is on its way. */
  data: T | undefined;
  error: unknown;
  loading: boolean;
}

/**
 * @param load asked when the component is first shown and when one of `of` changes.
 * @param topics of the server's changes that make it ask again.
 */
export function useFetched<T>(
  load: (signal: AbortSignal) => Promise<T>,
  of: readonly unknown[],
  topics: readonly string[] = [],
): State<T> & { reload: () => void } {
  const [state, setState] = useState<State<T>>({ data: undefined, error: undefined, loading: true });
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
      (data) => done(() => ({ data, error: undefined, loading: false })),
      (error: unknown) => done((before) => ({ data: before.data, error, loading: false })),
    );
    function done(next: (before: State<T>) => State<T>) {
      if (asking.current !== controller) return;
      asking.current = null;
      setState(next);
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

/** Milliseconds without a change after which it is asked. */
const REST = 250;

/**
 * Asks when `of` has not changed for a while; an answer to what it was before is not told.
 *
 * @param ask null where there is nothing to be asked.
 */
export function useRested<T>(
  of: readonly unknown[],
  ask: (signal: AbortSignal) => Promise<T> | null,
  take: (answer: T) => void,
  failed: (error: unknown) => void = () => {},
  rest = REST,
): void {
  useEffect(() => {
    const controller = new AbortController();
    const { signal } = controller;
    const timer = setTimeout(
      () =>
        ask(signal)?.then(
          (answer) => signal.aborted || take(answer),
          (error: unknown) => signal.aborted || failed(error),
        ),
      rest,
    );
    return () => (clearTimeout(timer), controller.abort());
  }, of);
}

/** `ask`, once at a time: asked for meanwhile, it is asked once more. Done once nothing newer is to be asked for. */
export function oneAtATime(ask: () => Promise<void>): () => Promise<void> {
  let asking: Promise<void> | null = null;
  let again = false;
  async function run() {
    try {
      do {
        again = false;
        await ask();
      } while (again);
    } finally {
      asking = null;
    }
  }
  return () => {
    again = asking !== null;
    return (asking ??= run());
  };
}

/** `ask`, once, and again only where it failed: for what never changes while the studio runs. */
export function once<T>(ask: () => Promise<T>): () => Promise<T> {
  let answer: Promise<T> | undefined;
  return () => {
    answer ??= ask();
    answer.catch(() => (answer = undefined));
    return answer;
  };
}
