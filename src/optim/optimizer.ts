import type { TypedArray } from "../array/index.ts";
import type { Arena } from "./arena.ts";

/**
 * What a training loop needs of an optimiser, and all that one of your own has to be: a class that moves parameters
 * into an `Arena` and updates all of their elements at once.
 *
 *     optimiser.zeroGrad();
 *     tidy(() => loss(batch).backward());
 *     clipGradNorm(optimiser.arena, 1).dispose();
 *     optimiser.step(schedule(step));
 */
export interface Optimizer {
  /** Values and gradients of the trained parameters. */
  readonly arena: Arena;
  readonly learningRate: number;
  /** The rate of the steps that follow. A captured step reads it from the GPU: see RateSlot. */
  setLearningRate(lr: number): void;
  /** Forgets gradients: before each step's forward pass. */
  zeroGrad(): void;
  /**
   * One update with the gradients collected since zeroGrad(). It records only: what it decides by numbers, it decides
   * on the GPU. It leaves everything as it is where `arena.skip` is not 0, and slices (experts) that `arena.drawn`
   * does not name as its own rule says.
   */
  step(lr?: number): void;
  /** Reads what a checkpoint needs besides the parameters, by name. */
  state(): Promise<Readonly<Record<string, TypedArray>>>;
  /** Takes back what `state` gave, for the same parameters in the same order. */
  loadState(state: Readonly<Record<string, TypedArray>>): void;
  /** Gives back its memory. The parameters keep their values. */
  dispose(): void;
}
