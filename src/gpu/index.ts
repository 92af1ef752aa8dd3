export type { CommandList } from "./command-list.ts";
export { Device, type DeviceTraits } from "./device.ts";
export { type Binding, type Grid, grid1d, type ParamValue } from "./dispatch.ts";
export { GpuError, ShapeError } from "./errors.ts";
export { type KernelSpec, kernelCode } from "./kernel.ts";
export { CaptureRegion, Pool, type PoolBuffer, type PoolStatistics, sizeClass } from "./pool.ts";
