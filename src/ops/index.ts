export type { Activation } from "./activation.ts";
export { type AttentionAttrs, attention } from "./attention.ts";
export type { AxesAttrs } from "./axes.ts";
export { type BankAttrs, bankLinear } from "./bank-linear.ts";
export { add, type BinaryOp, div, mul, sub } from "./binary.ts";
export { writeCache } from "./cache.ts";
export { type CastAttrs, cast, castArray } from "./cast.ts";
export {
  type ClassifyOp,
  type CompareAttrs,
  type CompareOp,
  eq,
  ge,
  gt,
  isFinite,
  isInf,
  isNaN,
  le,
  lt,
  ne,
} from "./compare.ts";
export {
  type CrossEntropyAttrs,
  crossEntropy,
  type NllAttrs,
  nllLoss,
  type Reduction,
} from "./cross-entropy.ts";
export { type CumsumAttrs, cumsum } from "./cumsum.ts";
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
export { type ArgAttrs, type ArgOp, argmax, argmin, type ExtremeOp, max, min } from "./extreme.ts";
export { type FlipAttrs, flip } from "./flip.ts";
export { type AxisAttrs, gather, indexSelect, scatterAdd } from "./gather.ts";
export { type Form, formNames } from "./gemm-forms.ts";
export { resultType, runBackward, runForward } from "./halves.ts";
export {
  accumulate,
  addInto,
  columnKernel,
  contiguous,
  copyInto,
  copyOf,
  fill,
  rowKernel,
  threads,
  zeros,
} from "./kernels.ts";
export { addLayerNorm, layerNorm } from "./layer-norm.ts";
export { type LinearAttrs, linear } from "./linear.ts";
export { logSumExp } from "./log-sum-exp.ts";
export { type MatmulAttrs, matmul } from "./matmul.ts";
export { maximum, minimum } from "./maximum.ts";
export { type OneHotAttrs, oneHot } from "./one-hot.ts";
export { type PadAttrs, pad } from "./pad.ts";
export { pow } from "./pow.ts";
export { chooseForms, type Forms, formsInForce } from "./product-forms.ts";
export {
  type Contender,
  checkRace,
  type Finish,
  type RaceOptions,
  race,
  type Stopwatch,
} from "./race.ts";
export { runFlat, runRows } from "./ranges.ts";
export { sum } from "./reduce.ts";
export { rmsNorm } from "./rms-norm.ts";
export { type RotaryAttrs, rotaryEmbedding } from "./rotary.ts";
export { type DrawnMark, markDrawn } from "./routing.ts";
export { logSoftmax, softmax } from "./softmax.ts";
export { argsort, type SortAttrs } from "./sort.ts";
export { type SymmetricKlAttrs, symmetricKl } from "./symmetric-kl.ts";
export { type TopKAttrs, topKIndices } from "./top-k.ts";
export { type TunedProduct, type TuneOptions, tuneProducts } from "./tune-products.ts";
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
  flatSqrt,
  floor,
  gelu,
  geluTanh,
  leakyRelu,
  log,
  log1p,
  log2,
  neg,
  powNumber,
  reciprocal,
  relu,
  round,
  rsqrt,
  scale,
  shift,
  sigmoid,
  sign,
  silu,
  sin,
  softplus,
  sqrt,
  square,
  tanh,
  trunc,
  type UnaryAttrs,
  type UnaryOp,
} from "./unary.ts";
export { concat, expand, permute, reshape, type SliceAttrs, slice } from "./views.ts";
export { type WhereAttrs, where } from "./where.ts";
export { scalar, wordOf } from "./words.ts";
