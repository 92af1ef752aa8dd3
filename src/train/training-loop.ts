import type { Gpu } from "../array/index.ts";
import {
  add,
  type DrawSource,
  keep,
  noGrad,
  type Parameter,
  Stream,
  stack,
  type Tensor,
  tensor,
  tidy,
} from "../autograd/index.ts";
import { type Epochs, epochs } from "../data/index.ts";
import { ShapeError } from "../gpu/index.ts";
import type { ForwardOptions } from "../nn/index.ts";
import { chooseForms, formsInForce } from "../ops/index.ts";
import { AdamW, type AdamWOptions, clipGradNorm, linearSchedule } from "../optim/index.ts";
import {
  type AdaptationSet,
  type ConsistencyOptions,
  consistentLoss,
  type Granularity,
  type Router,
  uniformRouter,
  type WeightSchedule,
} from "../peft/index.ts";
import { BestKeeper } from "./best-keeper.ts";
import { CapturedSteps } from "./captured-steps.ts";
import type { KernelRecord } from "./kernel-record.ts";
import { TrainingMeter } from "./training-meter.ts";
import { checkKernelOptions, type KernelOptions, type Rehearsal, settleKernels } from "./tuning.ts";

/** The consistency term in training: λ may be a function of the step, counted from 0, as of warmUpWeight(). */
export interface TrainingConsistency extends Omit<ConsistencyOptions, "weight"> {
  readonly weight?: number | WeightSchedule;
}

/** What a training loop is told whatever it trains on. */
export interface TrainingOptions extends KernelOptions {
  readonly steps: number;
  readonly batchSize: number;
  readonly lr: number;
  /** Default: 6% of the steps, as in the paper's presets. */
  readonly warmupSteps?: number;
  readonly seed: number;
  readonly optimiser?: Omit<AdamWOptions, "lr">;
  /** Global gradient norm; null: no clipping. Default 1. */
  readonly clipNorm?: number | null;
  /** Forward passes of a step, each with routes of its own. Default: 2 for a mixture, else 1. */
  readonly passes?: 1 | 2;
  readonly consistency?: TrainingConsistency;
  /** What has a route of its own: the batch of a pass (default, the paper), each example, or each token. */
  readonly routing?: Granularity;
  /** Who draws the routes. Default: uniformly, from the seed. */
  readonly router?: Router;
  /** Whether the step of each shape of batch is recorded once and replayed: the same bytes, sooner. Default true. */
  readonly capture?: boolean;
  /**
   * Scores the model as it is now, every so many steps and after the last: the higher the better. The state of the best
   * score, of equal ones the first, is kept and put back at the end.
   */
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
  /** [layer][down, up][pass, example, token]; null without a mixture. Routes of tokens are too many: see `drawn`. */
  readonly routes: number[][][] | null;
  /** How often each expert was drawn: [layer][down, up][expert]; null without a mixture. */
  readonly drawn: number[][][] | null;
  readonly examplesPerSecond: number;
  readonly remainingMs: number;
}

export interface FineTuneResult {
  readonly optimiser: AdamW;
  readonly millisecondsPerStep: number;
  /** The evaluation whose state the parameters have; null without evaluations. */
  readonly best: { readonly step: number; readonly score: number } | null;
  /** How often each expert was drawn in all steps: [layer][down, up][expert]; null without a mixture. */
  readonly drawn: number[][][] | null;
  /** The kernels that were tuned or given; null: the fixed table's. */
  readonly kernels: KernelRecord | null;
}

/** A batch in its slots on the device. Batches of one shape have the same tensors. */
export interface TrainingBatch {
  /** Names the shape: steps are captured by it. */
  readonly shape: string;
  /** Rows of one pass, and the tokens of each: what routes are drawn for. */
  readonly examples: number;
  readonly tokens: number;
  /** What the loss is made of: [rows of all copies, ...]. */
  forward(options: ForwardOptions): Tensor;
  /** The task's loss of the outputs of one pass. */
  loss(outputs: Tensor): Tensor;
  /** How far the outputs of two passes are apart. */
  distance(first: Tensor, second: Tensor): Tensor;
}

/** Something to train on, as the loop sees it. */
export interface TrainingTask {
  /** Who trains, for errors. */
  readonly name: string;
  /** Number of examples. */
  readonly examples: number;
  readonly parameters: readonly Parameter[];
  /** Writes a batch into its slots, its rows `copies` times behind one another. */
  load(indices: Int32Array, copies: number): TrainingBatch;
  dispose(): void;
}

/**
 * The steps of a fine-tuning: routes are drawn, both passes run, gradients are clipped, AdamW moves. All that changes
 * from step to step (batch, routes, seed, learning rate, λ) is written to slots before, so that steps can be captured.
 * Nothing is read back but the loss, one step late.
 */
