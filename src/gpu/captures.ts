import { CommandList } from "./command-list.ts";
import { GpuError } from "./errors.ts";
import type { CaptureRegion, Pool, PoolBuffer } from "./pool.ts";
import type { Recorder } from "./recorder.ts";

/** Whose step is being captured just now. A step is synchronous, so there is one at most in a process. */
let current: Captures | null = null;

/** What one device does while a step is captured, and the replays. */
export class Captures {
  readonly #pool: Pool;
  readonly #recorder: Recorder;
  readonly #slotAlign: number;
  readonly #acquire: (bytes: number) => PoolBuffer;
  readonly #lists = new Set<CommandList>();
  /** The run that is being captured, until its list is sealed. */
  #run: object | null = null;
  #epoch = 0;

  /** `acquire` takes memory from the pool and makes room for it. */
  constructor(
    pool: Pool,
    recorder: Recorder,
    { slotAlign, acquire }: { slotAlign: number; acquire: (bytes: number) => PoolBuffer },
  ) {
    this.#pool = pool;
    this.#recorder = recorder;
    this.#slotAlign = slotAlign;
    this.#acquire = acquire;
  }

  /**
   * Changes where a captured step begins and ends, and with each replay: what the host knows of the device's arrays from
   * one epoch (that one holds zeros) does not hold in another.
   */
  get epoch(): number {
    return this.#epoch;
  }

  get isCapturing(): boolean {
    return current === this;
  }

  /** Runs a step with its memory from `region`; its commands run as always. */
  warmUp(region: CaptureRegion, step: () => void): void {
    this.checkOutside("run()");
    try {
      this.#within(region, null, step);
    } finally {
      this.#run = null;
    }
  }

  /** Takes down the commands of a step. None of them runs before `replay`. */
  record(region: CaptureRegion, step: () => void): CommandList {
    this.checkOutside("run()");
    const list = new CommandList(this.#pool, this.#slotAlign);
    try {
      this.#within(region, list, step);
      this.#recorder.seal(list, list.paramBytes > 0 ? this.#acquire(list.paramBytes) : null);
    } catch (error) {
      list.dispose();
      throw error;
    } finally {
      this.#run = null;
    }
    this.#lists.add(list);
    return list;
  }

  replay(list: CommandList): void {
    this.checkOutside("run()");
    const { freed } = list;
    if (freed) {
      throw new GpuError(
        `capture: a tensor of ${freed.bytes} bytes that the step uses was freed (or replaced) after it was recorded; keep it, or dispose() the step and capture it anew`,
      );
    }
    this.#epoch++;
    this.#recorder.replay(list);
  }

  /** Lets go of a list and its buffers. Idempotent. */
  discard(list: CommandList): void {
    if (this.#lists.delete(list)) this.#recorder.discard(list);
  }

  /** Whether a list can be replayed: not when it was discarded, or its memory was needed elsewhere. */
  has(list: CommandList): boolean {
    return this.#lists.has(list);
  }

  /** Gives the memory of all lists back to the pool, but for the step that is being captured: others record anew. */
  reclaim(): void {
    for (const list of this.#lists) this.discard(list);
    this.#pool.reclaim(this.#run);
  }

  /** Runs `body` as if no step were captured: for constants that a device makes once and keeps. */
  outside<T>(body: () => T): T {
    if (current !== this) return body();
    const { lending } = this.#pool;
    const { list } = this.#recorder;
    this.#set(null, null, null);
    try {
      return body();
    } finally {
      this.#set(this, lending, list);
    }
  }

  /** Throws inside any step that is being captured. */
  checkOutside(what: string): void {
    if (current)
      throw new GpuError(`capture: ${what} of a captured step inside another; call them one after the other`);
  }

  /** Throws inside a step that is captured on another device: what is done here would not be repeated. */
  checkDevice(): void {
    if (current && current !== this)
      throw new GpuError("capture: the step uses a tensor of another device; a step is captured on one");
  }

  /** Throws where an upload would not be repeated. */
  checkWrite(target: PoolBuffer): void {
    this.checkDevice();
    if (current && (this.#recorder.list || target.run !== this.#pool.lending?.run)) {
      throw new GpuError(
        "write: run() does not repeat an upload made inside a captured step; write input slots before run()",
      );
    }
  }

  /** Throws where values of the host would be taken for those of every step. */
  checkConstant(): void {
    this.checkDevice();
    if (current && this.#recorder.list) {
      throw new GpuError(
        "tensor: a captured step would keep these values for ever; make the tensor outside, and write() to it before run()",
      );
    }
  }

  checkRead(): void {
    this.checkDevice();
    if (current) {
      throw new GpuError("read: not inside a captured step; return the tensor and read the step's output");
    }
  }

  #within(region: CaptureRegion, list: CommandList | null, step: () => void): void {
    const run = list ?? {};
    this.#run = run;
    this.#set(this, { region, run }, list);
    this.#epoch++;
    try {
      step();
    } finally {
      this.#epoch++;
      this.#set(null, null, null);
    }
  }

  #set(capturing: Captures | null, lending: Pool["lending"], list: CommandList | null): void {
    current = capturing;
    this.#pool.lending = lending;
    this.#recorder.list = list;
  }
}
