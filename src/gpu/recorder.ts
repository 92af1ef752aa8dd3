import { settle } from "../platform/index.ts";
import { GpuError, ShapeError } from "./errors.ts";
import type { Kernel } from "./kernel.ts";
import { GPU_USAGE, type PoolBuffer, sizeClass } from "./pool.ts";

/** A range of one buffer as a kernel sees it. `offset` is a multiple of the device's storage alignment. */
export interface Binding {
  readonly buffer: PoolBuffer;
  readonly offset: number;
  readonly bytes: number;
}

export type ParamValue = number | readonly number[];
/** Workgroups in x, y, z. One-dimensional grids beyond 65,535 are folded by `grid1d`. */
export type Grid = readonly [number, number, number];

/** Counts since the device was made: what a step that has settled down must not raise any more. */
export interface RecorderStatistics {
  readonly dispatches: number;
  readonly submits: number;
  readonly bindGroups: number;
}

const RING_BYTES = 1 << 18;
const DISPATCHES_PER_SUBMIT = 256;
const MAX_GROUPS = 65_535;
const MAX_BIND_GROUPS = 32_768;

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
  readonly #bindGroups = new Map<string, GPUBindGroup>();
  readonly #staging = new Map<number, GPUBuffer[]>();
  readonly #check: () => void;
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

  dispatch(
    kernel: Kernel,
    bindings: Readonly<Record<string, Binding>>,
    params: Readonly<Record<string, ParamValue>>,
    grid: Grid,
  ): void {
    const slotBytes = kernel.layout.params?.bytes ?? 0;
    // Before the buffers are marked as used by this batch: a flush begins the next one.
    if (this.#ringUsed + slotBytes + this.#slotAlign > RING_BYTES) this.flush();
    const group = this.#bindGroup(kernel, bindings);
    this.#writeParams(kernel, params);
    const pass = this.#openPass();
    pass.setPipeline(kernel.pipeline);
    if (kernel.layout.params) {
      pass.setBindGroup(0, group, [this.#ringUsed]);
      this.#ringUsed += Math.ceil(slotBytes / this.#slotAlign) * this.#slotAlign;
    } else {
      pass.setBindGroup(0, group);
    }
    pass.dispatchWorkgroups(grid[0], grid[1], grid[2]);
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

  /** Writes bytes into a buffer, after every command already recorded that uses it. */
  upload(target: PoolBuffer, offset: number, data: ArrayBufferView<ArrayBuffer>): void {
    // queue.writeBuffer overtakes commands that are recorded but not submitted.
    if (target.batch === this.#batch && this.#encoder) this.flush();
    this.#device.queue.writeBuffer(target.gpu, offset, data.buffer, data.byteOffset, data.byteLength);
  }

  /** Submits what is recorded. */
  flush(): void {
    this.#check();
    if (!this.#encoder) return;
    const encoder = this.#closePass();
    if (this.#ringUsed > 0)
      this.#device.queue.writeBuffer(this.#ring, 0, this.#ringWords.buffer, 0, this.#ringUsed);
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
    this.#encoder ??= this.#device.createCommandEncoder();
    return this.#encoder;
  }

  #bindGroup(kernel: Kernel, bindings: Readonly<Record<string, Binding>>): GPUBindGroup {
    const wanted = kernel.layout.bindings;
    let key = `${kernel.id}`;
    for (const { name } of wanted) {
      const binding = bindings[name];
      if (!binding) throw new GpuError(`${kernel.label}: no buffer passed for "${name}"`);
      binding.buffer.batch = this.#batch;
      key += `:${binding.buffer.id},${binding.offset},${binding.bytes}`;
    }
    const names = Object.keys(bindings);
    if (names.length > wanted.length) {
      const extra = names.filter((name) => !wanted.some((b) => b.name === name));
      throw new GpuError(`${kernel.label}: has no binding named ${extra.join(", ")}`);
    }
    let group = this.#bindGroups.get(key);
    if (!group) {
      // Batches of ever new lengths would collect groups without end.
      if (this.#bindGroups.size >= MAX_BIND_GROUPS) this.#bindGroups.clear();
      group = this.#createBindGroup(kernel, bindings);
      this.#bindGroups.set(key, group);
    }
    return group;
  }

  /** Forgets cached bind groups: they would hold on to buffers that the pool destroys. */
  forget(): void {
    this.#bindGroups.clear();
  }

  #createBindGroup(kernel: Kernel, bindings: Readonly<Record<string, Binding>>): GPUBindGroup {
    const entries: GPUBindGroupEntry[] = kernel.layout.bindings.map(({ name, binding }) => {
      const { buffer, offset, bytes } = bindings[name] as Binding;
      return { binding, resource: { buffer: buffer.gpu, offset, size: bytes } };
    });
    const { params } = kernel.layout;
    if (params)
      entries.push({ binding: params.binding, resource: { buffer: this.#ring, size: params.bytes } });
    return this.#device.createBindGroup({ label: kernel.label, layout: kernel.bindGroupLayout, entries });
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
