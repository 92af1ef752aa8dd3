import { type Gpu, knownOptions, type OptionNames } from "../array/index.ts";
import { expand, Parameter, type Stream, type Tensor, tanh } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { initNormal, type KeysValuesSite, Module } from "../nn/index.ts";
import { LinearBank } from "./linear-bank.ts";
import { expertsOf, type PeftMethod, type RouteSource, type Share } from "./method.ts";
import { expectTokenCount } from "./prompt.ts";

export interface PrefixConfig {
  /** How many keys and values go in front of those of every text, in each layer. */
  readonly tokens: number;
  /**
   * Size between the two layers that make keys and values of learned rows, which trains more steadily. Absent: keys and
   * values are learned themselves.
   */
  readonly bottleneck?: number;
  /** M modules on each side of the two layers. Default 1. */
  readonly experts?: number;
  /** Default "up". */
  readonly share?: Share;
  /** Standard deviation of keys and values, or of the two layers' weights. Default 0.02. */
  readonly initStd?: number;
}
const NAMES: OptionNames<PrefixConfig> = {
  tokens: true,
  bottleneck: true,
  experts: true,
  share: true,
  initStd: true,
};

/** Keys and values [P, C] for each text, or [B, P, C]. */
export interface PrefixRows {
  readonly keys: Tensor;
  readonly values: Tensor;
}

/** What makes the keys and values of one layer. */
export abstract class Prefix extends Module {
  /** x: the input of the attention, [B, T, C]. */
  abstract rows(x: Tensor, layer: number, routes: RouteSource): PrefixRows;
}

class LearnedPrefix extends Prefix {
  readonly keys: Parameter;
  readonly values: Parameter;

  constructor(gpu: Gpu, shape: readonly [number, number]) {
    super();
    this.keys = Parameter.zeros(gpu, shape);
    this.values = Parameter.zeros(gpu, shape);
  }

  override rows(): PrefixRows {
    return { keys: this.keys, values: this.values };
  }
}

/** [k; v] = up(tanh(down(E))): E [P, C], banks as those of an adapter. */
class ComputedPrefix extends Prefix {
  readonly tokens: Parameter;
  readonly down: LinearBank;
  readonly up: LinearBank;

  constructor(tokens: Parameter, down: LinearBank, up: LinearBank) {
    super();
    this.tokens = tokens;
    this.down = down;
    this.up = up;
  }

  override rows(x: Tensor, layer: number, routes: RouteSource): PrefixRows {
    const [P, C] = this.tokens.shape as [number, number];
    const isRouted = this.down.experts > 1 || this.up.experts > 1;
    const [down, up] = [routes(layer, "down"), routes(layer, "up")];
    const texts = x.shape[0] as number;
    if (isRouted && down?.dtype === "i32" && down.size > texts)
      throw new ShapeError(
        `prefix: ${down.size} routes for ${texts} texts; a prefix is of a text, not of a token (draw by batch or example)`,
      );
    // A route is of texts: each has rows of its own then.
    const tokens = isRouted ? expand(this.tokens, [texts, P, C]) : this.tokens;
    const both = this.up.forward(tanh(this.down.forward(tokens, down)), up);
    const axis = both.shape.length - 1;
    const channels = (both.shape[axis] as number) / 2;
    return { keys: both.slice(axis, 0, channels), values: both.slice(axis, channels, 2 * channels) };
  }
}

/**
 * Prefix tuning (Li & Liang 2021): in each layer attention sees P learned keys and values before those of the text,
 * softmax(q [k_P; k]ᵀ) [v_P; v]. Positions of the text stay as they are. With `bottleneck` two layers make them of
 * learned rows; each Transformer layer has its own.
 */
export function prefix(config: PrefixConfig): PeftMethod {
  const {
    tokens,
    bottleneck,
    experts = 1,
    share = "up",
    initStd = 0.02,
  } = knownOptions("prefix", config, NAMES);
  expectTokenCount("prefix", tokens);
  if (bottleneck !== undefined && (!Number.isInteger(bottleneck) || bottleneck < 1))
    throw new ShapeError(`prefix: bottleneck is ${bottleneck}, expected a whole number of 1 or more`);
  if (experts > 1 && bottleneck === undefined)
    throw new ShapeError(`prefix: ${experts} experts of a prefix that is learned itself; give a bottleneck`);
  const counts = expertsOf(experts, share);
  const settings = { tokens, ...(bottleneck && { bottleneck }), experts, share, initStd };
  return {
    name: "prefix",
    config: { method: "prefix", ...settings },
    targets: ["keysValues"],
    experts: counts,
    build(gpu, site, stream) {
      if (site.kind !== "keysValues")
        throw new ShapeError(`prefix: "${site.name}" is not where keys and values are`);
      if (bottleneck === undefined) return learned(gpu, site, tokens, stream, initStd);
      const { inputs, channels } = site;
      const down = new LinearBank(gpu, { experts: counts.down, inputs, outputs: bottleneck });
      const up = new LinearBank(gpu, { experts: counts.up, inputs: bottleneck, outputs: 2 * channels });
      initNormal(down.weight, stream.fold("down"), initStd);
      initNormal(up.weight, stream.fold("up"), initStd);
      const rows = Parameter.zeros(gpu, [tokens, inputs]);
      initNormal(rows, stream.fold("tokens"), 1);
      return new ComputedPrefix(rows, down, up);
    },
    attach(set, site, module, routes) {
      if (site.kind !== "keysValues" || !(module instanceof Prefix)) return;
      site.attach(set, (x) => module.rows(x, site.layer, routes));
    },
    merged: () => prefix({ ...config, experts: 1 }),
    fold: "it adds keys and values to texts; keep the set attached",
  };
}

function learned(
  gpu: Gpu,
  { channels }: KeysValuesSite,
  tokens: number,
  stream: Stream,
  initStd: number,
): LearnedPrefix {
  const module = new LearnedPrefix(gpu, [tokens, channels]);
  initNormal(module.keys, stream.fold("keys"), initStd);
  initNormal(module.values, stream.fold("values"), initStd);
  return module;
}
