// The safetensors layout: an 8-byte little-endian header length, a JSON header padded with spaces to a
// multiple of 8, then the raw little-endian data of all tensors without holes. Typed arrays read and write
// the host's byte order; every host with WebGPU is little-endian.
import { float32ToBfloat16, float32ToHalf } from "../array/index.ts";
import { findDuplicateKey } from "./duplicate-key.ts";
import { FormatError } from "./format-error.ts";

/** Bytes of one element. */
export const DTYPE_BYTES = {
  F64: 8,
  I64: 8,
  F32: 4,
  I32: 4,
  U32: 4,
  F16: 2,
  BF16: 2,
  I16: 2,
  U16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
} as const;

export type SafetensorsDtype = keyof typeof DTYPE_BYTES;

const MAX_HEADER_BYTES = 100_000_000;

/** A tensor as it lies in a file: `bytes` are row-major and not always aligned, and may be read anew at each use. */
export interface RawTensor {
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
  /** `length` bytes from `start` on, where they can be read without the rest; perhaps in `into`, which they fit. */
  readonly read?: (start: number, length: number, into?: Uint8Array<ArrayBuffer>) => Uint8Array;
}

export interface Safetensors {
  /** In the order of their data in the file. */
  readonly tensors: Map<string, RawTensor>;
  readonly metadata: Record<string, string>;
}

/** The values of a tensor to write. A `Uint8Array` is taken as the finished little-endian bytes of any dtype. */
export type TensorData =
  | Float32Array
  | Float64Array
  | Int32Array
  | Uint32Array
  | Int16Array
  | Uint16Array
  | Int8Array
  | Uint8Array
  | BigInt64Array;

export interface TensorToWrite {
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly data: TensorData;
}

/**
 * Reads a whole safetensors file. Nothing is copied: the tensors are views of `file`.
 * Refuses what the format forbids with a `FormatError`; unknown fields of a tensor's entry are ignored.
 */
export function decodeSafetensors(file: Uint8Array): Safetensors {
  // A plain view: `slice` of a Node Buffer, a kind of Uint8Array, would not copy.
  const bytes = new Uint8Array(file.buffer, file.byteOffset, file.byteLength);
  return readSafetensors({
    bytes: bytes.length,
    read: (start, length) => bytes.subarray(start, start + length),
  });
}

/** Where bytes come from: a file in memory, or one read in parts. */
export interface ByteSource {
  readonly bytes: number;
  /** `into` may take the bytes. */
  read(start: number, length: number, into?: Uint8Array<ArrayBuffer>): Uint8Array;
}

/**
 * Reads the header of a safetensors file. The bytes of a tensor are read anew each time they are asked for, so that
 * no more than one need be in memory.
 */
export function readSafetensors(file: ByteSource): Safetensors {
  const length = headerLength(file.read(0, Math.min(8, file.bytes)), file.bytes);
  const header = parseHeader(file.read(8, length));
  const start = 8 + length;
  const { __metadata__: metadata, ...entries } = header;
  const infos = Object.entries(entries).map(([name, entry]) => readEntry(name, entry));
  infos.sort((a, b) => a.begin - b.begin || a.end - b.end);
  checkNoHoles(infos, file.bytes - start);
  const tensors = new Map<string, RawTensor>();
  for (const { name, dtype, shape, begin, end } of infos) {
    tensors.set(name, {
      dtype,
      shape,
      get bytes() {
        return file.read(start + begin, end - begin);
      },
      read: (from, length, into) =>
        file.read(start + begin + from, Math.min(length, end - begin - from), into),
    });
  }
  return { tensors, metadata: readMetadata(metadata) };
}

