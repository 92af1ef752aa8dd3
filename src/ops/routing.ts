import type { Gpu, GpuArray } from "../array/index.ts";
import type { KernelSpec } from "../gpu/index.ts";

const markKernel: KernelSpec = { shader: "routing", entry: "mark" };

/** drawn[route[i]] = 1 for every i: which experts a step has used. route [G] i32, drawn [M] u32. */
export function markDrawn(gpu: Gpu, route: GpuArray, drawn: GpuArray): void {
  gpu.run(markKernel, { route, drawn }, { n: route.size }, [1, 1, 1]);
}
