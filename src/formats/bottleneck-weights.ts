// Bottleneck adapters as all formats hold them: two linear layers for each site, an activation, and what they read.
import { FormatError } from "../io/index.ts";
import type { AdapterFile, ModelTraits, Provenance } from "./adapter-file.ts";
import { type HostTensor, type HostTensors, padded, sliceOf, stacked } from "./host-tensor.ts";
import { layerName, modelTypeOf, targetsOf } from "./sites.ts";

/** up(act(down(.))): down weight [r, C] and bias [r], up weight [C, r] and bias [C]. */
export interface Bottleneck {
  readonly down: { readonly weight: HostTensor; readonly bias: HostTensor };
  readonly up: { readonly weight: HostTensor; readonly bias: HostTensor };
}

export interface BottleneckWeights {
  readonly bottleneck: number;
  /** As the ops call it: gelu, geluTanh, relu, silu. */
  readonly activation: string;
  /** What is projected down: the sub-layer's output, or LN(output + residual). */
  readonly input: "value" | "normalised";
  readonly sites: ReadonlyMap<string, Bottleneck>;
}

const WEIGHT = /^(.+)\.adapter\.(?:down|up)\.(?:weight|bias)$/;

export function isBottleneckTensor(name: string): boolean {
  return WEIGHT.test(name);
}

/** The activation of a model's feed-forward parts, which adapters take where they name none. */
const OF_FAMILY: Readonly<Record<string, string>> = {
  bert: "gelu",
  roberta: "gelu",
  gpt2: "geluTanh",
  llama: "silu",
  qwen2: "silu",
};

/** A merged or plain adapter's weights by site; null where the file holds none. */
export function bottleneckWeights(file: AdapterFile): BottleneckWeights | null {
  const names = [...file.tensors.keys()].flatMap((name) => WEIGHT.exec(name)?.[1] ?? []);
  const sites = new Map<string, Bottleneck>();
  for (const site of new Set(names)) {
    const part = (side: string, of: string): HostTensor => {
      const found = file.tensors.get(`${site}.adapter.${side}.${of}`);
      if (!found) throw new FormatError(`adapter: ${site} has no ${side}.${of}`);
      return sliceOf(found, 0);
    };
    const side = (name: string): Bottleneck["down"] => ({
      weight: part(name, "weight"),
      bias: part(name, "bias"),
    });
    sites.set(site, { down: side("down"), up: side("up") });
  }
  if (sites.size === 0) return null;
  const { config } = file;
  const { bottleneck, activation, input = "value" } = config.peft ?? {};
  const named = activation ?? config.model?.activation ?? OF_FAMILY[modelTypeOf(config, sites.keys())];
  if (
    typeof bottleneck !== "number" ||
    typeof named !== "string" ||
    (input !== "value" && input !== "normalised")
  )
    throw new FormatError(
      `adapter: a config without bottleneck, activation or input: ${JSON.stringify(config.peft)}`,
    );
  return { bottleneck, activation: named, input, sites };
}

/** The same as an adapter of this package; smaller bottlenecks among them are padded with zeros. */
export function bottleneckFile(
  provenance: Provenance,
  { bottleneck, activation, input, sites }: BottleneckWeights,
  trained: HostTensors,
): AdapterFile {
  const tensors = new Map<string, HostTensor>(trained);
  for (const [site, { down, up }] of sites) {
    const channels = up.weight.shape[0] ?? 0;
    tensors.set(`${site}.adapter.down.weight`, stacked([padded(down.weight, [bottleneck, channels])]));
    tensors.set(`${site}.adapter.down.bias`, stacked([padded(down.bias, [bottleneck])]));
    tensors.set(`${site}.adapter.up.weight`, stacked([padded(up.weight, [channels, bottleneck])]));
    tensors.set(`${site}.adapter.up.bias`, stacked([up.bias]));
  }
  const targets = targetsOf([...sites.keys()], provenance.model);
  const settings = { bottleneck, activation, input, experts: 1, share: "up", initStd: 0.02, targets };
  return { config: { ...provenance, peft: { method: "adapter", ...settings } }, tensors };
}

/** Layers of a model that have no adapter. */
export function layersWithout(sites: Iterable<string>, model: ModelTraits): number[] {
  const layers = new Set([...sites].map((site) => layerName(site).layer));
  return Array.from({ length: model.layers }, (_, layer) => layer).filter((layer) => !layers.has(layer));
}
