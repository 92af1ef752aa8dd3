// Bottleneck adapters in folders of adapter-hub's `adapters`: their config and the names of their tensors.
import { FormatError } from "../io/index.ts";
import type { AdapterFile, ModelTraits } from "./adapter-file.ts";
import { type Bottleneck, type BottleneckWeights, layersWithout } from "./bottleneck-weights.ts";
import type { ConfigFile } from "./config-file.ts";
import { type HostTensor, type HostTensors, times } from "./host-tensor.ts";
import { layerName, modelTypeOf } from "./sites.ts";

/** Where the adapters of a layer are: behind the attention (mh) or the feed-forward part (output). */
interface Places {
  /** Name of the site here, within its layer. */
  readonly site: string;
  /** The module that holds the adapters there, within its layer. */
  readonly module: string;
}

const PLACES: Readonly<Record<string, { readonly mh: Places; readonly output: Places }>> = {
  layer: {
    mh: { site: "attention.output", module: "attention.output" },
    output: { site: "output", module: "output" },
  },
  h: {
    mh: { site: "attn.output", module: "attention_adapters" },
    output: { site: "mlp.output", module: "output_adapters" },
  },
  layers: {
    mh: { site: "self_attn.output", module: "attention_adapters" },
    output: { site: "mlp.output", module: "output_adapters" },
  },
};

/** Activations by their name there. */
const ACTIVATIONS: Readonly<Record<string, string>> = {
  relu: "relu",
  gelu: "gelu",
  gelu_new: "geluTanh",
  gelu_pytorch_tanh: "geluTanh",
  swish: "silu",
  silu: "silu",
};
/** Before versions were written down, "gelu" meant the approximation. */
const OLD_ACTIVATIONS: Readonly<Record<string, string>> = {
  ...ACTIVATIONS,
  gelu: "geluTanh",
  gelu_orig: "gelu",
};

/** The config and tensors of a merged or plain adapter, under the name that it has there. */
export function bottleneckToHub(
  file: AdapterFile,
  weights: BottleneckWeights,
  model: ModelTraits,
  name: string,
): { readonly config: Readonly<Record<string, unknown>>; readonly tensors: HostTensors } {
  const tensors = new Map<string, HostTensor>();
  const used = { mh: new Set<string>(), output: new Set<string>() };
  for (const [site, { down, up }] of weights.sites) {
    const { kind, module } = placeOf(site);
    used[kind].add(site);
    const prefix = `${module}.adapters.${name}`;
    tensors.set(`${prefix}.adapter_down.0.weight`, down.weight);
    tensors.set(`${prefix}.adapter_down.0.bias`, down.bias);
    tensors.set(`${prefix}.adapter_up.weight`, up.weight);
    tensors.set(`${prefix}.adapter_up.bias`, up.bias);
  }
  const isNormalised = weights.input === "normalised";
  const type = modelTypeOf(file.config, weights.sites.keys());
  if (isNormalised && type !== "bert" && type !== "roberta") {
    throw new FormatError(
      `export: an adapter that reads LN(h + x) on ${type}: adapters normalises nothing there (format safetensors takes it)`,
    );
  }
  const config = {
    ...BN_DEFAULTS,
    mh_adapter: used.mh.size > 0,
    output_adapter: used.output.size > 0,
    original_ln_before: isNormalised,
    non_linearity: nonLinearity(weights.activation),
    reduction_factor: reductionFactor(channelsOf(weights), weights.bottleneck),
    leave_out: leftOut(used, model),
  };
  return { config, tensors };
}

/** Every field of its BnConfig. With original_ln_before false: f(h) = h + up(act(down(h))), as AdaMix has it. */
const BN_DEFAULTS = {
  adapter_residual_before_ln: false,
  cross_adapter: false,
  dropout: 0,
  factorized_phm_W: true,
  factorized_phm_rule: false,
  hypercomplex_nonlinearity: "glorot-uniform",
  init_weights: "bert",
  inv_adapter: null,
  inv_adapter_reduction_factor: null,
  is_parallel: false,
  learn_phm: true,
  ln_after: false,
  ln_before: false,
  original_ln_after: true,
  phm_bias: true,
  phm_c_init: "normal",
  phm_dim: 4,
  phm_init_range: 0.0001,
  phm_layer: false,
  phm_rank: 1,
  residual_before_ln: true,
  scaling: 1,
  shared_W_phm: false,
  shared_phm_rule: true,
  stochastic_depth: 0,
  use_gating: false,
} as const;

