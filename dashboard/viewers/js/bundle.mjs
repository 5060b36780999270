// Bundles both viewers for the browser into out/, with the licences of what went in.
import { build } from "esbuild";
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const result = await build({
  entryPoints: ["mri.js", "slide.js"],
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  outdir: "out",
  loader: { ".css": "text" },
  legalComments: "none",
  metafile: true,
  logLevel: "warning",
});

const names = new Set();
for (const path of Object.keys(result.metafile.inputs)) {
  const found = path.match(/^node_modules\/((?:@[^/]+\/)?[^/]+)\//);
  if (found) names.add(found[1]);
}
const notices = [...names].sort().map((name) => {
  const folder = join("node_modules", name);
  const told = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const file = readdirSync(folder).find((each) => /^licen[cs]e/i.test(each));
  const text = file && existsSync(join(folder, file)) ? readFileSync(join(folder, file), "utf8").trim() : "";
  return `${name} ${told.version}, licence: ${told.license ?? "see its package"}\n\n${text}`.trim();
});
mkdirSync("out", { recursive: true });
writeFileSync("out/LICENCES.txt", notices.join("\n\n" + "-".repeat(80) + "\n\n") + "\n");
