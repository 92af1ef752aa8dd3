import { type Gpu, knownOptions, type OptionNames } from "../array/index.ts";
import {
  add,
  keep,
  linear,
  mean,
  mul,
  oneHot,
  Parameter,
  type Stream,
  softmax,
  sum,
  Tensor,
  tidy,
  topK,
} from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { Module, type Site } from "../nn/index.ts";
import type { Path, Routing } from "./routing.ts";

/** An expert for each row, and how much its output counts. */
export interface Choice {
  /** i32, one expert for each group of rows; both sides of the expert are taken. */
  readonly route: Tensor;
  /** f32 [..., 1]. */
  readonly weight: Tensor;
}

/** What a router makes of the logits of its gate. */
export interface Chosen {
  readonly choices: readonly Choice[];
  /** A scalar to be added to the loss. */
  readonly loss?: Tensor;
}

/**
 * A router with parameters, to compare stochastic routing with: at every site a linear gate makes logits [..., M] of
 * what comes in, and this makes choices of them. The output is Σ weight · output of the chosen expert.
 */
export interface LearnedRouter {
  readonly name: string;
  /** All settings, as saved in adapter_config.json. */
  readonly config: Readonly<Record<string, unknown>>;
  /** `expert(m)`: the route of all rows through expert m. */
  choose(logits: Tensor, expert: (index: number) => Tensor): Chosen;
}

/** Every expert, weighted by softmax(logits): a dense mixture. M times the work of one expert. */
export function softRouter(): LearnedRouter {
  return {
    name: "soft",
    config: { router: "soft" },
    choose(logits, expert) {
      const weights = softmax(logits);
      return { choices: columnsOf(weights).map((weight, m) => ({ route: expert(m), weight })) };
    },
  };
}

export interface TopKConfig {
  /** Experts of each token. Default 2. */
  readonly k?: number;
  /** Weight of the loss that balances their use. Default 0.01. */
  readonly balance?: number;
}
const NAMES: OptionNames<TopKConfig> = { k: true, balance: true };

/**
 * The k likeliest experts of each token, weighted by the softmax of their logits, with the balancing loss of the
 * Switch Transformer: balance · M Σ_m f_m P_m, f_m the share of choices that went to m, P_m its mean probability;
 * `balance` where use is even. Padding counts as tokens.
 */
export function topKRouter(config: TopKConfig = {}): LearnedRouter {
  const { k = 2, balance = 0.01 } = knownOptions("topKRouter", config, NAMES);
  if (!Number.isInteger(k) || k < 1) throw new ShapeError(`router: k is ${k}, expected 1 or more`);
  if (!(balance >= 0)) throw new ShapeError(`router: balance is ${balance}, expected 0 or more`);
  return {
    name: "top-k",
    config: { router: "top-k", k, balance },
    choose(logits) {
      const M = logits.shape.at(-1) as number;
      if (k > M) throw new ShapeError(`router: k is ${k}; there are ${M} experts`);
      const { values, indices } = topK(logits, k);
      const weights = columnsOf(softmax(values));
      const routes = columnsOf(indices);
      const choices = weights.map((weight, i) => ({ route: (routes[i] as Tensor).reshape(-1), weight }));
      return balance === 0 ? { choices } : { choices, loss: mul(unevenness(logits, indices), balance) };
    },
  };
}

/** M Σ f_m P_m: 1 where all experts are used alike, M where one has all. */
function unevenness(logits: Tensor, indices: Tensor): Tensor {
  return tidy(() => {
    const M = logits.shape.at(-1) as number;
    const shares = mean(oneHot(indices, M).reshape(-1, M), 0);
    const probabilities = mean(softmax(logits).reshape(-1, M), 0);
    return mul(sum(mul(shares, probabilities)), M);
  });
}

/** x [..., n] as n tensors [..., 1]. */
function columnsOf(x: Tensor): Tensor[] {
  const last = x.shape.length - 1;
  return Array.from({ length: x.shape[last] as number }, (_, i) => x.slice(last, i, i + 1));
}

/** The routers that a saved config can name. */
const ROUTERS: Readonly<Record<string, (config: object) => LearnedRouter>> = {
  soft: softRouter,
  "top-k": topKRouter,
};

/** The router of a saved config. */
export function routerFromConfig({ router, ...settings }: Readonly<Record<string, unknown>>): LearnedRouter {
  const make = Object.hasOwn(ROUTERS, String(router)) ? ROUTERS[String(router)] : undefined;
  if (!make)
    throw new ShapeError(
      `adapter_config: router ${JSON.stringify(router)} is not one of ${Object.keys(ROUTERS).join(", ")}`,
    );
  return make(settings);
}

/** A linear gate: logits = x weightᵀ, weight [M, C] from N(0, 0.02). */
class Gate extends Module {
  readonly weight: Parameter;

  constructor(gpu: Gpu, experts: number, channels: number, stream: Stream) {
    super();
    const values = stream.normal(experts * channels, 0, 0.02);
    this.weight = Parameter.from(gpu, values, [experts, channels]);
  }
}

/** A learned router at the sites of a set: a gate for each. */
export class LearnedRouting implements Routing {
  readonly router: LearnedRouter;
  readonly #gates = new Map<string, Gate>();
  readonly #experts: readonly Tensor[];
  #losses: Tensor[] = [];

  constructor(
    gpu: Gpu,
    router: LearnedRouter,
    sites: readonly Site[],
    { experts, stream }: { readonly experts: number; readonly stream: Stream },
  ) {
    this.router = router;
    for (const site of sites)
      this.#gates.set(site.name, new Gate(gpu, experts, widthOf(site, router), stream.fold(site.name)));
    this.#experts = Array.from({ length: experts }, (_, m) =>
      keep(new Tensor(gpu, gpu.from(Int32Array.of(m)))),
    );
  }

  paths(site: Site, x: Tensor): readonly Path[] {
    const gate = this.#gates.get(site.name);
    if (!gate) throw new ShapeError(`router: ${site.name} has no gate`);
    const logits = linear(x, gate.weight);
    const { choices, loss } = this.router.choose(logits, (m) => this.#experts[m] as Tensor);
    // Kept out of the tidy() of its layer, for takeLoss().
    if (loss?.needsGradient) this.#losses.push(keep(loss));
    return choices.map(({ route, weight }) => ({ down: route, up: route, weight }));
  }

  /** The sum of the router's losses since the last call, over all sites; null: it has none. Call it after forward. */
  takeLoss(): Tensor | null {
    const losses = this.#losses;
    this.#losses = [];
    if (losses.length === 0) return null;
    const total = tidy(() => losses.reduce((all, loss) => add(all, loss)).mul(1));
    for (const loss of losses) loss.dispose();
    return total;
  }

  namedParameters(site: Site): IterableIterator<[string, Parameter]> {
    return (this.#gates.get(site.name) as Gate).namedParameters("router.");
  }

  dispose(): void {
    for (const tensor of [...this.#experts, ...this.#losses]) tensor.dispose();
    for (const gate of this.#gates.values()) gate.dispose();
  }
}

/** Channels of what comes to a site, for its gate. */
function widthOf(site: Site, { name }: LearnedRouter): number {
  if (site.kind === "linear") return site.inputs;
  if (site.kind === "output") return site.channels;
  throw new ShapeError(
    `router: "${name}" weighs outputs of linear layers and sub-layers; ${(site as Site).name} is neither (draw routes there)`,
  );
}
