// node build.mjs PACKAGES SOURCE WIT WORLD OUTPUT: the JavaScript guest SOURCE as a component.
// PACKAGES is a folder with node_modules/@bytecodealliance/componentize-js.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [packages, sourcePath, witPath, worldName, output] = process.argv.slice(2);
// Packages are found from where a program is, and this one is not beside them: so look up their entry by hand.
const home = join(packages, "node_modules", "@bytecodealliance", "componentize-js");
const { exports } = JSON.parse(await readFile(join(home, "package.json")));
const { componentize } = await import(pathToFileURL(join(home, exports.import)));
const { component } = await componentize({
  sourcePath,
  witPath,
  worldName,
  // The fetch event would make the engine itself the handler, with the version of wasi:http that is built into it.
  disableFeatures: ["fetch-event"],
});
await writeFile(output, component);
