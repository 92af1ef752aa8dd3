// Runs one op (or composed function) on a device, forward and backward, on inputs laid out in several ways.
import type { Gpu, HalfType, TypedArray } from "../../src/array/index.ts";
import { Tensor } from "../../src/autograd/index.ts";
import { sizeClass } from "../../src/gpu/index.ts";
import { fill } from "../../src/ops/index.ts";
import type { RefTensor } from "../reference/index.ts";
import { type Attributes, type Call, isFloat, sizeOf, type Value } from "./row.ts";

export interface Outcome {
  readonly shape: readonly number[];
  readonly y: TypedArray;
  /** One for each input; null where none was asked for. */
  readonly gradients: readonly (TypedArray | null)[];
  /** Dispatches of the backward pass. */
  readonly dispatches: number;
}

/**
 * How inputs lie in memory. "columns": the first dimension runs fastest, from the second element on.
 * "window": a part of a larger array, with gaps in every dimension.
 */
export type MemoryLayout = "columns" | "window";

export interface Request {
  readonly run: Call;
  readonly inputs: readonly Value[];
  readonly attrs: Attributes;
  /** null: forward only. */
  readonly dy: RefTensor | null;
  /** Which inputs ask for a gradient. Default: all that hold floats. */
  readonly needs?: readonly boolean[];
  /** Default: row-major without gaps. */
  readonly layout?: MemoryLayout;
  /** Stores inputs that hold floats in 16 bits. */
  readonly half?: HalfType;
}

export async function evaluate(gpu: Gpu, request: Request): Promise<Outcome> {
  const {
    run,
    inputs,
    attrs,
    dy,
    needs = inputs.map((x) => isFloat(x ?? undefined)),
    layout,
    half,
  } = request;
  const tensors = inputs.map((value) => {
    if (!value) return null;
    return half ? plainTensor(gpu, value, half) : tensorOf(gpu, value, layout);
  });
  tensors.forEach((tensor, i) => {
    if (tensor && dy && needs[i]) tensor.requiresGrad = true;
  });
  const given = dy && plainTensor(gpu, dy);
  let y: Tensor | null = null;
  try {
    y = run(tensors, attrs);
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

/** Records the forward and, where there is one, the backward pass with a gradient of ones; reads nothing. */
export function record(gpu: Gpu, { run, inputs, attrs }: Pick<Request, "run" | "inputs" | "attrs">): void {
  const tensors = inputs.map((value) => value && plainTensor(gpu, value));
  for (const [i, tensor] of tensors.entries())
    if (tensor && isFloat(inputs[i] ?? undefined)) tensor.requiresGrad = true;
  const y = run(tensors, attrs);
  const dy = new Tensor(gpu, gpu.from(new Float32Array(y.size).fill(1), y.shape));
  if (y.needsGradient) y.backward(dy);
  for (const tensor of [...tensors, y, dy]) tensor?.dispose();
}

function tensorOf(gpu: Gpu, value: NonNullable<Value>, layout: MemoryLayout | undefined): Tensor {
  if (!layout) return plainTensor(gpu, value);
  const { shape } = value;
  if (layout === "columns") {
    const strides = shape.map((_, d) => sizeOf(shape.slice(0, d)));
    return viewOf(gpu, value, 1, strides, value.data.length + 1);
  }
  const around = shape.map((n) => n + 3);
  const strides = around.map((_, d) => sizeOf(around.slice(d + 1)));
  const start = strides.reduce((sum, stride) => sum + stride, 1); // one before the window in each dimension
  return viewOf(gpu, value, start, strides, Math.max(sizeOf(around), start) + 1);
}

export function plainTensor(gpu: Gpu, value: NonNullable<Value>, half?: HalfType): Tensor {
  const data = hostArray(value.data);
  return new Tensor(gpu, gpu.from(data, value.shape, half && isFloat(value) ? half : undefined));
}

/** The elements at `start` and `strides` of a memory whose other elements hold 77. */
function viewOf(
  gpu: Gpu,
  { shape, data }: NonNullable<Value>,
  start: number,
  strides: readonly number[],
  size: number,
): Tensor {
  const source = hostArray(data);
  const target = data instanceof Int32Array ? new Int32Array(size) : new Float32Array(size);
  target.fill(77);
  const rowMajor = shape.map((_, d) => sizeOf(shape.slice(d + 1)));
  for (let i = 0; i < source.length; i++) {
    let at = start;
    for (let d = 0; d < shape.length; d++) {
      at += (Math.floor(i / (rowMajor[d] ?? 1)) % (shape[d] ?? 1)) * (strides[d] ?? 0);
    }
    target[at] = source[i] ?? Number.NaN;
  }
  const memory = gpu.from(target);
  const view = memory.view(shape, start, strides);
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
