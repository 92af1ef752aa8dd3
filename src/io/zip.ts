// As much of the zip format as PyTorch's archives use: stored entries, found by the central directory; zip64.
import { FormatError } from "./format-error.ts";
import type { ByteSource } from "./safetensors.ts";

export interface ZipEntry {
  readonly name: string;
  /** Where its data begins. */
  readonly start: number;
  readonly bytes: number;
}

const END = 0x06054b50;
const END64 = 0x06064b50;
const LOCATOR64 = 0x07064b50;
const CENTRAL = 0x02014b50;
const LOCAL = 0x04034b50;

/** The entries of an archive by name. Refuses compressed ones and a damaged directory. */
export function zipEntries(file: ByteSource): Map<string, ZipEntry> {
  const { count, start, bytes } = findDirectory(file);
  const directory = viewOf(file, start, bytes);
  const entries = new Map<string, ZipEntry>();
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + 46 > bytes || directory.getUint32(at, true) !== CENTRAL)
      throw new FormatError(`zip: entry ${i + 1} of ${count} of the directory is damaged`);
    const [nameBytes, extraBytes, commentBytes] = [28, 30, 32].map((o) => directory.getUint16(at + o, true));
    const [name = 0, extra = 0, comment = 0] = [nameBytes, extraBytes, commentBytes];
    const entry = readEntry(file, directory, at, name, extra);
    entries.set(entry.name, entry);
    at += 46 + name + extra + comment;
  }
  return entries;
}

function readEntry(
  file: ByteSource,
  directory: DataView,
  at: number,
  nameBytes: number,
  extraBytes: number,
): ZipEntry {
  const name = new TextDecoder().decode(
    new Uint8Array(directory.buffer, directory.byteOffset + at + 46, nameBytes),
  );
  const method = directory.getUint16(at + 10, true);
  if (method !== 0) throw new FormatError(`zip: "${name}" is compressed (method ${method}), expected stored`);
  const wide = wideNumbers(directory, at + 46 + nameBytes, extraBytes);
  const number = (offset: number): number => {
    const value = directory.getUint32(at + offset, true);
    return value === 0xffffffff ? (wide.shift() ?? value) : value;
  };
  const bytes = number(24); // the uncompressed size comes first among the wide numbers
  number(20);
  const header = number(42);
  const local = viewOf(file, header, 30);
  if (local.getUint32(0, true) !== LOCAL)
    throw new FormatError(`zip: "${name}" has no header at byte ${header}`);
  const start = header + 30 + local.getUint16(26, true) + local.getUint16(28, true);
  if (start + bytes > file.bytes)
    throw new FormatError(`zip: "${name}" ends at byte ${start + bytes} of a file of ${file.bytes}`);
  return { name, start, bytes };
}

/** The 64-bit numbers of an entry's extra field, in the order of those that did not fit 32 bits. */
function wideNumbers(view: DataView, start: number, bytes: number): number[] {
  for (let at = start; at + 4 <= start + bytes; ) {
    const size = view.getUint16(at + 2, true);
    if (view.getUint16(at, true) === 1) {
      return Array.from({ length: Math.floor(size / 8) }, (_, i) =>
        Number(view.getBigUint64(at + 4 + 8 * i, true)),
      );
    }
    at += 4 + size;
  }
  return [];
}

function findDirectory(file: ByteSource): { count: number; start: number; bytes: number } {
  const tailBytes = Math.min(file.bytes, 22 + 0xffff);
  const tailStart = file.bytes - tailBytes;
  const tail = viewOf(file, tailStart, tailBytes);
  let at = tailBytes - 22;
  while (at >= 0 && tail.getUint32(at, true) !== END) at--;
  if (at < 0) throw new FormatError("zip: no directory at the end; the file is cut short, or no archive");
  const count = tail.getUint16(at + 10, true);
  const bytes = tail.getUint32(at + 12, true);
  const start = tail.getUint32(at + 16, true);
  const isWide = at >= 20 && tail.getUint32(at - 20, true) === LOCATOR64;
  if (!isWide) return checked(file, { count, start, bytes });
  const wide = viewOf(file, Number(tail.getBigUint64(at - 12, true)), 56);
  if (wide.getUint32(0, true) !== END64) throw new FormatError("zip: its 64-bit directory is damaged");
  return checked(file, {
    count: Number(wide.getBigUint64(32, true)),
    bytes: Number(wide.getBigUint64(40, true)),
    start: Number(wide.getBigUint64(48, true)),
  });
}

function checked<D extends { start: number; bytes: number }>(file: ByteSource, directory: D): D {
  const end = directory.start + directory.bytes;
  if (end > file.bytes)
    throw new FormatError(`zip: the directory ends at byte ${end} of a file of ${file.bytes}`);
  return directory;
}

function viewOf(file: ByteSource, start: number, length: number): DataView {
  if (start < 0 || start + length > file.bytes)
    throw new FormatError(`zip: bytes ${start} to ${start + length} of a file of ${file.bytes}`);
  const bytes = file.read(start, length);
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
