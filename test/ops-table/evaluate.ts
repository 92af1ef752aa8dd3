// Runs one op on a device, forward and backward, on inputs laid out in several ways.
import type { Gpu, TypedArray } from "../../src/array/index.ts";
import { apply, Tensor } from "../../src/autograd/index.ts";
import { sizeClass } from "../../src/gpu/index.ts";
import { type AnyOp, fill } from "../../src/ops/index.ts";
import type { RefTensor } from "../reference/index.ts";
import { isFloat, sizeOf, type Value } from "./row.ts";

export interface Outcome {
  readonly shape: readonly number[];
  readonly y: TypedArray;
  /** One for each input; null where none was asked for. */
  readonly gradients: readonly (TypedArray | null)[];
  /** Dispatches of the backward pass. */
  readonly dispatches: number;
}

export interface Request {
  readonly op: AnyOp;
  readonly inputs: readonly Value[];
  readonly attrs: object;
  /** null: forward only. */
  readonly dy: RefTensor | null;
  /** Which inputs ask for a gradient. Default: all that hold floats. */
  readonly needs?: readonly boolean[];
  /** Inputs are views with columns first that start at the second element of their memory. */
  readonly strided?: boolean;
}

export async function evaluate(gpu: Gpu, request: Request): Promise<Outcome> {
  const { op, inputs, attrs, dy, needs = inputs.map((x) => isFloat(x ?? undefined)), strided } = request;
  const make = strided ? stridedTensor : plainTensor;
  const tensors = inputs.map((value) => value && make(gpu, value));
  tensors.forEach((tensor, i) => {
    if (tensor && dy && needs[i]) tensor.requiresGrad = true;
  });
  const given = dy && plainTensor(gpu, dy);
  let y: Tensor | null = null;
  try {
    y = apply(watched(op), tensors, attrs);
    const data = await y.data();
    const before = gpu.device.statistics().dispatches;
    if (given) y.backward(given);
    const { dispatches } = gpu.device.statistics();
    const gradients: (TypedArray | null)[] = [];
    for (const tensor of tensors) gradients.push((await tensor?.grad?.data()) ?? null);
    return { shape: y.shape, y: data, gradients, dispatches: dispatches - before };
  } finally {
    for (const tensor of [...tensors, y, given]) tensor?.dispose();
  }
}

/** The op, checked to compute no gradient that nobody asked for. */
function watched(op: AnyOp): AnyOp {
  const { backward } = op;
  if (!backward) return op;
  return {
    ...op,
    backward(gpu, dy, saved, attrs, needs) {
      const gradients = backward(gpu, dy, saved, attrs, needs);
      gradients.forEach((gradient, i) => {
        if (gradient && !needs[i]) throw new Error(`${op.name}: a gradient for input ${i}, which needs none`);
      });
      return gradients;
    },
  };
}

function plainTensor(gpu: Gpu, { shape, data }: RefTensor | NonNullable<Value>): Tensor {
  return new Tensor(gpu, gpu.from(hostArray(data), shape));
}

function stridedTensor(gpu: Gpu, { shape, data }: NonNullable<Value>): Tensor {
  const source = hostArray(data);
  const strides = shape.map((_, d) => sizeOf(shape.slice(0, d)));
  const target =
    data instanceof Int32Array ? new Int32Array(data.length + 1) : new Float32Array(data.length + 1);
  const rowMajor = shape.map((_, d) => sizeOf(shape.slice(d + 1)));
  for (let i = 0; i < source.length; i++) {
    let at = 1;
    for (let d = 0; d < shape.length; d++) {
      at += (Math.floor(i / (rowMajor[d] ?? 1)) % (shape[d] ?? 1)) * (strides[d] ?? 0);
    }
    target[at] = source[i] ?? Number.NaN;
  }
  const memory = gpu.from(target);
  const view = memory.view(shape, 1, strides);
  memory.release();
  return new Tensor(gpu, view);
}

function hostArray(data: Float64Array | Int32Array): TypedArray {
  return data instanceof Int32Array ? new Int32Array(data) : new Float32Array(data);
}

const NAN_BITS = 0x7fc00000;

/** Fills memory that the next arrays will take with NaN, so that what a kernel does not write shows. */
export function poison(gpu: Gpu): void {
  const taken: ReturnType<Gpu["empty"]>[] = [];
  for (let bytes = 256; bytes <= 4096; bytes = sizeClass(bytes + 1)) {
    for (let n = 0; n < 6; n++) taken.push(gpu.empty([bytes / 4]));
  }
  for (const array of taken) {
    fill(gpu, array, NAN_BITS);
    array.release();
  }
}
