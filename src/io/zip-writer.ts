// An archive of stored entries as PyTorch writes it: each entry's data begins at a multiple of 64 bytes.
import { FormatError } from "./format-error.ts";

const LOCAL = 0x04034b50;
const CENTRAL = 0x02014b50;
const END = 0x06054b50;
const LOCAL_BYTES = 30;
const CENTRAL_BYTES = 46;
const END_BYTES = 22;
/** Id of the extra field that fills up to the alignment: "FB", as PyTorch has it. */
const FILLER = 0x4246;
const ALIGNMENT = 64;
/** 1980-01-01, the earliest date there is: the same bytes every time. */
const DATE = 0x21;

export interface ZipContent {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** An archive of files, stored as they are. Below 4 GiB: no 64-bit fields are written. */
export function zipArchive(files: readonly ZipContent[]): Uint8Array<ArrayBuffer> {
  const entries: {
    readonly name: Uint8Array;
    readonly content: ZipContent;
    readonly start: number;
    readonly filler: number;
  }[] = [];
  let at = 0;
  for (const content of files) {
    const name = new TextEncoder().encode(content.name);
    const plain = at + LOCAL_BYTES + name.length + 4;
    const filler = 4 + ((ALIGNMENT - (plain % ALIGNMENT)) % ALIGNMENT);
    entries.push({ name, content, start: at, filler });
    at += LOCAL_BYTES + name.length + filler + content.bytes.length;
  }
  const directoryBytes = entries.reduce((sum, { name }) => sum + CENTRAL_BYTES + name.length, 0);
  const total = at + directoryBytes + END_BYTES;
  if (total > 0xffffffff)
    throw new FormatError(`zip: ${total} bytes, at most 4294967295 are written; write safetensors`);
  const archive = new Uint8Array(total);
  const view = new DataView(archive.buffer);
  let directory = at;
  for (const { name, content, start, filler } of entries) {
    const crc = crc32(content.bytes);
    view.setUint32(start, LOCAL, true);
    writeCommon(view, start + 4, {
      crc,
      size: content.bytes.length,
      nameBytes: name.length,
      extraBytes: filler,
    });
    archive.set(name, start + LOCAL_BYTES);
    const extra = start + LOCAL_BYTES + name.length;
    view.setUint16(extra, FILLER, true);
    view.setUint16(extra + 2, filler - 4, true);
    archive.set(content.bytes, extra + filler);
    view.setUint32(directory, CENTRAL, true);
    view.setUint16(directory + 4, 20, true);
    writeCommon(view, directory + 6, {
      crc,
      size: content.bytes.length,
      nameBytes: name.length,
      extraBytes: 0,
    });
    view.setUint32(directory + 42, start, true);
    archive.set(name, directory + CENTRAL_BYTES);
    directory += CENTRAL_BYTES + name.length;
  }
  view.setUint32(directory, END, true);
  view.setUint16(directory + 8, entries.length, true);
  view.setUint16(directory + 10, entries.length, true);
  view.setUint32(directory + 12, directoryBytes, true);
  view.setUint32(directory + 16, at, true);
  return archive;
}

/** The fields that both headers of an entry have in the same order, from "version needed" on. */
function writeCommon(
  view: DataView,
  at: number,
  { crc, size, nameBytes, extraBytes }: { crc: number; size: number; nameBytes: number; extraBytes: number },
): void {
  view.setUint16(at, 20, true);
  view.setUint16(at + 8, DATE, true);
  view.setUint32(at + 10, crc, true);
  view.setUint32(at + 14, size, true);
  view.setUint32(at + 18, size, true);
  view.setUint16(at + 22, nameBytes, true);
  view.setUint16(at + 24, extraBytes, true);
}

const TABLE = Uint32Array.from({ length: 256 }, (_, i) => {
  let c = i;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

function crc32(bytes: Uint8Array): number {
  let c = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) c = (TABLE[(c ^ (bytes[i] ?? 0)) & 0xff] ?? 0) ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}
