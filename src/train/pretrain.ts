import type { Gpu } from "../array/index.ts";
import { crossEntropy, noGrad, Stream, type Tensor } from "../autograd/index.ts";
import {
  bucketedEpochs,
  collate,
  type Encoded,
  IGNORE,
  type MaskingOptions,
  maskTokens,
  sequentialBatches,
} from "../data/index.ts";
import {
  type EncoderInput,
  type MaskedLanguageModel,
  type RobertaConfig,
  RobertaForMaskedLM,
} from "../models/index.ts";
import { initBertWeights } from "../nn/index.ts";
import { AdamW, clipGradNorm, linearSchedule } from "../optim/index.ts";
import { BatchSlots } from "./batch-slots.ts";
import { CapturedSteps } from "./captured-steps.ts";
import { checkExamples } from "./check-examples.ts";
import { type PretrainReport, pretrainLoop } from "./pretrain-loop.ts";

export interface PretrainOptions {
  readonly config: RobertaConfig;
  readonly lines: readonly Encoded[];
  readonly masking: Omit<MaskingOptions, "seed">;
  readonly steps: number;
  readonly batchSize: number;
  readonly lr: number;
  readonly warmupSteps: number;
  readonly weightDecay: number;
  readonly seed: number;
  /** [vocab_size, hidden_size]: where the word embeddings start; else N(0, 0.02). */
  readonly wordEmbeddings?: Float32Array | undefined;
  /** Called every `reportEvery` steps with the mean loss since the last call. */
  readonly onReport?: (report: PretrainReport, model: RobertaForMaskedLM) => void | Promise<void>;
  readonly reportEvery?: number;
  /** Whether the step of each shape of batch is recorded once and replayed: the same bytes, sooner. Default true. */
  readonly capture?: boolean;
}

/** Masked places are padded to a multiple of this, so that the decoder sees few shapes. */
const PLACES = 64;

/**
 * Masked-language-model pretraining with dynamic masking: AdamW (β 0.9/0.98, eps 1e-6), clipping at 1, linear
 * warm-up and decay, batches of similar length. The decoder runs on masked places alone.
 */
export async function pretrainMaskedLm(gpu: Gpu, options: PretrainOptions): Promise<RobertaForMaskedLM> {
  const { config, lines, steps, batchSize, seed, reportEvery = 100 } = options;
  const model = new RobertaForMaskedLM(gpu, config);
  checkExamples("pretrainMaskedLm", model, lines);
  initBertWeights(model, Stream.seed(seed).fold("init"));
  if (options.wordEmbeddings) {
    model.words.weight.write(Float32Array.from(options.wordEmbeddings));
  }
  const optimiser = new AdamW(model.parameters(), {
    betas: [0.9, 0.98],
    eps: 1e-6,
    weightDecay: options.weightDecay,
  });
  const lr = linearSchedule({ lr: options.lr, warmupSteps: options.warmupSteps, totalSteps: steps });
  const order = bucketedEpochs({ lengths: lines.map(({ ids }) => ids.length), batchSize, seed });
  const slots = new BatchSlots(gpu, model);
  const captured = new CapturedSteps(gpu, options);
  try {
    await pretrainLoop({
      steps,
      reportEvery,
      onReport: (report) => options.onReport?.(report, model),
      step(step) {
        const batch = collate(lines, order.batch(step), { padId: config.pad_token_id });
        const masked = maskTokens(batch, { ...options.masking, seed: mix(seed, step) });
        const loaded = loadMasked(slots, batch, masked.inputIds, masked.labels);
        optimiser.setLearningRate(lr(step));
        const loss = captured.run(loaded.shape, () => {
          optimiser.zeroGrad();
          const result = maskedLoss(model, loaded);
          result.backward();
          clipGradNorm(optimiser.arena, 1);
          optimiser.step();
          return result;
        });
        return { loss, tokens: batch.attentionMask.reduce((n, kept) => n + kept, 0) };
      },
    });
  } finally {
    captured.dispose();
    optimiser.dispose();
    slots.dispose();
  }
  return model;
}

