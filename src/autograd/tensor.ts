/// <reference lib="esnext.disposable" preserve="true" />
import {
  type DType,
  dtypeOf,
  type Gpu,
  GpuArray,
  isFloating,
  isHalf,
  normaliseAxis,
  type Shape,
  showShape,
  type TypedArray,
} from "../array/index.ts";
import { GpuError, ShapeError } from "../gpu/index.ts";
import * as ops from "../ops/index.ts";
import { autocastInputs } from "./autocast.ts";
import { isRecording, TENSOR, tidy, track, untrack } from "./scope.ts";
import { addGradient, type GradientSink, Node, ownGradient, runBackward } from "./tape.ts";

/**
 * An array on a device, and how it was computed. Ops are synchronous and only record; `data()` and `item()`
 * are the only waits.
 */
export class Tensor implements GradientSink {
  readonly [TENSOR] = true;
  readonly gpu: Gpu;
  #array: GpuArray;
  #node: Node | null;
  #requiresGrad: boolean;
  #gradient: Tensor | null = null;

  /** Takes over one reference of `array` (and of `node`). */
  constructor(gpu: Gpu, array: GpuArray, node: Node | null = null, requiresGrad = false) {
    this.gpu = gpu;
    this.#array = array;
    this.#node = node;
    this.#requiresGrad = requiresGrad;
    track(this);
  }

  get array(): GpuArray {
    return this.#array;
  }

  get shape(): Shape {
    return this.#array.shape;
  }

  get dtype(): DType {
    return this.#array.dtype;
  }

  get size(): number {
    return this.#array.size;
  }

  get node(): Node | null {
    return this.#node;
  }

  /** Whether a gradient flows to or through this tensor. */
  get needsGradient(): boolean {
    return this.#requiresGrad || this.#node !== null;
  }

  get requiresGrad(): boolean {
    return this.#requiresGrad;
  }

