export { type AttentionOptions, attention, keyMask } from "./attention.ts";
export { add, div, dropout, maskedFill, maximum, minimum, mul, sub, where, zip } from "./binary.ts";
export type { Derivative, RefInput } from "./derivative.ts";
export { derivatives } from "./derivatives.ts";
export { concat, permute, reshape, slice, split, stack } from "./layout.ts";
export { embedding, gatherLast, indexSelect, zeroRow } from "./lookup.ts";
export { type CrossEntropyOptions, crossEntropy, maskedCrossEntropy, mse, symmetricKL } from "./losses.ts";
export { bankLinear, linear, type MatmulOptions, matmul } from "./matmul.ts";
export { layerNorm, logSoftmax, softmax } from "./normalise.ts";
export { type NumericalGradientOptions, numericalGradient } from "./numerical-gradient.ts";
export { type AdamWOptions, type AdamWState, adamwStep, clipGradNorm } from "./optimise.ts";
export { type Philox4, philox4x32 } from "./philox.ts";
export {
  abs,
  clamp,
  erf,
  exp,
  gelu,
  geluTanh,
  log,
  map,
  neg,
  pow,
  recip,
  relu,
  rsqrt,
  sigmoid,
  silu,
  softplus,
  sqrt,
  square,
  tanh,
} from "./pointwise.ts";
export { argmax, l2Norm, logSumExp, max, mean, type ReduceOptions, sum, variance } from "./reduce.ts";
export { type Pull, Tape, type Variable } from "./tape.ts";
export { expand, indices, type RefIndices, type RefTensor, ref } from "./tensor.ts";
