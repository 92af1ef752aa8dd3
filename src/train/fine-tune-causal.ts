import type { Gpu } from "../array/index.ts";
import { indexSelect, noGrad, type Parameter, type Tensor, tidy } from "../autograd/index.ts";
import { type Completion, type CompletionBatch, collateCompletions, validateIds } from "../data/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { type CausalInput, type CausalLM, causalLoss, causalPositions } from "../models/index.ts";
import { type AdaptationSet, distanceOfTokens } from "../peft/index.ts";
import { trainable } from "./fine-tune.ts";
import { InputSlots, repeated } from "./input-slots.ts";
import {
  type FineTuneResult,
  type TrainingBatch,
  type TrainingOptions,
  type TrainingTask,
  trainingLoop,
} from "./training-loop.ts";

export interface FineTuneCausalOptions extends TrainingOptions {
  readonly train: readonly Completion[];
  /** ε: (1-ε) nll + ε mean over the vocabulary of -log p. Default 0; the presets of E2E and WebNLG have 0.1. */
  readonly labelSmoothing?: number;
  /** Lengths are padded to a multiple of this. Default 8. */
  readonly multiple?: number;
  /** So is the number of learned tokens of a batch. Default 64. */
  readonly placesMultiple?: number;
}

/**
 * Fine-tunes a causal language model on completions of contexts: loss Σ loss / (n + 1e-4) over the n tokens of the
 * completions, each with the token that ends it; the consistency of two passes is the mean over the same tokens, with
 * λ = 100 unless said. No clipping unless asked for. The vocabulary's logits are made for those tokens alone.
 * Paper: the NLG experiments of section 4, as in the authors' code.
 */
export async function fineTuneCausal(
  gpu: Gpu,
  model: CausalLM,
  set: AdaptationSet | null,
  options: FineTuneCausalOptions,
): Promise<FineTuneResult> {
  const all = { clipNorm: null, ...options, consistency: { weight: 100, ...options.consistency } };
  return trainingLoop(gpu, completionTask(gpu, model, trainable(model, set), all), set, all);
}

/** Training a causal language model on completions. */
export function completionTask(
  gpu: Gpu,
  model: CausalLM,
  parameters: readonly Parameter[],
  {
    train,
    labelSmoothing = 0,
    multiple = 8,
    placesMultiple = 64,
    consistency: { gradient = "detached" } = {},
  }: Pick<FineTuneCausalOptions, "train" | "labelSmoothing" | "multiple" | "placesMultiple" | "consistency">,
): TrainingTask {
  checkCompletions(train, model);
  const slots = new CompletionSlots(gpu);
  const [padId = 0] = model.stopTokens;
  const load = (indices: Int32Array, copies: number): TrainingBatch => {
    const batch = collateCompletions(train, indices, { padId, multiple, placesMultiple });
    const { input, places, labels, weights } = slots.load(batch, copies);
    return {
      shape: `${batch.size}x${batch.length}, ${batch.places.length}`,
      examples: batch.size,
      tokens: batch.length,
      forward: (options) =>
        tidy(() => {
          const hidden = model.hidden(input, options); // [B, T, C]
          const learned = indexSelect(hidden.reshape(-1, hidden.shape[2] as number), 0, places);
          return model.logits(learned); // [places, V]
        }),
      loss: (logits) => causalLoss(logits, labels, weights, { labelSmoothing }),
      distance: (first, second) => distanceOfTokens(first, second, weights, { gradient }),
    };
  };
  return { name: "fineTuneCausal", examples: train.length, parameters, load, dispose: () => slots.dispose() };
}

export interface CompletionScores {
  /** Mean of -log p of a learned token, in nats. */
  readonly nll: number;
  /** e^nll. */
  readonly perplexity: number;
  /** Tokens of the completions, with those that end them. */
  readonly tokens: number;
}

/** How well the model as it is foresees completions: with a mixture attached, along the routes that were drawn last. */
export async function scoreCompletions(
  gpu: Gpu,
  model: CausalLM,
  texts: readonly Completion[],
  {
    batchSize = 8,
    ...options
  }: { readonly batchSize?: number } & Pick<FineTuneCausalOptions, "multiple" | "placesMultiple"> = {},
): Promise<CompletionScores> {
  if (texts.length === 0) throw new ShapeError("scoreCompletions: no texts");
  const task = completionTask(gpu, model, [], { train: texts, ...options });
  let sum = 0;
  let tokens = 0;
  try {
    for (let first = 0; first < texts.length; first += batchSize) {
      const part = texts.slice(first, first + batchSize);
      const n = part.reduce((all, { ids, start }) => all + ids.length - start, 0);
      const batch = task.load(
        Int32Array.from(part, (_, i) => first + i),
        1,
      );
      const loss = noGrad(() => tidy(() => batch.loss(batch.forward({}))));
      // The loss divides by n + 1e-4.
      sum += (await loss.item()) * (n + 1e-4);
      tokens += n;
      loss.dispose();
    }
  } finally {
    task.dispose();
  }
  const nll = sum / tokens;
  return { nll, perplexity: Math.exp(nll), tokens };
}

interface LoadedCompletions {
  readonly input: CausalInput;
  /** i32 [copies · places] into the rows of all copies. */
  readonly places: Tensor;
  /** Of one copy: i32 and f32 [places]. */
  readonly labels: Tensor;
  readonly weights: Tensor;
}

class CompletionSlots extends InputSlots {
  /** Writes a batch, its rows `copies` times behind one another. No mask: padding comes behind what looks back. */
  load(batch: CompletionBatch, copies: number): LoadedCompletions {
    const { size, length, places, labels, weights } = batch;
    const shape = [size * copies, length];
    const positions = causalPositions(batch.attentionMask, length, length);
    const all = new Int32Array(places.length * copies);
    for (let copy = 0; copy < copies; copy++)
      all.set(
        places.map((place) => copy * size * length + place),
        copy * places.length,
      );
    return {
      input: {
        inputIds: this.slot("ids", repeated(Int32Array.from(batch.inputIds), copies), shape),
        positionIds: this.slot("positions", repeated(positions, copies), shape),
        attentionMask: null,
      },
      places: this.slot("places", all, [all.length]),
      labels: this.slot("labels", Int32Array.from(labels), [labels.length]),
      weights: this.slot("weights", Float32Array.from(weights), [weights.length]),
    };
  }
}

function checkCompletions(train: readonly Completion[], { positions, vocabularySize }: CausalLM): void {
  train.forEach(({ ids, start }, i) => {
    if (!(Number.isInteger(start) && start >= 1 && start < ids.length))
      throw new ShapeError(
        `fineTuneCausal: example ${i} of ${ids.length} tokens begins its completion at ${start}; expected 1..${ids.length - 1}`,
      );
    if (ids.length > positions)
      throw new ShapeError(
        `fineTuneCausal: example ${i} has ${ids.length} tokens; the model has positions for ${positions} (set maxLength)`,
      );
  });
  validateIds(
    train.map(({ ids }) => ids),
    vocabularySize,
    "fineTuneCausal: example",
  );
}
