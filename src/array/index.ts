export {
  bytesOf,
  checkDType,
  type DType,
  decode,
  dtypeOf,
  encode,
  type HalfType,
  type HostArray,
  isFloating,
  isHalf,
  type TypedArray,
} from "./dtype.ts";
export { Gpu, type GpuOptions, type GradientPlaces, openGpu } from "./gpu.ts";
export { GpuArray, Storage } from "./gpu-array.ts";
export { bfloat16ToFloat32, float32ToBfloat16, float32ToHalf, halfToFloat32, roundToHalf } from "./half.ts";
export { whatValues } from "./host-values.ts";
export { nearest } from "./nearest.ts";
export { knownOptions, type OptionNames } from "./options.ts";
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
