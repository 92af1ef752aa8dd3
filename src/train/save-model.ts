import type { HalfType } from "../array/index.ts";
import { type SaveTensorsOptions, saveTensors } from "../io/index.ts";
import type { Module } from "../nn/index.ts";
import { exists, joinPath, makeFolder, readBytes, writeFileAtomic } from "../platform/index.ts";

/** A model that knows its config and its name in config.json. */
export interface SavableModel extends Module {
  readonly config: object;
  /** In `architectures`. */
  readonly architecture: string;
}

export interface SaveModelOptions extends SaveTensorsOptions {
  /** Further keys of config.json, such as those of the file that the model was loaded from; the model's own win. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** A folder whose tokenizer files are copied. */
  readonly tokenizerFrom?: string;
}

const TOKENIZER_FILES = [
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.json",
  "merges.txt",
  "vocab.txt",
  "tokenizer.bin",
];

const TORCH_NAMES: Readonly<Record<"f32" | HalfType, string>> = {
  f32: "float32",
  f16: "float16",
  bf16: "bfloat16",
};

/**
 * Writes a model as a folder that the Python libraries load: config.json, the weights under the published names, each
 * in the type it is stored in, in one file or several with an index, and the tokenizer's files.
 */
export async function saveModel(
  folder: string,
  model: SavableModel,
  options: SaveModelOptions = {},
): Promise<void> {
  const { config = {}, tokenizerFrom, ...rest } = options;
  makeFolder(folder);
  await saveTensors(folder, model.namedParameters(), rest);
  for (const name of tokenizerFrom === undefined ? [] : TOKENIZER_FILES) {
    const path = joinPath(tokenizerFrom ?? "", name);
    if (exists(path)) writeFileAtomic(joinPath(folder, name), readBytes(path));
  }
  writeFileAtomic(joinPath(folder, "config.json"), `${JSON.stringify(configJson(model, config), null, 2)}\n`);
}

function configJson(model: SavableModel, extra: Readonly<Record<string, unknown>>): object {
  const own = model.config as Readonly<Record<string, unknown>>;
  const types = new Set(model.parameters().map(({ dtype }) => dtype));
  // One type for all, or that of the frozen matrices.
  const stored = (["f16", "bf16"] as const).find((dtype) => types.has(dtype)) ?? "f32";
  const all: Record<string, unknown> = {
    ...extra,
    ...own,
    ...labelsOf(own),
    architectures: [model.architecture],
    torch_dtype: TORCH_NAMES[stored],
  };
  // Python counts the labels by their names.
  delete all.num_labels;
  if (all.id2label === null) delete all.id2label;
  return all;
}

/** Names of the labels both ways, where the model has any. */
function labelsOf({ num_labels: count, id2label }: Readonly<Record<string, unknown>>): object {
  if (typeof count !== "number") return {};
  const names = (id2label ?? {}) as Readonly<Record<string, string>>;
  const labels = Array.from({ length: count }, (_, i) => names[i] ?? `LABEL_${i}`);
  return {
    id2label: Object.fromEntries(labels.map((label, i) => [i, label])),
    label2id: Object.fromEntries(labels.map((label, i) => [label, i])),
  };
}
