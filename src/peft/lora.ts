import { type Gpu, knownOptions, type OptionNames } from "../array/index.ts";
import { add, drawOf, dropout, matmul, mul, type Stream, type Tensor } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { type ForwardOptions, initUniform, type LinearSite, Module } from "../nn/index.ts";
import { LinearBank } from "./linear-bank.ts";
import { expertsOf, type PeftMethod, type RouteSource, type Share } from "./method.ts";

export interface LoraConfig {
  readonly rank: number;
  /** The update is scaled by alpha / rank. Default: 2 rank. */
  readonly alpha?: number;
  /** rsLoRA: the update is scaled by alpha / √rank instead, so that high ranks learn as fast. Default false. */
  readonly rankStabilised?: boolean;
  /** Dropout of the update's input; acts where a draw is passed. Default 0. */
  readonly dropout?: number;
  /** M. 1 (default) is plain LoRA. */
  readonly experts?: number;
  /** "up" (default) shares B, "down" shares A. */
  readonly share?: Share;
  /** Whether the experts' A start apart ("distinct", default) or alike ("authors": their code copies one). */
  readonly init?: "distinct" | "authors";
  /** Roles or name patterns of linear layers, of attention or of the feed-forward part. Default: query and value. */
  readonly targets?: readonly string[];
}
const NAMES: OptionNames<LoraConfig> = {
  rank: true,
  alpha: true,
  rankStabilised: true,
  dropout: true,
  experts: true,
  share: true,
  init: true,
  targets: true,
};

/** A [M, r, in] and B [M, out, r]. */
export class LowRank extends Module {
  readonly lora_A: LinearBank;
  readonly lora_B: LinearBank;
  readonly #scale: number;
  readonly #dropout: number;

  constructor(a: LinearBank, b: LinearBank, { scale, dropout }: { scale: number; dropout: number }) {
    super();
    this.lora_A = a;
    this.lora_B = b;
    this.#scale = scale;
    this.#dropout = dropout;
  }

  /** The update of a linear layer's output: scale B_k (A_j dropout(x)), x [..., in] -> [..., out]. */
  forward(x: Tensor, { name, layer }: LinearSite, routes: RouteSource, { draw }: ForwardOptions): Tensor {
    const p = this.#dropout;
    const input = draw && p > 0 ? dropout(x, { p, draw: drawOf(draw, "lora", name) }) : x;
    const inside = this.lora_A.forward(input, routes(layer, "down"));
    return this.lora_B.forward(inside, routes(layer, "up"), this.#scale);
  }

  /** The update of the weight, of one expert: scale B A [out, in]. */
  weight(): Tensor {
    const [, rank, inputs] = this.lora_A.weight.shape as [number, number, number];
    return mul(
      matmul(this.lora_B.weight.reshape(-1, rank), this.lora_A.weight.reshape(rank, inputs)),
      this.#scale,
    );
  }
}

/**
 * LoRA, and its mixture: y = W x + b + (alpha / r) B_k (A_j dropout(x)). One draw of j and of k for each layer
 * covers query and value. A ~ U(-1/√d, 1/√d), B = 0: the identity at the start. Paper: section 3.
 */
export function lora(config: LoraConfig): PeftMethod {
  const {
    rank,
    alpha = 2 * rank,
    rankStabilised = false,
    dropout: p = 0,
    experts = 1,
    share = "up",
    init = "distinct",
    targets = ["query", "value"],
  } = knownOptions("lora", config, NAMES);
  if (!Number.isInteger(rank) || rank < 1)
    throw new ShapeError(`lora: rank is ${rank}, expected a whole number of 1 or more`);
  if (!(p >= 0 && p < 1)) throw new ShapeError(`lora: dropout is ${p}, expected 0 <= p < 1`);
  const counts = expertsOf(experts, share);
  const scale = alpha / (rankStabilised ? Math.sqrt(rank) : rank);
  return {
    name: "lora",
    config: { method: "lora", rank, alpha, rankStabilised, dropout: p, experts, share, init, targets },
    targets,
    experts: counts,
    build(gpu: Gpu, site, stream: Stream) {
      if (site.kind !== "linear")
        throw new ShapeError(`lora: "${site.name}" is no linear layer; target those, or use adapter`);
      const { inputs, outputs } = site;
      const a = new LinearBank(gpu, { experts: counts.down, inputs, outputs: rank, bias: false });
      const b = new LinearBank(gpu, { experts: counts.up, inputs: rank, outputs, bias: false });
      initUniform(a.weight, stream.fold("lora_A"), 1 / Math.sqrt(inputs));
      if (init === "authors")
        a.weight.write(repeated(stream.fold("lora_A"), counts.down, rank * inputs, inputs));
      return new LowRank(a, b, { scale, dropout: p });
    },
    attach(set, site, module, routes) {
      if (site.kind !== "linear" || !(module instanceof LowRank)) return;
      site.attach(set, (y, x, options) => add(y, module.forward(x, site, routes, options)));
    },
    merged: () => lora({ ...config, experts: 1 }),
    fold: ({ weight, bias }, _site, module) => ({
      weight: module instanceof LowRank ? add(weight, module.weight()) : weight,
      bias,
    }),
  };
}

function repeated(stream: Stream, experts: number, size: number, inputs: number): Float32Array<ArrayBuffer> {
  const one = stream.uniform(size, -1 / Math.sqrt(inputs), 1 / Math.sqrt(inputs));
  const all = new Float32Array(experts * size);
  for (let i = 0; i < experts; i++) all.set(one, i * size);
  return all;
}
