import type { Gpu } from "../../src/array/index.ts";
import { table } from "../ops.table.ts";
import { composed } from "../ops-table/composed.ts";
import { type Subject, subjectOf } from "../ops-table/subject.ts";
import { progress } from "../progress.ts";
import { summary } from "../summary.ts";
import { compareGraph, report } from "./compare.ts";
import { graphsOf } from "./generate.ts";

export interface Seeds {
  /** Devices that take turns: both variants of kernels. */
  readonly devices: readonly Gpu[];
  readonly seed: number;
  readonly count: number;
  readonly seconds?: number | undefined;
}

/** The ops and composed functions that graphs are made of. */
export function graphSubjects(): ReadonlyMap<string, Subject> {
  return new Map([...table, ...composed].map(subjectOf).map((subject) => [subject.name, subject]));
}

/** Compares graphs of consecutive seeds. Throws at the first that differs, with the smallest one like it. */
export async function compareSeeds({
  devices,
  seed,
  count,
  seconds = Number.POSITIVE_INFINITY,
}: Seeds): Promise<void> {
  const subjects = graphSubjects();
  const [first] = devices;
  if (!first) throw new Error("graphs: no device");
  const generate = graphsOf(first, subjects.values());
  const told = progress("random graphs", count);
  const until = performance.now() + seconds * 1000;
  let worst = 0;
  let skipped = 0;
  for (let i = 0; i < count && performance.now() < until; i++) {
    const graph = generate(seed + i);
    const device = devices[i % devices.length] ?? first;
    const comparison = await compareGraph(device, subjects, graph);
    if (comparison?.failure) throw new Error(await report(device, subjects, graph, comparison.failure));
    if (comparison) summary.graphs++;
    else skipped++;
    worst = Math.max(worst, comparison?.worst ?? 0);
    told(i + 1, `largest error ${worst.toFixed(2)} of what is allowed`);
  }
  console.log(
    `  graphs: largest error ${worst.toFixed(3)} of what is allowed; ${skipped} with gradients beyond 1e6`,
  );
}
