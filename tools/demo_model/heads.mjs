// Draws heads of dicebear's pixel-art, as they are: 16x16 pixels.
// `node heads.mjs ITEMS.json OUT`, in the folder that holds node_modules: ITEMS is a list of options,
// OUT gets the pixels, RGBA, one head after the other.
import fs from "node:fs";
import { createAvatar } from "@dicebear/core";
import * as pixelArt from "@dicebear/pixel-art";
import { Resvg } from "@resvg/resvg-js";

const out = fs.openSync(process.argv[3], "w");
for (const options of JSON.parse(fs.readFileSync(process.argv[2], "utf8"))) {
  const svg = createAvatar(pixelArt, options).toString();
  const image = new Resvg(svg, { fitTo: { mode: "width", value: 16 } }).render();
  fs.writeSync(out, image.pixels);
}
fs.closeSync(out);
