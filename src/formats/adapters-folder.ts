// Folders of adapter-hub's `adapters`: adapter_config.json with pytorch_adapter.bin and adapter.safetensors, and
// head_config.json with pytorch_model_head.bin and model_head.safetensors. It reads the .bin files unless told otherwise.
import { encodePytorch, encodeSafetensors, FormatError } from "../io/index.ts";
import { exists, joinPath, readText } from "../platform/index.ts";
import {
  type AdapterFile,
  expectBanks,
  expectMerged,
  isBank,
  type ModelTraits,
  readHostTensors,
} from "./adapter-file.ts";
import { bottleneckFromHub, bottleneckToHub } from "./adapters-bottleneck.ts";
import { headFromHub, headToHub, labelNumbers } from "./adapters-head.ts";
import { loraFromHub, loraToHub } from "./adapters-lora.ts";
import { bottleneckFile, bottleneckWeights } from "./bottleneck-weights.ts";
import { ConfigFile, sortedJson } from "./config-file.ts";
import type { ExportSettings, FolderFiles, ImportSettings } from "./format.ts";
import { elementsOf, type HostTensor, type HostTensors, toWrite } from "./host-tensor.ts";
import { loraFile, loraPairs } from "./lora-weights.ts";
import { nameOfModel, traitsOfBase } from "./model-names.ts";
import { headProvenance, notesOf } from "./notes.ts";
import { modelTypeOf, trainedTensors } from "./sites.ts";

const ADAPTER = {
  config: "adapter_config.json",
  bin: "pytorch_adapter.bin",
  safe: "adapter.safetensors",
} as const;
const HEAD = {
  config: "head_config.json",
  bin: "pytorch_model_head.bin",
  safe: "model_head.safetensors",
} as const;

/** From 1.1.0 on it computes LoRA with alpha / r, as the config says. */
const VERSION = "adapters.1.2.0";

/** Model classes with flexible heads, by model_type. */
const CLASSES: Readonly<Record<string, string>> = {
  bert: "BertAdapterModel",
  roberta: "RobertaAdapterModel",
  gpt2: "GPT2AdapterModel",
  llama: "LlamaAdapterModel",
};

/**
 * A merged or plain adapter, or LoRA, as `adapters` loads it. A merged AdaMix adapter is a bottleneck adapter behind the
 * feed-forward part, before residual and LayerNorm; it is none of the library's named configs.
 */
export function exportAdapters(file: AdapterFile, settings: ExportSettings): FolderFiles {
  expectMerged("adapters", file);
  expectBanks("export", file);
  const { name = "default", head: hasHead = true } = settings;
  if (!/^\w[\w-]*$/.test(name))
    throw new FormatError(`export: adapters takes no name "${name}": letters, digits, _ and -`);
  const model = expectModel(file);
  const type = modelTypeOf(file.config, [...file.tensors.keys()].filter(isBank));
  const modelClass = CLASSES[type];
  if (!modelClass)
    throw new FormatError(
      `export: adapters has no ${type}; known here are ${Object.keys(CLASSES).join(", ")}`,
    );
  const common = {
    hidden_size: hiddenSize(file),
    model_class: modelClass,
    model_name: file.config.base,
    model_type: type,
    name,
    version: VERSION,
  };
  const { config, tensors } = contentOf(file, model, name);
  const files: FolderFiles = new Map<string, Uint8Array | string>([
    [ADAPTER.config, sortedJson({ config, ...common }, ["scaling"])],
    ...weightFiles(ADAPTER, tensors, notesOf(file.config)),
  ]);
  const trained = trainedTensors("adapters", file.tensors, isBank);
  const head = hasHead ? headToHub(file, type, trained, name) : null;
  if (!head) return files;
  files.set(
    HEAD.config,
    sortedJson({ config: head.config, label2id: labelNumbers(file.config.labels), ...common }),
  );
  for (const [path, content] of weightFiles(HEAD, head.tensors, {})) files.set(path, content);
  return files;
}

function contentOf(file: AdapterFile, model: ModelTraits, name: string): ReturnType<typeof bottleneckToHub> {
  const weights = bottleneckWeights(file);
  if (weights) return bottleneckToHub(file, weights, model, name);
  const pairs = loraPairs(file);
  if (pairs.size > 0) return loraToHub(pairs, model, name);
  throw new FormatError("export: the adapter holds no tensors of an adapter or LoRA");
}

