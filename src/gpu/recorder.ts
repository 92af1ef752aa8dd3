import { settle } from "../platform/index.ts";
import { BindGroups, type Binding, type BoundArray } from "./bind-groups.ts";
import { ShapeError } from "./errors.ts";
import type { Kernel } from "./kernel.ts";
import { GPU_USAGE, type PoolBuffer, sizeClass } from "./pool.ts";
import { type CommandQueue, SerialQueue } from "./serial-queue.ts";

export type ParamValue = number | readonly number[];
/** Workgroups in x, y, z. One-dimensional grids beyond 65,535 are folded by `grid1d`. */
export type Grid = readonly [number, number, number];

/** What an op can say about one dispatch. Only looked at while a device is profiled or traced. */
export interface Work {
  /** Floating-point operations. */
  readonly flops?: number;
  /** Where a kernel is handed a whole storage: the strided part that it reads or writes, by binding. */
  readonly parts?: Readonly<Record<string, BoundPart>>;
}

/** `offset` and `strides` count elements from the start of the binding. */
export interface BoundPart extends BoundArray {
  readonly offset: number;
  readonly strides: readonly number[];
}

/** A dispatch, as it is told to those who look on. */
export interface DispatchNote {
  readonly kernel: Kernel;
  readonly bindings: Readonly<Record<string, Binding>>;
  readonly work: Work | undefined;
  /** "layerNorm", "layerNorm backward"; null outside of any op. */
  readonly op: string | null;
}

/** Records a dispatch; into a pass of its own where one is described. */
export type Encode = (timed?: () => GPUComputePassDescriptor) => void;

/** Looks on while a device is profiled or traced; see watch.ts. */
export interface Watcher {
  /** Calls `encode`, which records the dispatch. */
  dispatch(note: DispatchNote, encode: Encode): void;
  /** The last chance to add commands to a submit. */
  submitting(encoder: GPUCommandEncoder): void;
  submitted(): void;
  /** Awaited before what was read is handed out, and at the end of each wait. */
  waited(): Promise<void>;
}

/** Counts since the device was made: what a step that has settled down must not raise any more. */
export interface RecorderStatistics {
  readonly dispatches: number;
  readonly submits: number;
  readonly bindGroups: number;
}

const RING_BYTES = 1 << 18;
const DISPATCHES_PER_SUBMIT = 256;
const MAX_GROUPS = 65_535;

/** Folds a one-dimensional grid into two dimensions; the kernel unfolds it with lib/grid. */
export function grid1d(groups: number): Grid {
  if (groups <= MAX_GROUPS) return [Math.max(groups, 1), 1, 1];
  const y = Math.ceil(groups / MAX_GROUPS);
  return [Math.ceil(groups / y), y, 1];
}

/**
 * Records dispatches into one pass and submits them together.
 *
 * Parameters of all dispatches of a submit lie in one uniform buffer that is written once, just before
 * the submit; each dispatch names its slot by a dynamic offset. Queue order makes one buffer enough: the
 * write for the next submit happens after this submit has read it.
 */
export class Recorder {
  readonly #device: GPUDevice;
  readonly #slotAlign: number;
  readonly #polite: boolean;
  readonly #ring: GPUBuffer;
  readonly #ringWords = new Uint32Array(RING_BYTES / 4);
  readonly #ringFloats = new Float32Array(this.#ringWords.buffer);
  readonly #ringInts = new Int32Array(this.#ringWords.buffer);
  readonly #bindGroups: BindGroups;
  readonly #staging = new Map<number, GPUBuffer[]>();
  readonly #check: () => void;
  #encoder: GPUCommandEncoder | null = null;
  #pass: GPUComputePassEncoder | null = null;
  /** The kernel that the pass is set to. */
  #current: Kernel | null = null;
  readonly #offsets = [0];
  #ringUsed = 0;
  #pending = 0;
  #batch = 1;
  #dispatches = 0;
  #submits = 0;
  #inFlight: Promise<unknown>[] = [];
  /** Who looks on, if anyone. */
  watcher: Watcher | null = null;
  /** Name of the running op, for who looks on. */
  op: string | null = null;
  /** The device's queue, or one that holds commands back so that each can be timed. */
  queue: CommandQueue;

