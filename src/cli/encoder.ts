import type { Gpu } from "../array/index.ts";
import type { Parameter } from "../autograd/index.ts";
import type { SequenceClassifier } from "../models/index.ts";
import {
  type ClassifierOptions,
  describeFresh,
  loadClassifier,
  openPretrained,
  type PretrainedFolder,
} from "../train/index.ts";
import { downloadProgress } from "./download.ts";
import { UsageError } from "./failure.ts";
import { print } from "./report.ts";

/** Tokens that are enough for nearly every sentence of GLUE: the paper's length. */
const USUAL_LENGTH = 128;

/** Opens an encoder, from the hub where it is no folder, and checks that its tokenizer and embeddings belong together. */
export async function openEncoder(name: string): Promise<PretrainedFolder> {
  const progress = downloadProgress();
  const source = await openPretrained(name, { onProgress: progress.update }).finally(progress.stop);
  const { tokenizer, config } = source;
  if (tokenizer.vocabSize > config.vocab_size)
    throw new Error(
      `model: ${source.folder}: its tokenizer has ${tokenizer.vocabSize} tokens, config.json says vocab_size ${config.vocab_size}`,
    );
  if (tokenizer.padId !== config.pad_token_id)
    throw new Error(
      `model: ${source.folder}: padding is token ${tokenizer.padId} of its tokenizer, config.json says pad_token_id ${config.pad_token_id}`,
    );
  return source;
}

/** A model whose weights are large enough to wait for. */
const LARGE_BYTES = 50e6;

/** loadClassifier, with a bar while a large file is read, and a line where the file lacks more than a head. */
export async function loadEncoder(
  gpu: Gpu,
  source: PretrainedFolder,
  options: ClassifierOptions,
): Promise<SequenceClassifier> {
  const progress = downloadProgress();
  try {
    return await loadClassifier(gpu, source, {
      ...options,
      onProgress: (part) => {
        if (part.totalBytes >= LARGE_BYTES) progress.update({ file: "weights", ...part });
      },
      onLoaded({ model, fresh }) {
        const head = new Set(model.head.parameters());
        const own = model.stateDict();
        const others = fresh.filter((name) => !head.has(own.get(name) as Parameter)); // fresh names the model's own
        const line = describeFresh({ fresh: others, source });
        if (line) print(line);
      },
    });
  } finally {
    progress.stop();
  }
}

/**
 * The longest sequence to cut texts to: `wanted`, or the usual one where the encoder has as many positions beside the
 * virtual tokens that a method puts in front.
 */
export function lengthFor({ longest }: PretrainedFolder, wanted: number | null, virtualTokens = 0): number {
  const room = longest - virtualTokens;
  const taken = virtualTokens > 0 ? ` beside ${virtualTokens} virtual ones` : "";
  if (room < 3)
    throw new UsageError(`peft.tokens is ${virtualTokens}; the encoder has positions for ${longest} tokens`);
  if (wanted === null) return Math.min(USUAL_LENGTH, room);
  if (wanted <= room) return wanted;
  throw new UsageError(
    `training.maxLength is ${wanted}; the encoder has positions for ${room} tokens${taken} (give ${room} or less)`,
  );
}
