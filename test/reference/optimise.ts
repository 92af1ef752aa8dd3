import { at, type RefTensor, ref } from "./tensor.ts";

export interface AdamWState {
  readonly param: RefTensor;
  readonly m: RefTensor;
  readonly v: RefTensor;
}

export interface AdamWOptions {
  /** Number of this step, from 1. */
  readonly step: number;
  readonly lr: number;
  readonly beta1?: number | undefined;
  readonly beta2?: number | undefined;
  readonly eps?: number | undefined;
  readonly weightDecay?: number | undefined;
  /**
   * "pytorch": decay first, eps added after the bias correction of √v.
   * "hf": the older Hugging Face AdamW, eps added to the raw √v, decay after the update.
   */
  readonly convention?: "pytorch" | "hf" | undefined;
}

/** One AdamW step; the moments start at zeros. */
export function adamwStep({ param, m, v }: AdamWState, grad: RefTensor, options: AdamWOptions): AdamWState {
  const {
    step,
    lr,
    beta1 = 0.9,
    beta2 = 0.999,
    eps = 1e-8,
    weightDecay = 0,
    convention = "pytorch",
  } = options;
  const next = { param: ref(param.shape), m: ref(param.shape), v: ref(param.shape) };
  const correction1 = 1 - beta1 ** step;
  const correction2 = 1 - beta2 ** step;
  for (let i = 0; i < param.data.length; i++) {
    const g = at(grad.data, i);
    const first = beta1 * at(m.data, i) + (1 - beta1) * g;
    const second = beta2 * at(v.data, i) + (1 - beta2) * g * g;
    let value = at(param.data, i);
    if (convention === "pytorch") {
      value -= lr * weightDecay * value;
      value -= (lr * (first / correction1)) / (Math.sqrt(second / correction2) + eps);
    } else {
      value -= (lr * Math.sqrt(correction2) * first) / correction1 / (Math.sqrt(second) + eps);
      value -= lr * weightDecay * value;
    }
    next.param.data[i] = value;
    next.m.data[i] = first;
    next.v.data[i] = second;
  }
  return next;
}

export interface SgdOptions {
  readonly lr: number;
  readonly momentum?: number | undefined;
  readonly dampening?: number | undefined;
  readonly nesterov?: boolean | undefined;
  readonly weightDecay?: number | undefined;
}

/** One step of SGD as PyTorch has it; `buffer` is null before the first one, which takes the gradient whole. */
export function sgdStep(
  { param, buffer }: { param: RefTensor; buffer: RefTensor | null },
  grad: RefTensor,
  { lr, momentum = 0, dampening = 0, nesterov = false, weightDecay = 0 }: SgdOptions,
): { param: RefTensor; buffer: RefTensor } {
  const next = { param: ref(param.shape), buffer: ref(param.shape) };
  for (const [i, p] of param.data.entries()) {
    const g = at(grad.data, i) + weightDecay * p;
    const b = buffer ? momentum * at(buffer.data, i) + (1 - dampening) * g : g;
    next.buffer.data[i] = b;
    next.param.data[i] = p - lr * (momentum === 0 ? g : nesterov ? g + momentum * b : b);
  }
  return next;
}

/** Scales gradients by min(1, maxNorm / (norm + 1e-6)), norm over all of them; returns the norm before. */
export function clipGradNorm(
  grads: readonly RefTensor[],
  maxNorm: number,
): { norm: number; grads: RefTensor[] } {
  let sum = 0;
  for (const { data } of grads) for (const g of data) sum += g * g;
  const norm = Math.sqrt(sum);
  const factor = Math.min(1, maxNorm / (norm + 1e-6));
  return { norm, grads: grads.map(({ shape, data }) => ({ shape, data: data.map((g) => g * factor) })) };
}
