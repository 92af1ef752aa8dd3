import { settle } from "../platform/index.ts";
import type { CommandList } from "./command-list.ts";
import {
  type Binding,
  type Bindings,
  bindGroupKey,
  countWrites,
  createBindGroup,
  type Grid,
  type Params,
  ParamWords,
} from "./dispatch.ts";
import type { Kernel } from "./kernel.ts";
import { GPU_USAGE, type PoolBuffer, sizeClass } from "./pool.ts";

/** Counts since the device was made: what a step that has settled down must not raise any more. */
export interface RecorderStatistics {
  readonly dispatches: number;
  readonly submits: number;
  readonly bindGroups: number;
}

const RING_BYTES = 1 << 18;
const DISPATCHES_PER_SUBMIT = 256;
const MAX_BIND_GROUPS = 32_768;

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
  readonly #bindGroups = new Map<string, GPUBindGroup>();
  readonly #staging = new Map<number, GPUBuffer[]>();
  readonly #check: () => void;
  /** Takes the commands of a step that is being captured; null: they run. */
  list: CommandList | null = null;
  #capturedGroups = 0;
  #encoder: GPUCommandEncoder | null = null;
  #pass: GPUComputePassEncoder | null = null;
  #ringUsed = 0;
  #pending = 0;
  #batch = 1;
  #dispatches = 0;
  #submits = 0;
  #inFlight: Promise<unknown>[] = [];

  /** `check` throws the device's first error, if there is one. */
  constructor(device: GPUDevice, polite: boolean, check: () => void) {
    this.#device = device;
    this.#polite = polite;
    this.#check = check;
    this.#slotAlign = device.limits.minUniformBufferOffsetAlignment;
    this.#ring = device.createBuffer({
      label: "params",
      size: RING_BYTES,
      usage: GPU_USAGE.UNIFORM | GPU_USAGE.COPY_DST,
    });
  }

  dispatch(kernel: Kernel, bindings: Bindings, params: Params, grid: Grid): void {
    if (this.list) {
      this.list.dispatch(kernel, bindings, params, grid);
      return;
    }
    const slotBytes = kernel.layout.params?.bytes ?? 0;
    // Before the buffers are marked as used by this batch: a flush begins the next one.
    if (this.#ringUsed + slotBytes + this.#slotAlign > RING_BYTES) this.flush();
    const group = this.#bindGroup(kernel, bindings);
    this.#ringWords.write(kernel, params, this.#ringUsed);
    const offsets = kernel.layout.params ? [this.#ringUsed] : [];
    this.#ringUsed += Math.ceil(slotBytes / this.#slotAlign) * this.#slotAlign;
    this.#encode(kernel, group, offsets, grid);
  }

  /** Copies bytes between buffers, in order with the dispatches. */
  copy(
    source: PoolBuffer,
    sourceOffset: number,
    target: PoolBuffer,
    targetOffset: number,
    bytes: number,
  ): void {
    if (this.list) {
      this.list.copy(source, sourceOffset, target, targetOffset, bytes);
      return;
    }
    const encoder = this.#closePass();
    encoder.copyBufferToBuffer(source.gpu, sourceOffset, target.gpu, targetOffset, bytes);
    source.batch = target.batch = this.#batch;
    target.version++;
    this.#pending++;
  }

  /** Writes bytes into a buffer, after every command already recorded that uses it. */
  upload(target: PoolBuffer, offset: number, data: ArrayBufferView<ArrayBuffer>): void {
    // queue.writeBuffer overtakes commands that are recorded but not submitted.
    if (target.batch === this.#batch && this.#encoder) this.flush();
    this.#device.queue.writeBuffer(target.gpu, offset, data.buffer, data.byteOffset, data.byteLength);
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
      if (command.kernel) this.#encode(command.kernel, command.group, command.offsets, command.grid);
      else {
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
    if (this.#ringUsed > 0)
      this.#device.queue.writeBuffer(this.#ring, 0, this.#ringWords.words, 0, this.#ringUsed / 4);
    this.#device.queue.submit([encoder.finish()]);
    this.#encoder = null;
    this.#ringUsed = 0;
    this.#pending = 0;
    this.#batch++;
    this.#submits++;
    this.#check();
  }

  /** Reads bytes back: the only wait of the engine. */
  async read(source: PoolBuffer, offset: number, bytes: number): Promise<ArrayBuffer> {
    const size = sizeClass(bytes);
    const staging =
      this.#staging.get(size)?.pop() ??
      this.#device.createBuffer({ label: "read", size, usage: GPU_USAGE.MAP_READ | GPU_USAGE.COPY_DST });
    const encoder = this.#closePass();
    encoder.copyBufferToBuffer(source.gpu, offset, staging, 0, Math.ceil(bytes / 4) * 4);
    this.flush();
    await settle(staging.mapAsync(MAP_MODE_READ, 0, size), this.#polite);
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
    this.#inFlight.push(this.#device.queue.onSubmittedWorkDone());
    while (this.#inFlight.length > ahead)
      await settle(this.#inFlight.shift() as Promise<unknown>, this.#polite);
    this.#check();
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
    this.#encoder ??= this.#device.createCommandEncoder();
    return this.#encoder;
  }

  #encode(kernel: Kernel, group: GPUBindGroup, offsets: readonly number[], grid: Grid): void {
    const pass = this.#openPass();
    pass.setPipeline(kernel.pipeline);
    pass.setBindGroup(0, group, offsets);
    pass.dispatchWorkgroups(grid[0], grid[1], grid[2]);
    this.#dispatches++;
    if (++this.#pending >= DISPATCHES_PER_SUBMIT) this.flush();
  }

  #bindGroup(kernel: Kernel, bindings: Bindings): GPUBindGroup {
    const key = bindGroupKey(kernel, bindings);
    for (const name in bindings) (bindings[name] as Binding).buffer.batch = this.#batch;
    countWrites(kernel, bindings);
    let group = this.#bindGroups.get(key);
    if (!group) {
      // Batches of ever new lengths would collect groups without end.
      if (this.#bindGroups.size >= MAX_BIND_GROUPS) this.#bindGroups.clear();
      group = createBindGroup(this.#device, kernel, bindings, this.#ring);
      this.#bindGroups.set(key, group);
    }
    return group;
  }

  /** Forgets cached bind groups: they would hold on to buffers that the pool destroys. */
  forget(): void {
    this.#bindGroups.clear();
  }
}

const MAP_MODE_READ = 1; // GPUMapMode.READ
