// Pages whose code is loaded when they are first shown.
import type { FunctionComponent } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Failed } from "./components/problems";

export function lazily(load: () => Promise<FunctionComponent>): FunctionComponent {
  let loaded: FunctionComponent | undefined;
  return function Lazily() {
    const [, setReady] = useState(false);
    const [error, setError] = useState<unknown>();
    useEffect(() => {
      if (loaded) return;
      load().then(
        (found) => {
          loaded = found;
          setReady(true);
        },
        () =>
          setError(
            new Error("this page could not be loaded: the studio does not answer, or was renewed; load it again"),
          ),
      );
    }, []);
    const Page = loaded;
    if (Page) return <Page />;
    return <main id="content">{error !== undefined && <Failed error={error} />}</main>;
  };
}