export async function trainingLoop(
  gpu: Gpu,
  task: TrainingTask,
  set: AdaptationSet | null,
  options: TrainingOptions,
): Promise<FineTuneResult> {
  checkOptions(task, options);
  checkKernelOptions(task.name, gpu, options);
  const { steps, batchSize, seed, evaluate } = options;
  const draws = set?.isMixture ? set : null;
  const order = epochs({ n: task.examples, batchSize, seed });
  const run = new StepRunner(gpu, task, set, order, options);
  const captured = new CapturedSteps(gpu, options);
  const keeper = new BestKeeper(task.parameters);
  const drawn = new DrawCounts();
  const formsBefore = formsInForce(gpu);
  let pending: Promise<void> = Promise.resolve();
  try {
    const kernels = await settleKernels(gpu, run, options);
    const meter = new TrainingMeter(steps, batchSize);
    for (let step = 0; step < steps; step++) {
      await options.beforeStep?.(step);
      const { shape, record, lr } = run.prepare(step);
      const losses = captured.run(shape, record);
      const tally = draws && drawn.add(draws.routes.tally());
      const routes = draws && options.routing !== "token" ? draws.routes.last() : null;
      await pending;
      pending = report(
        task.name,
        losses,
        { step: step + 1, lr, routes, drawn: tally },
        meter,
        options.onStep,
      );
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
    return { optimiser: run.optimiser, millisecondsPerStep, best: keeper.best, drawn: drawn.total, kernels };
  } catch (error) {
    run.optimiser.dispose(); // nobody gets it, and another run may take the parameters
    throw error;
  } finally {
    chooseForms(gpu, formsBefore);
    captured.dispose();
    run.dispose();
    task.dispose();
  }
}

/** Prepares steps and says what runs on the device in them. */
class StepRunner implements Rehearsal {
  readonly optimiser: AdamW;
  readonly passes: 1 | 2;
  passesInOneBatch: boolean;
  readonly #task: TrainingTask;
  readonly #set: AdaptationSet | null;
  readonly #options: TrainingOptions;
  readonly #order: Epochs;
  readonly #stream: Stream;
  readonly #router: Router;
  readonly #lrOf: (step: number) => number;
  /** u32 [seed, step]. */
  readonly #clock: Tensor;
  readonly #draw: DrawSource;
  /** λ of the step; null where it stays. */
  readonly #weight: Tensor | null;

  constructor(
    gpu: Gpu,
    task: TrainingTask,
    set: AdaptationSet | null,
    order: Epochs,
    options: TrainingOptions,
  ) {
    const { steps, lr, seed, batchSize, consistency, warmupSteps = Math.ceil(0.06 * steps) } = options;
    this.#task = task;
    this.#set = set;
    this.#options = options;
    this.#order = order;
    this.passes = options.passes ?? (set?.isMixture ? 2 : 1);
    this.passesInOneBatch = options.passesInOneBatch ?? true;
    this.optimiser = new AdamW(task.parameters, options.optimiser);
    this.#lrOf = linearSchedule({ lr, warmupSteps, totalSteps: steps });
    this.#stream = Stream.seed(seed);
    this.#router = options.router ?? uniformRouter(this.#stream);
    this.#clock = keep(tensor(gpu, Uint32Array.of(seed, 0)));
    this.#draw = { stream: this.#stream, clock: this.#clock, examples: batchSize };
    const isScheduled = typeof consistency?.weight === "function";
    this.#weight = isScheduled ? keep(tensor(gpu, Float32Array.of(0), [])) : null;
  }

  get #isOneBatch(): boolean {
    return this.passes === 1 || this.passesInOneBatch;
  }

  /** Writes all that a step needs. `record`: what runs on the device, the same for batches of one shape. */
  prepare(step: number): { readonly shape: string; readonly record: () => Tensor; readonly lr: number } {
    const batch = this.#load(step, this.#router);
    const lr = this.#lrOf(step);
    this.optimiser.setLearningRate(lr);
    return { shape: batch.shape, record: () => this.#record(batch), lr };
  }

  /** Routes are drawn uniformly: a router of the user is asked for those of the training alone. */
  rehearse(step: number): void {
    const batch = this.#load(step, uniformRouter(this.#stream));
    tidy(() => {
      this.#gradients(batch);
    });
  }

  #load(step: number, router: Router): TrainingBatch {
    const { seed, consistency, routing = "batch" } = this.#options;
    const batch = this.#task.load(this.#order.batch(step), this.#isOneBatch ? this.passes : 1);
    this.#clock.write(Uint32Array.of(seed, step));
    if (typeof consistency?.weight === "function")
      this.#weight?.write(Float32Array.of(consistency.weight(step)));
    if (this.#set?.isMixture) {
      const groups = routing === "batch" ? 1 : batch.examples;
      const tokens = routing === "token" ? batch.tokens : 1;
      const apart = !this.#isOneBatch;
      this.#set.routes.draw(router, { step, passes: this.passes, groups, tokens, apart });
    }
    return batch;
  }

  dispose(): void {
    this.#clock.dispose();
    this.#weight?.dispose();
  }

  /** One step on the device. Gives the loss, and with two passes their distance before its weight, as one tensor. */
  #record(batch: TrainingBatch): Tensor {
    const { clipNorm = 1 } = this.#options;
    const losses = this.#gradients(batch);
    if (clipNorm !== null) clipGradNorm(this.optimiser.arena, clipNorm);
    this.optimiser.step();
    return noGrad(() => stack(losses));
  }

  /** A step up to its gradients. */
  #gradients(batch: TrainingBatch): Tensor[] {
    this.optimiser.zeroGrad();
    const outputs = this.#forward(batch);
    const two = outputs.length === 2 ? this.#twoPassLoss(batch, outputs) : null;
    const task = two?.loss ?? batch.loss(outputs[0]);
    const balance = this.#set?.learned?.takeLoss();
    const loss = balance ? add(task, balance) : task;
    loss.backward();
    return two ? [loss, two.consistency] : [loss];
  }

  /** The outputs of each pass. */
  #forward(batch: TrainingBatch): [Tensor] | [Tensor, Tensor] {
    if (!this.#isOneBatch) {
      const pass = (firstPass: number): Tensor => {
        this.#set?.routes.usePass(firstPass);
        return batch.forward({ draw: { ...this.#draw, firstPass } });
      };
      return [pass(0), pass(1)];
    }
    const outputs = batch.forward({ draw: this.#draw });
    if (this.passes === 1) return [outputs];
    const rows = (outputs.shape[0] as number) / 2;
    return [outputs.slice(0, 0, rows), outputs.slice(0, rows, 2 * rows)];
  }

  #twoPassLoss(batch: TrainingBatch, outputs: readonly [Tensor, Tensor]): ReturnType<typeof consistentLoss> {
    const { weight = 1, ...rest } = this.#options.consistency ?? {};
    const lambda = typeof weight === "number" ? weight : (this.#weight as Tensor); // made for functions
    const losses = {
      task: (z: Tensor) => batch.loss(z),
      distance: (a: Tensor, b: Tensor) => batch.distance(a, b),
    };
    return consistentLoss(outputs, losses, { ...rest, weight: lambda });
  }
}

/** Sums of draws over steps. */
class DrawCounts {
  total: number[][][] | null = null;

  /** Adds those of a step, and gives them back. */
  add(tally: number[][][]): number[][][] {
    const { total } = this;
    this.total = total
      ? total.map((sides, l) =>
          sides.map((counts, s) => counts.map((count, m) => count + (tally[l]?.[s]?.[m] ?? 0))),
        )
      : tally;
    return tally;
  }
}

async function report(
  name: string,
  losses: Tensor,
  state: Pick<StepReport, "step" | "lr" | "routes" | "drawn">,
  meter: TrainingMeter,
  onStep: TrainingOptions["onStep"],
): Promise<void> {
  // One read, begun now: before the next step is recorded, so that it does not wait for that.
  const [loss = Number.NaN, consistency = null] = await losses.data();
  if (!Number.isFinite(loss)) {
    throw new RangeError(
      `${name}: the loss of step ${state.step} is ${loss}; lower the learning rate or clip gradients`,
    );
  }
  onStep?.({ ...state, loss, consistency, ...meter.read(state.step) });
}

const GRANULARITIES: readonly Granularity[] = ["batch", "example", "token"];

function checkOptions({ name, examples }: TrainingTask, options: TrainingOptions): void {
  const { steps, batchSize, routing = "batch", evaluate } = options;
  if (examples === 0) throw new ShapeError(`${name}: no training examples`);
  if (!(Number.isInteger(steps) && steps > 0))
    throw new ShapeError(`${name}: steps is ${steps}, expected 1 or more`);
  if (!(Number.isInteger(batchSize) && batchSize > 0))
    throw new ShapeError(`${name}: batchSize is ${batchSize}, expected 1 or more`);
  const everySteps = evaluate?.everySteps ?? 1;
  if (!(Number.isInteger(everySteps) && everySteps > 0))
    throw new ShapeError(`${name}: evaluate.everySteps is ${everySteps}, expected 1 or more`);
  if (!GRANULARITIES.includes(routing))
    throw new ShapeError(`${name}: routing is "${routing}", expected one of ${GRANULARITIES.join(", ")}`);
}
