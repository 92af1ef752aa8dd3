// A file that torch.load reads, with weights_only too: a zip archive of a pickle and of one storage for each tensor.
import { FormatError } from "./format-error.ts";
import { elementCount } from "./safetensors.ts";
import { zipArchive } from "./zip-writer.ts";

export interface FloatTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** Pickle opcodes of protocol 2. */
const OP = {
  protocol: "\x80\x02",
  emptyDict: "}",
  emptyTuple: ")",
  mark: "(",
  tuple: "t",
  setItems: "u",
  global: "c",
  reduce: "R",
  persistentId: "Q",
  int: "J",
  text: "X",
  no: "\x89",
  stop: ".",
} as const;

/** A dictionary of f32 tensors by name, as torch.save writes it. */
export function encodePytorch(tensors: Iterable<readonly [string, FloatTensor]>): Uint8Array<ArrayBuffer> {
  const entries = [...tensors];
  const pickle = new Pickle();
  pickle.add(OP.protocol + OP.emptyDict + OP.mark);
  for (const [i, [name, tensor]] of entries.entries()) {
    pickle.text(name);
    addTensor(pickle, String(i), name, tensor);
  }
  pickle.add(OP.setItems + OP.stop);
  const text = (value: string): Uint8Array => new TextEncoder().encode(value);
  return zipArchive([
    { name: "archive/data.pkl", bytes: pickle.bytes() },
    { name: "archive/byteorder", bytes: text("little") },
    ...entries.map(([, { data }], i) => ({
      name: `archive/data/${i}`,
      bytes: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
    })),
    { name: "archive/version", bytes: text("3\n") },
  ]);
}

/** torch._utils._rebuild_tensor_v2(storage, 0, sizes, strides, requires_grad, hooks). */
function addTensor(pickle: Pickle, key: string, name: string, { shape, data }: FloatTensor): void {
  if (elementCount(shape) !== data.length)
    throw new FormatError(`pytorch: "${name}" [${shape.join(", ")}] has ${data.length} values`);
  pickle.global("torch._utils", "_rebuild_tensor_v2");
  pickle.add(OP.mark + OP.mark);
  pickle.text("storage");
  pickle.global("torch", "FloatStorage");
  pickle.text(key);
  pickle.text("cpu");
  pickle.int(data.length);
  pickle.add(OP.tuple + OP.persistentId);
  pickle.int(0);
  pickle.ints(shape);
  pickle.ints(shape.map((_, i) => elementCount(shape.slice(i + 1))));
  pickle.add(OP.no);
  pickle.global("collections", "OrderedDict");
  pickle.add(OP.emptyTuple + OP.reduce + OP.tuple + OP.reduce);
}

/** Bytes of a pickle that is being written. */
class Pickle {
  readonly #parts: Uint8Array[] = [];

  /** Opcodes, one for each character. */
  add(codes: string): void {
    this.#parts.push(Uint8Array.from(codes, (code) => code.charCodeAt(0)));
  }

  text(value: string): void {
    const bytes = new TextEncoder().encode(value);
    this.add(OP.text);
    this.#word(bytes.length);
    this.#parts.push(bytes);
  }

  int(value: number): void {
    if (value > 0x7fffffff) throw new FormatError(`pytorch: ${value} elements do not fit 32 bits`);
    this.add(OP.int);
    this.#word(value);
  }

  ints(values: readonly number[]): void {
    this.add(OP.mark);
    for (const value of values) this.int(value);
    this.add(OP.tuple);
  }

  global(module: string, name: string): void {
    this.add(`${OP.global}${module}\n${name}\n`);
  }

  bytes(): Uint8Array {
    const bytes = new Uint8Array(this.#parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of this.#parts) {
      bytes.set(part, at);
      at += part.length;
    }
    return bytes;
  }

  #word(value: number): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    this.#parts.push(bytes);
  }
}
