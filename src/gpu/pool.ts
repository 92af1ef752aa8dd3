import { GpuError } from "./errors.ts";
import { megabytes } from "./ledger.ts";

/**
 * Memory that dispatches bind. `id` orders buffers by age; `batch` is the last unsubmitted batch that uses it; `version`
 * counts what was recorded so far to write to it: uploads, copies, and dispatches that bind it for writing.
 */
export interface PoolMemory {
  readonly id: number;
  readonly bytes: number;
  batch: number;
  version: number;
  /** Where it goes back to, when not to the pool: the memory of captured steps. */
  region: CaptureRegion | null;
  /** The run of a captured step in which it was handed out. */
  run: object | null;
  /** Captured steps that use it from outside: while there are any, it is given to nobody else. */
  pins: number;
  /** Given back while it was pinned. */
  isFreed: boolean;
}

/** One pooled GPU buffer. */
export interface PoolBuffer extends PoolMemory {
  readonly gpu: GPUBuffer;
}

/** Scratch memory that kernels see as a texture; see scratch.ts. */
export interface ScratchTexture extends PoolMemory {
  readonly texture: GPUTexture;
  readonly view: GPUTextureView;
}

/**
 * Bytes by state. `live` is handed out, `pooled` waits for reuse, `captured` is what captured steps keep for
 * their replays beside that; `peak` is the largest sum of live and captured so far.
 */
export interface PoolStatistics {
  readonly liveBytes: number;
  readonly pooledBytes: number;
  readonly capturedBytes: number;
  readonly peakBytes: number;
  readonly created: number;
}

/** The array that memory is taken for, and the bytes that it needs from here on: more than one buffer's, of a list of chunks. */
export interface Wanted {
  readonly array: { readonly shape: readonly number[]; readonly dtype: string };
  readonly bytes: number;
}

const SMALLEST = 256;

/**
 * Rounds up to a size class: four classes for each power of two, so that at most a fifth is wasted and
 * batches of nearly equal length share buffers.
 */
export function sizeClass(bytes: number): number {
  if (bytes <= SMALLEST) return SMALLEST;
  const step = Math.max(SMALLEST, 2 ** (Math.floor(Math.log2(bytes - 1)) - 2));
  return Math.ceil(bytes / step) * step;
}

/** Free buffers by size class. A class keeps its oldest buffer last, where it is taken from. */
class FreeList {
  readonly #bySize = new Map<number, PoolBuffer[]>();

