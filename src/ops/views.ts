import { type GpuArray, normaliseAxis, type Shape, sameShape, showShape, sizeOf } from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { defineOp } from "./define-op.ts";
import { addInto, contiguous, copyInto, zeros } from "./kernels.ts";
import { sumTo } from "./reduce.ts";

/** The same elements in another shape; one size may be -1. A view where the input is contiguous. */
export const reshape = defineOp<readonly [GpuArray], { readonly shape: Shape }, { readonly shape: Shape }>({
  name: "reshape",
  dtypes: "any",
  half: { inputs: [0] },
  shape([x], { shape }) {
    const known = shape.reduce((product, n) => (n === -1 ? product : product * n), 1);
    const size = sizeOf(x);
    const open = shape.filter((n) => n === -1).length;
    const result = shape.map((n) => (n === -1 && known > 0 ? size / known : n));
    if (open > 1 || !result.every((n) => Number.isInteger(n) && n >= 0) || sizeOf(result) !== size) {
      throw new ShapeError(`reshape: ${showShape(x)} (${size} elements) does not fill ${showShape(shape)}`);
    }
    return result;
  },
  forward: (gpu, [x], _attrs, _needs, shape) => ({ output: gpu.view(x, shape), saved: { shape: x.shape } }),
  backward: (gpu, dy, { shape }) => [gpu.view(contiguous(gpu, dy), shape)],
});

/** Dimensions in another order: a view. */
export const permute = defineOp<
  readonly [GpuArray],
  { readonly order: readonly number[] },
  Record<string, never>
>({
  name: "permute",
  dtypes: "any",
  half: { inputs: [0] },
  strided: true,
  shape([x], { order }) {
    const axes = order.map((axis) => normaliseAxis("permute", axis, x.length));
    if (new Set(axes).size !== x.length || axes.length !== x.length) {
      throw new ShapeError(
        `permute: [${order.join(", ")}] is no order of the ${x.length} dimensions of ${showShape(x)}`,
      );
    }
    return axes.map((axis) => x[axis] as number);
  },
  forward(gpu, [x], { order }, _needs, shape) {
    const rank = x.shape.length;
    const strides = order.map((axis) => x.strides[normaliseAxis("permute", axis, rank)] as number);
    return { output: gpu.view(x, shape, x.offset, strides), saved: {} };
  },
  backward(gpu, dy, _saved, { order }) {
    const rank = dy.shape.length;
    const back = new Array<number>(rank);
    order.forEach((axis, i) => {
      back[normaliseAxis("permute", axis, rank)] = i;
    });
    const shape = back.map((i) => dy.shape[i] as number);
    return [
      gpu.view(
        dy,
        shape,
        dy.offset,
        back.map((i) => dy.strides[i] as number),
      ),
    ];
  },
});

/** Stretches dimensions of size 1, and adds leading ones: a view. */
export const expand = defineOp<readonly [GpuArray], { readonly shape: Shape }, { readonly shape: Shape }>({
  name: "expand",
  dtypes: "any",
  half: { inputs: [0] },
  strided: true,
  shape([x], { shape }) {
    const lead = shape.length - x.length;
    if (lead < 0 || !x.every((n, i) => n === 1 || n === shape[i + lead])) {
      throw new ShapeError(`expand: ${showShape(x)} does not stretch to ${showShape(shape)}`);
    }
    return shape;
  },
  forward(gpu, [x], _attrs, _needs, shape) {
    const lead = shape.length - x.shape.length;
    const strides = shape.map((n, i) =>
      i < lead || (x.shape[i - lead] === 1 && n !== 1) ? 0 : (x.strides[i - lead] as number),
    );
    return { output: gpu.view(x, shape, x.offset, strides), saved: { shape: x.shape } };
  },
  backward: (gpu, dy, { shape }) => [sumTo(gpu, dy, shape)],
});

