import { type Gpu, knownOptions, type OptionNames } from "../array/index.ts";
import { add, type Stream, type Tensor } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import {
  type Activation,
  activate,
  expectActivation,
  initNormal,
  Module,
  type SublayerOutput,
} from "../nn/index.ts";
import { LinearBank } from "./linear-bank.ts";
import { expertsOf, type PeftMethod, type RouteSource, type Share } from "./method.ts";

export interface AdapterConfig {
  /** Size of the bottleneck. */
  readonly bottleneck: number;
  /** Default: that of the model's feed-forward parts (BERT, RoBERTa: gelu; GPT-2: geluTanh; Llama: silu). */
  readonly activation?: Activation;
  /** What is projected down: the sub-layer's output h ("value", default), or LN(h + x), x what is added to h. */
  readonly input?: "value" | "normalised";
  /** M. 1 (default) is the plain adapter. */
  readonly experts?: number;
  /** Default "up". */
  readonly share?: Share;
  /** Standard deviation of every weight, up-projections too. Default 0.02. */
  readonly initStd?: number;
  /** Roles or name patterns. Default: after the feed-forward part, as AdaMix places it. */
  readonly targets?: readonly string[];
}
const NAMES: OptionNames<AdapterConfig> = {
  bottleneck: true,
  activation: true,
  input: true,
  experts: true,
  share: true,
  initStd: true,
  targets: true,
};

/** Two banks with an activation between: up(act(down(.))). */
export class Bottleneck extends Module {
  readonly down: LinearBank;
  readonly up: LinearBank;
  readonly #activation: Activation;

  constructor(down: LinearBank, up: LinearBank, activation: Activation) {
    super();
    this.down = down;
    this.up = up;
    this.#activation = activation;
  }

  /** What is added to the sub-layer's output: x [..., C] -> [..., C]. */
  forward(x: Tensor, layer: number, routes: RouteSource): Tensor {
    const inside = activate(this.down.forward(x, routes(layer, "down")), this.#activation);
    return this.up.forward(inside, routes(layer, "up"));
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
    activation,
    input = "value",
    experts = 1,
    share = "up",
    initStd = 0.02,
    targets = ["feedForward"],
  } = knownOptions("adapter", config, NAMES);
  if (!Number.isInteger(bottleneck) || bottleneck < 1) {
    throw new ShapeError(`adapter: bottleneck is ${bottleneck}, expected a whole number of 1 or more`);
  }
  if (activation !== undefined) expectActivation("adapter", activation);
  if (input !== "value" && input !== "normalised")
    throw new ShapeError(`adapter: input is "${input}", expected "value" or "normalised"`);
  const counts = expertsOf(experts, share);
  const settings = { bottleneck, ...(activation && { activation }), input, experts, share, initStd, targets };
  return {
    name: "adapter",
    config: { method: "adapter", ...settings },
    targets,
    experts: counts,
    build(gpu: Gpu, site, stream: Stream) {
      if (site.kind !== "output")
        throw new ShapeError(`adapter: "${site.name}" is no sub-layer output; target those, or use lora`);
      const down = new LinearBank(gpu, { experts: counts.down, inputs: site.channels, outputs: bottleneck });
      const up = new LinearBank(gpu, { experts: counts.up, inputs: bottleneck, outputs: site.channels });
      initNormal(down.weight, stream.fold("down"), initStd);
      initNormal(up.weight, stream.fold("up"), initStd);
      return new Bottleneck(down, up, activation ?? site.activation);
    },
    attach(set, site, module, routes) {
      if (site.kind !== "output" || !(module instanceof Bottleneck)) return;
      site.attach(set, (output) => {
        const x = input === "value" ? output.value : normalised(output);
        return add(output.value, module.forward(x, site.layer, routes));
      });
    },
    merged: () => adapter({ ...config, experts: 1 }),
    fold: "an activation stands between its two products; keep the set attached",
  };
}

/** LN(h + x), by the sub-layer's own LayerNorm. */
function normalised({ value, residual, layerNorm }: SublayerOutput): Tensor {
  return layerNorm.forward(add(value, residual));
}
