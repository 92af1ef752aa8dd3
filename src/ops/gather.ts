import { type Gpu, type GpuArray, normaliseAxis, type Shape, showShape, sizeOf } from "../array/index.ts";
import { type KernelSpec, ShapeError } from "../gpu/index.ts";
import { addRows } from "./add-rows.ts";
import { defineOp } from "./define-op.ts";
import { contiguous, copyInto, copyOf, fill, zeros } from "./kernels.ts";
import { eachRange, labelOf, runRows, threads } from "./ranges.ts";

const gatherKernel: KernelSpec = { shader: "gather", entry: "forward" };
const scatterKernel: KernelSpec = { shader: "scatter_add", entry: "forward" };

/** Sources of one lane that a single thread walks, however few lanes there are. */
const SHORT = 64;
/** What an index out of range reads, as in shaders/gather.wgsl. */
const NAN_BITS = 0x7fc00000;
/** Lanes from which on a thread for each keeps a device busy. */
const MANY_LANES = 1024;

export interface AxisAttrs {
  /** The dimension that indices count in; negative: from the end. */
  readonly axis: number;
}

interface GatherSaved {
  readonly [name: string]: unknown;
  readonly indices: GpuArray;
  readonly shape: Shape;
}

/** An array as [outer, rows, inner] around one dimension. */
interface Around {
  readonly outer: number;
  readonly rows: number;
  readonly inner: number;
}

function around(shape: Shape, axis: number): Around {
  return {
    outer: sizeOf(shape.slice(0, axis)),
    rows: shape[axis] as number,
    inner: sizeOf(shape.slice(axis + 1)),
  };
}

/** The rule that gather and scatterAdd share: indices have x's rank, and reach no farther but along the axis. */
function checkIndices(op: string, x: Shape, indices: Shape, axis: number): void {
  const i = normaliseAxis(op, axis, x.length);
  const fits = indices.length === x.length && indices.every((n, d) => d === i || n <= (x[d] as number));
  if (!fits) {
    throw new ShapeError(
      `${op}: indices ${showShape(indices)} do not fit ${showShape(x)}: as many dimensions, none longer but dimension ${axis}`,
    );
  }
}

/** The part of x that indices of a shape reach: as long as they are but along the axis. */
function reached(gpu: Gpu, x: GpuArray, indices: Shape, axis: number): GpuArray {
  const shape = indices.map((n, d) => (d === axis ? (x.shape[d] as number) : n));
  return gpu.view(x, shape, x.offset, x.strides);
}

/**
 * Elements of x at indices along one dimension: y[i, j, k] = x[i, indices[i, j, k], k] for axis 1. x of any type,
 * indices i32 of its rank, no longer than x but along the axis -> y of the indices' shape. Saves the indices.
 * Indices are not known on the host: one that is out of range (negative too) gives NaN, and gets no gradient.
 * The gradient is a scatterAdd into zeros.
 */
export const gather = defineOp<readonly [GpuArray, GpuArray], AxisAttrs, GatherSaved>({
  name: "gather",
  dtypes: ["any", "i32"],
  result: ([type]) => type ?? "f32",
  shape([x, indices], { axis }) {
    checkIndices("gather", x, indices, axis);
    return indices;
  },
  forward(gpu, [x, indices], { axis }) {
    const i = normaliseAxis("gather", axis, x.shape.length);
    const part = contiguous(gpu, reached(gpu, x, indices.shape, i));
    return { output: take(gpu, part, indices, i), saved: { indices, shape: x.shape } };
  },
  backward(gpu, dy, { indices, shape }, { axis }) {
    const dx = zeros(gpu, shape);
    addAt(gpu, dx, indices, dy, normaliseAxis("gather", axis, shape.length));
    return [dx, null];
  },
});

/**
 * Rows of x along one dimension: y[i, j, k] = x[i, indices[j], k] for axis 1. x of any type, indices [n] i32 -> y with
 * n in place of that dimension. Saves the indices. One that is out of range gives NaN, and gets no gradient.
 */
export const indexSelect = defineOp<readonly [GpuArray, GpuArray], AxisAttrs, GatherSaved>({
  name: "indexSelect",
  dtypes: ["any", "i32"],
  result: ([type]) => type ?? "f32",
  shape([x, indices], { axis }) {
    const i = normaliseAxis("indexSelect", axis, x.length);
    if (indices.length !== 1)
      throw new ShapeError(`indexSelect: indices ${showShape(indices)} are not one-dimensional; see gather`);
    return x.map((n, d) => (d === i ? (indices[0] as number) : n));
  },
  forward(gpu, [x, indices], { axis }) {
    const i = normaliseAxis("indexSelect", axis, x.shape.length);
    return { output: take(gpu, x, indices, i, true), saved: { indices, shape: x.shape } };
  },
  backward(gpu, dy, { indices, shape }, { axis }) {
    const { outer, rows } = around(shape, normaliseAxis("indexSelect", axis, shape.length));
    const dx = gpu.totalFor(0, shape) ?? zeros(gpu, shape);
    addRows(gpu, dy, { indices, bound: rows }, dx, outer);
    return [dx, null];
  },
});

