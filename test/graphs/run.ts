import type { Gpu } from "../../src/array/index.ts";
import { table } from "../ops.table.ts";
import { composed } from "../ops-table/composed.ts";
import { type Subject, subjectOf } from "../ops-table/subject.ts";
import { progress } from "../progress.ts";
import { compareGraph, report } from "./compare.ts";
import { graphsOf } from "./generate.ts";

export interface Seeds {
  /** By name; `graphSubjects()` by default. */
  readonly subjects?: ReadonlyMap<string, Subject>;
  /** Devices that take turns: both variants of kernels. */
  readonly devices: readonly [Gpu, ...Gpu[]];
  readonly seed: number;
  readonly count: number;
  /** Ends earlier, after these. */
  readonly seconds?: number | undefined;
}

/** The ops and composed functions that graphs are made of: those with a derivative. */
export function graphSubjects(): ReadonlyMap<string, Subject> {
  const all = [...table, ...composed].map(subjectOf);
  return new Map(all.filter(hasDerivative).map((subject) => [subject.name, subject]));
}

function hasDerivative({ op, cases }: Subject): boolean {
  return (!op || op.backward !== undefined) && cases.some(({ gradient }) => gradient !== false);
}

/**
 * Compares graphs of consecutive seeds. Throws at the first that differs, with the smallest one like it. Returns
 * the largest error as a share of what was allowed, and how many could be compared.
 */
export async function compareSeeds(
  seeds: Seeds,
): Promise<{ readonly worst: number; readonly compared: number; readonly tried: number }> {
  const { devices, seed, count, seconds = Number.POSITIVE_INFINITY, subjects = graphSubjects() } = seeds;
  const generate = graphsOf(devices[0], subjects.values());
  const told = progress("random graphs", count);
  const until = performance.now() + seconds * 1000;
  let worst = 0;
  let compared = 0;
  let tried = 0;
  for (; tried < count && performance.now() < until; tried++) {
    const graph = generate(seed + tried);
    const device = devices[tried % devices.length] ?? devices[0];
    const comparison = await compareGraph(device, subjects, graph);
    if (comparison?.failure) throw new Error(await report(device, subjects, graph, comparison.failure));
    if (comparison) compared++;
    worst = Math.max(worst, comparison?.worst ?? 0);
    told(tried + 1, `largest error ${worst.toFixed(2)} of what is allowed`);
  }
  return { worst, compared, tried };
}
