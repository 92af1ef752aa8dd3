// Weights that PyTorch's torch.save wrote: a zip archive of a pickle and of raw storages. Read as data, see pickle.ts.
import { FormatError } from "./format-error.ts";
import { isGlobal, type PickleObject, type PickleValue, readPickle } from "./pickle.ts";
import { type ByteSource, elementCount, type RawTensor, type SafetensorsDtype } from "./safetensors.ts";
import { type ZipEntry, zipEntries } from "./zip.ts";

const STORAGES: Readonly<Record<string, { readonly dtype: SafetensorsDtype; readonly bytes: number }>> = {
  "torch.DoubleStorage": { dtype: "F64", bytes: 8 },
  "torch.FloatStorage": { dtype: "F32", bytes: 4 },
  "torch.HalfStorage": { dtype: "F16", bytes: 2 },
  "torch.BFloat16Storage": { dtype: "BF16", bytes: 2 },
  "torch.LongStorage": { dtype: "I64", bytes: 8 },
  "torch.IntStorage": { dtype: "I32", bytes: 4 },
  "torch.ShortStorage": { dtype: "I16", bytes: 2 },
  "torch.CharStorage": { dtype: "I8", bytes: 1 },
  "torch.ByteStorage": { dtype: "U8", bytes: 1 },
  "torch.BoolStorage": { dtype: "BOOL", bytes: 1 },
};

/** A storage of the archive; tensors are views of it. */
class TorchStorage {
  readonly dtype: SafetensorsDtype;
  readonly itemBytes: number;
  readonly entry: ZipEntry;

  constructor(dtype: SafetensorsDtype, itemBytes: number, entry: ZipEntry) {
    this.dtype = dtype;
    this.itemBytes = itemBytes;
    this.entry = entry;
  }
}

/** A tensor found in the pickle. */
class TorchTensor {
  readonly raw: RawTensor;

  constructor(raw: RawTensor) {
    this.raw = raw;
  }
}

/**
 * The tensors of a `.bin`, `.pt` or `.ckpt` file by name; those of nested dictionaries under dotted names
 * (`model_state_dict.a.weight`). Their bytes are read when they are asked for. What is no tensor is left out. A file
 * that wants anything but tensors and plain values is refused with the name of what it wants.
 */
export function readPytorch(file: ByteSource): Map<string, RawTensor> {
  refuseOldFormats(file);
  const entries = zipEntries(file);
  const pickle = [...entries.values()].find(({ name }) => name === "data.pkl" || name.endsWith("/data.pkl"));
  if (!pickle)
    throw new FormatError("pytorch: the archive holds no data.pkl; it is none that torch.save wrote");
  const folder = pickle.name.slice(0, -"data.pkl".length);
  checkByteOrder(file, entries.get(`${folder}byteorder`));
  const root = readPickle(file.read(pickle.start, pickle.bytes), {
    globals: {
      ...Object.fromEntries(Object.keys(STORAGES).map((name) => [name, null])),
      "collections.OrderedDict": ([items]) => new Map(pairs(items)),
      "torch._utils._rebuild_tensor_v2": (args) => made(rebuildTensor(file, args)),
      "torch._utils._rebuild_parameter": ([tensor]) => tensor ?? null,
      "torch.Size": ([sizes]) => sizes ?? [],
    },
    persistent: (id) => made(storageOf(entries, folder, id)),
  });
  const tensors = new Map<string, RawTensor>();
  collect("", root, tensors);
  if (tensors.size === 0) throw new FormatError("pytorch: the file holds no tensors");
  return tensors;
}

function refuseOldFormats(file: ByteSource): void {
  const head = file.read(0, Math.min(4, file.bytes));
  if (head[0] === 0x50 && head[1] === 0x4b) return;
  if (head[0] === 0x80)
    throw new FormatError(
      "pytorch: a file of torch.save before 1.6; load it in Python and save it again, best as safetensors",
    );
  throw new FormatError("pytorch: neither a zip archive nor a pickle; torch.save did not write this");
}

function checkByteOrder(file: ByteSource, entry: ZipEntry | undefined): void {
  const order = entry ? new TextDecoder().decode(file.read(entry.start, entry.bytes)) : "little";
  if (order !== "little") throw new FormatError(`pytorch: its byte order is ${order}, expected little`);
}

function made(value: unknown): PickleObject {
  return { made: value };
}

