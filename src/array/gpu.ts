import {
  type Binding,
  checkGrid,
  Device,
  GpuError,
  type Grid,
  type KernelSpec,
  type MatrixSizes,
  type ParamValue,
  type PoolBuffer,
  type ScratchTexture,
  ShapeError,
  type Work,
} from "../gpu/index.ts";
import { chunkBytesFor } from "./chunks.ts";
import {
  bytesOf,
  checkDType,
  type DType,
  decode,
  dtypeOf,
  encode,
  type HostArray,
  type TypedArray,
} from "./dtype.ts";
import { GpuArray, Storage } from "./gpu-array.ts";
import { checkHostArray } from "./host-values.ts";
import { lastOf, MAX_RANK, type Shape, showShape, sizeOf } from "./shape.ts";

export interface GpuOptions {
  /** Variants of kernels: for GPUs (workgroup memory) or for software adapters (no barriers). Default: the device's. */
  readonly kernels?: "hardware" | "software";
  /** Largest binding in bytes, at most the device's, which is the default. Longer arrays are cut into chunks. */
  readonly maxBindingBytes?: number;
  /** Matrices of subgroups for operands in f16; null: none. Default: the device's. */
  readonly matrices?: MatrixSizes | null;
  /** false: kernels for GPUs do without subgroups. Default: whether the device has them. */
  readonly subgroups?: boolean;
}

/** Where the gradients of an op's inputs belong. What is taken is what the op gives as that gradient. */
export interface GradientPlaces {
  /** The place of input `i`'s gradient in an optimiser's arena where it holds nothing yet, else null. It is to be written. */
  takePlace(i: number): GpuArray | null;
  /** What has been collected of input `i`'s gradient so far, where it may be added to in place, else null. */
  takeTotal(i: number): GpuArray | null;
}

export interface ScopeOptions {
  /** See emptyFor. */
  readonly places?: GradientPlaces | null;
  /** What runs, for the profiler and the tracer. */
  readonly op?: string | null;
}

/**
 * What an op is handed: it makes arrays and runs kernels on one device.
 *
 * Arrays made while an op runs belong to the op's scope: what the op does not return or save goes back
 * to the pool when it ends, so that an op frees nothing itself.
 */
export class Gpu {
  readonly device: Device;
  /** Whether kernels without barriers are taken. */
  readonly isSoftware: boolean;
  /** Largest binding, in bytes: a multiple of the device's alignment. */
  readonly maxBindingBytes: number;
  /** Matrices of subgroups that products with operands in f16 are made of; null: none. */
  readonly matrices: MatrixSizes | null;
  /** Whether kernels for GPUs may use subgroups, of whatever size. */
  readonly hasSubgroups: boolean;
  #scope: GpuArray[] | null = null;
  #places: GradientPlaces | null = null;
  #dummy: GpuArray | null = null;
  /** Of ever greater length. The shorter ones stay: captured steps may use them. */
  readonly #ones: GpuArray[] = [];

  constructor(device: Device, options: GpuOptions = {}) {
    const { kernels = device.traits.kernels, matrices = device.traits.matrices, maxBindingBytes } = options;
    this.device = device;
    this.isSoftware = kernels === "software";
    this.matrices = this.isSoftware ? null : matrices;
    this.hasSubgroups = (options.subgroups ?? true) && device.traits.features.has("subgroups");
    const { alignment, maxBindingBytes: most } = device.traits;
    const wanted = Math.max(Math.min(maxBindingBytes ?? most, most), alignment);
    this.maxBindingBytes = Math.floor(wanted / alignment) * alignment;
  }

  get subgroupSize(): number {
    return this.device.traits.subgroupSize;
  }

  /**
   * An array with undefined contents. Where it takes several chunks, they end between rows of `rowLength` elements
   * (as far as rows are short enough, see chunks.ts): the last dimension, or one element of a vector.
   */
  empty(shape: Shape, dtype: DType = "f32", rowLength = shape.length > 1 ? lastOf(shape) : 1): GpuArray {
    return this.#checked(shape, dtype, rowLength, {});
  }

