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

/** An entry and where it lies. */
interface Placed {
  readonly name: Uint8Array;
  readonly bytes: Uint8Array;
  readonly crc: number;
  readonly start: number;
  /** Bytes of the extra field in front of the data. */
  readonly extra: number;
}

/** An archive of files, stored as they are. Below 4 GiB: no 64-bit fields are written. */
export function zipArchive(files: readonly ZipContent[]): Uint8Array<ArrayBuffer> {
  const entries = placed(files);
  const last = entries.at(-1);
  const start = last ? endOf(last) : 0;
  const directoryBytes = entries.reduce((sum, { name }) => sum + CENTRAL_BYTES + name.length, 0);
  const total = start + directoryBytes + END_BYTES;
  if (total > 0xffffffff)
    throw new FormatError(`zip: ${total} bytes, at most 4294967295 are written; write safetensors`);
  const archive = new Uint8Array(total);
  const view = new DataView(archive.buffer);
  let at = start;
  for (const entry of entries) {
    writeEntry(archive, view, entry);
    at = writeCentral(archive, view, entry, at);
  }
  view.setUint32(at, END, true);
  view.setUint16(at + 8, entries.length, true);
  view.setUint16(at + 10, entries.length, true);
  view.setUint32(at + 12, directoryBytes, true);
  view.setUint32(at + 16, start, true);
  return archive;
}

function placed(files: readonly ZipContent[]): Placed[] {
  const entries: Placed[] = [];
  let start = 0;
  for (const { name: text, bytes } of files) {
    const name = new TextEncoder().encode(text);
    const plain = start + LOCAL_BYTES + name.length + 4;
    const extra = 4 + ((ALIGNMENT - (plain % ALIGNMENT)) % ALIGNMENT);
    const entry = { name, bytes, crc: crc32(bytes), start, extra };
    entries.push(entry);
    start = endOf(entry);
  }
  return entries;
}

function endOf({ name, bytes, start, extra }: Placed): number {
  return start + LOCAL_BYTES + name.length + extra + bytes.length;
}

function writeEntry(archive: Uint8Array, view: DataView, entry: Placed): void {
  const { name, bytes, start, extra } = entry;
  view.setUint32(start, LOCAL, true);
  writeCommon(view, start + 4, entry, extra);
  archive.set(name, start + LOCAL_BYTES);
  const filler = start + LOCAL_BYTES + name.length;
  view.setUint16(filler, FILLER, true);
  view.setUint16(filler + 2, extra - 4, true);
  archive.set(bytes, filler + extra);
}

/** The entry's line in the directory, at `at`; returns where the next one begins. */
function writeCentral(archive: Uint8Array, view: DataView, entry: Placed, at: number): number {
  view.setUint32(at, CENTRAL, true);
  view.setUint16(at + 4, 20, true);
  writeCommon(view, at + 6, entry, 0);
  view.setUint32(at + 42, entry.start, true);
  archive.set(entry.name, at + CENTRAL_BYTES);
  return at + CENTRAL_BYTES + entry.name.length;
}

/** The fields that both headers of an entry have in the same order, from "version needed" on. */
function writeCommon(view: DataView, at: number, { crc, bytes, name }: Placed, extra: number): void {
  view.setUint16(at, 20, true);
  view.setUint16(at + 8, DATE, true);
  view.setUint32(at + 10, crc, true);
  view.setUint32(at + 14, bytes.length, true);
  view.setUint32(at + 18, bytes.length, true);
  view.setUint16(at + 22, name.length, true);
  view.setUint16(at + 24, extra, true);
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
