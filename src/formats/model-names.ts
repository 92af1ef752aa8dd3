// Models as other tools name them, and what their classes compute otherwise.
import { FormatError } from "../io/index.ts";
import { MODEL_FAMILIES, modelFamily, PUBLISHED_SIZES } from "../models/index.ts";
import { exists, joinPath, readText } from "../platform/index.ts";
import type { ModelTraits } from "./adapter-file.ts";

/**
 * The model's own name of a module or tensor, given with or without the prefix of the bare model. Without it BERT and
 * RoBERTa look alike: `type` decides.
 */
export function nameOfModel(name: string, type: string | undefined): string {
  const family = MODEL_FAMILIES.find(({ modelType }) => modelType === type);
  if (family) return family.rename(name);
  if (/^(encoder|embeddings|pooler)\./.test(name)) {
    throw new FormatError(
      `import: "${name}" is of BERT or of RoBERTa, which the file does not say (give the base model: { base }, --base)`,
    );
  }
  for (const { rename } of MODEL_FAMILIES) if (rename(name) !== name) return rename(name);
  return name;
}

/** Activations of a config.json, as the ops call them. */
const ACTIVATIONS: Readonly<Record<string, string>> = {
  gelu: "gelu",
  gelu_new: "geluTanh",
  gelu_pytorch_tanh: "geluTanh",
  relu: "relu",
  silu: "silu",
  swish: "silu",
  tanh: "tanh",
};

/** Type, layers and pooling of a base model that is here or that is well known; nothing of another. */
export function traitsOfBase(base: string): ModelTraits | undefined {
  const path = joinPath(base, "config.json");
  try {
    if (!exists(path)) return traitsOfPublished(base);
    const json = JSON.parse(readText(path)) as unknown;
    return traitsOfConfig(modelFamily(json).parseConfig(json));
  } catch (error) {
    throw new FormatError(`${path}: ${(error as Error).message}`, { cause: error });
  }
}

function traitsOfPublished(name: string): ModelTraits | undefined {
  const size = PUBLISHED_SIZES[name] ?? PUBLISHED_SIZES[name.split("/").at(-1) ?? ""];
  return size && traitsOfConfig(modelFamily(size).parseConfig(size));
}

/** The same from the config of a model. Absent: of a model that calls its layers something else. */
export function traitsOfConfig(config: unknown): ModelTraits | undefined {
  const { model_type, num_hidden_layers, n_layer, classifier_pooling, ...rest } = config as Record<
    string,
    unknown
  >;
  const layers = num_hidden_layers ?? n_layer;
  if (typeof model_type !== "string" || typeof layers !== "number") return undefined;
  const activation = ACTIVATIONS[String(rest.hidden_act ?? rest.activation_function)];
  return {
    type: model_type,
    layers,
    ...(activation !== undefined && { activation }),
    ...(typeof classifier_pooling === "string" && { pooling: classifier_pooling }),
  };
}

/** Refuses a head that reads the mean of all tokens: the Python classes read the first token. */
export function expectFirstToken(format: string, model: ModelTraits | undefined): void {
  if (model?.pooling !== "mean") return;
  throw new FormatError(
    `export: the head reads the mean of all tokens (classifier_pooling "mean"), heads of ${format} read the first (leave the head out: { head: false }, --no-head; or train with pooling cls)`,
  );
}
