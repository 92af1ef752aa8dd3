// LoRA in folders of adapter-hub's `adapters`: of attention's queries, keys and values, and of encoders' feed-forward.
import { FormatError } from "../io/index.ts";
import type { ModelTraits } from "./adapter-file.ts";
import { layersWithout } from "./bottleneck-weights.ts";
import type { ConfigFile } from "./config-file.ts";
import type { HostTensor, HostTensors } from "./host-tensor.ts";
import { evenLora, type LoraPair, type LoraPairs } from "./lora-weights.ts";
import { ATTENTION_PARTS, type AttentionPart, joinMerged, splitMerged } from "./merged-linear.ts";
import { layerName } from "./sites.ts";

const ATTENTION =
  /^attention\.self\.(query|key|value)$|^attn\.c_attn\.(query|key|value)$|^self_attn\.([qkv])_proj$/;
const LETTERS = { query: "q", key: "k", value: "v" } as const;

/** The switch of the config that a module hangs on: a letter of attn_matrices, or a flag. */
function switchOf(site: string): string {
  const { list, rest } = layerName(site);
  const [, encoder, gpt2, letter] = ATTENTION.exec(rest) ?? [];
  const part = encoder ?? gpt2;
  if (part) return LETTERS[part as AttentionPart]; // the pattern has no other
  if (letter) return letter;
  if (list.endsWith(".layer") && rest === "intermediate.dense") return "intermediate_lora";
  if (list.endsWith(".layer") && rest === "output.dense") return "output_lora";
  throw new FormatError(
    `export: LoRA of ${site}: adapters has it for queries, keys, values and an encoder's feed-forward part (format peft takes it)`,
  );
}

/** Config and tensors of a merged or plain LoRA. */
export function loraToHub(
  pairs: LoraPairs,
  model: ModelTraits,
  name: string,
): { readonly config: Readonly<Record<string, unknown>>; readonly tensors: HostTensors } {
  const { rank, alpha, pairs: even } = evenLora(pairs);
  const switches = new Map<string, string[]>();
  for (const site of even.keys()) {
    const own = switchOf(site);
    switches.set(own, [...(switches.get(own) ?? []), site]);
  }
  const without = [...switches.values()].map((sites) => layersWithout(sites, model));
  if (new Set(without.map((layers) => layers.join())).size > 1)
    throw new FormatError(
      "export: LoRA in other layers for one matrix than for another; adapters has one list for all (format peft takes it)",
    );
  const letters = ["q", "k", "v"].filter((letter) => switches.has(letter));
  return {
    config: {
      alpha,
      architecture: "lora",
      attn_matrices: letters,
      composition_mode: "add",
      dropout: 0,
      init_weights: "lora",
      intermediate_lora: switches.has("intermediate_lora"),
      leave_out: without[0] ?? [],
      output_lora: switches.has("output_lora"),
      r: rank,
      selfattn_lora: letters.length > 0,
      use_gating: false,
    },
    tensors: namedThere(even, name),
  };
}

function namedThere(pairs: LoraPairs, name: string): HostTensors {
  const tensors = new Map<string, HostTensor>();
  const fused = new Map<string, LoraPair[]>();
  for (const part of ATTENTION_PARTS) {
    for (const [site, pair] of pairs) {
      const module = site.endsWith(`.c_attn.${part}`) ? site.slice(0, -part.length - 1) : null;
      if (module) fused.set(module, [...(fused.get(module) ?? []), pair]);
    }
  }
  for (const [module, parts] of fused) {
    const { a, b } = joinMerged(parts);
    tensors.set(`${module}.loras.${name}.lora_A`, a);
    tensors.set(`${module}.loras.${name}.lora_B`, b);
  }
  for (const [site, { a, b }] of pairs) {
    if (/\.c_attn\./.test(site)) continue;
    tensors.set(`${site}.loras.${name}.lora_A`, a);
    tensors.set(`${site}.loras.${name}.lora_B`, b);
  }
  return tensors;
}

const KEY = /^(.+)\.loras\.([^.]+)\.lora_([AB])$/;

/** The pairs of a folder; tensors under the model's own names. `hasOldAlpha`: versions that computed with alpha = r. */
export function loraFromHub(
  config: ConfigFile,
  tensors: HostTensors,
  { hasOldAlpha }: { readonly hasOldAlpha: boolean },
): LoraPairs {
  config.expect("composition_mode", ["add", null]);
  config.expectOff("use_gating", [false]);
  const scale = hasOldAlpha ? 1 : config.number("alpha") / config.number("r");
  const letters = config.value("attn_matrices") ?? ["q", "v"];
  const parts = ATTENTION_PARTS.filter((part) => Array.isArray(letters) && letters.includes(LETTERS[part]));
  const pairs = new Map<string, LoraPair>();
  for (const [key, a] of tensors) {
    const [, module, name, side] = KEY.exec(key) ?? [];
    if (!module) throw config.error(`"${key}" is nothing that a plain LoRA has`);
    if (side !== "A") continue;
    const b = tensors.get(`${module}.loras.${name}.lora_B`);
    if (!b) throw config.error(`"${key}" has no lora_B`);
    if (!module.endsWith(".c_attn")) pairs.set(module, { a, b, scale });
    else
      for (const [part, pair] of splitMerged(module, a, b, parts, scale))
        pairs.set(`${module}.${part}`, pair);
  }
  return pairs;
}
