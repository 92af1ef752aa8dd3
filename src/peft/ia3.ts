import { knownOptions, type OptionNames } from "../array/index.ts";
import { mul, Parameter, type Tensor } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { type LinearSite, Module } from "../nn/index.ts";
import type { LinearWeights, PeftMethod } from "./method.ts";

export interface Ia3Config {
  /** Roles or name patterns of linear layers. Default: key, value and feedForwardOutput. */
  readonly targets?: readonly string[];
}
const NAMES: OptionNames<Ia3Config> = { targets: true };

/** A factor for each channel, 1 at the start. */
class Scale extends Module {
  readonly scale: Parameter;

  constructor(scale: Parameter) {
    super();
    this.scale = scale;
  }
}

/**
 * (IA)³ (Liu et al. 2022): a learned factor for each channel of the keys, of the values, and of what the last layer of
 * the feed-forward part reads. softmax(q (l_k ⊙ k)ᵀ) (l_v ⊙ v), and W_out (l_ff ⊙ act(W_in x)). The identity at the start.
 */
export function ia3(config: Ia3Config = {}): PeftMethod {
  const { targets = ["key", "value", "feedForwardOutput"] } = knownOptions("ia3", config, NAMES);
  return {
    name: "ia3",
    config: { method: "ia3", targets },
    targets,
    experts: { down: 1, up: 1 },
    build(gpu, site) {
      if (site.kind !== "linear")
        throw new ShapeError(
          `ia3: "${site.name}" is no linear layer; target key, value or feedForwardOutput`,
        );
      const channels = scalesInput(site) ? site.inputs : site.outputs;
      return new Scale(Parameter.from(gpu, new Float32Array(channels).fill(1), [channels]));
    },
    attach(set, site, module) {
      if (site.kind !== "linear" || !(module instanceof Scale)) return;
      const scaled = (x: Tensor): Tensor => mul(x, module.scale);
      if (scalesInput(site)) site.attachInput(set, scaled);
      else site.attach(set, scaled);
    },
    merged: () => ia3({ targets }),
    fold: (base, site, module) => (module instanceof Scale ? folded(base, site, module.scale) : base),
  };
}

/** The feed-forward part is scaled between its two layers, at the input of the second. */
function scalesInput({ role }: LinearSite): boolean {
  return role === "feedForwardOutput";
}

function folded({ weight, bias }: LinearWeights, site: LinearSite, scale: Tensor): LinearWeights {
  if (scalesInput(site)) return { weight: mul(weight, scale), bias };
  return { weight: mul(weight, scale.reshape(-1, 1)), bias: bias && mul(bias, scale) };
}
