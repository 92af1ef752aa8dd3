import { GpuError } from "./errors.ts";

/** One pooled GPU buffer. `id` orders buffers by age; `batch` is the last unsubmitted batch that uses it. */
export interface PoolBuffer {
  readonly id: number;
  readonly gpu: GPUBuffer;
  readonly bytes: number;
  batch: number;
}

/** Bytes by state. `live` is handed out, `pooled` waits for reuse, `peak` is the largest `live` so far. */
export interface PoolStatistics {
  readonly liveBytes: number;
  readonly pooledBytes: number;
  readonly peakBytes: number;
  readonly created: number;
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

/**
 * The only place that creates and destroys storage buffers.
 *
 * A class hands out its oldest free buffer first. So a step that starts from the same free set gets the
 * same buffers in the same order, whatever order the last step returned them in, and the recorder's
 * bind groups hit from the second step on.
 */
export class Pool {
  readonly #device: GPUDevice;
  readonly #free = new Map<number, PoolBuffer[]>();
  readonly #budgetBytes: number;
  readonly #maxBufferBytes: number;
  #nextId = 1;
  #liveBytes = 0;
  #pooledBytes = 0;
  #peakBytes = 0;

  constructor(device: GPUDevice, budgetBytes: number) {
    this.#device = device;
    this.#budgetBytes = budgetBytes;
    this.#maxBufferBytes = Math.floor(device.limits.maxBufferSize / SMALLEST) * SMALLEST;
  }

  /** Whether `acquire` stays within the budget. */
  fits(bytes: number): boolean {
    const size = this.#sizeOf(bytes);
    const isPooled = (this.#free.get(size)?.length ?? 0) > 0;
    return isPooled || this.#liveBytes + this.#pooledBytes + size <= this.#budgetBytes;
  }

  acquire(bytes: number): PoolBuffer {
    const size = this.#sizeOf(bytes);
    const pooled = this.#free.get(size)?.pop();
    if (pooled) this.#pooledBytes -= size;
    const buffer = pooled ?? this.#create(size);
    this.#liveBytes += size;
    this.#peakBytes = Math.max(this.#peakBytes, this.#liveBytes);
    return buffer;
  }

  release(buffer: PoolBuffer): void {
    this.#liveBytes -= buffer.bytes;
    this.#pooledBytes += buffer.bytes;
    let list = this.#free.get(buffer.bytes);
    if (!list) {
      list = [];
      this.#free.set(buffer.bytes, list);
    }
    // Kept with the oldest last: lists are short and nearly sorted, so insertion is cheap.
    let i = list.length;
    list.push(buffer);
    for (; i > 0 && (list[i - 1] as PoolBuffer).id < buffer.id; i--) list[i] = list[i - 1] as PoolBuffer;
    list[i] = buffer;
  }

  statistics(): PoolStatistics {
    return {
      liveBytes: this.#liveBytes,
      pooledBytes: this.#pooledBytes,
      peakBytes: this.#peakBytes,
      created: this.#nextId - 1,
    };
  }

  /** Destroys every free buffer. The caller has flushed: no recorded command may still name one. */
  trim(): void {
    for (const list of this.#free.values()) for (const buffer of list) buffer.gpu.destroy();
    this.#free.clear();
    this.#pooledBytes = 0;
    this.#device.queue.submit([]); // only then does the driver give the memory back
  }

  /** The size class, but for buffers near the device's limit, which rounding up must not pass. */
  #sizeOf(bytes: number): number {
    return Math.max(Math.min(sizeClass(bytes), this.#maxBufferBytes), bytes);
  }

  #create(size: number): PoolBuffer {
    const total = this.#liveBytes + this.#pooledBytes + size;
    if (total > this.#budgetBytes) {
      throw new GpuError(
        `pool: ${megabytes(size)} more would exceed the budget of ${megabytes(this.#budgetBytes)} ` +
          `(live ${megabytes(this.#liveBytes)}, pooled ${megabytes(this.#pooledBytes)}): ` +
          "use smaller batches, or raise ADAMIX_MEMORY_MB",
      );
    }
    const gpu = this.#device.createBuffer({
      size,
      usage: GPU_USAGE.STORAGE | GPU_USAGE.COPY_SRC | GPU_USAGE.COPY_DST,
    });
    return { id: this.#nextId++, gpu, bytes: size, batch: 0 };
  }
}

/** WebGPU's numbers: Node has no global GPUBufferUsage until an adapter's globals are installed. */
export const GPU_USAGE = { MAP_READ: 1, COPY_SRC: 4, COPY_DST: 8, UNIFORM: 64, STORAGE: 128 } as const;

function megabytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
