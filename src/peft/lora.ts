import type { Gpu } from "../array/index.ts";
import { add, drawOf, dropout, type Stream } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { initUniform, Module } from "../nn/index.ts";
import { LinearBank } from "./linear-bank.ts";
import { expertsOf, type PeftMethod, type Share } from "./method.ts";

export interface LoraConfig {
  readonly rank: number;
  /** The update is scaled by alpha / rank. Default: 2 rank. */
  readonly alpha?: number;
  /** Dropout of the update's input; acts where a draw is passed. Default 0. */
  readonly dropout?: number;
  /** M. 1 (default) is plain LoRA. */
  readonly experts?: number;
  /** "up" (default) shares B, "down" shares A. */
  readonly share?: Share;
  /** Whether the experts' A start apart ("distinct", default) or alike ("authors": their code copies one). */
  readonly init?: "distinct" | "authors";
  /** Site patterns. Default: query and value. */
  readonly targets?: readonly string[];
}

/** A [M, r, in] and B [M, out, r]. */
class LoraModule extends Module {
  readonly lora_A: LinearBank;
  readonly lora_B: LinearBank;

  constructor(a: LinearBank, b: LinearBank) {
    super();
    this.lora_A = a;
    this.lora_B = b;
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
    experts = 1,
    share = "up",
    init = "distinct",
    targets = ["query", "value"],
  } = config;
  const p = config.dropout ?? 0;
  if (!Number.isInteger(rank) || rank < 1)
    throw new ShapeError(`lora: rank is ${rank}, expected a whole number of 1 or more`);
  if (!(p >= 0 && p < 1)) throw new ShapeError(`lora: dropout is ${p}, expected 0 <= p < 1`);
  const counts = expertsOf(experts, share);
  return {
    name: "lora",
    config: { method: "lora", rank, alpha, dropout: p, experts, share, init, targets },
    targets,
    experts: counts,
    build(gpu: Gpu, site, stream: Stream) {
      if (site.kind !== "linear")
        throw new ShapeError(`lora: "${site.name}" is no linear layer; target those, or use adapter`);
      const a = new LinearBank(gpu, {
        experts: counts.down,
        inputs: site.inputs,
        outputs: rank,
        bias: false,
      });
      const b = new LinearBank(gpu, { experts: counts.up, inputs: rank, outputs: site.outputs, bias: false });
      initUniform(a.weight, stream.fold("lora_A"), 1 / Math.sqrt(site.inputs));
      if (init === "authors")
        a.weight.write(repeated(stream.fold("lora_A"), counts.down, rank * site.inputs, site.inputs));
      return new LoraModule(a, b);
    },
    attach(set, site, module, routes) {
      if (site.kind !== "linear" || !(module instanceof LoraModule)) return;
      site.attach(set, (y, x, { draw }) => {
        const input = draw && p > 0 ? dropout(x, { p, draw: drawOf(draw, "lora", site.name) }) : x;
        const inside = module.lora_A.forward(input, routes(site.layer, "down"));
        return add(y, module.lora_B.forward(inside, routes(site.layer, "up"), alpha / rank));
      });
    },
    merged: () => lora({ ...config, experts: 1 }),
  };
}

function repeated(stream: Stream, experts: number, size: number, inputs: number): Float32Array<ArrayBuffer> {
  const one = stream.uniform(size, -1 / Math.sqrt(inputs), 1 / Math.sqrt(inputs));
  const all = new Float32Array(experts * size);
  for (let i = 0; i < experts; i++) all.set(one, i * size);
  return all;
}
