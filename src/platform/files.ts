import {
  appendFileSync,
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  statSync,
} from "node:fs";

const LARGEST_READ_BYTES = 1 << 30; // one read call takes less than 2 GiB

/** Bytes `start` (0) to `end` (the file's end) of a file. */
export function readBytes(
  path: string,
  range: { readonly start?: number; readonly end?: number } = {},
): Uint8Array<ArrayBuffer> {
  return attempt("read", path, () => {
    const file = openSync(path, "r");
    try {
      const { start = 0, end = fstatSync(file).size } = range;
      const bytes = new Uint8Array(Math.max(0, end - start));
      readInto(file, bytes, start, path);
      return bytes;
    } finally {
      closeSync(file);
    }
  });
}

/** A file open for reading in parts. It is closed once; reading after that throws. */
export interface OpenFile {
  readonly path: string;
  readonly bytes: number;
  /** A copy of `length` bytes from `start` on. Throws where the file has fewer. */
  /** `into`: takes the bytes, where it is long enough; they are overwritten by the next read into it. */
  read(start: number, length: number, into?: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer>;
  close(): void;
}

export function openFile(path: string): OpenFile {
  const file = attempt("read", path, () => openSync(path, "r"));
  let open = true;
  return {
    path,
    bytes: attempt("read", path, () => fstatSync(file).size),
    read(start, length, into) {
      if (!open) throw new Error(`files: ${path} was closed`);
      return attempt("read", path, () => {
        const bytes = into?.subarray(0, length) ?? new Uint8Array(length);
        readInto(file, bytes, start, path);
        return bytes;
      });
    },
    close() {
      if (open) closeSync(file);
      open = false;
    },
  };
}

function readInto(file: number, bytes: Uint8Array, start: number, path: string): void {
  for (let at = 0; at < bytes.length; ) {
    const length = Math.min(bytes.length - at, LARGEST_READ_BYTES);
    const n = readSync(file, bytes, at, length, start + at);
    if (n === 0) {
      throw new Error(`files: ${path} ends at byte ${start + at}, wanted ${start + bytes.length}`);
    }
    at += n;
  }
}

/** The whole file as UTF-8 text, without a byte order mark. */
export function readText(path: string): string {
  return new TextDecoder().decode(readBytes(path));
}

/** Whether there is a file or folder at the path. */
export function exists(path: string): boolean {
  return existsSync(path);
}

/** Size and kind of a file or folder; undefined where there is none. */
export function fileInfo(
  path: string,
): { readonly bytes: number; readonly isFolder: boolean; readonly modifiedMs: number } | undefined {
  const found = attempt("look at", path, () => statSync(path, { throwIfNoEntry: false }));
  return found && { bytes: found.size, isFolder: found.isDirectory(), modifiedMs: found.mtimeMs };
}

/** The names in a folder, sorted by code unit. */
export function listFolder(path: string): string[] {
  return attempt("list", path, () => readdirSync(path)).sort();
}

/** Makes a folder and those above it; an existing folder stays as it is. */
export function makeFolder(path: string): void {
  attempt("make the folder", path, () => mkdirSync(path, { recursive: true }));
}

/** Removes a file, or a folder with all in it; nothing happens where there is none. */
export function removePath(path: string): void {
  attempt("remove", path, () => rmSync(path, { recursive: true, force: true }));
}

/** Appends one line; the file is made if it is missing. */
export function appendLine(path: string, line: string): void {
  if (line.includes("\n")) throw new Error(`files: a line for ${path} holds a line break`);
  attempt("append to", path, () => appendFileSync(path, `${line}\n`));
}

/** Runs one file operation; its failure becomes one line that names the path and the reason. */
export function attempt<T>(verb: string, path: string, operation: () => T): T {
  try {
    return operation();
  } catch (cause) {
    if (cause instanceof Error && cause.message.startsWith("files:")) throw cause;
    throw new Error(`files: cannot ${verb} ${path}: ${reasonOf(cause)}`, { cause });
  }
}

function reasonOf(cause: unknown): string {
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
  switch (code) {
    case "ENOENT":
      return "no such file or folder";
    case "EACCES":
    case "EPERM":
      return "permission denied";
    case "EISDIR":
      return "it is a folder";
    case "ENOTDIR":
      return "a part of the path is not a folder";
    case "EEXIST":
      return "it exists already";
    case "ENOSPC":
      return "no space left";
    case "EROFS":
      return "read-only file system";
    default:
      return cause instanceof Error ? cause.message : String(cause);
  }
}

/** Makes what was written under a folder's name last through a power cut. */
export function syncFolder(path: string): void {
  if (process.platform === "win32") return; // a folder cannot be opened there
  const folder = openSync(path, "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
