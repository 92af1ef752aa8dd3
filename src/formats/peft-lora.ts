// Folders of Hugging Face's peft: adapter_config.json and adapter_model.safetensors, for LoRA.
import { encodeSafetensors, FormatError } from "../io/index.ts";
import { exists, joinPath } from "../platform/index.ts";
import {
  type AdapterFile,
  expectBanks,
  expectMerged,
  type ModelTraits,
  readHostTensors,
} from "./adapter-file.ts";
import { ConfigFile, sortedJson } from "./config-file.ts";
import type { ExportSettings, FolderFiles, ImportSettings } from "./format.ts";
import { fuseSlices, splitSlices } from "./fused-attention.ts";
import { type HostTensor, type HostTensors, toWrite } from "./host-tensor.ts";
import {
  evenLora,
  isLoraTensor,
  type LoraPair,
  type LoraPairs,
  loraFile,
  loraPairs,
} from "./lora-weights.ts";
import { expectFirstToken, nameOfModel, traitsOfBase } from "./model-names.ts";
import { fromNotes, headProvenance, notesOf } from "./notes.ts";
import { coversAllLayers, layerName, modelTypeOf, trainedTensors } from "./sites.ts";

const CONFIG = "adapter_config.json";
const WEIGHTS = ["adapter_model.safetensors", "adapter_model.bin"] as const;
const PREFIX = "base_model.model.";

/** Last parts of module names that name just one kind of module of a model. */
const PLAIN = /^(query|key|value|c_attn|c_fc|[qkvo]_proj|gate_proj|up_proj|down_proj)$/;

/**
 * A merged or plain LoRA as peft loads it. Keys: `base_model.model.MODULE.lora_A.weight` [r, in], `lora_B` [out, r];
 * the head and a trained pooler under `modules_to_save`. Slices of GPT-2's c_attn become LoRA of the whole of it.
 */
export function exportPeft(file: AdapterFile, settings: ExportSettings): FolderFiles {
  expectMerged("peft", file);
  expectBanks("export", file);
  const sites = loraPairs(file);
  if (sites.size === 0) {
    throw new FormatError(
      "export: peft has LoRA, and no adapters after a sub-layer; this one holds no LoRA (format adapters has those)",
    );
  }
  const { head, pooler } = trainedTensors("peft", file.tensors, isLoraTensor);
  const saved = settings.head === false ? new Map<string, HostTensor>() : new Map([...head, ...pooler]);
  if (saved.size > 0) expectFirstToken("peft", file.config.model);
  const even = evenLora(fuseSlices(sites));
  const tensors = new Map<string, HostTensor>();
  for (const [module, { a, b }] of even.pairs) {
    tensors.set(`${PREFIX}${module}.lora_A.weight`, a);
    tensors.set(`${PREFIX}${module}.lora_B.weight`, b);
  }
  for (const [name, tensor] of saved) tensors.set(`${PREFIX}${name}`, tensor);
  const config = peftConfig(file, even, saved);
  return new Map<string, Uint8Array | string>([
    [CONFIG, sortedJson(config)],
    [WEIGHTS[0], encodeSafetensors(toWrite(tensors), { format: "pt", ...notesOf(file.config) })],
  ]);
}

function peftConfig(
  { config }: AdapterFile,
  { rank, alpha, pairs }: { readonly rank: number; readonly alpha: number; readonly pairs: LoraPairs },
  saved: HostTensors,
): Record<string, unknown> {
  const modules = [...pairs.keys()];
  const type = modelTypeOf(config, modules);
  const saves = [
    ...new Set([...saved.keys()].map((name) => (name.startsWith("classifier.") ? "classifier" : "pooler"))),
  ];
  const { dropout = 0 } = config.peft ?? {};
  return {
    peft_type: "LORA",
    task_type: saves.includes("classifier") ? "SEQ_CLS" : isCausal(type) ? "CAUSAL_LM" : null,
    base_model_name_or_path: config.base,
    revision: null,
    inference_mode: true,
    r: rank,
    lora_alpha: alpha,
    lora_dropout: dropout,
    use_rslora: false,
    target_modules: targetModules(modules, config.model),
    fan_in_fan_out: type === "gpt2",
    bias: "none",
    modules_to_save: saves.length > 0 ? saves : null,
    init_lora_weights: true,
  };
}

function isCausal(type: string): boolean {
  return type !== "bert" && type !== "roberta";
}

