import { existsSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

let root: string | undefined;

/** The folder that holds this package's package.json: above src/ in a clone, above dist/ when installed. */
export function packageRoot(): string {
  if (root !== undefined) return root;
  const start = dirname(fileURLToPath(import.meta.url));
  for (let folder = start; ; folder = dirname(folder)) {
    if (existsSync(join(folder, "package.json"))) {
      root = folder;
      return folder;
    }
    if (folder === dirname(folder)) throw new Error(`paths: no package.json in ${start} or above it`);
  }
}

/** The path of a file under the package's assets/ folder; the file need not exist. */
export function assetPath(name: string): string {
  return join(packageRoot(), "assets", name);
}

/** Joins and normalises the parts of a path. */
export function joinPath(...parts: readonly string[]): string {
  return join(...parts);
}

/** The absolute path, taken from the working directory. */
export function absolutePath(path: string): string {
  return resolve(path);
}

/** The last part of a path. */
export function baseName(path: string): string {
  return basename(path);
}

/** The folder that holds a path. */
export function parentFolder(path: string): string {
  return dirname(path);
}

export function homeFolder(): string {
  return homedir();
}

export function temporaryFolder(): string {
  return tmpdir();
}
