export type { Activation } from "./activation.ts";
export { type AttentionAttrs, attention } from "./attention.ts";
export { type BankAttrs, bankLinear } from "./bank-linear.ts";
export { add, type BinaryOp, div, mul, sub } from "./binary.ts";
export { writeCache } from "./cache.ts";
export { type CastAttrs, cast, castArray } from "./cast.ts";
export { type CrossEntropyAttrs, crossEntropy } from "./cross-entropy.ts";
export {
  type AnyOp,
  checkTypes,
  defineOp,
  type Inputs,
  type Needs,
  type Op,
  type Saved,
  type ShapesOf,
} from "./define-op.ts";
export type { Draw } from "./draw.ts";
export { type DropoutAttrs, dropout } from "./dropout.ts";
export { type EmbeddingAttrs, embedding } from "./embedding.ts";
export { resultType, runBackward, runForward } from "./halves.ts";
export { accumulate, contiguous, copyInto, copyOf, fill, rowKernel, threads, zeros } from "./kernels.ts";
export { layerNorm } from "./layer-norm.ts";
export { type LinearAttrs, linear } from "./linear.ts";
export { type MatmulAttrs, matmul } from "./matmul.ts";
export { runFlat, runRows } from "./ranges.ts";
export { type SumAttrs, sum } from "./reduce.ts";
export { markDrawn } from "./routing.ts";
export { logSoftmax, softmax } from "./softmax.ts";
export { type SymmetricKlAttrs, symmetricKl } from "./symmetric-kl.ts";
export {
  abs,
  clamp,
  erf,
  exp,
  gelu,
  geluTanh,
  log,
  neg,
  reciprocal,
  relu,
  rsqrt,
  scale,
  shift,
  sigmoid,
  silu,
  softplus,
  sqrt,
  square,
  tanh,
  type UnaryAttrs,
  type UnaryOp,
} from "./unary.ts";
export { concat, expand, permute, reshape, type SliceAttrs, slice } from "./views.ts";
