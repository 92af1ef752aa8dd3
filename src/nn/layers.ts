import { type Gpu, knownOptions } from "../array/index.ts";
import {
  addLayerNorm,
  checkpoint,
  type DrawSource,
  drawOf,
  dropout,
  embedding,
  layerNorm,
  linear,
  Parameter,
  rmsNorm,
  type Tensor,
  tidy,
} from "../autograd/index.ts";
import type { Activation } from "../ops/index.ts";
import { Module } from "./module.ts";

const constant = (n: number, value: number): Float32Array<ArrayBuffer> => new Float32Array(n).fill(value);

/**
 * y = f(x weightᵀ + bias), f an activation or none: x [..., in] -> [..., out]. weight [out, in] and bias [out] start
 * as zeros; see init.
 */
export class Linear extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | null;

  constructor(gpu: Gpu, inputs: number, outputs: number, options: { bias?: boolean } = {}) {
    super();
    const { bias = true } = knownOptions("Linear", options, { bias: true });
    this.weight = Parameter.zeros(gpu, [outputs, inputs]);
    this.bias = bias ? Parameter.zeros(gpu, [outputs]) : null;
  }

  forward(x: Tensor, options: { activation?: Activation } = {}): Tensor {
    return linear(x, this.weight, this.bias, options);
  }
}

/** y = (x - mean) / sqrt(var + eps) weight + bias over the last dimension C. Starts as weight 1, bias 0. */
export class LayerNorm extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter;
  readonly #eps: number;

  constructor(gpu: Gpu, channels: number, options: { eps?: number } = {}) {
    super();
    const { eps = 1e-5 } = knownOptions("LayerNorm", options, { eps: true });
    this.weight = Parameter.from(gpu, constant(channels, 1), [channels]);
    this.bias = Parameter.from(gpu, constant(channels, 0), [channels]);
    this.#eps = eps;
  }

  /** Of x, or of x + residual. */
  forward(x: Tensor, residual: Tensor | null = null): Tensor {
    if (residual) return addLayerNorm(x, residual, this.weight, this.bias, this.#eps);
    return layerNorm(x, this.weight, this.bias, this.#eps);
  }
}

/** y = x / sqrt(mean x² + eps) weight over the last dimension C. Starts as weight 1. */
export class RmsNorm extends Module {
  readonly weight: Parameter;
  readonly #eps: number;

  constructor(gpu: Gpu, channels: number, options: { eps?: number } = {}) {
    super();
    const { eps = 1e-6 } = knownOptions("RmsNorm", options, { eps: true });
    this.weight = Parameter.from(gpu, constant(channels, 1), [channels]);
    this.#eps = eps;
  }

  forward(x: Tensor): Tensor {
    return rmsNorm(x, this.weight, this.#eps);
  }
}

/** Rows of a table: ids [...] -> [..., C]. weight [rows, C]. */
export class Embedding extends Module {
  readonly weight: Parameter;
  readonly #paddingIndex: number | undefined;

  constructor(gpu: Gpu, rows: number, channels: number, options: { paddingIndex?: number } = {}) {
    super();
    const { paddingIndex } = knownOptions("Embedding", options, { paddingIndex: true });
    this.weight = Parameter.zeros(gpu, [rows, channels]);
    this.#paddingIndex = paddingIndex;
  }

  forward(ids: Tensor): Tensor {
    return embedding(this.weight, ids, { paddingIndex: this.#paddingIndex });
  }
}

/** What a forward pass is given beside its input. */
export interface ForwardOptions {
  /** Randomness of dropout. Without it nothing is dropped. */
  readonly draw?: DrawSource | undefined;
  /** Backward runs each layer again instead of keeping what it computes on the way; see `checkpoint`. */
  readonly checkpointLayers?: boolean | undefined;
}

/** One layer of a stack: what it makes on the way is freed, or, with `checkpointLayers`, not even kept for backward. */
export function throughLayer(x: Tensor, options: ForwardOptions, layer: (x: Tensor) => Tensor): Tensor {
  return options.checkpointLayers ? checkpoint(layer, x) : tidy(() => layer(x));
}

/** Dropout of share `p` under a name of its own; the input itself without a draw or with p = 0. */
export function maybeDropout(
  x: Tensor,
  p: number,
  { draw }: ForwardOptions,
  ...path: (string | number)[]
): Tensor {
  return draw && p > 0 ? dropout(x, { p, draw: drawOf(draw, "dropout", ...path) }) : x;
}