function expectModel({ config }: AdapterFile): ModelTraits {
  if (config.model) return config.model;
  throw new FormatError(
    `export: ${config.base} is not here, and adapters must be told of every layer without an adapter (give the folder of the base model: { base }, --base)`,
  );
}

/** The width of the model: that of what an adapter adds to, or of what a LoRA reads. */
function hiddenSize({ tensors }: AdapterFile): number {
  for (const [name, { shape }] of tensors) {
    if (/\.adapter\.up\.bias$/.test(name)) return shape[1] ?? 0;
    if (/\.lora\.lora_A\.weight$/.test(name)) return shape[2] ?? 0;
  }
  return 0;
}

function weightFiles(
  names: typeof ADAPTER | typeof HEAD,
  tensors: HostTensors,
  notes: Readonly<Record<string, string>>,
): [string, Uint8Array][] {
  return [
    [names.bin, encodePytorch(tensors)],
    [names.safe, encodeSafetensors(toWrite(tensors), { format: "pt", ...notes })],
  ];
}

export function isAdaptersFolder(folder: string): boolean {
  if (exists(joinPath(folder, ADAPTER.bin))) return true;
  const path = joinPath(folder, ADAPTER.config);
  if (!exists(path) || !exists(joinPath(folder, ADAPTER.safe))) return false;
  return /"model_class"/.test(readText(path));
}

/** Reads a folder of `adapters`, and of its predecessor adapter-transformers. */
export function importAdapters(folder: string, settings: ImportSettings): AdapterFile {
  const file = new ConfigFile(joinPath(folder, ADAPTER.config));
  const config = file.inner("config");
  const version = String(file.value("version") ?? "");
  const base = settings.base ?? file.string("model_name");
  const model = settings.model ?? traitsOfBase(base);
  const type = model?.type ?? String(file.value("model_type") ?? "");
  const read = readWeights(folder, ADAPTER, "adapter");
  const tensors = new Map([...read].map(([key, tensor]) => [nameOfModel(modernKey(key), type), tensor]));
  const hasHead = settings.head !== false && exists(joinPath(folder, HEAD.config));
  const head = hasHead ? readHead(folder, type) : null;
  const provenance = {
    base,
    ...headProvenance(head?.tensors ?? NONE, settings.labels ?? head?.labels),
    ...(model && { model }),
    importedFrom: "adapters",
  };
  const trained = head?.tensors ?? NONE;
  const architecture = config.value("architecture");
  if (architecture === "lora") {
    const pairs = loraFromHub(config, tensors, { hasOldAlpha: isBefore11(version) });
    return loraFile(provenance, pairs, trained, config.number("dropout", 0));
  }
  config.expect("architecture", [null, "bottleneck"]);
  return bottleneckFile(provenance, bottleneckFromHub(config, tensors, { isOld: version === "" }), trained);
}

const NONE: HostTensors = new Map<string, HostTensor>();

function readHead(folder: string, type: string): ReturnType<typeof headFromHub> {
  const tensors = readWeights(folder, HEAD, "head");
  return headFromHub(new ConfigFile(joinPath(folder, HEAD.config)), tensors, type);
}

function readWeights(folder: string, names: typeof ADAPTER | typeof HEAD, what: string): HostTensors {
  const path = [names.safe, names.bin].map((name) => joinPath(folder, name)).find(exists);
  if (!path) throw new FormatError(`import: no ${names.safe} or ${names.bin} in ${folder}`);
  const tensors = readHostTensors(path);
  if (elementsOf(tensors.values()) === 0) throw new FormatError(`import: ${path} holds no ${what}`);
  return tensors;
}

/** adapter-transformers wrote `attention_text_task_adapters` and the like. */
function modernKey(key: string): string {
  return key.replace(/\.(attention|layer)_text_(task|lang)_adapters\./, ".adapters.");
}

/** Versions "adapters.1.0.x" computed LoRA as if alpha were r. */
function isBefore11(version: string): boolean {
  return /^adapters\.(0\.|1\.0\.)/.test(version);
}