function pairs(items: PickleValue | undefined): [PickleValue, PickleValue][] {
  if (items === undefined) return [];
  if (items instanceof Map) return [...items];
  if (!Array.isArray(items)) throw new FormatError("pytorch: an OrderedDict of what is no list");
  return items.map((pair) => {
    if (!Array.isArray(pair) || pair.length !== 2)
      throw new FormatError("pytorch: an OrderedDict of no pairs");
    return [pair[0] as PickleValue, pair[1] as PickleValue];
  });
}

/** ("storage", type, key, location, elements) -> the archive's entry of that key. */
function storageOf(entries: ReadonlyMap<string, ZipEntry>, folder: string, id: PickleValue): TorchStorage {
  const [kind, type, key, , elements] = Array.isArray(id) ? id : [];
  const known = type !== undefined && isGlobal(type) ? STORAGES[type.global] : undefined;
  if (kind !== "storage" || !known || typeof key !== "string" || typeof elements !== "number")
    throw new FormatError(`pytorch: a persistent id that is no storage: ${JSON.stringify(id)}`);
  const entry = entries.get(`${folder}data/${key}`);
  if (!entry) throw new FormatError(`pytorch: the archive lacks ${folder}data/${key}`);
  if (entry.bytes < elements * known.bytes)
    throw new FormatError(
      `pytorch: storage ${key} has ${entry.bytes} bytes, ${elements} elements take ${elements * known.bytes}`,
    );
  return new TorchStorage(known.dtype, known.bytes, entry);
}

/** (storage, offset, sizes, strides, ...) -> a tensor whose bytes are gathered row-major. */
function rebuildTensor(file: ByteSource, args: readonly PickleValue[]): TorchTensor {
  const [holder, offset, sizes, strides] = args;
  const storage = typeof holder === "object" && holder !== null && "made" in holder ? holder.made : null;
  if (
    !(storage instanceof TorchStorage) ||
    typeof offset !== "number" ||
    !isSizes(sizes) ||
    !isSizes(strides)
  )
    throw new FormatError("pytorch: a tensor without storage, offset, sizes or strides");
  const { dtype, itemBytes, entry } = storage;
  const count = elementCount(sizes);
  let last = offset;
  for (const [i, n] of sizes.entries()) last += (n - 1) * (strides[i] ?? 0);
  if (count > 0 && (last + 1) * itemBytes > entry.bytes)
    throw new FormatError(
      `pytorch: a tensor [${sizes.join(", ")}] ends at element ${last}, beyond its storage of ${entry.bytes} bytes`,
    );
  const start = entry.start + offset * itemBytes;
  const length = count * itemBytes;
  if (isContiguous(sizes, strides)) {
    return new TorchTensor({
      dtype,
      shape: sizes,
      get bytes() {
        return file.read(start, length);
      },
      read: (from, n) => file.read(start + from, Math.min(n, length - from)),
    });
  }
  return new TorchTensor({
    dtype,
    shape: sizes,
    get bytes() {
      return gather(file.read(entry.start, entry.bytes), itemBytes, offset, sizes, strides);
    },
  });
}

function isContiguous(sizes: readonly number[], strides: readonly number[]): boolean {
  let stride = 1;
  for (let i = sizes.length - 1; i >= 0; i--) {
    if (sizes[i] !== 1 && strides[i] !== stride) return false;
    stride *= sizes[i] ?? 1;
  }
  return true;
}

function gather(
  source: Uint8Array,
  itemBytes: number,
  offset: number,
  sizes: readonly number[],
  strides: readonly number[],
): Uint8Array {
  const count = elementCount(sizes);
  const target = new Uint8Array(count * itemBytes);
  const index = new Array<number>(sizes.length).fill(0);
  let from = offset;
  for (let i = 0; i < count; i++) {
    for (let b = 0; b < itemBytes; b++) target[i * itemBytes + b] = source[from * itemBytes + b] ?? 0;
    for (let d = sizes.length - 1; d >= 0; d--) {
      const stride = strides[d] ?? 0;
      const next = (index[d] ?? 0) + 1;
      from += stride;
      index[d] = next;
      if (next < (sizes[d] ?? 0)) break;
      from -= next * stride;
      index[d] = 0;
    }
  }
  return target;
}

function isSizes(value: PickleValue | undefined): value is readonly number[] {
  return Array.isArray(value) && value.every((n) => typeof n === "number" && Number.isInteger(n) && n >= 0);
}

function collect(path: string, value: PickleValue, tensors: Map<string, RawTensor>): void {
  if (value instanceof Map) {
    for (const [key, item] of value)
      collect(path === "" ? String(key) : `${path}.${String(key)}`, item, tensors);
  } else if (typeof value === "object" && value !== null && "made" in value) {
    if (value.made instanceof TorchTensor) tensors.set(path, value.made.raw);
  }
}
