import type { Gpu } from "../array/index.ts";
import {
  crossEntropy,
  type DrawSource,
  keep,
  noGrad,
  Stream,
  type Tensor,
  tensor,
  tidy,
} from "../autograd/index.ts";
import { epochs, IGNORE, type PackedTexts } from "../data/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { type CausalInput, type CausalLM, causalPositions } from "../models/index.ts";
import { initNormal } from "../nn/index.ts";
import { chooseForms, formsInForce } from "../ops/index.ts";
import {
  AdamW,
  clipGradNorm,
  constantSchedule,
  cosineSchedule,
  linearSchedule,
  type Schedule,
} from "../optim/index.ts";
import { CapturedSteps } from "./captured-steps.ts";
import { type PretrainReport, pretrainLoop } from "./pretrain-loop.ts";
import { checkKernelOptions, type KernelOptions, settleKernels } from "./tuning.ts";

/** How the rate falls after the warm-up: as a cosine to a tenth, linearly to 0, or not at all. */
export type PretrainSchedule = "cosine" | "linear" | "constant";

/** What a training needs to go on where it stopped, beside the model's parameters. */
export interface CausalTrainingState {
  /** Steps that were taken. */
  readonly step: number;
  /** Of AdamW, see its state(). */
  readonly optimiser: Awaited<ReturnType<AdamW["state"]>>;
}

export interface CausalPretrainOptions extends Pick<KernelOptions, "tune" | "kernels"> {
  readonly rows: PackedTexts;
  readonly steps: number;
  /** Rows of one pass. */
  readonly batchSize: number;
  /** Passes whose gradients are averaged in one step: a batch of `accumulate` · `batchSize` rows. Default 1. */
  readonly accumulate?: number;
  readonly lr: number;
  readonly warmupSteps: number;
  /** Default "cosine". */
  readonly schedule?: PretrainSchedule;
  readonly weightDecay: number;
  /** Order of the rows, and dropout. */
  readonly seed: number;
  /** Goes on after a step of an earlier training with the same options; the model holds its parameters. */
  readonly from?: CausalTrainingState | undefined;
  /** Called every `reportEvery` steps (default 100) and at the end. */
  readonly onReport?: (report: PretrainReport) => void | Promise<void>;
  readonly reportEvery?: number;
  /** Awaited after each step, counted from 1: where a model is scored or saved. `state` reads what going on needs. */
  readonly afterStep?: (step: number, state: () => Promise<CausalTrainingState>) => Promise<void>;
  /** Whether the step is recorded once and replayed: the same bytes, sooner. Default true. */
  readonly capture?: boolean;
}

/**
 * N(0, std) for every matrix, and N(0, std / √(2 · layers)) for those that write to the residual stream, so that its
 * variance does not grow with depth. Each draws from a stream of its own name. GPT-2's initialisation (Radford et al.
 * 2019, section 2.3), also taken for Llama.
 */
export function initCausalWeights(model: CausalLM, stream: Stream, std = 0.02): void {
  const residual = std / Math.sqrt(2 * model.cacheShape.layers);
  for (const [name, parameter] of model.namedParameters()) {
    if (parameter.shape.length < 2) continue;
    const addsToStream = /\.(c_proj|o_proj|down_proj)\.weight$/.test(name);
    initNormal(parameter, stream.fold(name), addsToStream ? residual : std);
  }
}

/**
 * Pretrains a causal language model on packed texts: each token predicts the next. AdamW (β 0.9/0.95), clipping at 1,
 * warm-up and decay. Row i of a step depends on the seed and the step alone, so a training that goes on from a state
 * gives the bytes of one that was never stopped.
 */
export async function pretrainCausalLm(
  gpu: Gpu,
  model: CausalLM,
  options: CausalPretrainOptions,
): Promise<void> {
  const { rows, steps, batchSize, accumulate = 1, from } = options;
  checkOptions(model, options);
  checkKernelOptions("pretrain", gpu, options);
  const optimiser = new AdamW(model.parameters(), {
    betas: [0.9, 0.95],
    weightDecay: options.weightDecay,
  });
  if (from) optimiser.loadState(from.optimiser);
  const schedule = scheduleOf(options);
  const order = epochs({ n: rows.rows, batchSize: batchSize * accumulate, seed: options.seed });
  const slots = Array.from({ length: accumulate }, () => new RowSlots(gpu, batchSize, rows.length));
  const clock = keep(tensor(gpu, new Uint32Array(2)));
  const draws = slots.map((_, i): DrawSource => {
    return { stream: Stream.seed(options.seed).fold("pass").fold(i), clock, examples: batchSize };
  });
  const captured = new CapturedSteps(gpu, options);
  const gradients = (): Tensor[] => {
    optimiser.zeroGrad();
    return slots.map(({ input, labels }, i) => {
      const loss = crossEntropy(model.forward(input, { draw: draws[i] }), labels).mul(1 / accumulate);
      loss.backward();
      return loss;
    });
  };
  const onDevice = (): Tensor => {
    const losses = gradients();
    clipGradNorm(optimiser.arena, 1);
    optimiser.step();
    return noGrad(() => losses.reduce((sum, loss) => sum.add(loss)));
  };
  const load = (step: number): number => {
    const drawn = order.batch(step);
    slots.forEach((slot, i) => {
      slot.load(rows, drawn.subarray(i * batchSize, (i + 1) * batchSize));
    });
    clock.write(Uint32Array.of(options.seed, step));
    return drawn.length * rows.length;
  };
  const rehearse = (step: number): void => {
    load(step);
    tidy(() => {
      gradients();
    });
  };
  const formsBefore = formsInForce(gpu);
  try {
    await settleKernels(gpu, { passes: 1, passesInOneBatch: true, rehearse }, oneBatch(options));
    await pretrainLoop({
      firstStep: from?.step ?? 0,
      steps,
      reportEvery: options.reportEvery ?? 100,
      onReport: (report) => options.onReport?.(report),
      afterStep: async (step) =>
        options.afterStep?.(step, async () => ({ step, optimiser: await optimiser.state() })),
      step(step) {
        const tokens = load(step);
        optimiser.setLearningRate(schedule(step));
        return { loss: captured.run("step", onDevice), tokens };
      },
    });
  } finally {
    chooseForms(gpu, formsBefore);
    captured.dispose();
    optimiser.dispose();
    clock.dispose();
    for (const slot of slots) slot.dispose();
  }
}

