import { Stream } from "../autograd/index.ts";
import type { Adaptable, AdaptationSet, MergeWeights } from "../peft/index.ts";

/**
 * Runs `use` with a mixture's experts merged in its place, and puts the mixture back. Without a mixture the model
 * is used as it is. The merged set is kept between calls and overwritten: nothing is cached that training changes.
 */
export class MergedView {
  /** How much each expert counts; null (default): all alike. */
  weights: MergeWeights | null = null;
  readonly mixture: AdaptationSet | null;
  readonly #merged: AdaptationSet | null;

  constructor(model: Adaptable, set: AdaptationSet | null) {
    this.mixture = set;
    set?.detach();
    this.#merged = set?.isMixture ? set.mergeExperts(model, Stream.seed(0)) : null;
    set?.attach();
  }

  /** The set that holds the merged experts; the set itself where there is nothing to merge. */
  get set(): AdaptationSet | null {
    return this.#merged ?? this.mixture;
  }

  async use<T>(action: () => Promise<T>): Promise<T> {
    if (!this.#merged || !this.mixture) return action();
    this.mixture.detach();
    this.#merged.setToMeanOf(this.mixture, this.weights);
    this.#merged.attach();
    try {
      return await action();
    } finally {
      this.#merged.detach();
      this.mixture.attach();
    }
  }

  dispose(): void {
    this.#merged?.dispose();
  }
}
