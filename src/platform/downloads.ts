// What a download needs of files: appending to a partial one, hashing what is there, and the final name.
import { createHash, type Hash } from "node:crypto";
import {
  closeSync,
  copyFileSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeSync,
} from "node:fs";
import { dirname, relative } from "node:path";
import { attempt, syncFolder } from "./files.ts";

/** A file that grows by a download. Its folder is made if it is missing. */
export interface PartialFile {
  readonly bytes: number;
  append(chunk: Uint8Array): void;
  /** Starts over. */
  clear(): void;
  close(): void;
}

/** Opens a partial file, with what an earlier download left in it. */
export function openPartial(path: string): PartialFile {
  const file = attempt("write", path, () => {
    mkdirSync(dirname(path), { recursive: true });
    return openSync(path, "a");
  });
  let bytes = statSync(path).size;
  let open = true;
  return {
    get bytes() {
      return bytes;
    },
    append(chunk) {
      attempt("write", path, () => {
        for (let at = 0; at < chunk.length; ) at += writeSync(file, chunk, at);
      });
      bytes += chunk.length;
    },
    clear() {
      truncateSync(path, 0);
      bytes = 0;
    },
    close() {
      if (!open) return;
      open = false;
      attempt("write", path, () => {
        try {
          fsyncSync(file);
        } finally {
          closeSync(file);
        }
      });
    },
  };
}

/** The hash of a file as hexadecimal digits. "git" is the name git has for a file: sha1 of "blob SIZE\0" and its bytes. */
export function hashFile(path: string, kind: "sha256" | "git"): string {
  return attempt("read", path, () => {
    const file = openSync(path, "r");
    try {
      const hash: Hash = createHash(kind === "git" ? "sha1" : "sha256");
      if (kind === "git") hash.update(`blob ${statSync(path).size}\0`);
      const chunk = new Uint8Array(1 << 20);
      for (let n = readSync(file, chunk); n > 0; n = readSync(file, chunk)) hash.update(chunk.subarray(0, n));
      return hash.digest("hex");
    } finally {
      closeSync(file);
    }
  });
}

/** Gives a finished file its final name. */
export function renameFile(from: string, to: string): void {
  attempt("rename", from, () => {
    mkdirSync(dirname(to), { recursive: true });
    renameSync(from, to);
    syncFolder(dirname(to));
  });
}

/** Makes `path` a relative link to `target`, or a copy where links are not allowed. Replaces what is there. */
export function linkOrCopy(target: string, path: string): void {
  attempt("link", path, () => {
    mkdirSync(dirname(path), { recursive: true });
    if (lstatSync(path, { throwIfNoEntry: false })) rmSync(path);
    try {
      symlinkSync(relative(dirname(path), target), path);
    } catch {
      copyFileSync(target, path);
    }
  });
}