/**
 * x with source added at indices along one dimension: y[i, indices[i, j, k], k] += source[i, j, k] for axis 1.
 * x, indices i32 of its rank and no longer but along the axis, source of the indices' shape -> y of x's shape. Saves
 * the indices. Sums run in the order of j: two runs give the same bits. Sources whose index is out of range are left
 * out, and get the gradient NaN. The gradient of source is a gather.
 */
export const scatterAdd = defineOp<
  readonly [GpuArray, GpuArray, GpuArray],
  AxisAttrs,
  { readonly indices: GpuArray }
>({
  name: "scatterAdd",
  dtypes: ["f32", "i32", "f32"],
  shape([x, indices, source], { axis }) {
    checkIndices("scatterAdd", x, indices, axis);
    if (source.length !== indices.length || source.some((n, d) => n !== indices[d])) {
      throw new ShapeError(
        `scatterAdd: source ${showShape(source)} and indices ${showShape(indices)} differ in shape`,
      );
    }
    return x;
  },
  forward(gpu, [x, indices, source], { axis }) {
    const y = copyOf(gpu, x);
    addAt(gpu, y, indices, source, normaliseAxis("scatterAdd", axis, x.shape.length));
    return { output: y, saved: { indices } };
  },
  backward(gpu, dy, { indices }, { axis }, [needsX, , needsSource]) {
    const i = normaliseAxis("scatterAdd", axis, dy.shape.length);
    const source = needsSource
      ? take(gpu, contiguous(gpu, reached(gpu, dy, indices.shape, i)), indices, i)
      : null;
    return [needsX ? dy : null, null, source];
  },
});

/** y[o, j, k] = x[o, indices[o, j, k], k], or x[o, indices[j], k] where all share the indices. */
function take(gpu: Gpu, x: GpuArray, indices: GpuArray, axis: number, shared = false): GpuArray {
  const { outer, rows, inner } = around(x.shape, axis);
  const n = shared ? indices.size : (indices.shape[axis] as number);
  const y = gpu.empty(
    x.shape.map((size, d) => (d === axis ? n : size)),
    x.dtype,
  );
  const params = { n, inner, first: 0, rows, all: rows, shared_indices: shared ? 1 : 0 };
  if (y.size === 0) return y;
  if (rows === 0) {
    // No index is in range, and there is nothing to bind.
    fill(gpu, y, NAN_BITS);
    return y;
  }
  if (fitsBinding(gpu, x, Math.max(rows, n) * inner)) {
    runRows(gpu, gatherKernel, {
      rows: outer,
      split: shared ? { x, y } : { x, indices, y },
      ...(shared && { whole: { indices } }),
      params,
      count: "outer",
      grid: (count) => threads(count * n * inner),
    });
    return y;
  }
  const part = (array: GpuArray, length: number, o: number, shape: Shape): GpuArray =>
    gpu.view(array, shape, array.offset + o * length);
  for (let o = 0; o < outer; o++) {
    const own = shared ? indices : part(indices, n * inner, o, [n, inner]);
    takeRows(gpu, part(x, rows * inner, o, [rows, inner]), own, part(y, n * inner, o, [n, inner]), params);
  }
  return y;
}

/** Of one x [rows, inner] that no binding holds: in ranges of its rows, and of those of the result. */
function takeRows(
  gpu: Gpu,
  x: GpuArray,
  indices: GpuArray,
  y: GpuArray,
  params: Readonly<Record<string, number>>,
): void {
  const [n = 0, inner = 0] = y.shape;
  const table = { rows: x.shape[0] as number, arrays: { x } };
  eachRange(gpu, labelOf(gatherKernel), table, new Set(), (parts, first, rows) => {
    runRows(gpu, gatherKernel, {
      rows: n,
      split: { indices, y },
      whole: parts,
      params: (_first, count) => ({ ...params, n: count, inner, first, rows, outer: 1 }),
      count: null,
      grid: (count) => threads(count * inner),
    });
  });
}

function fitsBinding(gpu: Gpu, { itemBytes }: GpuArray, length: number): boolean {
  return length * itemBytes <= gpu.maxBindingBytes;
}

/** target[o, indices[o, j, k], k] += source[o, j, k], in the order of j. */
function addAt(gpu: Gpu, target: GpuArray, indices: GpuArray, source: GpuArray, axis: number): void {
  if (source.size === 0 || target.size === 0) return;
  const window = reached(gpu, target, indices.shape, axis);
  const part = contiguous(gpu, window);
  const { outer, rows, inner } = around(part.shape, axis);
  const n = indices.shape[axis] as number;
  const isWide = n <= SHORT || outer * inner >= MANY_LANES;
  if (isWide && fitsBinding(gpu, part, Math.max(rows, n) * inner)) {
    runRows(gpu, scatterKernel, {
      rows: outer,
      split: { indices, source, y: part },
      params: { n, inner, rows },
      count: "outer",
      grid: (count) => threads(count * inner),
    });
  } else {
    const keys = { indices, bound: part.size, flat: { middle: n, inner, rows } };
    addRows(gpu, source, keys, part);
  }
  if (part !== window) copyInto(gpu, part, window);
}
