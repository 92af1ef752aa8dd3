import type { FoundAdapter } from "./adapters.ts";

/** What a GPU of these days offers: of use is only how large a buffer and a binding may be. */
const LIMITS = {
  maxBufferSize: 2 ** 32 - 4,
  maxStorageBufferBindingSize: 2 ** 31 - 4,
  minStorageBufferOffsetAlignment: 256,
  minUniformBufferOffsetAlignment: 256,
  maxComputeWorkgroupStorageSize: 32_768,
  maxComputeInvocationsPerWorkgroup: 1024,
  maxComputeWorkgroupSizeX: 1024,
};

function nothing(): void {}

/** A WebGPU device that takes everything and does nothing: buffers have a size and no memory, reads give zeros. */
export interface PaperDevice {
  readonly found: FoundAdapter;
  readonly device: GPUDevice;
}

export function paperDevice(): PaperDevice {
  const limits = LIMITS;
  const features = new Set<string>();
  // A part of WebGPU's interfaces: what the layers above call.
  const device = {
    limits,
    features,
    queue: { writeBuffer: nothing, submit: nothing, onSubmittedWorkDone: async () => {} },
    lost: new Promise(nothing),
    createBuffer: () => ({
      destroy: nothing,
      unmap: nothing,
      mapAsync: async () => {},
      getMappedRange: (_: number, bytes: number) => new ArrayBuffer(bytes),
    }),
    createBindGroupLayout: () => ({}),
    createBindGroup: () => ({}),
    createPipelineLayout: () => ({}),
    createShaderModule: () => ({}),
    createComputePipeline: () => ({}),
    createCommandEncoder: () => ({
      beginComputePass: () => PASS,
      copyBufferToBuffer: nothing,
      clearBuffer: nothing,
      finish: () => ({}),
    }),
    destroy: nothing,
  } as unknown as GPUDevice;
  const adapter = { limits, features, info: {}, requestDevice: async () => device } as unknown as GPUAdapter;
  const gpu = { requestAdapter: async () => adapter } as unknown as GPU;
  return { found: { gpu, adapter, kind: "hardware", name: "paper", how: "nothing runs" }, device };
}

const PASS = { setPipeline: nothing, setBindGroup: nothing, dispatchWorkgroups: nothing, end: nothing };
