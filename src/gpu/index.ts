export { Device, type DeviceTraits } from "./device.ts";
export { GpuError, ShapeError } from "./errors.ts";
export { type KernelSpec, kernelCode } from "./kernel.ts";
export { Pool, type PoolBuffer, type PoolStatistics, sizeClass } from "./pool.ts";
export { type Binding, type Grid, grid1d, type ParamValue } from "./recorder.ts";
