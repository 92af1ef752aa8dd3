import type { AdaptationSet } from "./adaptation-set.ts";
import type { Side } from "./router.ts";

/** What the experts of one bank are like. */
export interface BankDiagnosis {
  /** As its parameters are named: `SITE.adapter.down`. */
  readonly name: string;
  readonly layer: number;
  readonly side: Side;
  /** Cosine of each two experts' weights, [M][M]; 1 on the diagonal, and where both are zero. */
  readonly cosine: readonly (readonly number[])[];
  /** The mean of it over pairs of different experts: 1 where all are alike, about 0 where they have nothing in common. */
  readonly meanCosine: number;
  /** Mean over experts of ‖W_j - W'‖ / ‖W'‖, W' the uniform mean: how far a merge moves from each. */
  readonly mergeDistance: number;
}

/** Diversity of the experts of every bank that has several, in float64: reads all their weights. */
export async function diagnose(set: AdaptationSet): Promise<BankDiagnosis[]> {
  const result: BankDiagnosis[] = [];
  for (const { name, side, bank, site } of set.banks()) {
    if (bank.experts < 2) continue;
    const values = (await bank.weight.data()) as Float32Array;
    const size = values.length / bank.experts;
    const experts = Array.from({ length: bank.experts }, (_, m) => values.subarray(m * size, (m + 1) * size));
    const cosine = experts.map((a) => experts.map((b) => (a === b ? 1 : cosineOf(a, b))));
    result.push({
      name,
      layer: site.layer,
      side,
      cosine,
      meanCosine: meanOffDiagonal(cosine),
      mergeDistance: distanceFromMean(experts),
    });
  }
  return result;
}

function cosineOf(a: Float32Array, b: Float32Array): number {
  const norms = Math.sqrt(dot(a, a) * dot(b, b));
  return norms === 0 ? 1 : dot(a, b) / norms;
}

function meanOffDiagonal(table: readonly (readonly number[])[]): number {
  const M = table.length;
  let sum = 0;
  for (const [i, row] of table.entries()) for (const [j, value] of row.entries()) if (i !== j) sum += value;
  return sum / (M * (M - 1));
}

function distanceFromMean(experts: readonly Float32Array[]): number {
  const size = experts[0]?.length ?? 0;
  const mean = new Float64Array(size);
  for (const expert of experts)
    for (let i = 0; i < size; i++) (mean[i] as number) += (expert[i] as number) / experts.length;
  const norm = Math.sqrt(dot(mean, mean));
  let sum = 0;
  for (const expert of experts) {
    let squares = 0;
    for (let i = 0; i < size; i++) squares += ((expert[i] as number) - (mean[i] as number)) ** 2;
    sum += Math.sqrt(squares) / experts.length;
  }
  return norm === 0 ? 0 : sum / norm;
}

function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] as number) * (b[i] as number);
  return sum;
}
