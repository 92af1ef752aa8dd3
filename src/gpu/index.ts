export type { CommandList } from "./command-list.ts";
export { Device, type DeviceTraits } from "./device.ts";
export { type Binding, checkGrid, type Grid, grid1d, type ParamValue, type Work } from "./dispatch.ts";
export { GpuError, ShapeError } from "./errors.ts";
export { type KernelSpec, kernelCode } from "./kernel.ts";
export { type Holding, type LargeTensor, OTHER, SAVED, type ScopeMemory } from "./ledger.ts";
export { chooseMatrices, type MatrixConfig, type MatrixSizes } from "./matrix-sizes.ts";
export { type MemoryReport, memory, memoryScope, resetPeakMemory, trim } from "./memory.ts";
export {
  CaptureRegion,
  Pool,
  type PoolBuffer,
  type PoolStatistics,
  type ScratchTexture,
  sizeClass,
} from "./pool.ts";
export { type KernelProfile, type ProfileOptions, type ProfileReport, Profiler, profile } from "./profile.ts";
export { formatProfile } from "./profile-table.ts";
export { SCRATCH_ROW_BYTES, SCRATCH_WIDTH } from "./scratch.ts";
export { traceNaN } from "./trace-nan.ts";
