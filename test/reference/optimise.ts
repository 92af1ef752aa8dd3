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
