import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { attempt, exists, syncFolder } from "./files.ts";

type Content = Uint8Array | string;

let nWrites = 0;

/**
 * Writes a file so that a reader, or a crash, sees the old content or the new and nothing between: a
 * temporary file beside it, fsync, rename, fsync of the folder. A list of parts is written in order, so a
 * large file need not be one array. Makes the folder if it is missing.
 */
export function writeFileAtomic(path: string, content: Content | Iterable<Content>): void {
  attempt("write", path, () => {
    const target = resolve(path);
    const beside = temporaryName(target);
    mkdirSync(dirname(target), { recursive: true });
    try {
      writeAndSync(beside, content);
      renameSync(beside, target);
    } catch (error) {
      rmSync(beside, { force: true });
      throw error;
    }
    syncFolder(dirname(target));
  });
}

/**
 * Writes a folder of files so that it is there whole or not at all. `files` maps names, which may hold "/",
 * to contents. An existing folder is replaced: it is moved aside first and removed last.
 */
export function writeFolderAtomic(
  target: string,
  files: ReadonlyMap<string, Content | Iterable<Content>>,
): void {
  attempt("write the folder", target, () => {
    const folder = resolve(target);
    const beside = temporaryName(folder);
    try {
      fillFolder(beside, files);
      replaceFolder(folder, beside);
    } catch (error) {
      rmSync(beside, { recursive: true, force: true });
      throw error;
    }
  });
}

function fillFolder(folder: string, files: ReadonlyMap<string, Content | Iterable<Content>>): void {
  mkdirSync(folder, { recursive: true });
  const touched = new Set([folder]);
  for (const [name, content] of files) {
    const path = join(folder, name);
    if (!path.startsWith(join(folder, "/"))) throw new Error(`files: ${name} leaves the folder ${folder}`);
    for (let above = dirname(path); !touched.has(above); above = dirname(above)) touched.add(above);
    mkdirSync(dirname(path), { recursive: true });
    writeAndSync(path, content);
  }
  for (const path of touched) syncFolder(path);
}

function replaceFolder(folder: string, beside: string): void {
  const parent = dirname(folder);
  if (!exists(folder)) {
    renameSync(beside, folder);
    syncFolder(parent);
    return;
  }
  const old = temporaryName(folder);
  renameSync(folder, old);
  try {
    renameSync(beside, folder);
  } catch (error) {
    renameSync(old, folder);
    throw error;
  }
  syncFolder(parent);
  rmSync(old, { recursive: true, force: true });
}

function writeAndSync(path: string, content: Content | Iterable<Content>): void {
  const file = openSync(path, "wx");
  try {
    const parts = typeof content === "string" || content instanceof Uint8Array ? [content] : content;
    for (const part of parts)
      writeAll(file, typeof part === "string" ? new TextEncoder().encode(part) : part);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function writeAll(file: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; )
    at += writeSync(file, bytes, at, Math.min(bytes.length - at, 1 << 30));
}

/** A hidden name in the same folder, and so on the same file system. */
function temporaryName(target: string): string {
  nWrites++;
  const name = target.slice(dirname(target).length).replace(/^[/\\]/, "");
  return join(dirname(target), `.${name}.${process.pid}.${nWrites}.partial`);
}
