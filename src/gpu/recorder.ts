import { settle } from "../platform/index.ts";
import { BindGroups } from "./bind-groups.ts";
import type { CommandList } from "./command-list.ts";
import {
  type Binding,
  type Bindings,
  checkBindings,
  countWrites,
  type DispatchNote,
  type Grid,
  type Params,
  ParamWords,
  type Work,
} from "./dispatch.ts";
import type { Kernel } from "./kernel.ts";
import { GPU_USAGE, isBuffer, type PoolBuffer, type ScratchTexture, sizeClass } from "./pool.ts";
import { SCRATCH_ROW_BYTES, SCRATCH_WIDTH } from "./scratch.ts";
import { type CommandQueue, SerialQueue } from "./serial-queue.ts";

/** Records a dispatch; into a pass of its own where one is described. */
export type Encode = (timed?: Timed) => void;
export type Timed = () => GPUComputePassDescriptor;

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
const NO_OFFSETS: readonly number[] = [];

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
  readonly #ringWords = new ParamWords(RING_BYTES);
  readonly #bindGroups: BindGroups;
  readonly #staging = new Map<number, GPUBuffer[]>();
  readonly #check: () => void;
  /** Takes the commands of a step that is being captured; null: they run. */
  list: CommandList | null = null;
  #capturedGroups = 0;
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

  dispatch(kernel: Kernel, bindings: Bindings, params: Params, grid: Grid, work?: Work): void {
    const { list, watcher, op } = this;
    if (list) list.dispatch({ kernel, bindings, work, op }, params, grid);
    else if (watcher) {
      watcher.dispatch({ kernel, bindings, work, op }, (timed) =>
        this.encode(kernel, bindings, params, grid, timed),
      );
    } else this.encode(kernel, bindings, params, grid);
    if (!list) this.#dispatches++;
  }

  /** Records one dispatch that nobody looks on at or counts; into a pass of its own where `timed` describes one. */
  encode(kernel: Kernel, bindings: Bindings, params: Params, grid: Grid, timed?: Timed): void {
    checkBindings(kernel, bindings);
    const group = this.#bindGroups.get(kernel, bindings);
    const slotBytes = kernel.layout.params?.bytes ?? 0;
    // Before the buffers are marked as used by this batch: a flush begins the next one.
    if (this.#ringUsed + slotBytes + this.#slotAlign > RING_BYTES) this.flush();
    this.#ringWords.write(kernel, params, this.#ringUsed);
    for (const name in bindings) (bindings[name] as Binding).buffer.batch = this.#batch;
    countWrites(kernel, bindings);
    this.#offsets[0] = this.#ringUsed;
    this.#ringUsed += Math.ceil(slotBytes / this.#slotAlign) * this.#slotAlign;
    const offsets = slotBytes > 0 ? this.#offsets : NO_OFFSETS;
    this.#encode(kernel, group, offsets, grid, timed);
  }

  /** Copies bytes between buffers, or whole rows to a texture, in order with the dispatches. */
  copy(
    source: PoolBuffer,
    sourceOffset: number,
    target: PoolBuffer | ScratchTexture,
    targetOffset: number,
    bytes: number,
  ): void {
    if (this.list) {
      this.list.copy(source, sourceOffset, target, targetOffset, bytes);
      return;
    }
    const encoder = this.#closePass();
    if (isBuffer(target))
      encoder.copyBufferToBuffer(source.gpu, sourceOffset, target.gpu, targetOffset, bytes);
    else {
      const rows = { buffer: source.gpu, offset: sourceOffset, bytesPerRow: SCRATCH_ROW_BYTES };
      const place = { texture: target.texture, origin: [0, targetOffset / SCRATCH_ROW_BYTES] };
      encoder.copyBufferToTexture(rows, place, [SCRATCH_WIDTH, bytes / SCRATCH_ROW_BYTES]);
    }
    source.batch = target.batch = this.#batch;
    target.version++;
    this.#pending++;
  }

  /** Sets a buffer to zeros, in order with the dispatches. */
  clear(target: PoolBuffer): void {
    this.#closePass().clearBuffer(target.gpu);
    target.version++;
    target.batch = this.#batch;
    this.#pending++;
  }

  /** Writes bytes into a buffer, after every command already recorded that uses it. */
  upload(target: PoolBuffer, offset: number, data: ArrayBufferView<ArrayBuffer>): void {
    // queue.writeBuffer overtakes commands that are recorded but not submitted.
    if (target.batch === this.#batch && this.#encoder) this.flush();
    this.queue.writeBuffer(target.gpu, offset, data.buffer, data.byteOffset, data.byteLength);
    target.version++;
  }

  /** Makes a captured list ready for replays. */
  seal(list: CommandList, uniforms: PoolBuffer | null): void {
    list.seal(this.#device, uniforms);
    if (uniforms) this.upload(uniforms, 0, list.params);
    this.#capturedGroups += list.bindGroups;
  }

  /** Records a sealed list again: nothing is checked, written or created. */
  replay(list: CommandList): void {
    this.#check();
    for (const command of list.commands) {
      if (command.kernel) {
        const { kernel, note, group, offsets, grid } = command;
        if (this.watcher)
          this.watcher.dispatch(note, (timed) => this.#encode(kernel, group, offsets, grid, timed));
        else this.#encode(kernel, group, offsets, grid);
        this.#dispatches++;
      } else {
        const { source, sourceOffset, target, targetOffset, bytes } = command;
        this.copy(source, sourceOffset, target, targetOffset, bytes);
      }
    }
    // Conservative where the list was submitted in parts: an upload then flushes once more.
    for (const buffer of list.buffers) buffer.batch = this.#batch;
    for (const buffer of list.written) buffer.version++;
  }

  /** Forgets a sealed list. */
  discard(list: CommandList): void {
    this.#capturedGroups -= list.bindGroups;
    list.dispose();
  }

  /** Submits what is recorded. */
  flush(): void {
    this.#check();
    if (!this.#encoder) return;
    const encoder = this.#closePass();
    this.watcher?.submitting(encoder);
    if (this.#ringUsed > 0)
      this.queue.writeBuffer(this.#ring, 0, this.#ringWords.words.buffer, 0, this.#ringUsed);
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
    const bindGroups = this.#bindGroups.size + this.#capturedGroups;
    return { dispatches: this.#dispatches, submits: this.#submits, bindGroups };
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

  #encode(kernel: Kernel, group: GPUBindGroup, offsets: readonly number[], grid: Grid, timed?: Timed): void {
    const pass = timed ? this.#closePass().beginComputePass(timed()) : this.#openPass();
    if (this.#current !== kernel) pass.setPipeline(kernel.pipeline);
    this.#current = timed ? null : kernel;
    pass.setBindGroup(0, group, offsets);
    pass.dispatchWorkgroups(grid[0], grid[1], grid[2]);
    if (timed) pass.end();
    if (++this.#pending >= DISPATCHES_PER_SUBMIT) this.flush();
  }

  /** Lets go of buffers before the pool destroys them, and of those that were read through. */
  forget(): void {
    if (this.queue instanceof SerialQueue) this.queue.runNow();
    this.#bindGroups.clear();
    for (const list of this.#staging.values()) for (const buffer of list) buffer.destroy();
    this.#staging.clear();
  }
}

const MAP_MODE_READ = 1; // GPUMapMode.READ