/** Last parts of names where they mean just these modules, else every name. */
function targetModules(modules: readonly string[], model: ModelTraits | undefined): string[] {
  const last = (name: string): string => name.split(".").at(-1) ?? name;
  const isPlain = modules.every((name) => PLAIN.test(last(name)));
  return isPlain && coversAllLayers(modules, model) ? [...new Set(modules.map(last))] : [...modules];
}

export function isPeftFolder(folder: string): boolean {
  return exists(joinPath(folder, CONFIG)) && WEIGHTS.some((name) => exists(joinPath(folder, name)));
}

/** Settings of a LoRA that change what it computes and that nothing here does, with the values that mean "off". */
const OFF: Readonly<Record<string, readonly unknown[]>> = {
  bias: ["none"],
  use_dora: [false],
  lora_bias: [false],
  use_qalora: [false],
  layer_replication: [],
  trainable_token_indices: [],
  target_parameters: [],
  alora_invocation_tokens: [],
  exclude_modules: [],
  megatron_config: [],
};
/** Initialisations that change the base weights too: the file alone does not say the model. */
const CHANGES_BASE = /^(pissa|olora|corda|loftq|lora_ga)/;

/** Reads a folder of peft. Whatever would compute something else here is refused by name. */
export function importPeft(folder: string, settings: ImportSettings): AdapterFile {
  const config = new ConfigFile(joinPath(folder, CONFIG));
  config.expect("peft_type", ["LORA"]);
  for (const [key, off] of Object.entries(OFF)) config.expectOff(key, off);
  const init = config.value("init_lora_weights");
  if (typeof init === "string" && CHANGES_BASE.test(init)) {
    throw config.error(
      `init_lora_weights is "${init}", which changes the base weights too (in Python: save_pretrained with path_initial_model_for_weight_conversion)`,
    );
  }
  const weights = WEIGHTS.map((name) => joinPath(folder, name)).find(exists);
  if (!weights) throw new FormatError(`import: no ${WEIGHTS.join(" or ")} in ${folder}`);
  const base = settings.base ?? config.string("base_model_name_or_path");
  const model = settings.model ?? traitsOfBase(base);
  const { pairs, trained: found } = sorted(config, readHostTensors(weights), model?.type);
  const trained = settings.head === false ? new Map<string, HostTensor>() : found;
  const provenance = {
    base,
    ...headProvenance(trained, settings.labels ?? fromNotes(weights).labels),
    ...(model && { model }),
    importedFrom: "peft",
  };
  return loraFile(provenance, splitSlices(pairs), trained, config.number("lora_dropout", 0));
}

const KEY = /^(.+)\.lora_(A|B)(?:\.default)?\.weight$/;

/** Tensors of the file by what they are, under the names of the model here. */
function sorted(
  config: ConfigFile,
  tensors: HostTensors,
  type: string | undefined,
): { readonly pairs: LoraPairs; readonly trained: HostTensors } {
  const pairs = new Map<string, LoraPair>();
  const trained = new Map<string, HostTensor>();
  for (const [key, tensor] of tensors) {
    const inner = key.replace(/^base_model\.model\./, "");
    const [, module, side] = KEY.exec(inner) ?? [];
    if (!module) {
      if (/\.lora_/.test(inner)) throw config.error(`"${key}" is nothing that a plain LoRA has`);
      trained.set(nameOfModel(inner.replace(/\.modules_to_save(\.default)?\./, "."), type), tensor);
    } else if (side === "A") {
      const other = tensors.get(key.replace(".lora_A", ".lora_B"));
      if (!other) throw config.error(`"${key}" has no lora_B`);
      const name = nameOfModel(module, type);
      layerName(name); // refuses embeddings and heads
      pairs.set(name, { a: tensor, b: other, scale: scaleOf(config, module, tensor.shape[0] ?? 0) });
    }
  }
  return { pairs, trained };
}

/** alpha / r of a module: its rank is that of its A, its alpha may have a pattern of its own. */
function scaleOf(config: ConfigFile, module: string, rank: number): number {
  const patterns = config.record("alpha_pattern");
  const own = Object.keys(patterns).find((key) => patternOf(config, key).test(module));
  const alpha = own === undefined ? config.number("lora_alpha", 8) : Number(patterns[own]);
  return alpha / (config.value("use_rslora") === true ? Math.sqrt(rank) : rank);
}

/** A pattern names modules by the end of their names, as a regular expression. */
function patternOf(config: ConfigFile, key: string): RegExp {
  try {
    return new RegExp(`^(.*\\.)?(${key})$`);
  } catch {
    throw config.error(`alpha_pattern names "${key}", which is no pattern`);
  }
}