/** Elements `start` up to `end` (not included) of one dimension: a view. Negative bounds count from the end. */
export interface SliceAttrs {
  readonly axis: number;
  readonly start: number;
  readonly end: number;
}

export const slice = defineOp<readonly [GpuArray], SliceAttrs, { readonly shape: Shape }>({
  name: "slice",
  dtypes: "any",
  half: { inputs: [0] },
  strided: true,
  shape([x], attrs) {
    const { axis, start, end } = sliceBounds(x, attrs);
    return x.map((n, i) => (i === axis ? end - start : n));
  },
  forward(gpu, [x], attrs, _needs, shape) {
    const { axis, start } = sliceBounds(x.shape, attrs);
    const offset = x.offset + start * (x.strides[axis] as number);
    return { output: gpu.view(x, shape, offset, x.strides), saved: { shape: x.shape } };
  },
  backward(gpu, dy, { shape }, attrs) {
    const { axis, start } = sliceBounds(shape, attrs);
    const total = gpu.totalFor(0, shape);
    const dx = total ?? zeros(gpu, shape);
    const window = gpu.view(dx, dy.shape, dx.offset + start * (dx.strides[axis] as number), dx.strides);
    if (total) addInto(gpu, dy, window);
    else copyInto(gpu, dy, window);
    return [dx];
  },
});

function sliceBounds(
  shape: Shape,
  { axis, start, end }: SliceAttrs,
): { axis: number; start: number; end: number } {
  const i = normaliseAxis("slice", axis, shape.length);
  const n = shape[i] as number;
  const from = start < 0 ? start + n : start;
  const to = end < 0 ? end + n : end;
  if (!(Number.isInteger(from) && Number.isInteger(to) && 0 <= from && from <= to && to <= n)) {
    throw new ShapeError(
      `slice: ${start}..${end} is not inside dimension ${axis} of ${showShape(shape)} (0..${n})`,
    );
  }
  return { axis: i, start: from, end: to };
}

/** Arrays behind one another along one dimension. */
export const concat = defineOp<
  readonly GpuArray[],
  { readonly axis: number },
  { readonly shapes: readonly Shape[] }
>({
  name: "concat",
  dtypes: "any",
  strided: true,
  shape(shapes, { axis }) {
    const list = shapes as readonly Shape[];
    const [head] = list;
    if (!head) throw new ShapeError("concat: no arrays");
    const i = normaliseAxis("concat", axis, head.length);
    for (const shape of list) {
      if (shape.length !== head.length || !sameShape(without(shape, i), without(head, i))) {
        throw new ShapeError(
          `concat: ${showShape(head)} and ${showShape(shape)} differ outside dimension ${axis}`,
        );
      }
    }
    return head.map((n, d) => (d === i ? list.reduce((total, shape) => total + (shape[i] as number), 0) : n));
  },
  forward(gpu, inputs, { axis }, _needs, shape) {
    const types = new Set(inputs.map((x) => x.dtype));
    if (types.size > 1)
      throw new ShapeError(`concat: arrays of different types, ${[...types].join(" and ")}`);
    const output = gpu.empty(shape, inputs[0]?.dtype ?? "f32");
    const i = normaliseAxis("concat", axis, shape.length);
    let at = 0;
    for (const x of inputs) {
      copyInto(gpu, x, gpu.view(output, x.shape, at * (output.strides[i] as number), output.strides));
      at += x.shape[i] as number;
    }
    return { output, saved: { shapes: inputs.map((x) => x.shape) } };
  },
  backward(gpu, dy, { shapes }, { axis }, needs) {
    const i = normaliseAxis("concat", axis, dy.shape.length);
    let at = 0;
    return shapes.map((shape, k) => {
      const part = gpu.view(dy, shape, dy.offset + at * (dy.strides[i] as number), dy.strides);
      at += shape[i] as number;
      return needs[k] ? part : null;
    });
  },
});

function without(shape: Shape, axis: number): number[] {
  return shape.filter((_n, i) => i !== axis);
}
