import { type Gpu, type GpuArray, type Shape, showShape } from "../array/index.ts";
import { type KernelSpec, ShapeError } from "../gpu/index.ts";
import { type AxesAttrs, axesOf, type Middle, middleOf, partsOf, reducedShape } from "./axes.ts";
import { combine, kernels, multiply } from "./binary.ts";
import { defineOp, type Op } from "./define-op.ts";
import { labelOf, threads } from "./ranges.ts";
import { sumAxes } from "./reduce.ts";
import { eachSlab, shortened } from "./slabs.ts";
import { kindOf } from "./words.ts";

interface ExtremeSaved {
  readonly [name: string]: unknown;
  readonly x: GpuArray | null;
  readonly y: GpuArray | null;
}

export type ExtremeOp = Op<readonly [GpuArray], AxesAttrs, ExtremeSaved>;

const valueKernel: KernelSpec = { shader: "extreme", entry: "value" };
const indexKernel: KernelSpec = { shader: "extreme", entry: "index" };
export const takeKernel: KernelSpec = { shader: "extreme", entry: "take" };

/** Parameters of shaders/extreme.wgsl that not every entry point looks at. */
export const NOTHING = {
  outer: 0,
  rows: 0,
  inner: 1,
  parts: 1,
  flip: 0,
  nan_wins: 1,
  length: 0,
  has_candidates: 0,
  groups: 1,
  tops: 1,
  k: 0,
};

function refuseEmpty(op: string, x: Shape, axes: readonly number[]): void {
  const empty = axes.find((axis) => x[axis] === 0);
  if (empty !== undefined)
    throw new ShapeError(`${op}: dimension ${empty} of ${showShape(x)} has no elements to choose from`);
}

/** Kernels that compare bits, [outer, rows, inner] -> [outer, inner]. */
function extremeValues(gpu: Gpu, middle: Middle, flip: number): GpuArray {
  const { x, outer, rows, inner } = shortened(gpu, middle, (piece) => extremeValues(gpu, piece, flip));
  let from = x;
  let left = rows;
  for (const parts of partsOf(rows)) {
    const y = gpu.empty([outer, parts, inner], x.dtype);
    const params = { ...NOTHING, kind: kindOf(x), flip, rows: left, parts };
    const slabs = { outer, inner, arrays: { x: from, y }, written: ["y"] };
    eachSlab(gpu, labelOf(valueKernel), slabs, (part, n, m) => {
      gpu.run(valueKernel, part, { ...params, outer: n, inner: m }, threads(n * parts * m));
    });
    from = y;
    left = parts;
  }
  return from;
}

/** Where the best element of each of `parts` interleaved parts lies, [outer, rows, inner] -> i32 [outer, parts, inner]. */
export function bestOfParts(
  gpu: Gpu,
  { x, outer, rows, inner }: Middle,
  parts: number,
  order: { readonly flip: number; readonly nan_wins: number },
  candidates: GpuArray | null = null,
): GpuArray {
  const chosen = gpu.empty([outer, parts, inner], "i32");
  const params = { ...NOTHING, ...order, kind: kindOf(x), parts, length: rows };
  const among = candidates
    ? { rows: candidates.size / (outer * inner), has_candidates: 1 }
    : { rows, has_candidates: 0 };
  const slabs = { outer, inner, arrays: { x, candidates, chosen }, written: ["chosen"] };
  eachSlab(gpu, labelOf(indexKernel), slabs, (part, n, m) => {
    gpu.run(indexKernel, part, { ...params, ...among, outer: n, inner: m }, threads(n * parts * m));
  });
  return chosen;
}

const EQUAL = kernels("select(T(0.0), T(1.0), a == b)");
const DIVIDE = kernels("a / b");

/** dy, evenly shared among the elements that are equal to the result. */
function sharedGradient(gpu: Gpu, dy: GpuArray, x: GpuArray, y: GpuArray, axes: readonly number[]): GpuArray {
  const open = x.shape.map((n, i) => (axes.includes(i) ? 1 : n));
  const isBest = combine(gpu, EQUAL, x, gpu.view(y, open), x.shape);
  const ties = gpu.view(sumAxes(gpu, isBest, axes, open), open);
  return multiply(gpu, isBest, combine(gpu, DIVIDE, gpu.view(dy, open), ties, open));
}

function extreme(name: string, flip: 0 | 1): ExtremeOp {
  return defineOp<readonly [GpuArray], AxesAttrs, ExtremeSaved>({
    name,
    dtypes: "any",
    result: ([type]) => type ?? "f32",
    shape([x], attrs) {
      refuseEmpty(name, x, axesOf(name, x.length, attrs.axes));
      return reducedShape(name, x, attrs);
    },
    forward(gpu, [x], { axes }, needs, shape) {
      const middle = middleOf(gpu, x, axesOf(name, x.shape.length, axes));
      const y = gpu.view(extremeValues(gpu, middle, flip), shape);
      return { output: y, saved: needs.any ? { x, y } : { x: null, y: null } };
    },
    backward(gpu, dy, { x, y }, { axes }) {
      return [x && y && sharedGradient(gpu, dy, x, y, axesOf(name, x.shape.length, axes))];
    },
  });
}

/**
 * The largest element over some dimensions (all, when none are given), of any type; NaN where one is NaN. It moves bits:
 * the result is one of the elements. The gradient is shared evenly among equal largest ones. Saves x and y.
 */
export const max = extreme("max", 0);
/** The smallest element, like max. */
export const min = extreme("min", 1);

/** `axis`: the dimension to search; undefined: all, and the index is that into the elements in order. */
export interface ArgAttrs {
  readonly axis?: number | undefined;
  readonly keepDim?: boolean | undefined;
}

export type ArgOp = Op<readonly [GpuArray], ArgAttrs, Record<string, never>>;

function argExtreme(name: string, flip: 0 | 1): ArgOp {
  const axesIn = (rank: number, { axis }: ArgAttrs): number[] =>
    axesOf(name, rank, axis === undefined ? undefined : [axis]);
  return defineOp<readonly [GpuArray], ArgAttrs, Record<string, never>>({
    name,
    dtypes: "any",
    result: () => "i32",
    shape([x], attrs) {
      const axes = axesIn(x.length, attrs);
      refuseEmpty(name, x, axes);
      return reducedShape(name, x, { axes, keepDim: attrs.keepDim });
    },
    forward(gpu, [x], attrs, _needs, shape) {
      const middle = middleOf(gpu, x, axesIn(x.shape.length, attrs));
      let best: GpuArray | null = null;
      for (const parts of partsOf(middle.rows))
        best = bestOfParts(gpu, middle, parts, { flip, nan_wins: 1 }, best);
      return { output: gpu.view(best ?? gpu.empty(shape, "i32"), shape), saved: {} };
    },
  });
}

/** Where the largest element along a dimension lies: i32, of equals the first. NaN is the largest. No derivative. */
export const argmax = argExtreme("argmax", 0);
/** Where the smallest element lies. NaN is found first, as by min. */
export const argmin = argExtreme("argmin", 1);
