// Methods that add nothing: they say which of the model's own parameters train beside its head.
import { knownOptions, type OptionNames } from "../array/index.ts";
import type { Parameter } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import type { Site } from "../nn/index.ts";
import type { BaseParameter, PeftMethod } from "./method.ts";

/** Every parameter trains: full fine-tuning. */
export function full(): PeftMethod {
  return trainingBase("full", {}, () => true);
}

/** The head alone trains. */
export function head(): PeftMethod {
  return trainingBase("head", {}, null);
}

export interface TopLayersConfig {
  /** How many of the last layers. */
  readonly layers: number;
}
const NAMES: OptionNames<TopLayersConfig> = { layers: true };

/** The last layers of the model train, and no other parameter of it. */
export function topLayers(config: TopLayersConfig): PeftMethod {
  const { layers: k } = knownOptions("topLayers", config, NAMES);
  if (!Number.isInteger(k) || k < 1)
    throw new ShapeError(`topLayers: layers is ${k}, expected a whole number of 1 or more`);
  return trainingBase("topLayers", { layers: k }, ({ layer, layers }) => {
    if (k > layers) throw new ShapeError(`topLayers: the last ${k} layers of a model of ${layers}`);
    return layer !== null && layer >= layers - k;
  });
}

/** Every bias trains, those of LayerNorms too: BitFit (Ben Zaken et al. 2022). */
export function bitFit(): PeftMethod {
  return trainingBase("bitFit", {}, ({ name }) => name.endsWith(".bias"));
}

function trainingBase(
  name: string,
  settings: object,
  trainsBase: ((parameter: BaseParameter) => boolean) | null,
): PeftMethod {
  const method: PeftMethod = {
    name,
    config: { method: name, ...settings },
    targets: null,
    experts: { down: 1, up: 1 },
    build(_gpu, site) {
      throw new ShapeError(`${name}: it puts nothing at "${site.name}"`);
    },
    attach() {},
    merged: () => method,
    ...(trainsBase && { trainsBase }),
    fold: "it adds nothing to the base that could be folded into it",
  };
  return method;
}

/** What has names for its parameters, as every Module has. */
export interface NamedParameters {
  namedParameters(): Iterable<readonly [string, Parameter]>;
}

/** The parameters of a model that a method trains in place. Refuses where there is none, and those in 16 bits. */
export function trainedBase(
  { name: method, trainsBase }: PeftMethod,
  model: Partial<NamedParameters>,
  sites: readonly Site[],
): Parameter[] {
  if (!trainsBase) return [];
  if (!model.namedParameters) throw new ShapeError(`${method}: the model has no names for its parameters`);
  const layers = 1 + sites.reduce((last, { layer }) => Math.max(last, layer), -1);
  const prefixes = layerPrefixes(sites);
  const found = [...model.namedParameters()].filter(([name]) => {
    const prefix = [...prefixes.keys()].find((start) => name.startsWith(start));
    return trainsBase({ name, layer: prefix === undefined ? null : (prefixes.get(prefix) ?? null), layers });
  });
  if (found.length === 0)
    throw new ShapeError(`${method}: the model has no parameter that it trains; use another method`);
  for (const [name, { dtype }] of found)
    if (dtype !== "f32")
      throw new ShapeError(`${method}: ${name} is ${dtype}; what trains needs f32, so load the model as f32`);
  return found.map(([, parameter]) => parameter);
}

/** How the names of each layer begin, from the names of its sites: `roberta.encoder.layer.0.`. */
function layerPrefixes(sites: readonly Site[]): Map<string, number> {
  const prefixes = new Map<string, number>();
  for (const { name, layer } of sites) {
    const parts = name.split(".");
    const at = parts.indexOf(String(layer));
    if (at >= 0) prefixes.set(`${parts.slice(0, at + 1).join(".")}.`, layer);
  }
  return prefixes;
}