  /** An array of zeros, which takes its memory when it is first used. */
  zeros(shape: Shape, dtype: DType = "f32"): GpuArray {
    return this.#checked(shape, dtype, shape.length > 1 ? lastOf(shape) : 1, { zeros: true });
  }

  #checked(shape: Shape, dtype: DType, rowLength: number, options: { readonly zeros?: boolean }): GpuArray {
    checkDType("array", dtype);
    if (!Array.isArray(shape))
      throw new ShapeError(`array: a shape is a list of sizes, such as [2, 3], and no ${typeof shape}`);
    if (shape.length > MAX_RANK)
      throw new ShapeError(`array: rank ${shape.length} of ${showShape(shape)} is above ${MAX_RANK}`);
    for (const n of shape) {
      if (!Number.isInteger(n) || n < 0)
        throw new ShapeError(`array: ${n} is no size, in ${showShape(shape)}`);
    }
    return this.#own(this.#allocate(shape, dtype, rowLength, options));
  }

  /**
   * An array with undefined contents for the gradient of an op's input `i`, which backward then returns; it must
   * write every element. Where the input is a parameter without a gradient so far, this is the gradient's place
   * itself, so that nothing has to be added to it afterwards; else it is a new array.
   */
  emptyFor(i: number, shape: Shape): GpuArray {
    const place = this.#places?.takePlace(i);
    return place ? this.#placed(place, shape) : this.empty(shape);
  }

  /**
   * What has been collected so far of the gradient of an op's input `i`, f32 and bindable, for backward to add to and
   * then to return; null where nothing has, or where something else sees it: then backward makes an array of zeros.
   * For gradients that are zero but for a part.
   */
  totalFor(i: number, shape: Shape): GpuArray | null {
    const total = this.#places?.takeTotal(i);
    return total ? this.#placed(total, shape) : null;
  }

  #placed(place: GpuArray, shape: Shape): GpuArray {
    if (place.size !== sizeOf(shape)) {
      throw new ShapeError(`array: a gradient ${showShape(shape)} for an input ${showShape(place.shape)}`);
    }
    return this.view(place, shape);
  }

  like(array: GpuArray): GpuArray {
    return this.empty(array.shape, array.dtype);
  }

  /**
   * An array holding a copy of `data`, which has as many elements as `shape`. `dtype` other than the data's own:
   * f16 or bf16 for floats, which are rounded, or for a Uint16Array of their bits.
   */
  from(data: Exclude<HostArray, Uint16Array>, shape?: Shape, dtype?: DType): GpuArray;
  from(data: HostArray, shape: Shape, dtype: DType): GpuArray;
  from(data: HostArray, shape: Shape = [data.length], dtype?: DType): GpuArray {
    checkHostArray("array", data);
    if (!Array.isArray(shape))
      throw new ShapeError(`array: a shape is a list of sizes, such as [2, 3], and no ${typeof shape}`);
    if (data.length !== sizeOf(shape)) {
      throw new ShapeError(`array: ${data.length} values do not fill ${showShape(shape)} (${sizeOf(shape)})`);
    }
    this.device.captures.checkConstant();
    const array = this.empty(shape, dtype ?? (data instanceof Uint16Array ? "f16" : dtypeOf(data)));
    this.write(array, data);
    return array;
  }

  /** A vector of ones, kept by the device: the other factor of a sum written as a product. */
  ones(n: number): GpuArray {
    let ones = this.#ones.at(-1);
    if (!ones || ones.size < n) {
      const size = 2 ** Math.ceil(Math.log2(Math.max(n, 64)));
      ones = this.device.captures.outside(() => {
        const array = this.#allocate([size], "f32", 1);
        this.write(array, new Float32Array(size).fill(1));
        return array;
      });
      this.#ones.push(ones);
    }
    return this.view(ones, [n]);
  }

  /** Overwrites a contiguous array, after all commands recorded so far. */
  write(array: GpuArray, data: HostArray): void {
    array.assertAlive();
    checkHostArray("write", data);
    const words = encode(data, array.dtype);
    if (!array.isContiguous) {
      throw new ShapeError(
        `write: ${array.dtype} ${showShape(array.shape)} is a view whose elements do not lie in order; write to the tensor that it is a view of`,
      );
    }
    if (data.length !== array.size || !words) {
      const given = data instanceof Uint16Array ? "u16" : dtypeOf(data);
      throw new ShapeError(
        `write: ${data.length} ${given} values into ${array.dtype} ${showShape(array.shape)}`,
      );
    }
    // Words are what a buffer is written in: half a word would take its neighbour with it.
    if (array.byteOffset % 4 !== 0)
      throw new ShapeError(`write: a view of ${array.dtype} that starts at odd element ${array.offset}`);
    for (const { buffer } of byteRanges(array)) this.device.captures.checkWrite(buffer);
    for (const part of byteRanges(array)) {
      const view = new Uint8Array(words.buffer, words.byteOffset + part.at, wholeWords(part.bytes));
      this.device.recorder.upload(part.buffer, part.offset, view);
    }
  }

  /** Reads a contiguous array back. */
  async read(array: GpuArray): Promise<TypedArray> {
    const { buffer } = await this.readBytes(array);
    return decode(buffer, array.dtype, array.size);
  }

  /** Reads the bytes of a contiguous array back as they are stored, in whole words. */
  async readBytes(array: GpuArray): Promise<Uint8Array<ArrayBuffer>> {
    array.assertAlive();
    this.device.captures.checkRead();
    if (!array.isContiguous)
      throw new GpuError("read: the array is a strided view; make it contiguous first");
    const bytes = new Uint8Array(wholeWords(array.bytes));
    array.storage.retain(); // Lives until the copy is made, whatever the caller frees meanwhile.
    try {
      for (const part of byteRanges(array)) {
        bytes.set(
          new Uint8Array(await this.device.recorder.read(part.buffer, part.offset, part.bytes)),
          part.at,
        );
      }
    } finally {
      array.storage.release();
    }
    return bytes;
  }

  /**
   * Records one dispatch. Arrays are bound by the names of the kernel's bindings. `work` is for the profiler and the
   * tracer.
   */
  run(
    kernel: KernelSpec,
    arrays: Readonly<Record<string, GpuArray | ScratchTexture | null>>,
    params: Readonly<Record<string, ParamValue>>,
    grid: Grid,
    work?: Work,
  ): void {
    checkGrid(kernel, grid);
    const bindings: Record<string, Binding> = {};
    for (const name in arrays) bindings[name] = this.#bind(kernel, name, arrays[name] ?? null);
    this.device.run(kernel, bindings, params, grid, work);
  }

  /** Copies an array, of whole rows of a scratch texture, to its start. */
  copyToScratch(array: GpuArray, target: ScratchTexture): void {
    for (const { buffer, offset, at, bytes } of byteRanges(array))
      this.device.recorder.copy(buffer, offset, target, at, bytes);
  }

  /**
   * Runs `body`; arrays that it makes and does not retain are freed at its end. `places`: see emptyFor. `op` names what
   * runs, for the profiler and the tracer.
   */
  scope<T>(
    body: () => T,
    keep: (result: T) => readonly GpuArray[],
    { places = null, op = null }: ScopeOptions = {},
  ): T {
    const outer = this.#scope;
    const outerPlaces = this.#places;
    const made: GpuArray[] = [];
    const { recorder } = this.device;
    const outerOp = recorder.op;
    this.#scope = made;
    this.#places = places;
    recorder.op = op ?? outerOp;
    try {
      const result = body();
      const kept = keep(result);
      for (const array of made) if (!kept.includes(array)) array.release();
      return result;
    } catch (error) {
      for (const array of made) array.release();
      throw error;
    } finally {
      this.#scope = outer;
      this.#places = outerPlaces;
      recorder.op = outerOp;
    }
  }

  /** A view that belongs to the running op's scope. */
  view(array: GpuArray, shape: Shape, offset?: number, strides?: readonly number[]): GpuArray {
    return this.#own(array.view(shape, offset, strides));
  }

  /** Whether only arrays of the running scope refer to this one's memory, so that it may be kept as it is. */
  isUnshared(array: GpuArray): boolean {
    let own = 0;
    for (const made of this.#scope ?? []) if (made.storage === array.storage && made.alive) own++;
    return own === array.storage.references;
  }

  #allocate(
    shape: Shape,
    dtype: DType,
    rowLength: number,
    options: { readonly zeros?: boolean } = {},
  ): GpuArray {
    const largest = this.maxBindingBytes;
    const itemBytes = bytesOf(dtype);
    const bytes = sizeOf(shape) * itemBytes;
    const { alignment } = this.device.traits;
    const chunkBytes = bytes <= largest ? largest : chunkBytesFor(rowLength * itemBytes, largest, alignment);
    return new GpuArray(new Storage(this.device, shape, dtype, chunkBytes, options), shape, dtype);
  }

  #own(array: GpuArray): GpuArray {
    this.#scope?.push(array);
    return array;
  }

  #bind(kernel: KernelSpec, name: string, array: GpuArray | ScratchTexture | null): Binding {
    // A binding under a false flag is still bound, to a dummy.
    if (array === null) {
      this.#dummy ??= this.device.captures.outside(() => this.#allocate([64], "f32", 1));
      return { buffer: this.#dummy.storage.chunks[0] as PoolBuffer, offset: 0, bytes: 256 };
    }
    if (!(array instanceof GpuArray)) return { buffer: array, offset: 0, bytes: array.bytes };
    array.assertAlive();
    const label = `${kernel.shader}.${kernel.entry}`;
    if (!array.isBindable)
      throw new GpuError(`${label}: ${name} ${showShape(array.shape)} is a strided view; make it contiguous`);
    if (!array.isInOneChunk) {
      throw new GpuError(
        `${label}: ${name} ${showShape(array.shape)} of ${array.bytes} bytes is read whole, and the largest binding here is ${this.maxBindingBytes} bytes`,
      );
    }
    const { chunkBytes, chunks } = array.storage;
    const start = array.byteOffset;
    const chunk = chunks.length === 1 ? 0 : Math.floor(start / chunkBytes);
    // Rounded up to a vec4: buffers and arena slots are padded to 256 bytes.
    const bytes = Math.max(16, Math.ceil(array.bytes / 16) * 16);
    const offset = start - chunk * chunkBytes;
    return { buffer: chunks[chunk] as PoolBuffer, offset, bytes, array };
  }
}

/** Opens a device, by choice as in `Device.open`. */
export async function openGpu(choice?: string): Promise<Gpu> {
  return new Gpu(await Device.open(choice));
}

/** Longest single copy to or from the host: what it is staged in is kept, or taken by the driver, beside the array. */
const MOST_BYTES_AT_ONCE = 2 ** 26;

/** Buffers are padded, so the half of a word behind an odd number of halves exists. */
function wholeWords(bytes: number): number {
  return Math.ceil(bytes / 4) * 4;
}

function* byteRanges(
  array: GpuArray,
): Iterable<{ buffer: PoolBuffer; offset: number; at: number; bytes: number }> {
  const { chunkBytes, chunks } = array.storage;
  let at = 0;
  while (at < array.bytes) {
    const start = array.byteOffset + at;
    const chunk = Math.floor(start / chunkBytes);
    const offset = start - chunk * chunkBytes;
    const bytes = Math.min(array.bytes - at, chunkBytes - offset, MOST_BYTES_AT_ONCE);
    yield { buffer: chunks[chunk] as PoolBuffer, offset, at, bytes };
    at += bytes;
  }
}
