import { showShape } from "../array/index.ts";
import { add, crossEntropy, mean, mul, symmetricKl, type Tensor, tidy } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";

export interface ConsistencyOptions {
  /** λ, the weight of the consistency term. Default 1, as for NLU. 0: none. */
  readonly weight?: number;
  /** "detached" (default, the authors' code) or "full" (the formula as printed). */
  readonly gradient?: "detached" | "full";
  /** Whether the task's loss is taken of the first pass (the authors' code) or of both, averaged. */
  readonly taskPasses?: "first" | "both";
  /** Of a regression: "mse", the mean squared difference of both outputs, or "none" (default): the KL of one logit is 0. */
  readonly regression?: "none" | "mse";
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
 * loss = CE(z1, y) + λ ½ [KL(sg(p2) ‖ p1) + KL(sg(p1) ‖ p2)] of two passes with routes of their own.
 * logits [2B, C] hold the passes behind one another, labels [B] i32; or [2B, 1] and numbers f32 [B], see taskLoss.
 * Paper: section 3.2.
 */
export function twoPassLoss(logits: Tensor, labels: Tensor, options: ConsistencyOptions = {}): TwoPassLoss {
  const { weight = 1, gradient = "detached", taskPasses = "first", regression = "none" } = options;
  const [rows] = labels.shape;
  if (rows === undefined || logits.shape[0] !== 2 * rows) {
    throw new ShapeError(
      `twoPassLoss: logits ${showShape(logits.shape)} are not two passes of labels ${showShape(labels.shape)}`,
    );
  }
  const first = logits.slice(0, 0, rows);
  const second = logits.slice(0, rows, 2 * rows);
  let task = taskLoss(first, labels);
  if (taskPasses === "both") task = mul(add(task, taskLoss(second, labels)), 0.5);
  const isSquared = labels.dtype === "f32" && regression === "mse";
  const consistency = isSquared ? meanSquaredError(first, second) : symmetricKl(first, second, { gradient });
  return { loss: weight === 0 ? task : add(task, mul(consistency, weight)), task, consistency };
}