function headerLength(bytes: Uint8Array, fileBytes: number): number {
  if (bytes.length < 8) {
    throw new FormatError(`safetensors: truncated, ${bytes.length} bytes where the header length takes 8`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, 8);
  const length = view.getUint32(4, true) * 2 ** 32 + view.getUint32(0, true);
  if (length > MAX_HEADER_BYTES) {
    throw new FormatError(`safetensors: header of ${length} bytes is too long (at most ${MAX_HEADER_BYTES})`);
  }
  if (8 + length > fileBytes) {
    throw new FormatError(
      `safetensors: truncated, the header ends at byte ${8 + length} of a file of ${fileBytes}; download it again`,
    );
  }
  return length;
}

function parseHeader(bytes: Uint8Array): Record<string, unknown> {
  if (bytes[0] !== 0x7b) {
    const found = bytes.length === 0 ? "nothing" : `byte 0x${(bytes[0] ?? 0).toString(16).padStart(2, "0")}`;
    throw new FormatError(`safetensors: header must start with "{", found ${found}`);
  }
  let text: string;
  let header: unknown;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    header = JSON.parse(text);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new FormatError(`safetensors: header is not valid JSON: ${reason}`, { cause });
  }
  const twice = findDuplicateKey(text);
  if (twice !== null) throw new FormatError(`safetensors: key "${twice}" occurs twice in one object`);
  // A text that starts with "{" and parses is an object.
  return header as Record<string, unknown>;
}

function readMetadata(metadata: unknown): Record<string, string> {
  if (metadata === undefined) return {};
  if (!isRecord(metadata)) throw new FormatError("safetensors: __metadata__ is not an object");
  for (const [key, value] of Object.entries(metadata)) {
    if (typeof value !== "string") {
      throw new FormatError(`safetensors: metadata "${key}" is ${JSON.stringify(value)}, not a string`);
    }
  }
  return metadata as Record<string, string>; // every value has just been looked at
}

interface TensorInfo {
  readonly name: string;
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

function readEntry(name: string, entry: unknown): TensorInfo {
  if (!isRecord(entry)) throw new FormatError(`safetensors: entry of "${name}" is not an object`);
  const { dtype, shape, data_offsets: offsets } = entry;
  if (!isDtype(dtype)) {
    throw new FormatError(
      `safetensors: "${name}" has unknown dtype ${JSON.stringify(dtype)}; known: ${Object.keys(DTYPE_BYTES).join(", ")}`,
    );
  }
  if (!isSizes(shape)) {
    throw new FormatError(
      `safetensors: "${name}" has shape ${JSON.stringify(shape)}; sizes are whole numbers from 0`,
    );
  }
  if (!isSizes(offsets) || offsets.length !== 2) {
    throw new FormatError(
      `safetensors: "${name}" has data_offsets ${JSON.stringify(offsets)}, not two whole numbers from 0`,
    );
  }
  const [begin = 0, end = 0] = offsets;
  const wanted = elementCount(shape) * DTYPE_BYTES[dtype];
  if (end - begin !== wanted) {
    throw new FormatError(
      `safetensors: "${name}" ${dtype} [${shape.join(", ")}] takes ${wanted} bytes, ` +
        `data_offsets [${begin}, ${end}] hold ${end - begin}`,
    );
  }
  return { name, dtype, shape, begin, end };
}

function checkNoHoles(infos: readonly TensorInfo[], dataBytes: number): void {
  let covered = 0;
  let before = "the header";
  for (const { name, begin, end } of infos) {
    if (end > dataBytes) {
      throw new FormatError(
        `safetensors: "${name}" ends at byte ${end}, outside the file's ${dataBytes} bytes of data: it is cut short, download it again`,
      );
    }
    if (begin !== covered) {
      const what = begin > covered ? `leaves a hole after ${before}` : `overlaps ${before}`;
      throw new FormatError(`safetensors: "${name}" ${what}: begins at byte ${begin}, expected ${covered}`);
    }
    covered = end;
    before = `"${name}"`;
  }
  if (covered !== dataBytes) {
    throw new FormatError(
      `safetensors: ${dataBytes - covered} bytes after ${before} belong to no tensor (${covered} of ${dataBytes})`,
    );
  }
}

/**
 * Lays out a safetensors file: header keys and data in the order given, header padded with spaces to a multiple
 * of 8. F16 and BF16 are rounded from a Float32Array to nearest even, or taken as bits from a Uint16Array.
 * A finite value that F16 cannot hold throws a `FormatError` with the tensor's name and the value.
 * Python's loaders expect `{ format: "pt" }` as metadata.
 */
export function encodeSafetensors(
  tensors: Iterable<readonly [name: string, tensor: TensorToWrite]>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  const entries = Array.from(tensors);
  const header = safetensorsHeader(entries, metadata);
  const pieces = entries.map(([name, tensor]) => tensorBytes(name, tensor));
  const file = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, header.length));
  file.set(header);
  let position = header.length;
  for (const piece of pieces) {
    file.set(piece, position);
    position += piece.length;
  }
  return file;
}

