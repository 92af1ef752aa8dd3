import type { Gpu } from "../array/index.ts";
import { Stream } from "../autograd/index.ts";
import { bpeTokenizer, type Tokenizer } from "../data/index.ts";
import { decodeSafetensors, FormatError, loadStateDict, type Safetensors } from "../io/index.ts";
import { parseRobertaConfig, type RobertaConfig, RobertaForSequenceClassification } from "../models/index.ts";
import { initBertWeights, initNormal } from "../nn/index.ts";
import { assetPath, exists, joinPath, readBytes, readText } from "../platform/index.ts";

/** The name of the encoder that the package brings along. */
export const EMBEDDED = "embedded";

/** A pretrained encoder on disk: config.json, model.safetensors, vocab.json, merges.txt. */
export interface PretrainedFolder {
  readonly folder: string;
  readonly config: RobertaConfig;
  readonly tokenizer: Tokenizer;
}

/** Opens a folder in Hugging Face layout, or the embedded encoder by its name. */
export function openPretrained(name: string): PretrainedFolder {
  const folder = name === EMBEDDED ? assetPath("encoder") : name;
  for (const file of ["config.json", "model.safetensors", "vocab.json", "merges.txt"]) {
    if (!exists(joinPath(folder, file))) {
      throw new FormatError(
        `model: no ${file} in ${folder} (expected config.json, model.safetensors, vocab.json, merges.txt; or "${EMBEDDED}")`,
      );
    }
  }
  const config = parseRobertaConfig(parseJson(joinPath(folder, "config.json")));
  const vocab = readText(joinPath(folder, "vocab.json"));
  const merges = readText(joinPath(folder, "merges.txt"));
  return { folder, config, tokenizer: bpeTokenizer(vocab, merges, { addPrefixSpace: true }) };
}

export interface ClassifierOptions {
  readonly labels: readonly string[];
  readonly seed: number;
  /** Changes of the config: dropout, pooling. */
  readonly overrides?: Partial<RobertaConfig>;
  /** False: the encoder keeps its random initialisation; what pretraining is worth shows in comparison. */
  readonly pretrained?: boolean;
}

/**
 * A classifier on a pretrained encoder: the encoder frozen, a fresh head N(0, 0.02) drawn from the seed.
 * The file's masked-LM head is left out; anything else that is missing or left over is an error.
 */
export function loadClassifier(
  gpu: Gpu,
  source: PretrainedFolder,
  options: ClassifierOptions,
): RobertaForSequenceClassification {
  const id2label = Object.fromEntries(options.labels.map((label, i) => [i, label]));
  const config: RobertaConfig = {
    ...source.config,
    ...options.overrides,
    num_labels: options.labels.length,
    id2label,
  };
  const model = new RobertaForSequenceClassification(gpu, config);
  const path = joinPath(source.folder, "model.safetensors");
  try {
    loadStateDict(model.stateDict(), readTensors(path), {
      what: path,
      mayBeAbsent: (name) => name.startsWith("classifier."),
      mayBeIgnored: (name) => /^(lm_head|roberta\.pooler)\.|\.position_ids$/.test(name),
    });
  } catch (error) {
    model.dispose();
    throw error;
  }
  if (options.pretrained === false)
    initBertWeights(model.roberta, Stream.seed(options.seed).fold("random encoder"));
  const stream = Stream.seed(options.seed).fold("head");
  const { dense, out_proj: out } = model.classifier;
  initNormal(dense.weight, stream.fold("dense"), 0.02);
  initNormal(out.weight, stream.fold("out_proj"), 0.02);
  model.setRequiresGrad(false);
  model.classifier.setRequiresGrad(true);
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

function parseJson(path: string): unknown {
  try {
    return JSON.parse(readText(path));
  } catch (error) {
    throw new FormatError(`${path}: ${(error as Error).message}`, { cause: error });
  }
}
