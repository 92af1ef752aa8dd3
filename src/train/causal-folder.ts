import type { Gpu, HalfType } from "../array/index.ts";
import { characterTokenizer, scoredTokenizer, type Tokenizer } from "../data/index.ts";
import { FormatError, type HubOptions } from "../io/index.ts";
import { type CausalLM, LLAMA, LlamaForCausalLM, modelHead, readLlama2c } from "../models/index.ts";
import { exists, joinPath, listFolder, readBytes } from "../platform/index.ts";
import { folderTokenizer } from "./folder-tokenizer.ts";
import { fillModel, loadModel, type ModelFolder, modelFolderPath, openModelFolder } from "./load-model.ts";

export interface CausalLoadOptions {
  /** f16 or bf16: frozen matrices are stored in that type. Default f32. */
  readonly dtype?: "f32" | HalfType | undefined;
  readonly onProgress?: (progress: { readonly bytes: number; readonly totalBytes: number }) => void;
}

/** A causal language model on disk, its config read and checked. */
export interface CausalFolder {
  readonly folder: string;
  readonly tokenizer: Tokenizer;
  /** The longest text, in tokens. */
  readonly positions: number;
  /** Reads the weights. */
  load(gpu: Gpu, options?: CausalLoadOptions): Promise<CausalLM>;
}

const TOKENIZER_FILES = ["tokenizer.json", "vocab.json", "tokenizer.bin"];

/**
 * Opens a causal language model: a folder in Hugging Face layout or a repository of the hub (GPT-2, Llama, Qwen2), or a
 * folder of llama2.c: tokenizer.bin and one checkpoint (another .bin). A "gpt2-like" folder without a tokenizer has
 * characters as tokens.
 */
export async function openCausalFolder(name: string, hub: HubOptions = {}): Promise<CausalFolder> {
  const folder = await modelFolderPath(name, hub);
  const isLlama2c = !exists(joinPath(folder, "config.json")) && exists(joinPath(folder, "tokenizer.bin"));
  return isLlama2c ? openLlama2c(folder) : openConfigured(await openModelFolder(folder, hub));
}

function openConfigured(source: ModelFolder): CausalFolder {
  const { folder, family, json } = source;
  modelHead(family, "causal-lm"); // else it makes no texts, which is told now
  const hasTokenizer = TOKENIZER_FILES.some((file) => exists(joinPath(folder, file)));
  const isLettered = json.model === "gpt2-like" && !hasTokenizer;
  const tokenizer = isLettered ? characterTokenizer() : folderTokenizer(folder, family.modelType);
  const config = family.parseConfig(json) as { readonly vocab_size: number };
  if (!isLettered) expectVocabulary(folder, tokenizer, config.vocab_size);
  return {
    folder,
    tokenizer,
    positions: family.longest(config),
    async load(gpu, { dtype, onProgress } = {}) {
      const settings = { ...(dtype && { dtype }), ...(onProgress && { onProgress }) };
      const { model } = await loadModel(gpu, source, { task: "causal-lm", ...settings });
      return model;
    },
  };
}

/** Refuses tokens without a row in the embeddings. Special ones may be without: no text becomes them by itself. */
function expectVocabulary(folder: string, tokenizer: Tokenizer, rows: number): void {
  const special = new Set(tokenizer.specialIds);
  for (let id = rows; id < tokenizer.vocabSize; id++) {
    const token = tokenizer.tokenOf(id);
    if (token === undefined || special.has(id)) continue;
    throw new FormatError(
      `model: ${folder}: its tokenizer has ${tokenizer.vocabSize} tokens, config.json says vocab_size ${rows}: "${token}" is ${id} (are both of one model?)`,
    );
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
    expectVocabulary(folder, tokenizer, config.vocab_size);
    return {
      folder,
      tokenizer,
      positions: config.max_position_embeddings,
      async load(gpu, { dtype = "f32", onProgress } = {}) {
        const model = new LlamaForCausalLM(gpu, config);
        const options = { what: path, dtype, ...(onProgress && { onProgress }) };
        try {
          await fillModel(model, tensors, LLAMA, modelHead(LLAMA, "causal-lm"), options);
          return model;
        } catch (error) {
          model.dispose();
          throw error;
        }
      },
    };
  } catch (error) {
    throw new FormatError(`${path}: ${(error as Error).message}`, { cause: error });
  }
}
