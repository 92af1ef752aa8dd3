import { type DType, float32ToHalf, type HalfType, showShape } from "../array/index.ts";
import type { Parameter } from "../autograd/index.ts";
import { FormatError } from "./format-error.ts";
import { DTYPE_BYTES, elementCount, type RawTensor, type TensorToWrite } from "./safetensors.ts";
import { toFloat32, toHalfBits } from "./tensor-values.ts";

const STORED: Partial<Record<DType, "F32" | "F16" | "BF16">> = { f32: "F32", f16: "F16", bf16: "BF16" };
const FLOATING: readonly string[] = ["F64", "F32", "F16", "BF16"];

export interface LoadOptions {
  /** What is loaded, for messages: a file or a model. */
  readonly what: string;
  /** Names that may be missing: they keep their initialisation. */
  readonly mayBeAbsent?: (name: string) => boolean;
  /** Names of the file that may be left over. */
  readonly mayBeIgnored?: (name: string) => boolean;
  /** The name of a file's tensor under which the model knows it. */
  readonly rename?: (name: string) => string;
}

/** Parameters with the tensors that they are loaded from, and the names that keep their initialisation. */
interface Matched {
  readonly pairs: readonly (readonly [name: string, parameter: Parameter, tensor: RawTensor])[];
  readonly absent: string[];
}

/**
 * Writes tensors into parameters of the same names. Strict: one FormatError lists every missing, unexpected,
 * misshapen and otherwise unfit name, and nothing is written. Returns the names that kept their initialisation.
 */
export function loadStateDict(
  parameters: ReadonlyMap<string, Parameter>,
  tensors: ReadonlyMap<string, RawTensor>,
  options: LoadOptions,
): string[] {
  const { pairs, absent } = match(parameters, tensors, options);
  for (const [, parameter, tensor] of pairs)
    parameter.write(toHalfBits(tensor, parameter.dtype) ?? new Float32Array(toFloat32(tensor)));
  return absent;
}

export interface StreamOptions extends LoadOptions {
  /** The type that a parameter is stored in. Default: the one it has. */
  readonly dtypeOf?: (name: string, parameter: Parameter) => HalfType | "f32";
  readonly onProgress?: (progress: { readonly bytes: number; readonly totalBytes: number }) => void;
}

const PART_BYTES = 2 << 20;
/** Uploads on their way to the device: the driver holds a copy of each. */
const PARTS_AHEAD = 4;

/**
 * loadStateDict for large files: tensors are read, converted and uploaded in parts of a few megabytes, and the device
 * is waited for, so that the host never holds a whole tensor. Halves of a file keep their bits in parameters of the
 * same type.
 */
export async function streamStateDict(
  parameters: ReadonlyMap<string, Parameter>,
  tensors: ReadonlyMap<string, RawTensor>,
  options: StreamOptions,
): Promise<string[]> {
  const { pairs, absent } = match(parameters, tensors, options);
  const { dtypeOf = (_, { dtype }) => dtype as HalfType | "f32", onProgress, what } = options;
  const totalBytes = pairs.reduce((sum, [, , tensor]) => sum + byteLength(tensor), 0);
  // One for all parts: the collector is in no hurry to free a new one for each.
  const buffer = new Uint8Array(PART_BYTES);
  let bytes = 0;
  let parts = 0;
  for (const [name, parameter, tensor] of pairs) {
    const { recorder } = parameter.gpu.device;
    try {
      const writer = parameter.partWriter(dtypeOf(name, parameter));
      for (const part of partsOf(tensor, buffer)) {
        writer.write(toHalfBits(part, writer.dtype) ?? converted(part, writer.dtype));
        bytes += part.bytes.length;
        onProgress?.({ bytes, totalBytes });
        if (++parts % PARTS_AHEAD === 0) await recorder.throttle();
      }
      writer.end();
    } catch (error) {
      if (!(error instanceof RangeError || error instanceof FormatError)) throw error;
      throw new FormatError(`load ${what}: ${name}: ${error.message}`, { cause: error });
    }
  }
  return absent;
}

