// Draws what the JSON file named first asks for: [{style, options, width, file}] or [{emoji, width, file}].
// Run from the folder that holds node_modules.
import fs from "node:fs";
import { createAvatar } from "@dicebear/core";
import * as lorelei from "@dicebear/lorelei";
import * as openPeeps from "@dicebear/open-peeps";
import { Resvg } from "@resvg/resvg-js";

const styles = { lorelei, "open-peeps": openPeeps };
for (const item of JSON.parse(fs.readFileSync(process.argv[2], "utf8"))) {
  const svg = item.emoji
    ? fs.readFileSync(`node_modules/openmoji/color/svg/${item.emoji}.svg`, "utf8")
    : createAvatar(styles[item.style], item.options).toString();
  const drawing = new Resvg(svg, { fitTo: { mode: "width", value: item.width } });
  fs.writeFileSync(item.file, drawing.render().asPng());
}
