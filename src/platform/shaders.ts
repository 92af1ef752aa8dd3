import { exists, listFolder, readText } from "./files.ts";
import { joinPath, packageRoot } from "./paths.ts";

const texts = new Map<string, string>();

/** The WGSL of `shaders/<name>.wgsl`, read once; `name` may hold a folder, as in "lib/math". */
export function shaderText(name: string): string {
  const known = texts.get(name);
  if (known !== undefined) return known;
  const path = joinPath(packageRoot(), "shaders", `${name}.wgsl`);
  if (!exists(path)) throw new Error(`shaders: no file ${path} for the shader "${name}"`);
  const text = readText(path);
  texts.set(name, text);
  return text;
}

/** The names of all shaders in a folder of shaders/, as `shaderText` takes them; not of folders below it. */
export function shaderNames(folder = ""): string[] {
  const names = listFolder(joinPath(packageRoot(), "shaders", folder));
  return names
    .filter((name) => name.endsWith(".wgsl"))
    .map((name) => joinPath(folder, name.slice(0, -".wgsl".length)).replaceAll("\\", "/"));
}
