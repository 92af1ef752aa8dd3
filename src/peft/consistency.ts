import { showShape } from "../array/index.ts";
import { add, crossEntropy, mul, symmetricKl, type Tensor } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";

export interface ConsistencyOptions {
  /** λ, the weight of the consistency term. Default 1, as for NLU. 0: none. */
  readonly weight?: number;
  /** "detached" (default, the authors' code) or "full" (the formula as printed). */
  readonly gradient?: "detached" | "full";
  /** Whether the task's loss is taken of the first pass (the authors' code) or of both, averaged. */
  readonly taskPasses?: "first" | "both";
}

export interface TwoPassLoss {
  readonly loss: Tensor;
  readonly task: Tensor;
  readonly consistency: Tensor;
}

/**
 * loss = CE(z1, y) + λ ½ [KL(sg(p2) ‖ p1) + KL(sg(p1) ‖ p2)] of two passes with routes of their own.
 * logits [2B, C] hold the passes behind one another, labels [B] i32. Paper: section 3.2.
 */
export function twoPassLoss(logits: Tensor, labels: Tensor, options: ConsistencyOptions = {}): TwoPassLoss {
  const { weight = 1, gradient = "detached", taskPasses = "first" } = options;
  const [rows] = labels.shape;
  if (rows === undefined || logits.shape[0] !== 2 * rows) {
    throw new ShapeError(
      `twoPassLoss: logits ${showShape(logits.shape)} are not two passes of labels ${showShape(labels.shape)}`,
    );
  }
  const first = logits.slice(0, 0, rows);
  const second = logits.slice(0, rows, 2 * rows);
  let task = crossEntropy(first, labels);
  if (taskPasses === "both") task = mul(add(task, crossEntropy(second, labels)), 0.5);
  const consistency = symmetricKl(first, second, { gradient });
  return { loss: weight === 0 ? task : add(task, mul(consistency, weight)), task, consistency };
}