function byteLength({ dtype, shape }: RawTensor): number {
  return elementCount(shape) * DTYPE_BYTES[dtype];
}

/** A tensor in parts of PART_BYTES, each a vector that lives until the next one is read into `buffer`. */
function* partsOf(tensor: RawTensor, buffer: Uint8Array<ArrayBuffer>): Iterable<RawTensor> {
  const { dtype } = tensor;
  const total = byteLength(tensor);
  const whole = tensor.read ? null : tensor.bytes;
  for (let start = 0; start < total; start += PART_BYTES) {
    const length = Math.min(PART_BYTES, total - start);
    const bytes = tensor.read?.(start, length, buffer) ?? whole?.subarray(start, start + length);
    if (bytes) yield { dtype, shape: [length / DTYPE_BYTES[dtype]], bytes };
  }
}

/** Floats for a parameter of a type; a value that the type cannot hold throws. */
function converted(part: RawTensor, dtype: DType): Float32Array | Uint16Array {
  const values = toFloat32(part);
  return dtype === "f16" ? float32ToHalf(values) : values;
}

function match(
  parameters: ReadonlyMap<string, Parameter>,
  tensors: ReadonlyMap<string, RawTensor>,
  { what, mayBeAbsent = () => false, mayBeIgnored = () => false, rename = (name) => name }: LoadOptions,
): Matched {
  const found = new Map<string, RawTensor>();
  const repeated: string[] = [];
  for (const [original, tensor] of tensors) {
    const name = rename(original);
    if (found.has(name)) repeated.push(`${name} (again as ${original})`);
    found.set(name, tensor);
  }
  const absent = [...parameters.keys()].filter((name) => !found.has(name));
  const missing = absent.filter((name) => !mayBeAbsent(name));
  const unexpected = [...found.keys()].filter((name) => !parameters.has(name) && !mayBeIgnored(name));
  const misshapen: string[] = [];
  const whole: string[] = [];
  for (const [name, parameter] of parameters) {
    const tensor = found.get(name);
    if (!tensor) continue;
    if (showShape(tensor.shape) !== showShape(parameter.shape)) {
      misshapen.push(`${name} ${showShape(tensor.shape)} vs ${showShape(parameter.shape)} of the model`);
    }
    if (!FLOATING.includes(tensor.dtype)) whole.push(`${name} ${tensor.dtype}`);
  }
  const faults = [
    describe("missing", missing),
    describe("unexpected", unexpected),
    describe("of other shape", misshapen),
    describe("not of floating point", whole),
    describe("under a name already taken", repeated),
  ];
  const message = faults.filter((fault) => fault !== "").join("; ");
  if (message !== "") throw new FormatError(`load ${what}: ${message}`);
  const pairs: [string, Parameter, RawTensor][] = [];
  for (const [name, parameter] of parameters) {
    const tensor = found.get(name);
    if (tensor) pairs.push([name, parameter, tensor]);
  }
  return { pairs, absent };
}

function describe(fault: string, names: readonly string[]): string {
  return names.length === 0 ? "" : `${names.length} ${fault}: ${names.join(", ")}`;
}

/** Reads parameters back, ready for encodeSafetensors: each in the type that it is stored in, or all in another. */
export async function readStateDict(
  parameters: Iterable<readonly [string, Parameter]>,
  dtype: "F32" | "F16" | "BF16" | "stored" = "stored",
): Promise<[string, TensorToWrite][]> {
  const entries: [string, TensorToWrite][] = [];
  for (const [name, parameter] of parameters) {
    const own = STORED[parameter.dtype];
    if (!own) throw new FormatError(`save: ${name} is ${parameter.dtype}, not floating point`);
    const data = (await parameter.data()) as Float32Array;
    entries.push([name, { dtype: dtype === "stored" ? own : dtype, shape: parameter.shape, data }]);
  }
  return entries;
}