  /** `check` throws the device's first error, if there is one. */
  constructor(device: GPUDevice, polite: boolean, check: () => void) {
    this.#device = device;
    this.#polite = polite;
    this.#check = check;
    this.queue = device.queue;
    this.#slotAlign = device.limits.minUniformBufferOffsetAlignment;
    this.#ring = device.createBuffer({
      label: "params",
      size: RING_BYTES,
      usage: GPU_USAGE.UNIFORM | GPU_USAGE.COPY_DST,
    });
    this.#bindGroups = new BindGroups(device, this.#ring);
  }

  dispatch(
    kernel: Kernel,
    bindings: Readonly<Record<string, Binding>>,
    params: Readonly<Record<string, ParamValue>>,
    grid: Grid,
    work?: Work,
  ): void {
    if (this.watcher) {
      const note = { kernel, bindings, work, op: this.op };
      this.watcher.dispatch(note, (timed) => this.encode(kernel, bindings, params, grid, timed));
    } else this.encode(kernel, bindings, params, grid);
  }

  /** Records one dispatch; into a pass of its own where `timed` describes one. */
  encode(
    kernel: Kernel,
    bindings: Readonly<Record<string, Binding>>,
    params: Readonly<Record<string, ParamValue>>,
    grid: Grid,
    timed?: () => GPUComputePassDescriptor,
  ): void {
    const slotBytes = kernel.layout.params?.bytes ?? 0;
    // Before the buffers are marked as used by this batch: a flush begins the next one.
    if (this.#ringUsed + slotBytes + this.#slotAlign > RING_BYTES) this.flush();
    const group = this.#bindGroups.get(kernel, bindings, this.#batch);
    this.#writeParams(kernel, params);
    const pass = timed ? this.#closePass().beginComputePass(timed()) : this.#openPass();
    if (this.#current !== kernel) pass.setPipeline(kernel.pipeline);
    this.#current = timed ? null : kernel;
    if (kernel.layout.params) {
      this.#offsets[0] = this.#ringUsed;
      pass.setBindGroup(0, group, this.#offsets);
      this.#ringUsed += Math.ceil(slotBytes / this.#slotAlign) * this.#slotAlign;
    } else {
      pass.setBindGroup(0, group);
    }
    pass.dispatchWorkgroups(grid[0], grid[1], grid[2]);
    if (timed) pass.end();
    this.#dispatches++;
    if (++this.#pending >= DISPATCHES_PER_SUBMIT) this.flush();
  }

  /** Copies bytes between buffers, in order with the dispatches. */
  copy(
    source: PoolBuffer,
    sourceOffset: number,
    target: PoolBuffer,
    targetOffset: number,
    bytes: number,
  ): void {
    const encoder = this.#closePass();
    encoder.copyBufferToBuffer(source.gpu, sourceOffset, target.gpu, targetOffset, bytes);
    source.batch = target.batch = this.#batch;
    this.#pending++;
  }

  /** Sets a buffer to zeros, in order with the dispatches. */
  clear(target: PoolBuffer): void {
    this.#closePass().clearBuffer(target.gpu);
    target.batch = this.#batch;
    this.#pending++;
  }

  /** Writes bytes into a buffer, after every command already recorded that uses it. */
  upload(target: PoolBuffer, offset: number, data: ArrayBufferView<ArrayBuffer>): void {
    // queue.writeBuffer overtakes commands that are recorded but not submitted.
    if (target.batch === this.#batch && this.#encoder) this.flush();
    this.queue.writeBuffer(target.gpu, offset, data.buffer, data.byteOffset, data.byteLength);
  }

  /** Submits what is recorded. */
  flush(): void {
    this.#check();
    if (!this.#encoder) return;
    const encoder = this.#closePass();
    this.watcher?.submitting(encoder);
    if (this.#ringUsed > 0) this.queue.writeBuffer(this.#ring, 0, this.#ringWords.buffer, 0, this.#ringUsed);
    this.queue.submit([encoder.finish()]);
    this.#encoder = null;
    this.#ringUsed = 0;
    this.#pending = 0;
    this.#batch++;
    this.#submits++;
    this.#check();
    this.watcher?.submitted();
  }

  /** Reads bytes back: the only wait of the engine. */
  async read(source: PoolBuffer, offset: number, bytes: number): Promise<ArrayBuffer> {
    const result = await this.fetch(source, offset, bytes);
    if (this.watcher) await this.watcher.waited();
    return result;
  }

  /** `read` for those who look on. */
  async fetch(source: PoolBuffer, offset: number, bytes: number): Promise<ArrayBuffer> {
    const size = sizeClass(bytes);
    const staging =
      this.#staging.get(size)?.pop() ??
      this.#device.createBuffer({ label: "read", size, usage: GPU_USAGE.MAP_READ | GPU_USAGE.COPY_DST });
    const encoder = this.#closePass();
    encoder.copyBufferToBuffer(source.gpu, offset, staging, 0, Math.ceil(bytes / 4) * 4);
    this.flush();
    if (this.queue instanceof SerialQueue) await this.queue.drain();
    await this.wait(staging.mapAsync(MAP_MODE_READ, 0, size));
    this.#check();
    const result = staging.getMappedRange(0, Math.ceil(bytes / 4) * 4).slice(0, bytes);
    staging.unmap();
    const list = this.#staging.get(size);
    if (list) list.push(staging);
    else this.#staging.set(size, [staging]);
    return result;
  }

  /** Submits, and waits until the device has done everything but the last `ahead` calls' work. */
  async throttle(ahead = 0): Promise<void> {
    this.flush();
    if (this.queue instanceof SerialQueue) await this.queue.drain();
    this.#inFlight.push(this.queue.onSubmittedWorkDone());
    while (this.#inFlight.length > ahead) await this.wait(this.#inFlight.shift() as Promise<unknown>);
    this.#check();
    if (this.watcher) await this.watcher.waited();
  }

  /** Waits for a promise of the device, politely on software adapters. */
  wait<T>(promise: Promise<T>): Promise<T> {
    return settle(promise, this.#polite);
  }

  statistics(): RecorderStatistics {
    return { dispatches: this.#dispatches, submits: this.#submits, bindGroups: this.#bindGroups.size };
  }

  #openPass(): GPUComputePassEncoder {
    this.#encoder ??= this.#device.createCommandEncoder();
    this.#pass ??= this.#encoder.beginComputePass();
    return this.#pass;
  }

  #closePass(): GPUCommandEncoder {
    this.#pass?.end();
    this.#pass = null;
    this.#current = null;
    this.#encoder ??= this.#device.createCommandEncoder();
    return this.#encoder;
  }

  /** Lets go of buffers before the pool destroys them, and of those that were read through. */
  forget(): void {
    if (this.queue instanceof SerialQueue) this.queue.runNow();
    this.#bindGroups.clear();
    for (const list of this.#staging.values()) for (const buffer of list) buffer.destroy();
    this.#staging.clear();
  }

  #writeParams(kernel: Kernel, params: Readonly<Record<string, ParamValue>>): void {
    const base = this.#ringUsed / 4;
    const fields = kernel.layout.params?.fields ?? [];
    const names = Object.keys(params);
    if (names.length > fields.length) {
      const extra = names.filter((name) => !fields.some((field) => field.name === name));
      throw new ShapeError(`${kernel.label}: has no parameter named ${extra.join(", ")}`);
    }
    for (const field of fields) {
      const value = params[field.name];
      if (value === undefined)
        throw new ShapeError(`${kernel.label}: no value passed for parameter "${field.name}"`);
      const target =
        field.type === "f32" ? this.#ringFloats : field.type === "i32" ? this.#ringInts : this.#ringWords;
      if (typeof value === "number") target[base + field.offset] = value;
      else for (let i = 0; i < field.count; i++) target[base + field.offset + i] = value[i] ?? 0;
    }
  }
}

const MAP_MODE_READ = 1; // GPUMapMode.READ
