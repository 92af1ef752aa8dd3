import type { Gpu } from "../array/index.ts";
import type { Stream, Tensor } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import type { Module, Site } from "../nn/index.ts";
import type { Side } from "./router.ts";

/** Gives the route of one side of a layer; null where a method has no experts to choose from. */
export type RouteSource = (layer: number, side: Side) => Tensor | null;

/** Which side of each pair is one module for all. Paper: section 3.4; "up" is the default of all its results. */
export type Share = "up" | "down" | "none";

/**
 * A parameter-efficient method: which sites it wants and what it puts there. Methods are plain objects made by
 * functions of a config (`adapter({...})`, `lora({...})`); nothing outside their file asks which one it has.
 */
export interface PeftMethod {
  readonly name: string;
  /** All settings, as saved in adapter_config.json. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly targets: readonly string[];
  readonly experts: Readonly<Record<Side, number>>;
  /** Makes the trainable part of one site, initialised from `stream`, and attaches it under the set's name. */
  build(gpu: Gpu, site: Site, stream: Stream): Module;
  attach(set: string, site: Site, module: Module, routes: RouteSource): void;
  /** The same method with one expert on each side: what merging makes. */
  merged(): PeftMethod;
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
 * Sites whose names end with a pattern: dotted parts, `*` for any one part. `query` finds
 * `….attention.self.query`, `layer.*.output` the feed-forward outputs. No match is an error that lists near names.
 */
export function matchSites(method: string, sites: readonly Site[], targets: readonly string[]): Site[] {
  const found = new Set<Site>();
  if (targets.length === 0)
    throw new ShapeError(`${method}: no targets; names look like ${examplesOf(sites)}`);
  for (const target of targets) {
    const pattern = target.split(".");
    const hits = sites.filter(({ name }) => {
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

/** The sites of one layer: every kind of name that there is. */
function examplesOf(sites: readonly Site[]): string {
  const layer = sites[0]?.layer;
  return sites
    .filter((site) => site.layer === layer)
    .map(({ name }) => JSON.stringify(name))
    .join(", ");
}
