import type { Gpu, GpuArray } from "../array/index.ts";
import type { KernelSpec } from "../gpu/index.ts";

const markKernel: KernelSpec = { shader: "routing", entry: "mark" };

/** Marks of one dispatch: its parameters hold as many. */
const MOST_MARKS = 60;

/** Slices to be marked as used. */
export interface DrawnMark {
  /** u32 flags of a parameter's slices: a view of the flags of all. */
  readonly drawn: GpuArray;
  /** i32 indices of the slices; null: all of them. */
  readonly route: GpuArray | null;
}

/**
 * drawn[route[i]] = 1 for every i of every mark, in one dispatch for those whose routes lie in one memory, as the
 * routes of all layers do, and whose flags do.
 */
export function markDrawn(gpu: Gpu, marks: readonly DrawnMark[]): void {
  let rest = marks;
  while (rest.length > 0) {
    const flags = rest[0]?.drawn as GpuArray;
    const routes = rest.find(({ drawn, route }) => route && drawn.storage === flags.storage)?.route ?? null;
    const batch: DrawnMark[] = [];
    const others: DrawnMark[] = [];
    for (const mark of rest) {
      const isSame =
        mark.drawn.storage === flags.storage && (!mark.route || mark.route.storage === routes?.storage);
      (isSame && batch.length < MOST_MARKS ? batch : others).push(mark);
    }
    markBatch(gpu, flags, routes, batch);
    rest = others;
  }
}

function markBatch(gpu: Gpu, flags: GpuArray, routes: GpuArray | null, batch: readonly DrawnMark[]): void {
  const table: number[] = [];
  for (const { drawn, route } of batch) {
    table.push(route?.offset ?? 0, route?.size ?? 0, drawn.offset, route ? 0 : drawn.size);
  }
  gpu.scope(
    () => {
      const whole = (array: GpuArray): GpuArray => gpu.view(array, [array.storage.bytes / 4], 0);
      const arrays = { routes: routes && whole(routes), drawn: whole(flags) };
      gpu.run(markKernel, arrays, { n: batch.length, marks: table }, [batch.length, 1, 1]);
    },
    () => [],
  );
}
