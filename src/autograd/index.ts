export { autocast } from "./autocast.ts";
export { CapturedStep, type CaptureOptions, capture } from "./capture.ts";
export { checkpoint } from "./checkpoint.ts";
export { tensor, type Values, zerosTensor } from "./create.ts";
export {
  abs,
  add,
  attention,
  bankLinear,
  cast,
  clamp,
  concat,
  contiguous,
  crossEntropy,
  div,
  dropout,
  embedding,
  erf,
  exp,
  expand,
  gelu,
  geluTanh,
  layerNorm,
  linear,
  log,
  logSoftmax,
  matmul,
  mean,
  mse,
  mul,
  neg,
  permute,
  reciprocal,
  relu,
  reshape,
  rsqrt,
  sigmoid,
  silu,
  slice,
  softmax,
  softplus,
  sqrt,
  square,
  stack,
  sub,
  sum,
  symmetricKl,
  tanh,
  transpose,
} from "./functions.ts";
export { type GradOptions, grad } from "./grad.ts";
export { Parameter, type ParameterOptions } from "./parameter.ts";
export { type DrawSource, drawOf, philox, Stream } from "./random.ts";
export { keep, noGrad, tidy } from "./scope.ts";
export { type Axes, apply, type BackwardOptions, Tensor } from "./tensor.ts";
