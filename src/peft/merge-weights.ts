import type { Gpu } from "../array/index.ts";
import { Parameter, softmax } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { Module, type Site } from "../nn/index.ts";
import type { Side } from "./router.ts";
import type { Path, Routing } from "./routing.ts";

/** How much each expert of a layer counts in a merge: numbers that sum to 1. */
export interface LayerWeights {
  readonly layer: number;
  readonly down: readonly number[];
  readonly up: readonly number[];
}

/** The weights of every layer. The paper's are uniform: 1/M. */
export type MergeWeights = readonly LayerWeights[];

type Counts = Readonly<Record<Side, number>>;
const SIDES = ["down", "up"] as const;

/** The same experts in all layers and on both sides, each as often as it is named: a soup. */
export function soupWeights(
  layers: readonly number[],
  experts: Counts,
  members: readonly number[],
): MergeWeights {
  const shares = (count: number): number[] =>
    Array.from({ length: count }, (_, m) =>
      count === 1 ? 1 : members.filter((member) => member === m).length / members.length,
    );
  return layers.map((layer) => ({ layer, down: shares(experts.down), up: shares(experts.up) }));
}

/** The weights of one layer, refused where they are no weights of so many experts. */
export function weightsOf(
  weights: MergeWeights,
  layer: number,
  side: Side,
  experts: number,
): readonly number[] {
  const own = weights.find((entry) => entry.layer === layer)?.[side];
  const sum = own?.reduce((total, weight) => total + weight, 0) ?? 0;
  if (own?.length === experts && Math.abs(sum - 1) < 1e-4) return own;
  const given = own ? `${own.length} that sum to ${sum.toPrecision(6)}` : "none";
  throw new ShapeError(
    `merge: weights of layer ${layer}, ${side}: ${given}; expected ${experts} that sum to 1 (one for each expert)`,
  );
}

/**
 * Weights of a merge that are learned: α = softmax(s) for each layer and side, s [M] from 0 on, so that they start
 * uniform. As a routing, all rows go through Σ α_m W_m: what the merged set will compute.
 */
export class LearnedWeights extends Module implements Routing {
  readonly down: readonly Parameter[];
  readonly up: readonly Parameter[];
  readonly #layers: readonly number[];

  constructor(gpu: Gpu, layers: readonly number[], experts: Counts) {
    super();
    const logits = (count: number): Parameter[] =>
      layers.map(() => Parameter.zeros(gpu, [count], { decay: false }));
    this.down = logits(experts.down);
    this.up = logits(experts.up);
    this.#layers = layers;
  }

  paths({ layer }: Site): readonly Path[] {
    const i = this.#layers.indexOf(layer);
    const [down, up] = SIDES.map((side) => softmax(this[side][i] as Parameter));
    return down && up ? [{ down, up, weight: null }] : [];
  }

  async read(): Promise<MergeWeights> {
    const result: LayerWeights[] = [];
    for (const [i, layer] of this.#layers.entries()) {
      const [down, up] = [await shares(this.down[i]), await shares(this.up[i])];
      result.push({ layer, down, up });
    }
    return result;
  }
}

/** softmax of a parameter's values, in float64. */
async function shares(logits: Parameter | undefined): Promise<number[]> {
  const values = [...((await logits?.data()) ?? [])].map(Math.exp);
  const sum = values.reduce((total, value) => total + value, 0);
  return values.map((value) => value / sum);
}
