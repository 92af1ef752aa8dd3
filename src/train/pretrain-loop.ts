import type { Tensor } from "../autograd/index.ts";

export interface PretrainReport {
  readonly step: number;
  readonly steps: number;
  /** Mean since the last report. */
  readonly loss: number;
  /** Tokens seen so far, without padding. */
  readonly tokens: number;
  readonly elapsedMs: number;
  readonly remainingMs: number;
}

export interface PretrainLoop {
  /** The first step, counted from 0: more than 0 where training goes on. */
  readonly firstStep?: number;
  readonly steps: number;
  readonly reportEvery: number;
  /** Records one step: its loss, good until the next one is recorded, and its tokens. */
  readonly step: (step: number) => { readonly loss: Tensor; readonly tokens: number };
  readonly onReport: (report: PretrainReport) => void | Promise<void>;
  /** Awaited after each step, counted from 1, behind its report. */
  readonly afterStep?: (step: number) => Promise<void>;
}

/**
 * Runs steps one after the other and reports the mean loss. A loss is read one step late, while the next step runs. A
 * loss that is no number ends the training.
 */
export async function pretrainLoop(loop: PretrainLoop): Promise<void> {
  const { firstStep = 0, steps, reportEvery } = loop;
  const started = performance.now();
  let tokens = 0;
  let losses: number[] = [];
  let pending: Promise<number> | null = null;
  const settle = async (step: number): Promise<void> => {
    if (pending) losses.push(checked(await pending, step));
    pending = null;
  };
  for (let step = firstStep; step < steps; step++) {
    const made = loop.step(step);
    tokens += made.tokens;
    await settle(step);
    pending = made.loss.item();
    if ((step + 1) % reportEvery === 0 || step + 1 === steps) {
      await settle(step + 1);
      const loss = losses.reduce((sum, x) => sum + x, 0) / losses.length;
      losses = [];
      const elapsedMs = performance.now() - started;
      const remainingMs = (elapsedMs / (step + 1 - firstStep)) * (steps - step - 1);
      await loop.onReport({ step: step + 1, steps, loss, tokens, elapsedMs, remainingMs });
    }
    await loop.afterStep?.(step + 1);
  }
}

function checked(loss: number, step: number): number {
  if (Number.isFinite(loss)) return loss;
  throw new RangeError(`pretrain: the loss of step ${step} is ${loss}; lower the learning rate`);
}