function placeOf(site: string): { readonly kind: "mh" | "output"; readonly module: string } {
  const { list, layer, rest } = layerName(site);
  const places = PLACES[list.split(".").at(-1) ?? ""];
  for (const kind of ["mh", "output"] as const) {
    if (places?.[kind].site === rest) return { kind, module: `${list}.${layer}.${places[kind].module}` };
  }
  throw new FormatError(
    `export: ${site} is no place of adapters in the library adapters (behind attention or feed-forward)`,
  );
}

function channelsOf({ sites }: BottleneckWeights): number {
  const [first] = sites.values();
  return first?.up.weight.shape[0] ?? 0;
}

function nonLinearity(activation: string): string {
  const found = Object.entries(ACTIVATIONS).find(([, own]) => own === activation);
  if (found) return found[0];
  throw new FormatError(
    `export: adapters has no activation "${activation}"; it has ${Object.keys(ACTIVATIONS).join(", ")}`,
  );
}

/** A factor f with int(hidden // f) = r: hidden / r where that is whole, else a quotient that no rounding spoils. */
export function reductionFactor(hidden: number, bottleneck: number): number {
  return hidden % bottleneck === 0 ? hidden / bottleneck : hidden / (bottleneck + 0.5);
}

function leftOut(
  used: { readonly mh: Set<string>; readonly output: Set<string> },
  model: ModelTraits,
): number[] {
  const lists = [used.mh, used.output]
    .filter((sites) => sites.size > 0)
    .map((sites) => layersWithout(sites, model));
  const [first = [], second = first] = lists;
  if (first.join() === second.join()) return first;
  throw new FormatError(
    `export: layers without an adapter are ${first.join(", ") || "none"} behind attention and ${second.join(", ") || "none"} behind feed-forward; adapters has one list for both (format safetensors takes it)`,
  );
}

/** What a config must say so that an adapter computes the same here. */
function expectKnown(config: ConfigFile): void {
  config.expect("original_ln_after", [true, null]);
  for (const key of ["ln_before", "ln_after", "is_parallel", "use_gating", "phm_layer"])
    config.expectOff(key, [false]);
  config.expectOff("inv_adapter", []);
  if (config.value("original_ln_before") === true) config.expect("residual_before_ln", [true]);
}

const KEY = /^(.+)\.adapters\.([^.]+)\.(adapter_down\.0|adapter_up)\.(weight|bias)$/;

/** The weights of a bottleneck adapter of a folder; tensors under the model's own names. */
export function bottleneckFromHub(
  config: ConfigFile,
  tensors: HostTensors,
  { isOld }: { readonly isOld: boolean },
): BottleneckWeights {
  expectKnown(config);
  const activations = isOld ? OLD_ACTIVATIONS : ACTIVATIONS;
  config.expect("non_linearity", Object.keys(activations));
  const scaling = config.number("scaling", 1);
  const found = new Map<string, Map<string, HostTensor>>();
  for (const [key, tensor] of tensors) {
    const [, module, , side, of] = KEY.exec(key) ?? [];
    if (!module) throw config.error(`"${key}" is nothing that a plain bottleneck adapter has`);
    const site = siteOf(module);
    const parts = found.get(site) ?? new Map<string, HostTensor>();
    const isUp = side === "adapter_up";
    found.set(site, parts.set(`${isUp ? "up" : "down"}.${of}`, isUp ? times(tensor, scaling) : tensor));
  }
  if (found.size === 0) throw config.error("the weights hold no bottleneck adapter");
  const sites = new Map([...found].map(([site, parts]) => [site, wholeOf(config, site, parts)]));
  return {
    bottleneck: Math.max(...[...sites.values()].map(({ down }) => down.weight.shape[0] ?? 0)),
    activation: activations[config.string("non_linearity")] ?? "",
    input: config.value("original_ln_before") === true ? "normalised" : "value",
    sites,
  };
}

function siteOf(module: string): string {
  const { list, layer, rest } = layerName(module);
  const places = Object.values(PLACES[list.split(".").at(-1) ?? ""] ?? {});
  const found = places.find((place) => place.module === rest);
  if (found) return `${list}.${layer}.${found.site}`;
  throw new FormatError(`import: adapters at ${module}, where this package has no site`);
}

function wholeOf(config: ConfigFile, site: string, parts: HostTensors): Bottleneck {
  const part = (name: string): HostTensor => {
    const tensor = parts.get(name);
    if (tensor) return tensor;
    throw config.error(`${site} lacks ${name}`);
  };
  const side = (name: string): Bottleneck["down"] => ({
    weight: part(`${name}.weight`),
    bias: part(`${name}.bias`),
  });
  return { down: side("down"), up: side("up") };
}
