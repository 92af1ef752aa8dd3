import { shaderText } from "../platform/index.ts";
import { GpuError } from "./errors.ts";
import { type EntryLayout, entryLayout, resolveUses, type StorageBinding, specialise } from "./wgsl.ts";

/**
 * A kernel as an op names it: a file of `shaders/`, an entry point, and what is specialised in it. Specs are made
 * once and kept: a device knows its kernels by them.
 */
export interface KernelSpec {
  /** The file `shaders/<shader>.wgsl`; with `code`, only what messages call it. */
  readonly shader: string;
  /** WGSL of one's own instead of the file. It may name the library's with `// use: lib/grid`. */
  readonly code?: string;
  readonly entry: string;
  /** New right-hand sides of top-level declarations. */
  readonly constants?: Readonly<Record<string, string | number>>;
  /** Library files taken instead of those named by `// use:` lines. */
  readonly uses?: Readonly<Record<string, string>>;
}

/** A kernel made ready for one device. */
export interface Kernel {
  readonly id: number;
  readonly label: string;
  readonly spec: KernelSpec;
  readonly layout: EntryLayout;
  readonly pipeline: GPUComputePipeline;
  readonly bindGroupLayout: GPUBindGroupLayout;
}

/** Names one kernel; two specs with the same key share a pipeline. */
export function kernelKey(spec: KernelSpec): string {
  const { shader, entry, code = "", constants = "", uses = "" } = spec;
  return `${shader}.${entry}${JSON.stringify(constants)}${JSON.stringify(uses)}${code}`;
}

/** The complete WGSL of a kernel, as it is handed to the driver. */
export function kernelCode(spec: KernelSpec): string {
  const label = `${spec.shader}.${spec.entry}`;
  const text = (name: string): string =>
    name === spec.shader && spec.code !== undefined ? spec.code : shaderText(name);
  return specialise(label, resolveUses(spec.shader, text, spec.uses), spec.constants ?? {});
}

/** Compiles kernels once and keeps them. One per device. */
export class KernelCache {
  readonly #device: GPUDevice;
  readonly #kernels = new Map<string, Kernel>();
  readonly #bySpec = new WeakMap<KernelSpec, Kernel>();
  readonly #onCompile: ((label: string, code: string) => void) | null;
  /** What the driver says about the kernel that is being compiled; null while none is. */
  #complaints: string[] | null = null;

  constructor(device: GPUDevice, onCompile: ((label: string, code: string) => void) | null) {
    this.#device = device;
    this.#onCompile = onCompile;
  }

  get count(): number {
    return this.#kernels.size;
  }

  get(spec: KernelSpec): Kernel {
    let kernel = this.#bySpec.get(spec);
    if (kernel) return kernel;
    const key = kernelKey(spec);
    kernel = this.#kernels.get(key);
    if (!kernel) {
      kernel = this.#compile(spec);
      this.#kernels.set(key, kernel);
    }
    this.#bySpec.set(spec, kernel);
    return kernel;
  }

  /**
   * Takes an error of the device that is about the kernel being compiled: the caller gets it, and everything else goes
   * on. Dawn tells errors at once, inside of the call that made them.
   */
  takeError(message: string): boolean {
    this.#complaints?.push(message);
    return this.#complaints !== null;
  }

  #compile(spec: KernelSpec): Kernel {
    const label = `${spec.shader}.${spec.entry}`;
    const code = kernelCode(spec);
    this.#onCompile?.(label, code);
    const complaints: string[] = [];
    this.#complaints = complaints;
    try {
      const kernel = this.#create(spec, label, code);
      // The first one: the others say that what has failed cannot be used.
      if (complaints[0] !== undefined) throw new GpuError(`${label}: ${readable(complaints[0])}`);
      return kernel;
    } finally {
      this.#complaints = null;
    }
  }

  #create(spec: KernelSpec, label: string, code: string): Kernel {
    const layout = entryLayout(label, code, spec.entry);
    const entries = layout.bindings.map(layoutEntry);
    if (layout.params) {
      entries.push({
        binding: layout.params.binding,
        visibility: COMPUTE,
        buffer: { type: "uniform", hasDynamicOffset: true, minBindingSize: layout.params.bytes },
      });
    }
    const bindGroupLayout = this.#device.createBindGroupLayout({ label, entries });
    const module = this.#device.createShaderModule({ label, code });
    const pipeline = this.#device.createComputePipeline({
      label,
      layout: this.#device.createPipelineLayout({ bindGroupLayouts: [bindGroupLayout] }),
      compute: { module, entryPoint: spec.entry },
    });
    return { id: this.#kernels.size + 1, label, spec, layout, pipeline, bindGroupLayout };
  }
}

function layoutEntry({ binding, writes, isTexture }: StorageBinding): GPUBindGroupLayoutEntry {
  const entry = { binding, visibility: COMPUTE };
  if (!isTexture) return { ...entry, buffer: { type: writes ? "storage" : "read-only-storage" } };
  return { ...entry, storageTexture: { access: "read-only", format: "rgba32float" } };
}

/** "line 3, column 8: what is wrong" and the line itself, of what Dawn says about WGSL; else its words. */
function readable(complaint: string): string {
  const [, line, column, what] = /:(\d+):(\d+) error: ([\s\S]*?)\s*(?:\n - While|$)/.exec(complaint) ?? [];
  return what === undefined ? complaint.trim() : `line ${line}, column ${column}: ${what}`;
}

const COMPUTE = 4; // GPUShaderStage.COMPUTE
