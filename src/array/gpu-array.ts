import { type Device, GpuError, type Holding, OTHER, type PoolBuffer, SAVED } from "../gpu/index.ts";
import { bytesOf, type DType } from "./dtype.ts";
import { type Shape, sameShape, showShape, sizeOf, stridesOf } from "./shape.ts";

/**
 * The bytes of one or more arrays: a list of chunks of `chunkBytes`, none larger than the device binds at once.
 * Counted: the chunks go back to the pool with the last reference. Storage of zeros takes its memory when it is first
 * used: what is loaded over it in another type never takes it.
 */
export class Storage implements Holding {
  readonly device: Device;
  readonly bytes: number;
  /** Of the first array that lies here, for reports. */
  readonly shape: Shape;
  readonly dtype: DType;
  /** What memory() counts it under. */
  scope: string;
  readonly chunkBytes: number;
  #chunks: readonly PoolBuffer[] | null = null;
  /** Later storages have higher numbers. */
  readonly serial: number;
  #references = 1;
  #changes = 0;
  #saved = 0;

  static #next = 0;

  /** The number of the next storage. */
  static get nextSerial(): number {
    return Storage.#next;
  }

  constructor(
    device: Device,
    shape: Shape,
    dtype: DType,
    chunkBytes: number,
    { zeros = false }: { readonly zeros?: boolean } = {},
  ) {
    const bytes = sizeOf(shape) * bytesOf(dtype);
    this.device = device;
    this.bytes = bytes;
    this.serial = Storage.#next++;
    this.shape = shape;
    this.dtype = dtype;
    this.scope = device.ledger.current;
    this.chunkBytes = chunkBytes;
    if (!zeros) this.#acquire();
  }

  get chunkCount(): number {
    return Math.max(1, Math.ceil(this.bytes / this.chunkBytes));
  }

  get chunks(): readonly PoolBuffer[] {
    if (this.#chunks) return this.#chunks;
    if (this.#references === 0) throw new GpuError("array: its memory was already given back");
    const { device } = this;
    return device.captures.outside(() => {
      const chunks = this.#acquire();
      for (const chunk of chunks) device.recorder.clear(chunk);
      return chunks;
    });
  }

  /** Bytes of the chunks as the pool counts them. */
  get pooledBytes(): number {
    let bytes = 0;
    for (const chunk of this.#chunks ?? []) bytes += chunk.bytes;
    return bytes;
  }

  #acquire(): readonly PoolBuffer[] {
    const { device, bytes, chunkBytes } = this;
    const chunks: PoolBuffer[] = [];
    try {
      for (let start = 0; start < Math.max(bytes, 1); start += chunkBytes) {
        const rest = Math.max(bytes, 1) - start;
        chunks.push(device.acquire(Math.min(chunkBytes, rest), { array: this, bytes: rest }));
      }
    } catch (error) {
      for (const chunk of chunks) device.pool.release(chunk);
      throw error;
    }
    this.#chunks = chunks;
    device.ledger.add(this);
    return chunks;
  }

  get references(): number {
    return this.#references;
  }

  /** A number that rises with whatever is recorded to write here: equal numbers mean equal contents. */
  get version(): number {
    let version = this.#changes;
    for (const chunk of this.#chunks ?? []) version += chunk.version;
    return version;
  }

  /** Counts a change that is no write: a tensor looks at other memory from now on. */
  outdate(): void {
    this.#changes++;
  }

  retain(): void {
    if (this.#references === 0) throw new GpuError("array: its memory was already given back");
    this.#references++;
  }

  release(): void {
    if (this.#references === 0) throw new GpuError("array: released twice");
    if (--this.#references > 0 || !this.#chunks) return;
    this.device.ledger.remove(this);
    for (const chunk of this.#chunks) this.device.pool.release(chunk);
  }

  /** Counts it under `scope`, unless it has one already. */
  assignScope(scope: string): void {
    if (this.scope === OTHER) this.#moveTo(scope);
  }

  /** Kept for backward: while it has no other scope it counts as saved. `unsave` as often. */
  save(): void {
    if (this.#saved++ === 0) this.assignScope(SAVED);
  }

  unsave(): void {
    if (--this.#saved === 0 && this.scope === SAVED) this.#moveTo(OTHER);
  }

  #moveTo(scope: string): void {
    if (this.#chunks) this.device.ledger.move(this, scope);
    else this.scope = scope;
  }
}

/**
 * A strided view of a storage: what ops work on. Several views may share one storage.
 * `offset` and `strides` count elements. Each view holds one reference of its storage.
 */
export class GpuArray {
  readonly storage: Storage;
  readonly shape: Shape;
  readonly dtype: DType;
  readonly offset: number;
  readonly strides: readonly number[];
  /** Elements. */
  readonly size: number;
  #alive = true;

  constructor(
    storage: Storage,
    shape: Shape,
    dtype: DType,
    offset = 0,
    strides: readonly number[] = stridesOf(shape),
  ) {
    this.storage = storage;
    this.shape = shape;
    this.dtype = dtype;
    this.offset = offset;
    this.strides = strides;
    this.size = sizeOf(shape);
  }

  get bytes(): number {
    return this.size * this.itemBytes;
  }

  /** Bytes of one element. */
  get itemBytes(): number {
    return bytesOf(this.dtype);
  }

  /** Where the first element lies in the storage, in bytes. */
  get byteOffset(): number {
    return this.offset * this.itemBytes;
  }

  /** Elements of one chunk of the storage; no element lies in two. */
  get chunkLength(): number {
    return this.storage.chunkBytes / this.itemBytes;
  }

  get alive(): boolean {
    return this.#alive;
  }

  /** Row-major without gaps. Dimensions of size 1 may have any stride. */
  get isContiguous(): boolean {
    let stride = 1;
    for (let i = this.shape.length - 1; i >= 0; i--) {
      if (this.shape[i] !== 1 && this.strides[i] !== stride) return false;
      stride *= this.shape[i] as number;
    }
    return true;
  }

  /** Contiguous, and starting where a kernel can bind it. Where it lies in several chunks it is bound in ranges. */
  get isBindable(): boolean {
    return this.byteOffset % this.storage.device.traits.alignment === 0 && this.isContiguous;
  }

  /** Of a contiguous array: whether one binding holds it. */
  get isInOneChunk(): boolean {
    if (this.storage.chunkCount === 1) return true;
    const last = this.offset + Math.max(this.size, 1) - 1;
    return Math.floor(this.offset / this.chunkLength) === Math.floor(last / this.chunkLength);
  }

  /** Another view of the same storage, which then has one reference more. */
  view(shape: Shape, offset = this.offset, strides: readonly number[] = stridesOf(shape)): GpuArray {
    this.assertAlive();
    this.storage.retain();
    return new GpuArray(this.storage, shape, this.dtype, offset, strides);
  }

  /** Counts its memory under a scope of memory(), unless it was made in one. */
  under(scope: string): this {
    this.storage.assignScope(scope);
    return this;
  }

  release(): void {
    if (!this.#alive) return;
    this.#alive = false;
    this.storage.release();
  }

  assertAlive(): void {
    if (!this.#alive) {
      throw new GpuError(
        `array ${showShape(this.shape)}: used after it was freed; return it from tidy(), or keep() it, to use it later`,
      );
    }
  }

  hasShape(shape: Shape): boolean {
    return sameShape(this.shape, shape);
  }
}
