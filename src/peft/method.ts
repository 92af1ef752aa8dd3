import type { Gpu } from "../array/index.ts";
import type { Stream, Tensor } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import type { LinearSite, Module, Site } from "../nn/index.ts";
import type { Side } from "./router.ts";

/** Gives the route of one side of a layer; null where a method has no experts to choose from. */
export type RouteSource = (layer: number, side: Side) => Tensor | null;

/** Which side of each pair is one module for all. Paper: section 3.4; "up" is the default of all its results. */
export type Share = "up" | "down" | "none";

/** A parameter of the model, as a method that trains some of them sees it. */
export interface BaseParameter {
  /** As in the checkpoint: `roberta.encoder.layer.0.output.dense.bias`. */
  readonly name: string;
  /** Number of its Transformer layer; null: it is in none. */
  readonly layer: number | null;
  /** How many layers there are. */
  readonly layers: number;
}

/** Weight [out, in] and bias [out] of a linear layer. */
export interface LinearWeights {
  readonly weight: Tensor;
  readonly bias: Tensor | null;
}

/**
 * A parameter-efficient method: which sites it wants and what it puts there. Methods are plain objects made by
 * functions of a config (`adapter({...})`, `lora({...})`); nothing outside their file asks which one it has.
 */
export interface PeftMethod {
  readonly name: string;
  /** All settings, as saved in adapter_config.json. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Roles of sites, or ends of their names: see matchSites. null: it puts nothing anywhere. */
  readonly targets: readonly string[] | null;
  readonly experts: Readonly<Record<Side, number>>;
  /**
   * Makes the trainable part of one site, initialised from `stream`. `shared` belongs to the layer: what one site
   * puts there, the layer's other sites find; it trains as a part of the module whose public property it is.
   */
  build(gpu: Gpu, site: Site, stream: Stream, shared: Map<string, Module>): Module;
  /** Attaches a part to its site under the set's name. */
  attach(set: string, site: Site, module: Module, routes: RouteSource): void;
  /** The same method with one expert on each side: what merging makes. */
  merged(): PeftMethod;
  /** Which of the model's own parameters train too. Absent: none. */
  trainsBase?(parameter: BaseParameter): boolean;
  /** Tokens that it puts in front of every text: they take as many of the model's positions. Absent: none. */
  readonly virtualTokens?: number;
  /** Weights that do what a linear layer does with the part of one expert. A string: why there are none. */
  readonly fold?: ((base: LinearWeights, site: LinearSite, module: Module) => LinearWeights) | string;
}

const SHARES: readonly Share[] = ["up", "down", "none"];

/** Numbers of experts on each side for M experts under a sharing rule. */
export function expertsOf(experts: number, share: Share): Record<Side, number> {
  if (!Number.isInteger(experts) || experts < 1)
    throw new ShapeError(`adamix: experts is ${experts}, expected 1 or more`);
  if (!SHARES.includes(share))
    throw new ShapeError(`adamix: share is "${share}", expected one of ${SHARES.join(", ")}`);
  return { down: share === "down" ? 1 : experts, up: share === "up" ? 1 : experts };
}

/**
 * Sites of a role (`query`, in every family), or whose names end with a pattern: dotted parts, `*` for any one part.
 * `q_proj` finds `….self_attn.q_proj`, `layer.*.output` BERT's feed-forward outputs. No match is an error that lists
 * the names and roles of a layer.
 */
export function matchSites(method: string, sites: readonly Site[], targets: readonly string[]): Site[] {
  const found = new Set<Site>();
  if (targets.length === 0)
    throw new ShapeError(`${method}: no targets; names look like ${examplesOf(sites)}`);
  for (const target of targets) {
    const pattern = target.split(".");
    const hits = sites.filter(({ name, role }) => {
      if (role === target) return true;
      const tail = name.split(".").slice(-pattern.length);
      return tail.length === pattern.length && pattern.every((part, i) => part === "*" || part === tail[i]);
    });
    if (hits.length === 0) {
      throw new ShapeError(
        `${method}: target "${target}" matches no site; names look like ${examplesOf(sites)}`,
      );
    }
    for (const site of hits) found.add(site);
  }
  return sites.filter((site) => found.has(site));
}

/** The sites of one layer: every kind of name that there is, and its role. */
function examplesOf(sites: readonly Site[]): string {
  const layer = sites[0]?.layer;
  return sites
    .filter((site) => site.layer === layer)
    .map(({ name, role }) => (role ? `"${name}" (${role})` : `"${name}"`))
    .join(", ");
}
