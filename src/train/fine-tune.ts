import type { Gpu } from "../array/index.ts";
import { crossEntropy, keep, type Parameter, Stream, type Tensor, tensor, tidy } from "../autograd/index.ts";
import { type Batch, collate, type Encoded, epochs } from "../data/index.ts";
import { ShapeError } from "../gpu/index.ts";
import type { RobertaForSequenceClassification } from "../models/index.ts";
import { AdamW, type AdamWOptions, clipGradNorm, linearSchedule } from "../optim/index.ts";
import {
  type AdaptationSet,
  type ConsistencyOptions,
  type Router,
  twoPassLoss,
  uniformRouter,
} from "../peft/index.ts";
import { BatchSlots } from "./batch-slots.ts";

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

interface Losses {
  readonly loss: Tensor;
  readonly consistency: Tensor | null;
}

/**
 * Trains whatever of the model requires a gradient, and the set. Each step: routes are drawn, both passes run as
 * one batch of 2B rows, gradients are clipped, AdamW moves. Nothing is read back but the loss, one step late.
 */
export async function fineTune(
  gpu: Gpu,
  model: RobertaForSequenceClassification,
  set: AdaptationSet | null,
  options: FineTuneOptions,
): Promise<FineTuneResult> {
  const { train, steps, batchSize, seed } = options;
  checkOptions(options, model.config.num_labels);
  const passes = options.passes ?? (set?.isMixture ? 2 : 1);
  const parameters = trainable(model, set);
  const optimiser = new AdamW(parameters, options.optimiser);
  const warmupSteps = options.warmupSteps ?? Math.ceil(0.06 * steps);
  const lrOf = linearSchedule({ lr: options.lr, warmupSteps, totalSteps: steps });
  const order = epochs({ n: train.length, batchSize, seed });
  const stream = Stream.seed(seed);
  const router = options.router ?? uniformRouter(stream);
  const slots = new BatchSlots(gpu, model.config);
  const clock = keep(tensor(gpu, Uint32Array.of(seed, 0)));
  const draw = { stream, clock, examples: batchSize };
  const keeper = new BestKeeper(parameters);
  const meter = new Meter(steps, batchSize);
  let pending: Promise<void> = Promise.resolve();

  for (let step = 0; step < steps; step++) {
    await options.beforeStep?.(step);
    const batch = collate(train, order.batch(step), {
      padId: model.config.pad_token_id,
      multiple: options.multiple ?? 8,
    });
    clock.write(Uint32Array.of(seed, step));
    if (set?.isMixture) set.routes.draw(router, { step, passes });
    optimiser.zeroGrad();
    const losses = tidy(() => {
      const result = lossOf(model, slots, batch, passes, options.consistency, draw);
      result.loss.backward();
      return result;
    });
    if (options.clipNorm !== null) clipGradNorm(optimiser.arena, options.clipNorm ?? 1).dispose();
    optimiser.step(lrOf(step));
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
  const millisecondsPerStep = meter.elapsedMs() / steps;
  keeper.restore();
  slots.dispose();
  clock.dispose();
  return { optimiser, millisecondsPerStep, best: keeper.best };
}

/** Parameters that training changes: those of the model that are not frozen, then the set's. */
export function trainable(model: RobertaForSequenceClassification, set: AdaptationSet | null): Parameter[] {
  const own = model.parameters().filter((parameter) => parameter.requiresGrad);
  return [...own, ...(set?.parameters() ?? [])];
}

function lossOf(
  model: RobertaForSequenceClassification,
  slots: BatchSlots,
  batch: Batch,
  passes: 1 | 2,
  consistency: ConsistencyOptions | undefined,
  draw: NonNullable<Parameters<typeof model.forward>[1]>["draw"],
): Losses {
  const { input, labels } = slots.load(batch, passes);
  if (!labels) throw new ShapeError("fineTune: a training example has no label");
  const logits = model.forward(input, { draw });
  if (passes === 1) return { loss: crossEntropy(logits, labels), consistency: null };
  const { loss, consistency: term } = twoPassLoss(logits, labels, consistency);
  return { loss, consistency: term };
}

async function report(
  { loss, consistency }: Losses,
  state: Pick<StepReport, "step" | "lr" | "routes">,
  meter: Meter,
  onStep: FineTuneOptions["onStep"],
): Promise<void> {
  // Both reads start now, before the next step is recorded: neither waits for it.
  const [lossValue, term] = await Promise.all([loss.item(), consistency ? consistency.item() : null]);
  const values = { loss: lossValue, consistency: term };
  loss.dispose();
  consistency?.dispose();
  if (!Number.isFinite(values.loss)) {
    throw new RangeError(
      `fineTune: the loss of step ${state.step} is ${values.loss}; lower the learning rate or clip gradients`,
    );
  }
  onStep?.({ ...state, ...values, ...meter.read(state.step) });
}

function checkOptions({ train, steps, batchSize }: FineTuneOptions, classes: number): void {
  if (train.length === 0) throw new ShapeError("fineTune: no training examples");
  if (!(Number.isInteger(steps) && steps > 0))
    throw new ShapeError(`fineTune: steps is ${steps}, expected 1 or more`);
  if (!(Number.isInteger(batchSize) && batchSize > 0))
    throw new ShapeError(`fineTune: batchSize is ${batchSize}, expected 1 or more`);
  train.forEach(({ label }, i) => {
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
