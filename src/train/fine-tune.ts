import type { Gpu } from "../array/index.ts";
import {
  type DrawSource,
  keep,
  noGrad,
  type Parameter,
  Stream,
  stack,
  type Tensor,
  tensor,
} from "../autograd/index.ts";
import { collate, type Encoded, epochs } from "../data/index.ts";
import { ShapeError } from "../gpu/index.ts";
import type { SequenceClassifier } from "../models/index.ts";
import { AdamW, type AdamWOptions, clipGradNorm, linearSchedule } from "../optim/index.ts";
import {
  type AdaptationSet,
  type ConsistencyOptions,
  type Router,
  taskLoss,
  twoPassLoss,
  uniformRouter,
} from "../peft/index.ts";
import { BatchSlots, type LoadedBatch } from "./batch-slots.ts";
import { CapturedSteps } from "./captured-steps.ts";

export interface FineTuneOptions {
  readonly train: readonly Encoded[];
  readonly steps: number;
  readonly batchSize: number;
  readonly lr: number;
  /** Default: 6% of the steps, as in the paper's presets. */
  readonly warmupSteps?: number;
  readonly seed: number;
  readonly optimiser?: Omit<AdamWOptions, "lr">;
  /** Global gradient norm; null: no clipping. Default 1. */
  readonly clipNorm?: number | null;
  /** Forward passes of a step, each with a route of its own. Default: 2 for a mixture, else 1. */
  readonly passes?: 1 | 2;
  readonly consistency?: ConsistencyOptions;
  /** Lengths are padded to a multiple of this, so that batches come in few shapes. Default 8. */
  readonly multiple?: number;
  /** Who draws the routes. Default: uniformly, from the seed. */
  readonly router?: Router;
  /** Whether the step of each shape of batch is recorded once and replayed: the same bytes, sooner. Default true. */
  readonly capture?: boolean;
  /** Scores the model as it is now; the best state by `score` is kept and restored at the end. */
  readonly evaluate?: { readonly everySteps: number; readonly score: (step: number) => Promise<number> };
  readonly onStep?: (report: StepReport) => void;
  /** Awaited before a step is recorded, counted from 0: where a profile begins and ends. */
  readonly beforeStep?: (step: number) => Promise<void>;
}

export interface StepReport {
  /** Counted from 1. */
  readonly step: number;
  readonly steps: number;
  readonly loss: number;
  /** The consistency term before its weight; null with one pass. */
  readonly consistency: number | null;
  readonly lr: number;
  /** [layer][down, up][pass]; null without a mixture. */
  readonly routes: number[][][] | null;
  readonly examplesPerSecond: number;
  readonly remainingMs: number;
}

export interface FineTuneResult {
  readonly optimiser: AdamW;
  readonly millisecondsPerStep: number;
  readonly best: { readonly step: number; readonly score: number } | null;
}

/**
 * Trains whatever of the model requires a gradient, and the set; a model with one label learns numbers (a regression). Each step: routes are drawn, both passes run as
 * one batch of 2B rows, gradients are clipped, AdamW moves. Nothing is read back but the loss, one step late.
 */
export async function fineTune(
  gpu: Gpu,
  model: SequenceClassifier,
  set: AdaptationSet | null,
  options: FineTuneOptions,
): Promise<FineTuneResult> {
  const { train, steps, batchSize, seed } = options;
  const { num_labels: classes } = model.config;
  checkOptions(options, classes);
  const passes = options.passes ?? (set?.isMixture ? 2 : 1);
  const parameters = trainable(model, set);
  const optimiser = new AdamW(parameters, options.optimiser);
  const warmupSteps = options.warmupSteps ?? Math.ceil(0.06 * steps);
  const lrOf = linearSchedule({ lr: options.lr, warmupSteps, totalSteps: steps });
  const order = epochs({ n: train.length, batchSize, seed });
  const stream = Stream.seed(seed);
  const router = options.router ?? uniformRouter(stream);
  const slots = new BatchSlots(gpu, model);
  const captured = new CapturedSteps(gpu, options);
  const clock = keep(tensor(gpu, Uint32Array.of(seed, 0)));
  const draw = { stream, clock, examples: batchSize };
  const keeper = new BestKeeper(parameters);
  const meter = new Meter(steps, batchSize);
  let pending: Promise<void> = Promise.resolve();

  const stepOn = deviceStep(model, optimiser, { ...options, passes, draw });

  try {
    for (let step = 0; step < steps; step++) {
      await options.beforeStep?.(step);
      const batch = collate(train, order.batch(step), {
        padId: model.config.pad_token_id,
        multiple: options.multiple ?? 8,
        regression: classes === 1,
      });
      clock.write(Uint32Array.of(seed, step));
      if (set?.isMixture) set.routes.draw(router, { step, passes });
      optimiser.setLearningRate(lrOf(step));
      const losses = captured.run(`${batch.size}x${batch.length}`, stepOn(slots.load(batch, passes)));
      const routes = set?.isMixture ? set.routes.last() : null;
      await pending;
      pending = report(losses, { step: step + 1, lr: lrOf(step), routes }, meter, options.onStep);
      const { evaluate } = options;
      if (evaluate && ((step + 1) % evaluate.everySteps === 0 || step + 1 === steps)) {
        await pending;
        const pause = performance.now();
        await keeper.offer(step + 1, await evaluate.score(step + 1));
        meter.pause(performance.now() - pause);
      }
    }
    await pending;
  } finally {
    captured.dispose();
    slots.dispose();
    clock.dispose();
  }
  const millisecondsPerStep = meter.elapsedMs() / steps;
  keeper.restore();
  return { optimiser, millisecondsPerStep, best: keeper.best };
}

