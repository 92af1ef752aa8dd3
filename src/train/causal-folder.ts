import type { Gpu } from "../array/index.ts";
import { characterTokenizer, scoredTokenizer, type Tokenizer } from "../data/index.ts";
import { FormatError, openWeights } from "../io/index.ts";
import {
  type CausalLM,
  gpt2FromTensors,
  llamaFromTensors,
  parseGpt2Config,
  parseLlamaConfig,
  readLlama2c,
} from "../models/index.ts";
import { baseName, exists, joinPath, listFolder, readBytes, readText } from "../platform/index.ts";
import { folderTokenizer } from "./folder-tokenizer.ts";

/** A causal language model on disk, its config read and checked. */
export interface CausalFolder {
  readonly folder: string;
  readonly tokenizer: Tokenizer;
  /** Reads the weights. */
  load(gpu: Gpu): CausalLM;
}

const TOKENIZER_FILES = ["tokenizer.json", "vocab.json", "tokenizer.bin"];

/**
 * Opens a folder with config.json (GPT-2, Llama, Qwen2), weights and a tokenizer, or one of llama2.c: tokenizer.bin and
 * one checkpoint (another .bin). A "gpt2-like" folder without a tokenizer has characters as tokens.
 */
export function openCausalFolder(folder: string): CausalFolder {
  const path = joinPath(folder, "config.json");
  if (exists(path)) return openConfigured(folder, path);
  if (!exists(joinPath(folder, "tokenizer.bin")))
    throw new FormatError(
      `model: neither config.json nor tokenizer.bin in ${folder} (expected a folder in Hugging Face layout, or of llama2.c)`,
    );
  return openLlama2c(folder);
}

function openConfigured(folder: string, path: string): CausalFolder {
  try {
    const json = JSON.parse(readText(path)) as Readonly<Record<string, unknown>>;
    const type = String(json?.model_type ?? json?.model ?? "");
    const load = type.startsWith("gpt2") ? gpt2Of(folder, json) : llamaOf(folder, json);
    const hasTokenizer = TOKENIZER_FILES.some((name) => exists(joinPath(folder, name)));
    const tokenizer =
      type === "gpt2-like" && !hasTokenizer ? characterTokenizer() : folderTokenizer(folder, type);
    return { folder, tokenizer, load };
  } catch (error) {
    throw new FormatError(`${path}: ${(error as Error).message}`, { cause: error });
  }
}

function gpt2Of(folder: string, json: unknown): CausalFolder["load"] {
  const config = parseGpt2Config(json);
  return (gpu) => withWeights(folder, (tensors, what) => gpt2FromTensors(gpu, config, tensors, what));
}

function llamaOf(folder: string, json: unknown): CausalFolder["load"] {
  const config = parseLlamaConfig(json);
  return (gpu) => withWeights(folder, (tensors, what) => llamaFromTensors(gpu, config, tensors, what));
}

function withWeights(
  folder: string,
  make: (tensors: Parameters<typeof gpt2FromTensors>[2], what: string) => CausalLM,
): CausalLM {
  const file = openWeights(folder);
  try {
    return make(file.tensors, file.path);
  } finally {
    file.close();
  }
}

function openLlama2c(folder: string): CausalFolder {
  const found = listFolder(folder).filter((name) => name.endsWith(".bin") && !/^tok/.test(name));
  const [name] = found;
  if (name === undefined || found.length > 1) {
    const given = found.length === 0 ? "no checkpoint" : `${found.length} checkpoints (${found.join(", ")})`;
    throw new FormatError(`model: ${given} beside tokenizer.bin in ${folder}; expected one other .bin file`);
  }
  const path = joinPath(folder, name);
  try {
    const { config, tensors } = readLlama2c(readBytes(path));
    const tokenizer = scoredTokenizer(readBytes(joinPath(folder, "tokenizer.bin")));
    return { folder, tokenizer, load: (gpu) => llamaFromTensors(gpu, config, tensors, baseName(path)) };
  } catch (error) {
    throw new FormatError(`${path}: ${(error as Error).message}`, { cause: error });
  }
}
