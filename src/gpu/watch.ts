import type { DispatchNote } from "./dispatch.ts";
import type { DispatchRecord, DispatchTime, DispatchTimer } from "./dispatch-record.ts";
import { GpuError } from "./errors.ts";
import type { KernelCache } from "./kernel.ts";
import { NanTracer } from "./nan-tracer.ts";
import type { Pool } from "./pool.ts";
import type { Encode, Recorder, Watcher } from "./recorder.ts";
import { SerialTimer } from "./serial-timer.ts";
import { TimestampTimer } from "./timestamp-timer.ts";

/** By what dispatches are timed: timestamp queries, or the host's clock around one at a time. */
export type Clock = "timestamps" | "host";

/** Somebody who looks on. */
export interface Onlooker {
  /** Dispatches are not timed where it names no clock. */
  readonly clock?: Clock | undefined;
  /** A dispatch has just been recorded. */
  onRecorded?(record: DispatchRecord): void;
  /** In order, some time after `onRecorded`; only with a clock. */
  onTimed?(record: DispatchRecord, time: DispatchTime): void;
  /** How long the submit itself took the host. */
  onSubmitted?(ms: number): void;
  /** After each wait for the device. */
  onWaited?(): void;
}

/**
 * Lets the profiler, the listing of ADAMIX_DEBUG and the tracer of NaN look on at what a device records. As long as
 * nobody does, the recorder goes its own way and this costs nothing.
 */
export class Watch implements Watcher {
  readonly #device: GPUDevice;
  readonly #recorder: Recorder;
  readonly #kernels: KernelCache;
  readonly #pool: Pool;
  /** Replaced, never changed: a dispatch's times go to those who looked on when it was recorded. */
  #onlookers: readonly Onlooker[] = [];
  #clock: Clock | null = null;
  /** While a timer settles there is no other, so that their commands do not mix. */
  #closing: Promise<void> | null = null;
  #timer: DispatchTimer | null = null;
  #tracer: NanTracer | null = null;
  #tracing = 0;
  #number = 0;
  #submittingMs = 0;

  constructor(device: GPUDevice, recorder: Recorder, kernels: KernelCache, pool: Pool) {
    this.#device = device;
    this.#recorder = recorder;
    this.#kernels = kernels;
    this.#pool = pool;
  }

  /** Whether every write is checked just now. Fresh memory is then cleared: nothing unwritten can look like NaN. */
  get isTracing(): boolean {
    return this.#tracing > 0;
  }

  get onlookers(): readonly Onlooker[] {
    return this.#onlookers;
  }

  /**
   * Begins to tell `onlooker`; at once, unless clocks change, which the promise waits for. One clock at a time: the
   * host's replaces timestamps as long as somebody asks for it.
   */
  async add(onlooker: Onlooker): Promise<void> {
    if (onlooker.clock === "timestamps" && !this.hasTimestamps)
      throw new GpuError('watch: this device has no timestamp queries; use the clock "host"');
    this.#onlookers = [...this.#onlookers, onlooker];
    this.#attach();
    await this.#closing;
  }

  /** Tells `onlooker` no more of what is recorded from now on; resolves when it has been told all times. */
  async remove(onlooker: Onlooker): Promise<void> {
    this.#recorder.flush();
    const settled = this.#timer?.settled();
    this.#onlookers = this.#onlookers.filter((other) => other !== onlooker);
    this.#attach();
    await settled;
    await this.#closing;
  }

  get hasTimestamps(): boolean {
    return this.#device.features.has("timestamp-query");
  }

  /** Begins to check every write; `stopTracing` must follow. */
  startTracing(): void {
    this.#tracing++;
    this.#tracer ??= new NanTracer(this.#recorder, this.#kernels, this.#pool);
    this.#attach();
  }

  stopTracing(): void {
    if (--this.#tracing > 0) return;
    this.#tracer?.dispose();
    this.#tracer = null;
    this.#attach();
  }

  /** Throws if a dispatch recorded so far has written a bad value. */
  async verify(): Promise<void> {
    await this.#tracer?.verify();
  }

  dispatch(note: DispatchNote, encode: Encode): void {
    const record: DispatchRecord = { ...note, number: ++this.#number };
    const onlookers = this.#onlookers;
    const onTimed = (time: DispatchTime): void => {
      for (const onlooker of onlookers) onlooker.onTimed?.(record, time);
    };
    if (this.#timer) this.#timer.dispatch(encode, onTimed);
    else encode();
    for (const onlooker of onlookers) onlooker.onRecorded?.(record);
    this.#tracer?.check(record);
  }

  submitting(encoder: GPUCommandEncoder): void {
    this.#submittingMs = performance.now();
    this.#timer?.submitting(encoder);
  }

  submitted(): void {
    this.#timer?.submitted();
    const ms = performance.now() - this.#submittingMs;
    for (const onlooker of this.#onlookers) onlooker.onSubmitted?.(ms);
  }

  async waited(): Promise<void> {
    for (const onlooker of this.#onlookers) onlooker.onWaited?.();
    await this.#timer?.delivered();
    await this.#tracer?.verify();
  }

  /** Makes the timer that is asked for, and is the recorder's watcher while there is anything to watch for. */
  #attach(): void {
    const clocks = this.#onlookers.map(({ clock }) => clock);
    const wanted = clocks.includes("host") ? "host" : clocks.includes("timestamps") ? "timestamps" : null;
    if (wanted !== this.#clock && this.#timer) this.#close(this.#timer);
    if (wanted !== this.#clock && !this.#closing) {
      this.#clock = wanted;
      if (wanted === "host") this.#timer = new SerialTimer(this.#recorder);
      if (wanted === "timestamps") this.#timer = new TimestampTimer(this.#device, this.#recorder);
    }
    const isWatching = this.#onlookers.length > 0 || this.#tracing > 0;
    this.#recorder.watcher = isWatching ? this : null;
  }

  #close(timer: DispatchTimer): void {
    const closed = timer.close(); // flushes, so that it sees the end of what it has begun
    this.#timer = null;
    this.#clock = null;
    const next = (): void => {
      this.#closing = null;
      this.#attach();
    };
    this.#closing = closed.then(next, next); // a lost device says so at the next call
  }
}
