import {
  debugLevel,
  env,
  type FoundAdapter,
  findAdapter,
  markFailed,
  numberFromEnv,
  paperDevice,
} from "../platform/index.ts";
import { Captures } from "./captures.ts";
import type { Bindings, Grid, Params, Work } from "./dispatch.ts";
import { DispatchList } from "./dispatch-list.ts";
import { GpuError } from "./errors.ts";
import { KernelCache, type KernelSpec } from "./kernel.ts";
import { LeakReporter } from "./leaks.ts";
import { MemoryLedger, showLargest } from "./ledger.ts";
import { chooseMatrices, type MatrixConfig, type MatrixSizes } from "./matrix-sizes.ts";
import { Pool, type PoolBuffer, type PoolStatistics, type ScratchTexture, type Wanted } from "./pool.ts";
import { Recorder, type RecorderStatistics } from "./recorder.ts";
import { ScratchTextures } from "./scratch.ts";
import { Watch } from "./watch.ts";

/** What kernels are chosen by. */
export interface DeviceTraits {
  readonly name: string;
  readonly kind: "hardware" | "software";
  /** Which variants of kernels run: `kind`, unless ADAMIX_KERNELS says otherwise. */
  readonly kernels: "hardware" | "software";
  /** Lanes of a subgroup where that is one fixed number, else 0. */
  readonly subgroupSize: number;
  /** Matrices that a subgroup multiplies, for operands in f16; null: none. */
  readonly matrices: MatrixSizes | null;
  readonly features: ReadonlySet<string>;
  /** Largest single binding, in bytes. Longer storage is cut into chunks. */
  readonly maxBindingBytes: number;
  /** Bytes that the start of a binding must be a multiple of. */
  readonly alignment: number;
}

const MATRICES = "chromium-experimental-subgroup-matrix";
const WANTED_FEATURES = ["subgroups", "shader-f16", "timestamp-query", MATRICES] as GPUFeatureName[]; // the last is experimental
const WANTED_LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
] as const;

/**
 * One WebGPU device with everything that belongs to it: buffers, kernels, recorded commands.
 * There is no module singleton: two devices in one process work side by side.
 */
export class Device {
  readonly traits: DeviceTraits;
  readonly adapter: FoundAdapter;
  readonly pool: Pool;
  readonly recorder: Recorder;
  readonly kernels: KernelCache;
  readonly captures: Captures;
  /** What is alive, by scope. */
  readonly ledger = new MemoryLedger();
  /** The profiler, the listing of ADAMIX_DEBUG and the tracer of NaN. */
  readonly watch: Watch;
  /** Reports tensors that were lost; null unless ADAMIX_DEBUG is 1 or more. */
  readonly leaks: LeakReporter | null;
  readonly #device: GPUDevice;
  readonly #scratch: ScratchTextures;
  #failure: GpuError | null = null;
  #closed = false;

