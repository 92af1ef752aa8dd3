import type { PretrainSchedule } from "./pretrain-causal.ts";

export type DecoderArchitecture = "gpt2" | "llama";

/** How a small causal language model is made from texts. */
export interface DecoderRecipe {
  readonly architecture: DecoderArchitecture;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly layers: number;
  readonly heads: number;
  /** Heads of keys and values: for Llama fewer than `heads` share them; for GPT-2 as many. */
  readonly keyValueHeads: number;
  readonly intermediateSize: number;
  /** Tokens of a row, and the longest text that the model can make. */
  readonly maxLength: number;
  readonly steps: number;
  /** Rows of one pass. */
  readonly batchSize: number;
  /** Passes of one step. */
  readonly accumulate: number;
  readonly lr: number;
  readonly warmupSteps: number;
  readonly schedule: PretrainSchedule;
  readonly weightDecay: number;
  /** Of Llama: on the attention weights alone. */
  readonly dropout: number;
  /** Standard deviation of the first weights. */
  readonly initStd: number;
  readonly seed: number;
}

/** A recipe with every setting: 0.9 M parameters and a few minutes without a GPU, unless `given` says otherwise. */
export function decoderRecipe(given: Partial<DecoderRecipe> = {}): DecoderRecipe {
  const { architecture = "gpt2", hiddenSize = 128, heads = 4 } = given;
  return {
    architecture,
    vocabSize: 1024,
    hiddenSize,
    layers: 4,
    heads,
    keyValueHeads: heads,
    // Three matrices in Llama's feed-forward part, two in GPT-2's: as many parameters in both.
    intermediateSize: architecture === "gpt2" ? 4 * hiddenSize : 8 * Math.round(hiddenSize / 3),
    maxLength: 128,
    steps: 1000,
    batchSize: 8,
    accumulate: 1,
    lr: 2e-3,
    warmupSteps: Math.min(100, Math.floor((given.steps ?? 1000) / 10)),
    schedule: "cosine",
    weightDecay: 0.1,
    dropout: 0,
    // 0.02 at the 768 channels of GPT-2: products keep their size with 1 / √channels. At 32 channels 0.02 is too small to
    // learn from: 120 steps end at 3.8 nats, the entropy of single tokens, where this ends at 2.8.
    initStd: 0.02 * Math.sqrt(768 / hiddenSize),
    seed: 0,
    ...given,
  };
}
