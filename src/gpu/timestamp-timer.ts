import type { DispatchTime, DispatchTimer } from "./dispatch-record.ts";
import { GPU_USAGE } from "./pool.ts";
import type { Encode, Recorder } from "./recorder.ts";

/** Dispatches of one query set. A submit holds no more of them. */
const DISPATCHES = 256;
const STAMP_BYTES = 8;
const BYTES = 2 * DISPATCHES * STAMP_BYTES;
const QUERY_RESOLVE = 0x200; // GPUBufferUsage.QUERY_RESOLVE

/**
 * Times dispatches by timestamp queries: a compute pass for each, with its start and end written to a query
 * set. The set is resolved at the end of each submit and used again by the next: queue order makes one enough.
 * What it says is read back submit by submit.
 */
export class TimestampTimer implements DispatchTimer {
  readonly #device: GPUDevice;
  readonly #recorder: Recorder;
  readonly #queries: GPUQuerySet;
  readonly #resolved: GPUBuffer;
  readonly #staging: GPUBuffer[] = [];
  /** Who is to be told the time of each dispatch of this submit. */
  #pending: ((time: DispatchTime) => void)[] = [];
  #read: GPUBuffer | null = null;
  #delivered: Promise<void> = Promise.resolve();

  constructor(device: GPUDevice, recorder: Recorder) {
    this.#device = device;
    this.#recorder = recorder;
    this.#queries = device.createQuerySet({ type: "timestamp", count: 2 * DISPATCHES });
    this.#resolved = device.createBuffer({ size: BYTES, usage: QUERY_RESOLVE | GPU_USAGE.COPY_SRC });
  }

  dispatch(encode: Encode, onTimed: (time: DispatchTime) => void): void {
    if (this.#pending.length === DISPATCHES) this.#recorder.flush();
    // Called when the pass begins: encoding may flush before that, and then the first queries are free again.
    encode(() => {
      const first = 2 * this.#pending.push(onTimed) - 2;
      return {
        timestampWrites: {
          querySet: this.#queries,
          beginningOfPassWriteIndex: first,
          endOfPassWriteIndex: first + 1,
        },
      };
    });
  }

  submitting(encoder: GPUCommandEncoder): void {
    const n = this.#pending.length;
    if (n === 0) return;
    this.#read =
      this.#staging.pop() ??
      this.#device.createBuffer({ size: BYTES, usage: GPU_USAGE.MAP_READ | GPU_USAGE.COPY_DST });
    encoder.resolveQuerySet(this.#queries, 0, 2 * n, this.#resolved, 0);
    encoder.copyBufferToBuffer(this.#resolved, 0, this.#read, 0, 2 * n * STAMP_BYTES);
  }

  submitted(): void {
    const read = this.#read;
    if (!read) return;
    const pending = this.#pending;
    this.#pending = [];
    this.#read = null;
    const mapped = read.mapAsync(MAP_MODE_READ);
    const delivered = this.#delivered.then(async () => {
      await mapped;
      this.#deliver(pending, read);
    });
    for (const promise of [mapped, delivered]) promise.catch(() => {}); // settled() tells who waits
    this.#delivered = delivered;
  }

  delivered(): Promise<void> {
    return this.#recorder.wait(this.#delivered);
  }

  async settled(): Promise<void> {
    this.#recorder.flush();
    await this.delivered();
  }

  async close(): Promise<void> {
    await this.settled();
    this.#queries.destroy();
    for (const buffer of [this.#resolved, ...this.#staging]) buffer.destroy();
  }

  #deliver(pending: readonly ((time: DispatchTime) => void)[], read: GPUBuffer): void {
    const stamps = new BigUint64Array(read.getMappedRange(0, 2 * pending.length * STAMP_BYTES).slice(0));
    read.unmap();
    this.#staging.push(read);
    pending.forEach((onTimed, i) => {
      const startedMs = Number(stamps[2 * i]) / 1e6;
      const endedMs = Math.max(startedMs, Number(stamps[2 * i + 1]) / 1e6);
      onTimed({ startedMs, endedMs, isFirst: i === 0, roundTripMs: 0 });
    });
  }
}

const MAP_MODE_READ = 1; // GPUMapMode.READ