/** Loss and accuracy on masked places of lines that were not trained on, with fixed masks. */
export async function evaluateMaskedLm(
  model: MaskedLanguageModel,
  lines: readonly Encoded[],
  masking: MaskingOptions,
): Promise<{ readonly loss: number; readonly accuracy: number; readonly places: number }> {
  const { config } = model;
  checkExamples("evaluateMaskedLm", model, lines);
  const slots = new BatchSlots(model.words.weight.gpu, model);
  let loss = 0;
  let hits = 0;
  let places = 0;
  let i = 0;
  for (const batch of sequentialBatches(lines, 50, { padId: config.pad_token_id })) {
    const { inputIds, labels } = maskTokens(batch, { ...masking, seed: mix(masking.seed, i++) });
    labels.fill(IGNORE, batch.valid * batch.length); // rows that fill the last batch up
    const { positions, wanted, count } = placesOf(labels);
    const logits = noGrad(() => {
      const { input } = slots.load({ ...batch, inputIds });
      return model.forward(input, {}, slots.slot("places", positions, [positions.length]));
    });
    const values = await logits.data();
    logits.dispose();
    for (let row = 0; row < count; row++) {
      const scores = values.subarray(row * config.vocab_size, (row + 1) * config.vocab_size);
      const { logSum, best } = measure(scores);
      loss += logSum - (scores[wanted[row] as number] as number);
      if (best === wanted[row]) hits++;
    }
    places += count;
  }
  slots.dispose();
  return { loss: loss / places, accuracy: hits / places, places };
}

interface MaskedBatch {
  readonly input: EncoderInput;
  readonly positions: Tensor;
  readonly wanted: Tensor;
  /** Batches of one shape lie in the same slots. */
  readonly shape: string;
}

function loadMasked(
  slots: BatchSlots,
  batch: Parameters<BatchSlots["load"]>[0],
  inputIds: Int32Array,
  labels: Int32Array,
): MaskedBatch {
  const { positions, wanted } = placesOf(labels);
  const { input } = slots.load({ ...batch, inputIds, labels: null });
  return {
    input,
    positions: slots.slot("places", positions, [positions.length]),
    wanted: slots.slot("wanted", wanted, [wanted.length]),
    shape: `${batch.size}x${batch.length}, ${positions.length} places`,
  };
}

function maskedLoss(model: MaskedLanguageModel, { input, positions, wanted }: MaskedBatch): Tensor {
  return crossEntropy(model.forward(input, {}, positions), wanted, { ignoreIndex: IGNORE });
}

/** Rows of [B·T] that are to be predicted, and what stood there; padded with rows that do not count. */
function placesOf(labels: Int32Array): {
  positions: Int32Array<ArrayBuffer>;
  wanted: Int32Array<ArrayBuffer>;
  count: number;
} {
  const found: number[] = [];
  labels.forEach((label, i) => {
    if (label !== IGNORE) found.push(i);
  });
  const n = Math.max(1, Math.ceil(found.length / PLACES)) * PLACES;
  const positions = new Int32Array(n);
  positions.set(found);
  const wanted = new Int32Array(n).fill(IGNORE);
  found.forEach((place, i) => {
    wanted[i] = labels[place] as number;
  });
  return { positions, wanted, count: found.length };
}

function measure(scores: ArrayLike<number>): { logSum: number; best: number } {
  let best = 0;
  for (let i = 1; i < scores.length; i++) if ((scores[i] as number) > (scores[best] as number)) best = i;
  const top = scores[best] as number;
  let sum = 0;
  for (let i = 0; i < scores.length; i++) sum += Math.exp((scores[i] as number) - top);
  return { logSum: top + Math.log(sum), best };
}

function mix(seed: number, step: number): number {
  return Stream.seed(seed).fold("mask").words(step)[0];
}
