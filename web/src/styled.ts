// Styles that only some pages take: src/styles/NAME.css, each once, when it is first needed.

type Name =
  | "bootstrap"
  | "compare"
  | "curves"
  | "dataset"
  | "draw"
  | "files"
  | "home"
  | "prompts"
  | "run"
  | "sort"
  | "strip"
  | "tour"
  | "train";

const loading = new Map<Name, Promise<void>>();

/** Done once they hold. */
export function styled(...names: Name[]): Promise<void[]> {
  return Promise.all(names.map((name) => loading.get(name) ?? load(name)));
}

function load(name: Name): Promise<void> {
  const done = new Promise<void>((resolve, reject) => {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = `/${name}.css`;
    link.onload = () => resolve();
    link.onerror = () => {
      link.remove();
      loading.delete(name);
      reject(new Error(`${link.href} could not be loaded`));
    };
    document.head.append(link);
  });
  loading.set(name, done);
  return done;
}