/** What a safetensors file begins with, before the data of the tensors in the order given. */
export function safetensorsHeader(
  tensors: Iterable<readonly [name: string, tensor: Pick<TensorToWrite, "dtype" | "shape">]>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  // Joined by hand: an object would move keys that look like integers to the front.
  const fields: string[] = [];
  if (Object.keys(metadata).length > 0) fields.push(`"__metadata__":${JSON.stringify(metadata)}`);
  const names = new Set(["__metadata__"]);
  let offset = 0;
  for (const [name, { dtype, shape }] of tensors) {
    if (names.has(name)) throw new FormatError(`safetensors: name "${name}" is already taken`);
    names.add(name);
    checkSizes(name, shape);
    const end = offset + elementCount(shape) * DTYPE_BYTES[dtype];
    fields.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [offset, end] })}`);
    offset = end;
  }
  const header = new TextEncoder().encode(`{${fields.join(",")}}`);
  const headerBytes = Math.ceil(header.length / 8) * 8;
  if (headerBytes > MAX_HEADER_BYTES) {
    throw new FormatError(
      `safetensors: header of ${headerBytes} bytes is too long (at most ${MAX_HEADER_BYTES})`,
    );
  }
  const start = new Uint8Array(8 + headerBytes).fill(0x20);
  new DataView(start.buffer).setBigUint64(0, BigInt(headerBytes), true);
  start.set(header, 8);
  return start;
}

function checkSizes(name: string, shape: readonly number[]): void {
  if (!shape.every(isSize)) {
    throw new FormatError(
      `safetensors: "${name}" has shape [${shape.join(", ")}]; sizes are whole numbers from 0`,
    );
  }
}

function tensorBytes(name: string, { dtype, shape, data }: TensorToWrite): Uint8Array {
  const stored = storedData(name, dtype, data);
  const bytes = new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength);
  const wanted = elementCount(shape) * DTYPE_BYTES[dtype];
  if (bytes.length !== wanted) {
    throw new FormatError(
      `safetensors: "${name}" ${dtype} [${shape.join(", ")}] takes ${wanted} bytes, its data has ${bytes.length}`,
    );
  }
  return bytes;
}

const STORED_AS = {
  F64: Float64Array,
  I64: BigInt64Array,
  F32: Float32Array,
  I32: Int32Array,
  U32: Uint32Array,
  F16: Uint16Array,
  BF16: Uint16Array,
  I16: Int16Array,
  U16: Uint16Array,
  I8: Int8Array,
  U8: Uint8Array,
  BOOL: Uint8Array,
} as const satisfies Record<SafetensorsDtype, unknown>;

function storedData(name: string, dtype: SafetensorsDtype, data: TensorData): TensorData {
  if (data instanceof Uint8Array || data instanceof STORED_AS[dtype]) return data;
  if (data instanceof Float32Array && dtype === "BF16") return float32ToBfloat16(data);
  if (data instanceof Float32Array && dtype === "F16") {
    try {
      return float32ToHalf(data);
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new FormatError(`safetensors: "${name}" does not fit F16: ${reason}`, { cause });
    }
  }
  throw new FormatError(`safetensors: "${name}" ${dtype} cannot be written from a ${data.constructor.name}`);
}

export function elementCount(shape: readonly number[]): number {
  let count = 1;
  for (const size of shape) count *= size;
  return count;
}

function isSizes(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every(isSize);
}

function isSize(value: unknown): boolean {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function isDtype(value: unknown): value is SafetensorsDtype {
  return typeof value === "string" && Object.hasOwn(DTYPE_BYTES, value);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
