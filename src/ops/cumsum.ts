import { type Gpu, type GpuArray, normaliseAxis } from "../array/index.ts";
import { type KernelSpec, ShapeError } from "../gpu/index.ts";
import { type Middle, middleOf } from "./axes.ts";
import { defineOp } from "./define-op.ts";
import { labelOf, threads } from "./ranges.ts";
import { eachSlab } from "./slabs.ts";

export interface CumsumAttrs {
  readonly axis: number;
  /** The sum of what lies before an element, without itself. */
  readonly exclusive?: boolean | undefined;
  /** Counted from the end. */
  readonly reverse?: boolean | undefined;
}

interface Scan {
  readonly scan: KernelSpec;
  readonly add: KernelSpec;
}

function scanOf(type?: "i32" | "u32"): Scan {
  const constants = type && { constants: { E: type } };
  return {
    scan: { shader: "cumsum", entry: "scan", ...constants },
    add: { shader: "cumsum", entry: "add", ...constants },
  };
}

const KERNELS = { f32: scanOf(), i32: scanOf("i32"), u32: scanOf("u32") };

/** Elements that one thread adds up. */
const BLOCK = 64;

function runningSums(
  gpu: Gpu,
  { x, outer, rows, inner }: Middle,
  { exclusive, reverse }: CumsumAttrs,
): GpuArray {
  const y = gpu.empty(x.shape, x.dtype);
  if (y.size === 0) return y;
  const { scan, add } = KERNELS[x.dtype as keyof typeof KERNELS];
  const parts = Math.ceil(rows / BLOCK);
  const totals = gpu.empty([outer, parts, inner], x.dtype);
  const flags = { exclusive: exclusive ? 1 : 0, reverse: reverse ? 1 : 0 };
  const params = { rows, parts, block: BLOCK, ...flags };
  const sums = { outer, inner, arrays: { x, y, totals }, written: ["y", "totals"] };
  eachSlab(gpu, labelOf(scan), sums, (part, n, m) => {
    gpu.run(scan, part, { ...params, outer: n, inner: m }, threads(n * parts * m));
  });
  if (parts === 1) return y;
  // Blocks are counted in the direction of the scan already.
  const before = runningSums(gpu, { x: totals, outer, rows: parts, inner }, { axis: 1, exclusive: true });
  eachSlab(gpu, labelOf(add), { outer, inner, arrays: { before, y }, written: ["y"] }, (part, n, m) => {
    gpu.run(add, part, { ...params, outer: n, inner: m }, threads(n * parts * m));
  });
  return y;
}

/**
 * Running sums along one dimension: y[i] = x[0] + ... + x[i]; of f32, i32 or u32. The gradient is the running sum of dy in
 * the other direction. Saves nothing.
 */
export const cumsum = defineOp<readonly [GpuArray], CumsumAttrs, Record<string, never>>({
  name: "cumsum",
  dtypes: "any",
  result([type]) {
    if (type === "bool") throw new ShapeError(`cumsum: input 0 is bool; cast it with to("i32")`);
    return type ?? "f32";
  },
  shape([x], { axis }) {
    normaliseAxis("cumsum", axis, x.length);
    return x;
  },
  forward(gpu, [x], attrs) {
    const axis = normaliseAxis("cumsum", attrs.axis, x.shape.length);
    return { output: runningSums(gpu, middleOf(gpu, x, [axis]), attrs), saved: {} };
  },
  backward(gpu, dy, _saved, attrs) {
    const axis = normaliseAxis("cumsum", attrs.axis, dy.shape.length);
    return [runningSums(gpu, middleOf(gpu, dy, [axis]), { ...attrs, reverse: !attrs.reverse })];
  },
});
