// Names of sites and of the model's parameters: which layer they are in, and how a list of them is said in short.
import { FormatError } from "../io/index.ts";
import type { AdapterConfigFile, ModelTraits } from "./adapter-file.ts";
import type { HostTensors } from "./host-tensor.ts";

/** A name within one layer: `roberta.encoder.layer.3.output` is [roberta.encoder.layer, 3, output]. */
export interface LayerName {
  readonly list: string;
  readonly layer: number;
  readonly rest: string;
}

const LAYERED = /^((?:(?:bert|roberta)\.encoder\.layer)|transformer\.h|model\.layers)\.(\d+)\.(.+)$/;

export function layerName(name: string): LayerName {
  const [, list, layer, rest] = LAYERED.exec(name) ?? [];
  if (list && rest) return { list, layer: Number(layer), rest };
  throw new FormatError(
    `formats: "${name}" is in no layer of a model known here (bert.encoder.layer.N, roberta.encoder.layer.N, transformer.h.N, model.layers.N)`,
  );
}

/** `model_type`, as the names tell it where the config does not. "llama" stands for Qwen2 too. */
export function modelTypeOf(config: AdapterConfigFile, sites: Iterable<string>): string {
  if (config.model) return config.model.type;
  const [first] = sites;
  const { list } = layerName(first ?? "");
  if (list === "transformer.h") return "gpt2";
  return list === "model.layers" ? "llama" : list.startsWith("bert") ? "bert" : "roberta";
}

/** Whether the sites are the same in every layer of a model with so many. */
export function coversAllLayers(sites: Iterable<string>, model: ModelTraits | undefined): boolean {
  if (!model) return false;
  const layers = new Map<string, Set<number>>();
  for (const site of sites) {
    const { rest, layer } = layerName(site);
    const known = layers.get(rest) ?? new Set<number>();
    layers.set(rest, known.add(layer));
  }
  return [...layers.values()].every((set) => set.size === model.layers);
}

/** Patterns of a method's `targets` that find just these sites: `layer.*.output`, or every name where layers differ. */
export function targetsOf(sites: readonly string[], model: ModelTraits | undefined): string[] {
  if (!coversAllLayers(sites, model)) return [...sites];
  const patterns = sites.map((site) => {
    const { list, rest } = layerName(site);
    return `${list.split(".").at(-1)}.*.${rest}`;
  });
  return [...new Set(patterns)];
}

/** A parameter of the head: what trains beside an adaptation and belongs in a format's own place for heads. */
export const HEAD = /^classifier\./;
/** The pooler of BERT, which trains where the base came without one. */
const POOLER = /^bert\.pooler\.dense\./;

export interface TrainedTensors {
  readonly head: HostTensors;
  readonly pooler: HostTensors;
}

/** The trained parameters of the model itself. Others than head and pooler are refused: no format of adapters has them. */
export function trainedTensors(
  format: string,
  tensors: HostTensors,
  isOwn: (name: string) => boolean,
): TrainedTensors {
  const rest = [...tensors].filter(([name]) => !isOwn(name));
  const strange = rest.filter(([name]) => !HEAD.test(name) && !POOLER.test(name)).map(([name]) => name);
  if (strange.length > 0) {
    throw new FormatError(
      `export: ${strange.length} tensors are no part of an adapter or head, ${format} has no place for them: ${strange.slice(0, 3).join(", ")}${strange.length > 3 ? ", ..." : ""} (format safetensors takes all; a whole model is written by saveModel)`,
    );
  }
  return {
    head: new Map(rest.filter(([name]) => HEAD.test(name))),
    pooler: new Map(rest.filter(([name]) => POOLER.test(name))),
  };
}
