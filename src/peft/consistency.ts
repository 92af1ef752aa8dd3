import { knownOptions, type OptionNames, showShape } from "../array/index.ts";
import { add, crossEntropy, div, mean, mul, sum, symmetricKl, type Tensor, tidy } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";

/** λ at a step, counted from 0. */
export type WeightSchedule = (step: number) => number;

export interface ConsistencyOptions {
  /** λ, the weight of the consistency term. Default 1, as for NLU; 100 for NLG. 0: none. A tensor: one scalar, f32. */
  readonly weight?: number | Tensor;
  /** "detached" (default, the authors' code) or "full" (the formula as printed). */
  readonly gradient?: "detached" | "full";
  /** Whether the task's loss is taken of the first pass (the authors' code) or of both, averaged. */
  readonly taskPasses?: "first" | "both";
  /** Of a regression: "mse", the mean squared difference of both outputs, or "none" (default): the KL of one logit is 0. */
  readonly regression?: "none" | "mse";
}
const NAMES: OptionNames<ConsistencyOptions> = {
  weight: true,
  gradient: true,
  taskPasses: true,
  regression: true,
};

/** λ that grows in a line from λ / steps at step 0 to `weight` at step `steps` - 1, and stays. */
export function warmUpWeight(weight: number, steps: number): WeightSchedule {
  if (!(Number.isInteger(steps) && steps >= 0))
    throw new ShapeError(`consistency: a warm-up of ${steps} steps, expected a whole number of 0 or more`);
  return (step) => (steps === 0 ? weight : weight * Math.min(1, (step + 1) / steps));
}

export interface TwoPassLoss {
  readonly loss: Tensor;
  readonly task: Tensor;
  readonly consistency: Tensor;
}

/** The loss of a task: cross-entropy of logits [B, C] with classes i32 [B]; mean squared error of [B, 1] with numbers f32 [B]. */
export function taskLoss(logits: Tensor, labels: Tensor): Tensor {
  if (labels.dtype !== "f32") return crossEntropy(logits, labels);
  const [rows] = labels.shape;
  if (rows === undefined || labels.shape.length !== 1 || logits.size !== rows || logits.shape[0] !== rows) {
    throw new ShapeError(
      `taskLoss: outputs ${showShape(logits.shape)} for numbers ${showShape(labels.shape)}, expected [rows, 1] and [rows]`,
    );
  }
  return meanSquaredError(logits.reshape(rows), labels);
}

function meanSquaredError(a: Tensor, b: Tensor): Tensor {
  return tidy(() => {
    const difference = a.sub(b);
    return mean(mul(difference, difference));
  });
}

/**
 * loss = task(z1) + λ distance(z1, z2) of two passes with routes of their own; with taskPasses "both" the task's loss is
 * the mean of both. Paper: section 3.2.
 */
export function consistentLoss(
  [first, second]: readonly [Tensor, Tensor],
  {
    task,
    distance,
  }: { readonly task: (z: Tensor) => Tensor; readonly distance: (a: Tensor, b: Tensor) => Tensor },
  { weight = 1, taskPasses = "first" }: Pick<ConsistencyOptions, "weight" | "taskPasses"> = {},
): TwoPassLoss {
  let own = task(first);
  if (taskPasses === "both") own = mul(add(own, task(second)), 0.5);
  const consistency = distance(first, second);
  return { loss: weight === 0 ? own : add(own, mul(consistency, weight)), task: own, consistency };
}

/**
 * How far two passes of a classifier are apart: ½ [KL(sg(p2) ‖ p1) + KL(sg(p1) ‖ p2)] of logits [B, C], mean over rows;
 * of numbers [B, 1] (`isRegression`) their mean squared difference, where that is asked for.
 */
export function distanceOfPasses(
  first: Tensor,
  second: Tensor,
  isRegression: boolean,
  { gradient = "detached", regression = "none" }: ConsistencyOptions = {},
): Tensor {
  if (isRegression && regression === "mse") return meanSquaredError(first, second);
  return symmetricKl(first, second, { gradient });
}

/**
 * How far two passes of a language model are apart: ½ [KL(sg(p2) ‖ p1) + KL(sg(p1) ‖ p2)] of logits [n, V], mean over
 * the rows with weight 1 (the tokens of completions): weights f32 [n], 0 or 1, one of them 1.
 */
export function distanceOfTokens(
  first: Tensor,
  second: Tensor,
  weights: Tensor,
  { gradient = "detached" }: Pick<ConsistencyOptions, "gradient"> = {},
): Tensor {
  return tidy(() => {
    const rows = symmetricKl(first, second, { gradient, reduction: "none" });
    return div(sum(mul(rows, weights)), sum(weights));
  });
}

/**
 * loss = CE(z1, y) + λ ½ [KL(sg(p2) ‖ p1) + KL(sg(p1) ‖ p2)] of two passes with routes of their own.
 * logits [2B, C] hold the passes behind one another, labels [B] i32; or [2B, 1] and numbers f32 [B], see taskLoss.
 * Paper: section 3.2.
 */
export function twoPassLoss(logits: Tensor, labels: Tensor, options: ConsistencyOptions = {}): TwoPassLoss {
  knownOptions("twoPassLoss", options, NAMES);
  const [rows] = labels.shape;
  if (rows === undefined || logits.shape[0] !== 2 * rows) {
    throw new ShapeError(
      `twoPassLoss: logits ${showShape(logits.shape)} are not two passes of labels ${showShape(labels.shape)}`,
    );
  }
  const passes = [logits.slice(0, 0, rows), logits.slice(0, rows, 2 * rows)] as const;
  const isRegression = labels.dtype === "f32";
  const losses = {
    task: (z: Tensor) => taskLoss(z, labels),
    distance: (a: Tensor, b: Tensor) => distanceOfPasses(a, b, isRegression, options),
  };
  return consistentLoss(passes, losses, options);
}