  set requiresGrad(value: boolean) {
    if (this.#node)
      throw new GpuError(
        "requiresGrad: set it on tensors that are not the result of an op, or detach() first",
      );
    if (value && !isFloating(this.dtype))
      throw new GpuError(`requiresGrad: a tensor of ${this.dtype} has no gradient; cast it with to("f32")`);
    this.#requiresGrad = value;
  }

  /** The gradient collected so far, of the tensor's shape; null before the first backward. */
  get grad(): Tensor | null {
    return this.#gradient;
  }

  set grad(gradient: Tensor | null) {
    if (gradient !== this.#gradient) this.#gradient?.dispose();
    this.#gradient = gradient;
    if (gradient) untrack(gradient);
  }

  /** Exchanges the array for another of the same shape: parameters move into an arena. */
  replaceArray(array: GpuArray): void {
    if (!array.hasShape(this.shape)) {
      throw new ShapeError(
        `tensor: ${showShape(array.shape)} cannot take the place of ${showShape(this.shape)}`,
      );
    }
    this.#array.release();
    this.#array = array;
  }

  receive(dy: GpuArray): void {
    if (this.#gradient) {
      const own = this.#gradient.array;
      // Held by this tensor alone: written to in place. Else addGradient() sees the second view, and copies.
      if (own.storage.references === 1 && own.isBindable && own.hasShape(dy.shape) && !isHalf(own.dtype))
        ops.accumulate(this.gpu, own, dy);
      else
        this.#gradient.replaceArray(addGradient(this.gpu, own.view(own.shape, own.offset, own.strides), dy));
      return;
    }
    const gradient = new Tensor(this.gpu, ownGradient(this.gpu, dy));
    untrack(gradient);
    this.#gradient = gradient;
  }

  /**
   * Gradients of this scalar (or of Σ this · dy) with respect to everything it was computed from that requires
   * one; they add to what is there. Frees the graph: first derivatives only, once.
   */
  backward(dy?: Tensor): void {
    if (!this.#node)
      throw new GpuError("backward: the tensor was not computed from anything that requires a gradient");
    if (!dy && this.size !== 1) {
      throw new ShapeError(
        `backward: the tensor is ${showShape(this.shape)}; pass a gradient of that shape, or reduce it to a scalar`,
      );
    }
    if (dy && !this.#array.hasShape(dy.shape)) {
      throw new ShapeError(`backward: gradient ${showShape(dy.shape)}, expected ${showShape(this.shape)}`);
    }
    if (dy && dy.gpu !== this.gpu) throw new GpuError("backward: the gradient is of another device");
    const node = this.#node;
    this.gpu.scope(
      () => runBackward(node, dy ? dy.array : this.gpu.view(this.gpu.ones(1), this.shape)),
      () => [],
    );
  }

  /** The same values without their history. Shares memory. */
  detach(): Tensor {
    const { shape, offset, strides } = this.#array;
    return new Tensor(this.gpu, this.#array.view(shape, offset, strides));
  }

  /** Reads the values back, row-major. */
  async data(): Promise<TypedArray> {
    // Words are what is read: a view of halves may start in the middle of one.
    const inWords = this.#array.isContiguous && this.#array.byteOffset % 4 === 0;
    const ready = inWords ? this : this.#copy();
    try {
      return await this.gpu.read(ready.array);
    } finally {
      if (ready !== this) ready.dispose();
    }
  }

  #copy(): Tensor {
    const copy = this.gpu.scope(
      () => ops.copyOf(this.gpu, this.#array),
      (made) => [made],
    );
    return new Tensor(this.gpu, copy);
  }

  /** Reads the only element back. */
  async item(): Promise<number> {
    if (this.size !== 1)
      throw new ShapeError(`item: the tensor is ${showShape(this.shape)}, not one element`);
    const [value] = await this.data();
    return value as number;
  }

  /**
   * Overwrites the values: an input slot. No graph may still need the old ones. f16 and bf16 take floats, which are
   * rounded, or a Uint16Array of their bits.
   */
  write(data: TypedArray | Uint16Array<ArrayBuffer>): void {
    this.gpu.write(this.#array, data);
  }

  /** Gives the memory back. Idempotent. */
  dispose(): void {
    untrack(this);
    this.#array.release();
    this.#node?.release();
    this.#node = null;
    this.#gradient?.dispose();
    this.#gradient = null;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** this + other, broadcast. */
  add(other: Tensor | number): Tensor {
    return typeof other === "number"
      ? apply(ops.shift, [this], { a: other })
      : apply(ops.add, [this, other], {});
  }
  sub(other: Tensor | number): Tensor {
    return typeof other === "number"
      ? apply(ops.shift, [this], { a: -other })
      : apply(ops.sub, [this, other], {});
  }
  mul(other: Tensor | number): Tensor {
    return typeof other === "number"
      ? apply(ops.scale, [this], { a: other })
      : apply(ops.mul, [this, other], {});
  }
  div(other: Tensor | number): Tensor {
    return typeof other === "number"
      ? apply(ops.scale, [this], { a: 1 / other })
      : apply(ops.div, [this, other], {});
  }
  /** The same values in another element type; the tensor itself where it has that type. */
  to(dtype: DType): Tensor {
    return dtype === this.dtype ? this : apply(ops.cast, [this], { to: dtype });
  }
  neg(): Tensor {
    return apply(ops.neg, [this], {});
  }
  /** f(this · other + bias): [..., M, K] x [..., K, N] -> [..., M, N]. */
  matmul(other: Tensor, { bias = null, ...attrs }: MatmulOptions = {}): Tensor {
    return apply(ops.matmul, [this, other, bias], attrs);
  }
  /** Σ over some dimensions; over all when none are given. */
  sum(axes?: Axes, { keepDim }: { keepDim?: boolean } = {}): Tensor {
    return apply(ops.sum, [this], { axes: typeof axes === "number" ? [axes] : axes, keepDim });
  }
  /** Mean over some dimensions: Σ / n. */
  mean(axes?: Axes, options: { keepDim?: boolean } = {}): Tensor {
    return tidy(() => {
      const total = this.sum(axes, options);
      return total.mul(total.size / this.size);
    });
  }
  reshape(...shape: number[]): Tensor {
    return apply(ops.reshape, [this], { shape });
  }
  permute(...order: number[]): Tensor {
    return apply(ops.permute, [this], { order });
  }
  /** Exchanges two dimensions. */
  transpose(a: number, b: number): Tensor {
    const order = [...this.shape.keys()];
    const i = normaliseAxis("transpose", a, order.length);
    const j = normaliseAxis("transpose", b, order.length);
    [order[i], order[j]] = [j, i];
    return this.permute(...order);
  }
  /** Elements `start` up to `end` of one dimension: a view. */
  slice(axis: number, start: number, end: number): Tensor {
    return apply(ops.slice, [this], { axis, start, end });
  }
  /** The tensor itself where its elements lie in order, else a copy that does. */
  contiguous(): Tensor {
    return this.#array.isContiguous ? this : this.reshape(...this.shape);
  }
}

export interface MatmulOptions extends ops.MatmulAttrs {
  /** [N], added to every row. */
  readonly bias?: Tensor | null | undefined;
}

export type Axes = number | readonly number[];

/** Values for a new tensor: numbers make f32, booleans and Uint8Array bool. */
export type Values = TypedArray | readonly number[] | readonly boolean[];

/**
 * A tensor with a copy of `values`. `shape` defaults to [length], `dtype` to the values' own; another is cast to on the
 * host: floats to f16 or bf16 (nearest even), numbers to i32 or u32 (toward 0), to bool by value != 0.
 */
export function tensor(gpu: Gpu, values: Values, shape?: Shape, { dtype }: { dtype?: DType } = {}): Tensor {
  const data = hostValues(values, dtype);
  return new Tensor(gpu, gpu.from(data, shape ?? [data.length], dtype));
}

function hostValues(values: Values, dtype?: DType): TypedArray {
  const isList = Array.isArray(values);
  const own = isList ? (typeof values[0] === "boolean" ? "bool" : "f32") : dtypeOf(values as TypedArray);
  const wanted = dtype ?? own;
  // A typed array of the type asked for is taken as it is. Lists of booleans are 0 and 1 as numbers.
  if (!isList && wanted === own) return values as TypedArray;
  const numbers = values as ArrayLike<number>;
  if (wanted === "i32") return Int32Array.from(numbers);
  if (wanted === "u32") return Uint32Array.from(numbers);
  if (wanted === "bool") return Uint8Array.from(numbers, (value) => (Number(value) === 0 ? 0 : 1));
  return Float32Array.from(numbers);
}

/** A tensor of zeros. */
export function zerosTensor(gpu: Gpu, shape: Shape): Tensor {
  return new Tensor(gpu, ops.zeros(gpu, shape));
}

/**
 * Runs an op on tensors: checks shapes, records its kernels, and remembers how to go back when an input
 * needs a gradient.
 */
export function apply<I extends ops.Inputs, A, S extends ops.Saved>(
  op: ops.Op<I, A, S>,
  operands: readonly (Tensor | null)[],
  attrs: A,
): Tensor {
  const gpu = gpuOf(op.name, operands);
  // The types tie inputs to the op where it is declared; here they are only a list.
  const anyOp = op as unknown as ops.AnyOp;
  const inputs = autocastInputs(anyOp, operands);
  const given = inputs.map((x) => x?.array ?? null);
  ops.checkTypes(anyOp, given);
  const shape = anyOp.shape(
    given.map((array) => array?.shape ?? null),
    attrs,
  );
  const dtype = ops.resultType(anyOp, given, attrs);
  const recording = isRecording() && op.backward !== undefined && isFloating(dtype);
  const flags = inputs.map((x) => recording && (x?.needsGradient ?? false));
  const needs = Object.assign(flags, { any: flags.includes(true) });
  const { output, saved } = gpu.scope(
    () => {
      for (const array of given) array?.assertAlive();
      const result = ops.runForward(gpu, anyOp, given, attrs, needs, shape);
      return { output: result.output, saved: needs.any ? retained(result.saved) : null };
    },
    (result) => [result.output],
  );
  if (!saved) return new Tensor(gpu, output);
  const targets = inputs.map((x, i) => (needs[i] ? ((x as Tensor).node ?? (x as Tensor)) : null));
  return new Tensor(gpu, output, new Node(gpu, anyOp, attrs, output.dtype, needs, targets, saved));
}

/** Saved arrays get views of their own, which the tape frees. */
function retained(saved: ops.Saved): ops.Saved {
  const result: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(saved)) {
    result[name] = value instanceof GpuArray ? value.view(value.shape, value.offset, value.strides) : value;
  }
  return result;
}

function gpuOf(op: string, inputs: readonly (Tensor | null)[]) {
  const first = inputs.find((x) => x !== null);
  if (!first) throw new GpuError(`${op}: no tensors`);
  for (const x of inputs) {
    if (x && x.gpu !== first.gpu)
      throw new GpuError(`${op}: tensors of two devices; copy one with tensor(gpu, await x.data())`);
  }
  return first.gpu;
}
