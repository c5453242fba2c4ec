// Pages, and seldom parts of them, whose code is loaded when they are first shown.
import type { FunctionComponent } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Button } from "./components/button";
import { Failed } from "./components/problems";

/** What a module exports, once its styles are there, too. */
export async function both<Module>(module: Promise<Module>, styles: Promise<unknown>): Promise<Module> {
  return (await Promise.all([module, styles]))[0];
}

export function lazily<Props extends object = object>(
  load: () => Promise<FunctionComponent<Props>>,
  /** Or a part of a page, in whose place nothing is until then. */
  isPage = true,
): FunctionComponent<Props> & { ahead: () => void } {
  let loaded: FunctionComponent<Props> | undefined;
  const ask = async () => void (loaded ??= await load());
  function Lazily(props: Props) {
    const [, setReady] = useState(false);
    const [error, setError] = useState<unknown>();
    const Page = loaded;
    useEffect(() => {
      // Not whether it is loaded now: it may have come since this was drawn without it.
      if (Page) return;
      ask().then(
        () => setReady(true),
        () => setError(new Error("this page could not be loaded: the studio does not answer, or was renewed")),
      );
    }, []);
    if (Page) return <Page {...props} />;
    const failed = error !== undefined && (
      <>
        <Failed error={error} />
        <Button icon="retry" onClick={() => location.reload()}>
          Load again
        </Button>
      </>
    );
    return isPage ? <main id="content">{failed}</main> : <>{failed}</>;
  }
  /** Loads it before it is shown; what fails is said where it is shown. */
  return Object.assign(Lazily, { ahead: () => void ask().catch(() => {}) });
}