  has(size: number): boolean {
    return (this.#bySize.get(size)?.length ?? 0) > 0;
  }

  take(size: number): PoolBuffer | undefined {
    return this.#bySize.get(size)?.pop();
  }

  put(buffer: PoolBuffer): void {
    let list = this.#bySize.get(buffer.bytes);
    if (!list) {
      list = [];
      this.#bySize.set(buffer.bytes, list);
    }
    // Lists are short and nearly sorted, so insertion is cheap.
    let i = list.length;
    list.push(buffer);
    for (; i > 0 && (list[i - 1] as PoolBuffer).id < buffer.id; i--) list[i] = list[i - 1] as PoolBuffer;
    list[i] = buffer;
  }

  /** Empties the list, but for the buffers of one run. */
  takeAll(but: object | null = null): PoolBuffer[] {
    const all = [...this.#bySize.values()].flat();
    this.#bySize.clear();
    if (!but) return all;
    for (const buffer of all) if (buffer.run === but) this.put(buffer);
    return all.filter(({ run }) => run !== but);
  }
}

/**
 * Memory of captured steps. What a step takes while it is captured comes back here and not to the pool, so that
 * nothing else is ever given a buffer that a replay writes to. Steps that share a region never run at the same
 * time, so they may use the same buffers. With the last step that holds it, its buffers go back to the pool.
 */
export class CaptureRegion {
  readonly free = new FreeList();
  pool: Pool | null = null;
  holders = 0;
}

/**
 * The only place that creates and destroys storage buffers.
 *
 * A class hands out its oldest free buffer first. So a step that starts from the same free set gets the
 * same buffers in the same order, whatever order the last step returned them in, and the recorder's
 * bind groups hit from the second step on.
 */
export class Pool {
  readonly #device: GPUDevice;
  readonly #free = new FreeList();
  /** Those that captured steps hold. */
  readonly #regions = new Set<CaptureRegion>();
  readonly #maxBufferBytes: number;
  /** Live, pooled and captured bytes together never exceed it. */
  readonly budgetBytes: number;
  readonly #explain: () => string;
  /** Where memory comes from while a step is captured, and for which run of it. */
  lending: { readonly region: CaptureRegion; readonly run: object } | null = null;
  #nextId = 1;
  #liveBytes = 0;
  #pooledBytes = 0;
  #capturedBytes = 0;
  #peakBytes = 0;

  /** `explain` names what the memory is taken by, for the error of an exceeded budget. */
  constructor(device: GPUDevice, budgetBytes: number, explain: () => string) {
    this.#device = device;
    this.#maxBufferBytes = Math.floor(device.limits.maxBufferSize / SMALLEST) * SMALLEST;
    this.budgetBytes = budgetBytes;
    this.#explain = explain;
  }

  /** Whether `acquire` stays within the budget. */
  fits(bytes: number, wanted?: Wanted): boolean {
    const size = this.#sizeOf(bytes);
    const isFree = this.lending?.region.free.has(size) || this.#free.has(size);
    return isFree || this.#heldBytes + Math.max(size, wanted?.bytes ?? 0) <= this.budgetBytes;
  }

  /** Takes none of an array's chunks when not all of them fit: `wanted`. */
  acquire(bytes: number, wanted?: Wanted): PoolBuffer {
    const size = this.#sizeOf(bytes);
    const { region = null, run = null } = this.lending ?? {};
    let buffer = region?.free.take(size);
    if (buffer) this.#capturedBytes -= size;
    else {
      buffer = this.#free.take(size);
      if (buffer) this.#pooledBytes -= size;
      else buffer = this.#create(size, wanted);
    }
    buffer.region = region;
    buffer.run = run;
    this.#liveBytes += size;
    this.#peakBytes = Math.max(this.#peakBytes, this.#liveBytes + this.#capturedBytes);
    return buffer;
  }

  release(buffer: PoolBuffer): void {
    if (buffer.pins > 0) {
      buffer.isFreed = true; // Stays live: captured steps still name it.
      return;
    }
    this.#liveBytes -= buffer.bytes;
    if (buffer.region && buffer.region.holders > 0) {
      this.#capturedBytes += buffer.bytes;
      buffer.region.free.put(buffer);
    } else this.#takeBack(buffer);
  }

  /** Keeps a buffer from being given to anybody else, also when its owner gives it back. */
  pin(memory: PoolMemory): void {
    memory.pins++;
  }

  unpin(memory: PoolMemory): void {
    if (--memory.pins > 0 || !memory.isFreed) return;
    memory.isFreed = false;
    if (isBuffer(memory)) this.release(memory);
  }

  /** One captured step more that uses a region. */
  hold(region: CaptureRegion): void {
    region.pool ??= this;
    if (region.pool !== this) throw new GpuError("capture: the region holds memory of another device");
    region.holders++;
    this.#regions.add(region);
  }

  /** One captured step less. */
  drop(region: CaptureRegion): void {
    if (--region.holders > 0) return;
    this.#regions.delete(region);
    this.#empty(region, null);
  }

  /** Takes the memory of regions back, but for what `run` has been given: no step is replayed on it any more. */
  reclaim(run: object | null): void {
    for (const region of this.#regions) this.#empty(region, run);
  }

  /** A texture of `rows` rows of `width` texels. It counts as pooled: nothing is kept in it. */
  createTexture(width: number, rows: number): ScratchTexture {
    const bytes = 16 * width * rows;
    this.#checkBudget(bytes, undefined);
    const texture = this.#device.createTexture({
      size: [width, rows],
      format: "rgba32float",
      usage: STORAGE_BINDING | COPY_DST,
    });
    this.#pooledBytes += bytes;
    return { ...newMemory(this.#nextId++, bytes), texture, view: texture.createView() };
  }

  /** No recorded command may still name it. */
  destroyTexture({ texture, bytes }: ScratchTexture): void {
    texture.destroy();
    this.#pooledBytes -= bytes;
  }

  statistics(): PoolStatistics {
    return {
      liveBytes: this.#liveBytes,
      pooledBytes: this.#pooledBytes,
      capturedBytes: this.#capturedBytes,
      peakBytes: this.#peakBytes,
      created: this.#nextId - 1,
    };
  }

  /** The peak starts again from what is live now. */
  resetPeak(): void {
    this.#peakBytes = this.#liveBytes + this.#capturedBytes;
  }

  /** Destroys every free buffer. The caller has flushed: no recorded command may still name one. */
  trim(): void {
    for (const buffer of this.#free.takeAll()) {
      buffer.gpu.destroy();
      this.#pooledBytes -= buffer.bytes;
    }
    this.#device.queue.submit([]); // only then does the driver give the memory back
  }

  /** The size class, but for buffers near the device's limit, which rounding up must not pass. */
  #sizeOf(bytes: number): number {
    return Math.max(Math.min(sizeClass(bytes), this.#maxBufferBytes), bytes);
  }

  get #heldBytes(): number {
    return this.#liveBytes + this.#pooledBytes + this.#capturedBytes;
  }

  #empty(region: CaptureRegion, but: object | null): void {
    for (const buffer of region.free.takeAll(but)) {
      this.#capturedBytes -= buffer.bytes;
      this.#takeBack(buffer);
    }
  }

  #takeBack(buffer: PoolBuffer): void {
    buffer.region = null;
    this.#pooledBytes += buffer.bytes;
    this.#free.put(buffer);
  }

  #create(size: number, wanted: Wanted | undefined): PoolBuffer {
    this.#checkBudget(size, wanted);
    const gpu = this.#device.createBuffer({
      size,
      // UNIFORM: a captured step keeps the parameters of its kernels in one.
      usage: GPU_USAGE.STORAGE | GPU_USAGE.UNIFORM | GPU_USAGE.COPY_SRC | GPU_USAGE.COPY_DST,
    });
    return { ...newMemory(this.#nextId++, size), gpu };
  }

  #checkBudget(size: number, wanted: Wanted | undefined): void {
    const needed = Math.max(size, wanted?.bytes ?? 0);
    if (this.#heldBytes + needed > this.budgetBytes) {
      const array = wanted ? ` for ${wanted.array.dtype} [${wanted.array.shape.join(", ")}]` : "";
      const captured = this.#capturedBytes > 0 ? `, captured steps ${megabytes(this.#capturedBytes)}` : "";
      throw new GpuError(
        `pool: ${megabytes(needed)} more${array} would exceed the budget of ${megabytes(this.budgetBytes)} ` +
          `(live ${megabytes(this.#liveBytes)}, pooled ${megabytes(this.#pooledBytes)}${captured}): ` +
          `free tensors (tidy, dispose), use smaller batches, or raise ADAMIX_MEMORY_MB; ${this.#explain()}`,
      );
    }
  }
}

function newMemory(id: number, bytes: number): PoolMemory {
  return { id, bytes, batch: 0, version: 0, region: null, run: null, pins: 0, isFreed: false };
}

export function isBuffer(memory: PoolMemory): memory is PoolBuffer {
  return "gpu" in memory;
}

// GPUTextureUsage
const STORAGE_BINDING = 8;
const COPY_DST = 2;

/** WebGPU's numbers: Node has no global GPUBufferUsage until an adapter's globals are installed. */
export const GPU_USAGE = { MAP_READ: 1, COPY_SRC: 4, COPY_DST: 8, UNIFORM: 64, STORAGE: 128 } as const;