/** All batches have one shape: the first says which products there are. */
function oneBatch({ tune, ...options }: CausalPretrainOptions): CausalPretrainOptions {
  return tune ? { ...options, tune: { batches: 1, ...(tune === true ? {} : tune) } } : options;
}

/** Mean loss of a token over all rows, in nats; its exponential is the perplexity. */
export async function evaluateCausalLm(
  model: CausalLM,
  rows: PackedTexts,
  { batchSize = 16 }: { readonly batchSize?: number } = {},
): Promise<{ readonly loss: number; readonly tokens: number }> {
  checkRows(model, rows);
  const size = Math.min(batchSize, rows.rows);
  const slots = new RowSlots(model.gpu, size, rows.length);
  let sum = 0;
  try {
    for (let first = 0; first < rows.rows; first += size) {
      slots.load(
        rows,
        Array.from({ length: size }, (_, i) => (first + i < rows.rows ? first + i : -1)),
      );
      const loss = noGrad(() =>
        crossEntropy(model.forward(slots.input), slots.labels, { reduction: "sum", ignoreIndex: IGNORE }),
      );
      sum += await loss.item();
      loss.dispose();
    }
  } finally {
    slots.dispose();
  }
  const tokens = rows.rows * rows.length;
  return { loss: sum / tokens, tokens };
}

/** Places on the device for one batch of rows, [size, length] each, which every batch is written to. */
class RowSlots {
  readonly input: CausalInput;
  readonly labels: Tensor;

  constructor(gpu: Gpu, size: number, length: number) {
    const shape = [size, length];
    const slot = (data: Int32Array<ArrayBuffer>): Tensor => keep(tensor(gpu, data, shape));
    const n = size * length;
    this.input = {
      inputIds: slot(new Int32Array(n)),
      positionIds: slot(causalPositions(new Int32Array(n).fill(1), length, length)),
      attentionMask: null,
    };
    this.labels = slot(new Int32Array(n));
  }

  load(rows: PackedTexts, numbers: ArrayLike<number>): void {
    const { inputIds, labels } = rows.batch(numbers);
    this.input.inputIds.write(inputIds);
    this.labels.write(labels);
  }

  dispose(): void {
    this.input.inputIds.dispose();
    this.input.positionIds.dispose();
    this.labels.dispose();
  }
}

function scheduleOf({ lr, warmupSteps, steps, schedule = "cosine" }: CausalPretrainOptions): Schedule {
  switch (schedule) {
    case "cosine":
      return cosineSchedule({ lr, warmupSteps, totalSteps: steps, end: 0.1 });
    case "linear":
      return linearSchedule({ lr, warmupSteps, totalSteps: steps });
    case "constant":
      return constantSchedule(lr, { warmupSteps });
    default:
      return schedule satisfies never;
  }
}

function checkOptions(
  model: CausalLM,
  { rows, steps, batchSize, accumulate = 1, from }: CausalPretrainOptions,
): void {
  for (const [name, value] of Object.entries({ steps, batchSize, accumulate }))
    if (!(Number.isInteger(value) && value >= 1))
      throw new ShapeError(`pretrain: ${name} is ${value}, expected a whole number of 1 or more`);
  checkRows(model, rows);
  if (from && !(from.step < steps))
    throw new ShapeError(
      `pretrain: the state is of step ${from.step}, and steps is ${steps}: nothing is left`,
    );
}

/** Refuses rows that the model has no embeddings for. */
function checkRows(model: CausalLM, rows: PackedTexts): void {
  if (rows.length > model.positions)
    throw new ShapeError(
      `pretrain: rows of ${rows.length} tokens; the model has positions for ${model.positions} (pack shorter rows)`,
    );
  rows.validate(model.vocabularySize);
}
