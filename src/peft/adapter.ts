import type { Gpu } from "../array/index.ts";
import { add, gelu, geluTanh, relu, type Stream, silu } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { initNormal, Module } from "../nn/index.ts";
import { LinearBank } from "./linear-bank.ts";
import { expertsOf, type PeftMethod, type Share } from "./method.ts";

const ACTIVATIONS = { gelu, geluTanh, relu, silu } as const;

export interface AdapterConfig {
  /** Size of the bottleneck. */
  readonly bottleneck: number;
  /** Default "gelu" (exact): BERT and RoBERTa. */
  readonly activation?: keyof typeof ACTIVATIONS;
  /** M. 1 (default) is the plain adapter. */
  readonly experts?: number;
  /** Default "up". */
  readonly share?: Share;
  /** Standard deviation of every weight, up-projections too. Default 0.02. */
  readonly initStd?: number;
  /** Site patterns. Default: after the feed-forward output, as AdaMix places it. */
  readonly targets?: readonly string[];
}

/** Two banks with an activation between, and the identity around: h + up(act(down(h))). */
class AdapterModule extends Module {
  readonly down: LinearBank;
  readonly up: LinearBank;

  constructor(down: LinearBank, up: LinearBank) {
    super();
    this.down = down;
    this.up = up;
  }
}

/**
 * The bottleneck adapter, and its mixture: f(h) = h + act(h W_downᵀ + b_down) W_upᵀ + b_up.
 * Paper: section 2.2; placement and activation as in the authors' code: one in each layer, after the output
 * dense of the feed-forward part, before dropout, residual and LayerNorm.
 */
export function adapter(config: AdapterConfig): PeftMethod {
  const {
    bottleneck,
    activation = "gelu",
    experts = 1,
    share = "up",
    initStd = 0.02,
    targets = ["layer.*.output"],
  } = config;
  if (!Number.isInteger(bottleneck) || bottleneck < 1) {
    throw new ShapeError(`adapter: bottleneck is ${bottleneck}, expected a whole number of 1 or more`);
  }
  const act = Object.hasOwn(ACTIVATIONS, activation) ? ACTIVATIONS[activation] : null;
  if (!act)
    throw new ShapeError(
      `adapter: activation "${activation}" is not one of ${Object.keys(ACTIVATIONS).join(", ")}`,
    );
  const counts = expertsOf(experts, share);
  return {
    name: "adapter",
    config: { method: "adapter", bottleneck, activation, experts, share, initStd, targets },
    targets,
    experts: counts,
    build(gpu: Gpu, site, stream: Stream) {
      if (site.kind !== "output")
        throw new ShapeError(`adapter: "${site.name}" is no sub-layer output; target those, or use lora`);
      const down = new LinearBank(gpu, { experts: counts.down, inputs: site.channels, outputs: bottleneck });
      const up = new LinearBank(gpu, { experts: counts.up, inputs: bottleneck, outputs: site.channels });
      initNormal(down.weight, stream.fold("down"), initStd);
      initNormal(up.weight, stream.fold("up"), initStd);
      return new AdapterModule(down, up);
    },
    attach(set, site, module, routes) {
      if (site.kind !== "output" || !(module instanceof AdapterModule)) return;
      site.attach(set, ({ value }) => {
        const inside = act(module.down.forward(value, routes(site.layer, "down")));
        return add(value, module.up.forward(inside, routes(site.layer, "up")));
      });
    },
    merged: () => adapter({ ...config, experts: 1 }),
  };
}
