export { type AttentionOptions, attention, keyMask } from "./attention.ts";
export {
  add,
  div,
  dropout,
  eq,
  ge,
  gt,
  le,
  lt,
  maskedFill,
  maximum,
  minimum,
  mul,
  ne,
  pow,
  sub,
  where,
  zip,
} from "./binary.ts";
export type { Derivative, RefInput } from "./derivative.ts";
export { derivatives } from "./derivatives.ts";
export { concat, flip, pad, permute, reshape, slice, split, stack, tile } from "./layout.ts";
export { embedding, gather, gatherLast, indexSelect, scatterAdd, zeroRow } from "./lookup.ts";
export {
  bceWithLogits,
  type CrossEntropyOptions,
  cosineSimilarity,
  crossEntropy,
  huber,
  klDivergence,
  l1,
  maskedCrossEntropy,
  mse,
  nllLoss,
  type Reduction,
  smoothL1,
  symmetricKL,
} from "./losses.ts";
export { bankLinear, linear, type MatmulOptions, matmul } from "./matmul.ts";
export { layerNorm, logSoftmax, rmsNorm, softmax } from "./normalise.ts";
export { type NumericalGradientOptions, numericalGradient } from "./numerical-gradient.ts";
export {
  type AdamWOptions,
  type AdamWState,
  adamwStep,
  clipGradNorm,
  type SgdOptions,
  sgdStep,
} from "./optimise.ts";
export { argsort, topK } from "./order.ts";
export { type Philox4, philox4x32 } from "./philox.ts";
export {
  abs,
  ceil,
  clamp,
  cos,
  elu,
  erf,
  exp,
  exp2,
  expm1,
  floor,
  gelu,
  geluTanh,
  leakyRelu,
  log,
  log1p,
  log2,
  map,
  neg,
  pow as powNumber,
  recip,
  relu,
  round,
  rsqrt,
  sigmoid,
  sign,
  silu,
  sin,
  softplus,
  sqrt,
  square,
  tanh,
  trunc,
} from "./pointwise.ts";
export {
  alongAxis,
  argmax,
  argmin,
  cumsum,
  l2Norm,
  logSumExp,
  max,
  mean,
  min,
  prod,
  type ReduceOptions,
  sum,
  variance,
} from "./reduce.ts";
export { type RotaryOptions, rotaryEmbedding } from "./rotary.ts";
export { type Pull, Tape, type Variable } from "./tape.ts";
export { expand, indices, type RefIndices, type RefTensor, ref } from "./tensor.ts";