  private constructor(
    found: FoundAdapter,
    device: GPUDevice,
    budgetBytes = numberFromEnv("ADAMIX_MEMORY_MB", 16_384) * 2 ** 20,
  ) {
    this.adapter = found;
    this.#device = device;
    this.traits = traitsOf(found, device);
    device.onuncapturederror = (event) => {
      if (this.kernels.takeError(event.error.message)) event.preventDefault();
      else this.#fail(event.error.message);
    };
    void device.lost.then((info) => {
      if (!this.#closed) this.#fail(`device lost: ${info.message || info.reason}`);
    });
    const debug = debugLevel();
    this.pool = new Pool(device, budgetBytes, () => `the largest are ${showLargest(this.ledger.largest(5))}`);
    this.#scratch = new ScratchTextures(this.pool);
    this.kernels = new KernelCache(device, debug >= 2 ? printCode : null);
    this.recorder = new Recorder(device, found.kind === "software", () => this.#throwFailure());
    this.captures = new Captures(this.pool, this.recorder, {
      slotAlign: device.limits.minUniformBufferOffsetAlignment,
      acquire: (bytes) => this.acquire(bytes),
    });
    this.watch = new Watch(device, this.recorder, this.kernels, this.pool);
    this.leaks = debug >= 1 ? new LeakReporter(printLine) : null;
    if (debug >= 1) void this.watch.add(new DispatchList(printLine, this.watch.hasTimestamps));
    if (debug >= 3) this.watch.startTracing();
  }

  /**
   * Opens a device. `choice`: `auto` (hardware, else the system's software driver, else the embedded
   * one), `gpu`, `software`, or part of an adapter's name. Default: ADAMIX_DEVICE, else `auto`.
   */
  static async open(choice?: string): Promise<Device> {
    const found = await findAdapter(choice);
    const features = WANTED_FEATURES.filter((name) => found.adapter.features.has(name));
    const requiredLimits: Record<string, number> = {};
    if (raisesLimits()) for (const name of WANTED_LIMITS) requiredLimits[name] = found.adapter.limits[name];
    const device = await found.adapter.requestDevice({ requiredFeatures: [...features], requiredLimits });
    return new Device(found, device);
  }

  /**
   * A device on paper: everything is checked, recorded and accounted for as on a GPU, nothing is allocated and nothing
   * runs. Reads give zeros. So models of any size can be built and trained to see what it would take.
   */
  static onPaper(): Device {
    const { found, device } = paperDevice();
    return new Device(found, device, Number.POSITIVE_INFINITY);
  }

  run(spec: KernelSpec, bindings: Bindings, params: Params, grid: Grid, work?: Work): void {
    this.#throwFailure();
    this.captures.checkDevice();
    this.recorder.dispatch(this.kernels.get(spec), bindings, params, grid, work);
  }

  acquire(bytes: number, wanted?: Wanted): PoolBuffer {
    this.#throwFailure();
    this.#makeRoom(bytes, wanted);
    const buffer = this.pool.acquire(bytes, wanted);
    if (this.watch.isTracing) this.recorder.clear(buffer);
    return buffer;
  }

  /**
   * The scratch texture of a slot, of at least so many texels. What it holds is what was last copied to it. Pin it
   * as long as it is used: whoever needs memory trims.
   */
  scratch(slot: number, texels: number): ScratchTexture {
    this.#throwFailure();
    const found = this.#scratch.find(slot, texels);
    if (found) return found;
    this.recorder.flush();
    this.#scratch.trimSlot(slot);
    this.#makeRoom(this.#scratch.bytesFor(texels));
    return this.#scratch.grow(slot, texels);
  }

  /** Gives the memory that waits for reuse back to the driver. */
  trim(): void {
    this.recorder.flush();
    this.recorder.forget();
    this.#scratch.trim();
    this.pool.trim();
  }

  #makeRoom(bytes: number, wanted?: Wanted): void {
    if (!this.pool.fits(bytes, wanted)) this.trim();
    if (this.pool.fits(bytes, wanted)) return;
    this.captures.reclaim();
    this.trim();
  }

  statistics(): PoolStatistics & RecorderStatistics & { readonly kernels: number } {
    return { ...this.pool.statistics(), ...this.recorder.statistics(), kernels: this.kernels.count };
  }

  /** The adapter's limits and features, for reports. */
  describe(): { readonly limits: Record<string, number>; readonly features: readonly string[] } {
    const limits: Record<string, number> = {};
    for (const name of [
      ...WANTED_LIMITS,
      "minStorageBufferOffsetAlignment",
      "minUniformBufferOffsetAlignment",
    ] as const)
      limits[name] = this.#device.limits[name];
    return { limits, features: [...this.traits.features] };
  }

  /** Waits for running work, then gives the device back. */
  async close(): Promise<void> {
    if (this.#closed) return;
    try {
      await this.recorder.throttle();
    } finally {
      this.#closed = true;
      this.leaks?.end();
      this.#device.destroy();
    }
  }

  #fail(message: string): void {
    markFailed();
    this.#failure ??= new GpuError(message);
  }

  #throwFailure(): void {
    if (this.#closed) throw new GpuError("device: it is closed; open another with Device.open()");
    if (this.#failure) throw this.#failure;
  }
}

function traitsOf(found: FoundAdapter, device: GPUDevice): DeviceTraits {
  const { subgroupMinSize, subgroupMaxSize } = found.adapter.info;
  const fixed = device.features.has("subgroups") && subgroupMinSize === subgroupMaxSize;
  // 256 suits every adapter known, and keeps offsets the same on all of them.
  const alignment = Math.max(256, device.limits.minStorageBufferOffsetAlignment);
  const { maxBufferSize, maxStorageBufferBindingSize } = device.limits;
  const maxBindingBytes = numberFromEnv(
    "ADAMIX_MAX_BINDING_BYTES",
    Math.min(maxBufferSize, maxStorageBufferBindingSize),
  );
  return {
    name: found.name,
    kind: found.kind,
    kernels: kernelsFromEnv() ?? found.kind,
    subgroupSize: fixed ? subgroupMinSize : 0,
    matrices: matricesOf(found, device, fixed ? subgroupMinSize : 0),
    features: new Set(device.features),
    maxBindingBytes: Math.max(maxBindingBytes, alignment),
    alignment,
  };
}

function matricesOf(found: FoundAdapter, device: GPUDevice, subgroup: number): MatrixSizes | null {
  const wanted = env("ADAMIX_MATRICES") ?? "auto";
  if (wanted !== "auto" && wanted !== "off")
    throw new Error(`env: ADAMIX_MATRICES is "${wanted}", expected auto or off`);
  const { features, limits } = device;
  const has = features.has(MATRICES) && features.has("shader-f16");
  if (!has || wanted === "off") return null;
  // Experimental, and so not among the declared properties.
  const { subgroupMatrixConfigs = [] } = found.adapter.info as { subgroupMatrixConfigs?: MatrixConfig[] };
  const workgroupBytes = limits.maxComputeWorkgroupStorageSize;
  return chooseMatrices([...subgroupMatrixConfigs], { subgroup, workgroupBytes });
}

/** ADAMIX_KERNELS: the variants meant for GPUs on a software adapter, or the other way round, for tests. */
function kernelsFromEnv(): DeviceTraits["kernels"] | undefined {
  const wanted = env("ADAMIX_KERNELS");
  if (wanted === undefined || wanted === "hardware" || wanted === "software") return wanted;
  throw new Error(`env: ADAMIX_KERNELS is "${wanted}", expected hardware or software`);
}

/** ADAMIX_LIMITS=default: the limits that every WebGPU device has, for tests. Default: all that the adapter has. */
function raisesLimits(): boolean {
  const wanted = env("ADAMIX_LIMITS") ?? "adapter";
  if (wanted === "adapter" || wanted === "default") return wanted === "adapter";
  throw new Error(`env: ADAMIX_LIMITS is "${wanted}", expected adapter or default`);
}

function printLine(line: string): void {
  console.error(line);
}

function printCode(label: string, code: string): void {
  console.error(`--- ${label}\n${code}`);
}
