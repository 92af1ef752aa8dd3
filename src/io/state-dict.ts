import { type DType, showShape } from "../array/index.ts";
import type { Parameter } from "../autograd/index.ts";
import { FormatError } from "./format-error.ts";
import type { RawTensor, TensorToWrite } from "./safetensors.ts";
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

/**
 * Writes tensors into parameters of the same names. Strict: one FormatError lists every missing, unexpected,
 * misshapen and otherwise unfit name, and nothing is written. Returns the names that kept their initialisation.
 */
export function loadStateDict(
  parameters: ReadonlyMap<string, Parameter>,
  tensors: ReadonlyMap<string, RawTensor>,
  { what, mayBeAbsent = () => false, mayBeIgnored = () => false, rename = (name) => name }: LoadOptions,
): string[] {
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
  for (const [name, parameter] of parameters) {
    const tensor = found.get(name);
    if (tensor) parameter.write(toHalfBits(tensor, parameter.dtype) ?? Float32Array.from(toFloat32(tensor)));
  }
  return absent;
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
