import { sameShape, showShape } from "../array/index.ts";
import { add, crossEntropy, div, mul, sum, type Tensor, tidy } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";

export interface CausalLossOptions {
  /** ε: (1-ε) nll + ε mean over the vocabulary of -log p. Default 0. */
  readonly labelSmoothing?: number;
}

/**
 * Σ loss · mask / (Σ mask + 1e-4), the loss of the tokens of a completion: logits [B, T, V], labels [B, T] i32 (the
 * token that comes next, any class where the mask is 0), mask [B, T] i32 or f32. Without a counted token it is 0.
 * Paper: the fine-tuning of GPT-2, as in the authors' code.
 */
export function causalLoss(
  logits: Tensor,
  labels: Tensor,
  mask: Tensor,
  { labelSmoothing = 0 }: CausalLossOptions = {},
): Tensor {
  if (!sameShape(labels.shape, mask.shape))
    throw new ShapeError(`causalLoss: labels ${showShape(labels.shape)}, mask ${showShape(mask.shape)}`);
  return tidy(() => {
    const losses = crossEntropy(logits, labels, { labelSmoothing, reduction: "none" });
    const weights = mask.to("f32");
    return div(sum(mul(losses, weights)), add(sum(weights), 1e-4));
  });
}
