import type { Device } from "./device.ts";
import type { LargeTensor, ScopeMemory } from "./ledger.ts";

/** Memory of one device. */
export interface MemoryReport {
  /** Handed out just now, in whole size classes. */
  readonly liveBytes: number;
  /** Waiting for reuse; `trim` gives it back. */
  readonly pooledBytes: number;
  /** Kept by captured steps for their replays; `CapturedStep.dispose` gives it back. */
  readonly capturedBytes: number;
  /** The largest sum of live and captured bytes since the device was opened or `resetPeakMemory`. */
  readonly peakBytes: number;
  /** What live, pooled and captured bytes together may not exceed: ADAMIX_MEMORY_MB. */
  readonly budgetBytes: number;
  /**
   * By scope, what arrays hold just now: those of `memoryScope`, and where there is none "parameters", "gradients", "optimiser", "saved for
   * backward" (which nothing but backward needs, or which is a result as well) and "other".
   */
  readonly scopes: Readonly<Record<string, ScopeMemory>>;
  /** The ten largest groups of arrays of one shape, type and scope. */
  readonly largest: readonly LargeTensor[];
}

/** Anything that knows its device: a Gpu, a Tensor's `gpu`. */
interface OnDevice {
  readonly device: Device;
}

const LARGEST = 10;

/** Bytes that are live, pooled and at their peak, in total and by scope. Cost: a walk over all live arrays. */
export function memory({ device }: OnDevice): MemoryReport {
  const { liveBytes, pooledBytes, capturedBytes, peakBytes } = device.pool.statistics();
  return {
    liveBytes,
    pooledBytes,
    capturedBytes,
    peakBytes,
    budgetBytes: device.pool.budgetBytes,
    scopes: device.ledger.scopes(),
    largest: device.ledger.largest(LARGEST),
  };
}

/**
 * Runs `fn` and counts the memory of all arrays that it makes under `name`, for as long as they live. Of nested
 * scopes the innermost counts. Synchronous: what an asynchronous function makes later would be anybody's.
 */
export function memoryScope<T>({ device: { ledger } }: OnDevice, name: string, fn: () => T): T {
  const outer = ledger.current;
  ledger.current = name;
  try {
    const result = fn();
    if (result instanceof Promise)
      throw new TypeError(`memoryScope: "${name}" takes a synchronous function; read results after it`);
    return result;
  } finally {
    ledger.current = outer;
  }
}

/** Peaks start again from what is live now. */
export function resetPeakMemory({ device }: OnDevice): void {
  device.pool.resetPeak();
  device.ledger.resetPeaks();
}

/** Gives the memory that waits for reuse back to the driver. The next step takes its buffers anew. */
export function trim({ device }: OnDevice): void {
  device.trim();
}
