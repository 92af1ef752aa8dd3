import type { Gpu, HalfType } from "../array/index.ts";
import { Stream } from "../autograd/index.ts";
import type { Encoded, Tokenizer } from "../data/index.ts";
import { decodeSafetensors, FormatError, type HubOptions, type Safetensors } from "../io/index.ts";
import { type EncoderConfig, modelHead, type SequenceClassifier } from "../models/index.ts";
import { initBertWeights } from "../nn/index.ts";
import { readBytes } from "../platform/index.ts";
import { folderTokenizer } from "./folder-tokenizer.ts";
import { type LoadedModel, loadModel, type ModelFolder, openModelFolder } from "./load-model.ts";

/** A pretrained encoder on disk, with its tokenizer. */
export interface PretrainedFolder extends ModelFolder {
  readonly config: EncoderConfig;
  readonly tokenizer: Tokenizer;
  /** The longest sequence that the encoder has positions for. */
  readonly longest: number;
}

/**
 * Opens an encoder: a folder in Hugging Face layout, a repository of the hub ("roberta-large"), or the embedded encoder
 * by its name.
 */
export async function openPretrained(name: string, hub: HubOptions = {}): Promise<PretrainedFolder> {
  const source = await openModelFolder(name, hub);
  const { family, folder, json } = source;
  modelHead(family, "sequence-classification"); // else it is no encoder, which is told now
  const config = family.parseConfig(json) as EncoderConfig;
  const tokenizer = folderTokenizer(folder, family.modelType);
  return { ...source, config, tokenizer, longest: family.longest(config) };
}

/** Token ids of a text or a pair as an encoder takes them: with token types where it has more than one. */
export function encodeFor(
  { config, tokenizer, longest }: Pick<PretrainedFolder, "config" | "tokenizer" | "longest">,
  text: string,
  pair: string | null = null,
  { maxLength = longest }: { readonly maxLength?: number } = {},
): Pick<Encoded, "ids" | "types"> {
  const { ids, types } = tokenizer.encodeTyped(text, pair, { maxLength });
  return config.type_vocab_size > 1 ? { ids, types } : { ids };
}

export interface ClassifierOptions {
  readonly labels: readonly string[];
  readonly seed: number;
  /** Changes of the config: dropout, pooling. */
  readonly overrides?: Partial<EncoderConfig>;
  /** False: the encoder keeps its random initialisation; what pretraining is worth shows in comparison. */
  readonly pretrained?: boolean;
  /** The type in which the frozen matrices are stored. Default "f32". */
  readonly dtype?: "f32" | HalfType;
  readonly onProgress?: (progress: { readonly bytes: number; readonly totalBytes: number }) => void;
  /** Told what the file lacks beside the head, and what of the head is fresh. */
  readonly onLoaded?: (loaded: LoadedModel<SequenceClassifier>) => void;
}

/**
 * A classifier on a pretrained encoder for labels of one's own: the encoder frozen, a fresh head N(0, 0.02) drawn from
 * the seed. Heads in the file are left out; anything else that is missing or left over is an error. What the file
 * lacks beside the head (a pooler) is drawn too, and trains.
 */
export async function loadClassifier(
  gpu: Gpu,
  source: PretrainedFolder,
  options: ClassifierOptions,
): Promise<SequenceClassifier> {
  const { labels, seed, dtype, onProgress } = options;
  const id2label = Object.fromEntries(labels.map((label, i) => [i, label]));
  const loaded = await loadModel(gpu, source, {
    task: "sequence-classification",
    newHead: true,
    seed,
    overrides: { ...options.overrides, num_labels: labels.length, id2label },
    ...(dtype && { dtype }),
    ...(onProgress && { onProgress }),
  });
  const { model, fresh } = loaded;
  options.onLoaded?.(loaded);
  if (options.pretrained === false) initBertWeights(model.encoder, Stream.seed(seed).fold("random encoder"));
  model.setRequiresGrad(false);
  model.head.setRequiresGrad(true);
  for (const [name, parameter] of model.namedParameters())
    if (fresh.includes(name) && parameter.dtype === "f32") parameter.requiresGrad = true;
  return model;
}

/** The tensors of a safetensors file; a broken one is named. */
export function readTensors(path: string): Safetensors["tensors"] {
  try {
    return decodeSafetensors(readBytes(path)).tensors;
  } catch (error) {
    throw new FormatError(`${path}: ${(error as Error).message}`, { cause: error });
  }
}
