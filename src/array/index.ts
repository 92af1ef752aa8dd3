export { type DType, dtypeOf, ELEMENT_BYTES, type TypedArray, typedArrayOf } from "./dtype.ts";
export { Gpu, type GpuOptions, openGpu } from "./gpu.ts";
export { GpuArray, Storage } from "./gpu-array.ts";
export {
  broadcastShapes,
  broadcastStrides,
  expectShape,
  lastOf,
  MAX_RANK,
  normaliseAxis,
  rowsOf,
  type Shape,
  sameShape,
  showShape,
  sizeOf,
  stridesOf,
} from "./shape.ts";
