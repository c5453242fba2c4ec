// Writes the pages' bundle into the package. `--check` writes nothing: it fails where the bundle
// is not what these sources give. `--serve` builds anew whenever a source changes.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const target = join(here, "..", "src", "lorasmith", "studio", "static");
const check = process.argv.includes("--check");

const options = {
  absWorkingDir: here,
  entryPoints: {
    studio: "src/main.tsx",
    // See src/styled.ts.
    ...Object.fromEntries(
      [
        "bootstrap",
        "compare",
        "curves",
        "dataset",
        "draw",
        "files",
        "home",
        "prompts",
        "run",
        "sort",
        "strip",
        "tour",
        "train",
      ].map((name) => [name, `src/styles/${name}.css`]),
    ),
  },
  outdir: target,
  bundle: true,
  write: false,
  minify: true,
  format: "esm",
  // Each page is loaded when it is first shown.
  splitting: true,
  chunkNames: "[name]-[hash]",
  target: ["es2022"],
  legalComments: "eof",
  logLevel: "warning",
};

/** Every file of the bundle, by name. */
async function built() {
  const result = await esbuild.build({ ...options, metafile: true });
  const files = new Map(
    result.outputFiles.map((file) => [file.path.slice(target.length + 1), Buffer.from(file.contents)]),
  );
  for (const name of readdirSync(join(here, "public"))) files.set(name, readFileSync(join(here, "public", name)));
  // Browsers ask for a new bundle when its name is new, and keep the one they have else.
  let page = files.get("index.html").toString();
  for (const name of ["studio.js", "studio.css"]) {
    const hash = createHash("sha256").update(files.get(name)).digest("hex").slice(0, 12);
    page = page.replace(name, `${name}?v=${hash}`);
  }
  // What every page takes is asked for together.
  const links = shared(result.metafile).map((name) => `<link rel="modulepreload" href="/${name}" />`);
  page = page.replace("</head>", `  ${links.join("\n    ")}\n  </head>`);
  files.set("index.html", Buffer.from(page));
  return files;
}

/** The chunks that studio.js imports, and those that these do. */
function shared(metafile) {
  const outputs = new Map(Object.entries(metafile.outputs).map(([path, made]) => [basename(path), made]));
  const found = new Set(["studio.js"]);
  for (const name of found)
    for (const one of outputs.get(name).imports) if (one.kind === "import-statement") found.add(basename(one.path));
  return [...found].filter((name) => name !== "studio.js").sort();
}

function there() {
  try {
    return readdirSync(target).filter((name) => !name.startsWith("."));
  } catch {
    return [];
  }
}

async function write() {
  const files = await built();
  mkdirSync(target, { recursive: true });
  for (const name of there()) if (!files.has(name)) rmSync(join(target, name));
  for (const [name, content] of files) writeFileSync(join(target, name), content);
  const total = [...files.values()].reduce((sum, content) => sum + content.length, 0);
  console.log(`${files.size} files, ${(total / 1000).toFixed(1)} kB`);
}

if (check) {
  const files = await built();
  const names = new Set([...files.keys(), ...there()]);
  const differ = [...names].filter((name) => {
    try {
      return !files.has(name) || !readFileSync(join(target, name)).equals(files.get(name));
    } catch {
      return true;
    }
  });
  if (differ.length) {
    console.error(`not what the sources give: ${differ.join(", ")}; run make web`);
    process.exit(1);
  }
} else if (process.argv.includes("--serve")) {
  const rebuild = { name: "write", setup: (build) => build.onEnd(() => write().catch(console.error)) };
  const context = await esbuild.context({ ...options, plugins: [rebuild] });
  await context.watch();
} else {
  await write();
}
