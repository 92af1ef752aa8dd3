import { type Gpu, knownOptions, type OptionNames } from "../array/index.ts";
import { add, mul, Parameter, type Stream, sigmoid, type Tensor } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { initNormal, Module, type Site } from "../nn/index.ts";
import { type AdapterConfig, adapter, Bottleneck } from "./adapter.ts";
import { LinearBank } from "./linear-bank.ts";
import { type LoraConfig, LowRank, lora } from "./lora.ts";
import { expertsOf, type PeftMethod, type RouteSource, type Share } from "./method.ts";
import { Prefix, type PrefixConfig, prefix } from "./prefix.ts";

/** What one Transformer layer decides for all. */
type Mixture = "experts" | "share";

export interface UnipeltConfig {
  /** The parts that are combined: one or more. Each has the settings of its method. */
  readonly adapter?: Omit<AdapterConfig, Mixture | "input">;
  readonly prefix?: Omit<PrefixConfig, Mixture>;
  readonly lora?: Omit<LoraConfig, Mixture>;
  /** M, of adapter and LoRA. Default 1. */
  readonly experts?: number;
  /** Default "up". */
  readonly share?: Share;
}
const NAMES: OptionNames<UnipeltConfig> = {
  adapter: true,
  prefix: true,
  lora: true,
  experts: true,
  share: true,
};

/** g(h) = sigmoid(w·h + b): h [..., C] -> [..., 1]. Without inputs sigmoid(b), one number for all. */
class Gate extends Module {
  readonly weight: LinearBank | null;
  readonly bias: Parameter | null;

  constructor(gpu: Gpu, inputs: number, stream: Stream) {
    super();
    this.weight = inputs > 0 ? new LinearBank(gpu, { experts: 1, inputs, outputs: 1 }) : null;
    this.bias = inputs > 0 ? null : Parameter.zeros(gpu, [1]);
    if (this.weight) initNormal(this.weight.weight, stream, 0.02);
  }

  forward(h: Tensor): Tensor {
    return sigmoid(this.weight ? this.weight.forward(h, null) : (this.bias as Parameter)); // one of both is there
  }
}

/** A part of a method, and the gate that its change passes through. */
class Gated extends Module {
  readonly part: Module;
  /** Of the site that trains it; other sites of the layer only use it. */
  readonly gate: Gate | null;
  readonly #gate: Gate;

  constructor(part: Module, gate: Gate, owns: boolean) {
    super();
    this.part = part;
    this.gate = owns ? gate : null;
    this.#gate = gate;
  }

  /** g(h) change. */
  through(h: Tensor, change: Tensor): Tensor {
    return mul(change, this.#gate.forward(h));
  }
}

/**
 * UniPELT (Mao et al. 2022): adapter, prefix and LoRA together, each with a gate g(h) = sigmoid(w·h + b) in each layer
 * that turns it up or down by what the layer sees: h + g_A(h) up(act(down(h))), W x + g_L(x) (alpha / r) B A x for query
 * and value alike, and g_P of the prefix's keys and values. Gates of adapter and LoRA look at each token, that of
 * the prefix at the first token of a text. In a causal model, which has seen none when it begins, that one is a number.
 */
export function unipelt(config: UnipeltConfig): PeftMethod {
  const known = knownOptions("unipelt", config, NAMES);
  const { adapter: ofAdapter, prefix: ofPrefix, lora: ofLora, experts = 1, share = "up" } = known;
  const mixture = { experts, share };
  /** The part of each kind of site. */
  const parts: Partial<Record<Site["kind"], PeftMethod>> = {
    ...(ofAdapter && { output: adapter({ ...ofAdapter, ...mixture }) }),
    ...(ofPrefix && { keysValues: prefix(ofPrefix) }),
    ...(ofLora && { linear: lora({ ...ofLora, ...mixture }) }),
  };
  const methods = Object.values(parts);
  if (methods.length === 0)
    throw new ShapeError("unipelt: nothing to combine; give settings of adapter, prefix or lora");
  return {
    name: "unipelt",
    config: { method: "unipelt", ...config, ...mixture },
    targets: methods.flatMap(({ targets }) => targets ?? []),
    experts: expertsOf(experts, share),
    build(gpu, site, stream, shared) {
      const method = parts[site.kind];
      if (!method) throw new ShapeError(`unipelt: none of its parts goes to "${site.name}"`);
      const part = method.build(gpu, site, stream, shared);
      const found = shared.get(method.name);
      if (found instanceof Gate) return new Gated(part, found, false);
      const gate = new Gate(gpu, gateInputs(site), stream.fold("gate"));
      shared.set(method.name, gate);
      return new Gated(part, gate, true);
    },
    attach(set, site, module, routes) {
      if (module instanceof Gated) attachGated(set, site, module, routes);
    },
    merged: () => unipelt({ ...config, experts: 1 }),
    fold: "its gates depend on the input; keep the set attached",
  };
}

/** Channels of what the gate of a site looks at; 0: nothing. */
function gateInputs(site: Site): number {
  switch (site.kind) {
    case "linear":
      return site.inputs;
    case "output":
      return site.channels;
    case "keysValues":
      return site.isCausal ? 0 : site.inputs;
    case "embedded":
      return 0;
    default:
      throw new ShapeError(`unipelt: unknown site ${JSON.stringify(site satisfies never)}`);
  }
}

function attachGated(set: string, site: Site, module: Gated, routes: RouteSource): void {
  const { part } = module;
  if (site.kind === "linear" && part instanceof LowRank)
    site.attach(set, (y, x, options) => add(y, module.through(x, part.forward(x, site, routes, options))));
  if (site.kind === "output" && part instanceof Bottleneck)
    site.attach(set, ({ value }) =>
      add(value, module.through(value, part.forward(value, site.layer, routes))),
    );
  if (site.kind === "keysValues" && part instanceof Prefix)
    site.attach(set, (x) => {
      const { keys, values } = part.rows(x, site.layer, routes);
      const first = site.isCausal ? x : x.slice(1, 0, 1); // [B, 1, C]
      return { keys: module.through(first, keys), values: module.through(first, values) };
    });
}
