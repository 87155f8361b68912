// node build.mjs PACKAGES SOURCE WIT WORLD OUTPUT [fetch]: the JavaScript guest SOURCE as a component.
// PACKAGES is a folder whose node_modules has componentize-js and, for guests with imports of their own, esbuild.
// With "fetch" the guest answers fetch events; without, it exports the interface incoming-handler.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [packages, source, witPath, worldName, output, style] = process.argv.slice(2);

// Packages are found from where a program is, and this one is not beside them: so look up their entry by hand.
async function load(name) {
  const home = join(packages, "node_modules", ...name.split("/"));
  const { exports, main } = JSON.parse(await readFile(join(home, "package.json")));
  return import(pathToFileURL(join(home, exports?.import ?? main)));
}

// The engine reads one file: a guest that imports packages is bundled first.
async function bundle() {
  const { default: esbuild } = await load("esbuild");
  const outfile = `${output}.js`;
  await esbuild.build({
    entryPoints: [source],
    bundle: true,
    format: "esm",
    nodePaths: [join(packages, "node_modules")],
    outfile,
  });
  return outfile;
}

const { componentize } = await load("@bytecodealliance/componentize-js");
const { component } = await componentize({
  sourcePath: style === "fetch" ? await bundle() : source,
  witPath,
  worldName,
  // The fetch event makes the engine itself the handler, with the version of wasi:http that is built into it.
  disableFeatures: style === "fetch" ? [] : ["fetch-event"],
});
await writeFile(output, component);