/** Parameters that training changes: those of the model that are not frozen, then the set's. */
export function trainable(model: SequenceClassifier, set: AdaptationSet | null): Parameter[] {
  const own = model.parameters().filter((parameter) => parameter.requiresGrad);
  return [...own, ...(set?.parameters() ?? [])];
}

interface StepOptions extends Pick<FineTuneOptions, "clipNorm" | "consistency"> {
  readonly passes: 1 | 2;
  readonly draw: DrawSource;
}

/**
 * What runs on the device in a step with a batch; all that changes from step to step was written to slots before.
 * Gives the loss, and with two passes their consistency before its weight, as one tensor.
 */
function deviceStep(
  model: SequenceClassifier,
  optimiser: AdamW,
  { clipNorm = 1, consistency, passes, draw }: StepOptions,
): (batch: LoadedBatch) => () => Tensor {
  return ({ input, labels }) =>
    () => {
      if (!labels) throw new ShapeError("fineTune: a training example has no label");
      optimiser.zeroGrad();
      const logits = model.forward(input, { draw });
      const two = passes === 2 ? twoPassLoss(logits, labels, consistency) : null;
      const loss = two?.loss ?? taskLoss(logits, labels);
      loss.backward();
      if (clipNorm !== null) clipGradNorm(optimiser.arena, clipNorm);
      optimiser.step();
      return noGrad(() => stack(two ? [loss, two.consistency] : [loss]));
    };
}

async function report(
  losses: Tensor,
  state: Pick<StepReport, "step" | "lr" | "routes">,
  meter: Meter,
  onStep: FineTuneOptions["onStep"],
): Promise<void> {
  // One read, begun now: before the next step is recorded, so that it does not wait for that.
  const [loss = Number.NaN, consistency = null] = await losses.data();
  if (!Number.isFinite(loss)) {
    throw new RangeError(
      `fineTune: the loss of step ${state.step} is ${loss}; lower the learning rate or clip gradients`,
    );
  }
  onStep?.({ ...state, loss, consistency, ...meter.read(state.step) });
}

function checkOptions({ train, steps, batchSize }: FineTuneOptions, classes: number): void {
  if (train.length === 0) throw new ShapeError("fineTune: no training examples");
  if (!(Number.isInteger(steps) && steps > 0))
    throw new ShapeError(`fineTune: steps is ${steps}, expected 1 or more`);
  if (!(Number.isInteger(batchSize) && batchSize > 0))
    throw new ShapeError(`fineTune: batchSize is ${batchSize}, expected 1 or more`);
  train.forEach(({ label }, i) => {
    if (classes === 1) {
      if (typeof label === "number" && Number.isFinite(label)) return;
      throw new ShapeError(
        `fineTune: example ${i} has label ${label}; a model with one label learns numbers`,
      );
    }
    if (typeof label !== "number" || !Number.isInteger(label) || label < 0 || label >= classes) {
      throw new ShapeError(
        `fineTune: example ${i} has label ${label}; the model has classes 0..${classes - 1}`,
      );
    }
  });
}

/** Time per step, without pauses for evaluation. */
class Meter {
  readonly #steps: number;
  readonly #batchSize: number;
  #started = performance.now();

  constructor(steps: number, batchSize: number) {
    this.#steps = steps;
    this.#batchSize = batchSize;
  }

  elapsedMs(): number {
    return performance.now() - this.#started;
  }

  pause(ms: number): void {
    this.#started += ms;
  }

  read(step: number): Pick<StepReport, "steps" | "examplesPerSecond" | "remainingMs"> {
    const elapsedMs = this.elapsedMs();
    return {
      steps: this.#steps,
      examplesPerSecond: (step * this.#batchSize * 1000) / elapsedMs,
      remainingMs: (elapsedMs / step) * (this.#steps - step),
    };
  }
}

/** Holds a copy of the parameters of the best evaluation, on the host. */
class BestKeeper {
  readonly #parameters: readonly Parameter[];
  #copies: Float32Array[] = [];
  best: { step: number; score: number } | null = null;

  constructor(parameters: readonly Parameter[]) {
    this.#parameters = parameters;
  }

  async offer(step: number, score: number): Promise<void> {
    if (this.best && score <= this.best.score) return;
    this.best = { step, score };
    this.#copies = [];
    for (const parameter of this.#parameters) this.#copies.push((await parameter.data()) as Float32Array);
  }

  restore(): void {
    for (const [i, copy] of this.#copies.entries()) this.#parameters[i]?.write(Float32Array.from(copy));
  }
}
