/// <reference lib="esnext.disposable" preserve="true" />
import {
  type DType,
  type Gpu,
  type GpuArray,
  type HostArray,
  isFloating,
  isHalf,
  knownOptions,
  normaliseAxis,
  type Shape,
  showShape,
  type TypedArray,
} from "../array/index.ts";
import { GpuError, ShapeError } from "../gpu/index.ts";
import * as ops from "../ops/index.ts";
import { autocastInputs } from "./autocast.ts";
import { checkFloats, checkGradient, describe, INSPECT } from "./describe.ts";
import { callHook } from "./hook.ts";
import { DERIVED, goBack } from "./pass.ts";
import { runOp } from "./record.ts";
import { currentRecording, type Source, TENSOR, tidy, track, untrack } from "./scope.ts";
import {
  addGradient,
  type Edge,
  type GradientHook,
  type GradientSink,
  type Node,
  ownGradient,
  ownTotal,
} from "./tape.ts";
import {
  type Axes,
  BACKWARD,
  type BackwardOptions,
  MATMUL,
  REDUCE,
  type ReduceOptions,
} from "./tensor-options.ts";

/**
 * An array on a device, and how it was computed. Ops are synchronous and only record; `data()` and `item()`
 * are the only waits.
 */
export class Tensor implements GradientSink, Source {
  readonly [TENSOR] = true;
  readonly gpu: Gpu;
  #array: GpuArray;
  #node: Node | null;
  #requiresGrad: boolean;
  #gradient: Tensor | null = null;
  #hooks: readonly GradientHook[] | null = null;
  #lostHistory: string | null = null;

  /** Takes over one reference of `array` (and of `node`). */
  constructor(gpu: Gpu, array: GpuArray, node: Node | null = null, requiresGrad = false) {
    this.gpu = gpu;
    this.#array = array;
    this.#node = node;
    this.#requiresGrad = requiresGrad;
    track(this);
    gpu.device.leaks?.watch(this, `tensor ${array.dtype} ${showShape(array.shape)}`);
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

  /** What takes the gradient of this tensor: its node, or the tensor itself. */
  get edge(): Edge | null {
    return this.#node ?? (this.#requiresGrad ? this : null);
  }

  get hooks(): readonly GradientHook[] | null {
    return this.#hooks;
  }

  get drawn(): GpuArray | null {
    return null;
  }

  /** Why no gradient flows on from here, for errors; null where nothing was lost. */
  get lostHistory(): string | null {
    return this.#lostHistory;
  }

  withoutHistory(why: string | null): this {
    this.#lostHistory = why;
    return this;
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
    if (gradient) checkGradient(this, gradient);
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
    // What a graph saved of the old array is not what this tensor holds any more.
    this.#array.storage.outdate();
    this.#array.release();
    this.#array = array;
  }

  takePlace(): GpuArray | null {
    return null;
  }

  takeTotal(): GpuArray | null {
    return this.#array.alive && this.#gradient?.array.hasShape(this.shape)
      ? ownTotal(this.#gradient.array)
      : null;
  }

  receive(dy: GpuArray): void {
    if (!this.#array.alive) return; // Freed since the forward pass: nobody can look at it.
    if (this.#gradient) {
      const own = this.#gradient.array;
      // Held by this tensor alone: written to in place. Else addGradient() sees the second view, and copies.
      if (own.storage.references === 1 && own.isBindable && own.hasShape(dy.shape) && !isHalf(own.dtype))
        ops.accumulate(this.gpu, own, dy);
      else
        this.#gradient.replaceArray(
          addGradient(this.gpu, own.view(own.shape, own.offset, own.strides), dy).under("gradients"),
        );
      return;
    }
    const own = ownGradient(this.gpu, dy).under("gradients");
    const gradient = new Tensor(this.gpu, own).withoutHistory(DERIVED);
    untrack(gradient);
    this.#gradient = gradient;
  }

  /**
   * Gradients of this scalar (or of Σ this · dy) with respect to everything it was computed from that requires
   * one; they add to what is there. Frees the graph, unless it is to be retained for a second backward. First
   * derivatives only. `grad()` gives those of chosen tensors instead.
   */
  backward(dy?: Tensor, options: BackwardOptions = {}): void {
    const { retainGraph = false } = knownOptions("backward", options, BACKWARD);
    goBack("backward", this, dy, { wanted: null, retainGraph }, (pass) => pass.finish());
  }

  /**
   * Calls `fn` with the gradient of this tensor, in each backward pass as soon as the gradient is complete: once all
   * ways from the loss are added up, before it adds to what is in `grad` or goes on to earlier ops. What `fn` returns, a
   * tensor of the same shape, takes its place. Runs under noGrad and in a tidy of its own; keep() what is to live
   * on. Several functions run in the order they came. A captured step calls them while it is recorded, and not in
   * its replays. Returns a function that takes `fn` out again.
   *
   *     const stop = h.onGrad((gradient) => gradient.mul(0.5));
   *     loss.backward(); // h and what it was computed from get half the gradient
   *     stop();
   */
  // biome-ignore lint/suspicious/noConfusingVoidType: a function that only looks returns nothing
  onGrad(fn: (gradient: Tensor) => Tensor | null | undefined | void): () => void {
    // The first run of a checkpoint: the second one, in backward, has gradients.
    if (typeof currentRecording() === "object") return () => {};
    const node = this.#node;
    if (!node && !this.#requiresGrad) {
      throw new GpuError(
        `onGrad: ${showShape(this.shape)} needs no gradient, so that nothing would be called; set requiresGrad first`,
      );
    }
    const hook: GradientHook = (gradient) =>
      callHook(this.gpu, gradient, (array) => new Tensor(this.gpu, array).withoutHistory(DERIVED), fn);
    const without = (hooks: readonly GradientHook[] | null): readonly GradientHook[] | null => {
      const left = hooks?.filter((other) => other !== hook) ?? [];
      return left.length > 0 ? left : null;
    };
    if (node) node.hooks = [...(node.hooks ?? []), hook];
    else this.#hooks = [...(this.#hooks ?? []), hook];
    return () => {
      if (node) node.hooks = without(node.hooks);
      else this.#hooks = without(this.#hooks);
    };
  }

  /** The same values without their history. Shares memory. */
  detach(): Tensor {
    const { shape, offset, strides } = this.#array;
    const y = new Tensor(this.gpu, this.#array.view(shape, offset, strides));
    return y.withoutHistory(this.#lostHistory ?? (this.edge && "the tensor was detached from its history"));
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
   * Overwrites the values: an input slot. A graph that still needs the old ones says so in backward. f16 and bf16 take floats, which are
   * rounded, or a Uint16Array of their bits.
   */
  write(data: HostArray): void {
    this.gpu.write(this.#array, data);
  }

  /** Gives the memory back. Idempotent. */
  dispose(): void {
    untrack(this);
    this.gpu.device.leaks?.forget(this);
    this.#array.release();
    this.#node?.release();
    this.#node = null;
    this.#gradient?.dispose();
    this.#gradient = null;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** "Tensor f32 [2, 3] requiresGrad": what it is, not what it holds. */
  toString(): string {
    return describe(this);
  }

  [INSPECT](): string {
    return describe(this);
  }

  /** this + other, broadcast. */
  add(other: Tensor | number): Tensor {
    return this.#with(ops.add, other, ops.shift, (a) => a);
  }
  sub(other: Tensor | number): Tensor {
    return this.#with(ops.sub, other, ops.shift, (a) => -a);
  }
  mul(other: Tensor | number): Tensor {
    return this.#with(ops.mul, other, ops.scale, (a) => a);
  }
  div(other: Tensor | number): Tensor {
    return this.#with(ops.div, other, ops.scale, (a) => 1 / a);
  }
  /** this ^ exponent, broadcast. */
  pow(exponent: Tensor | number): Tensor {
    return this.#with(ops.pow, exponent, ops.powNumber, (a) => a);
  }
  /** An op on two tensors; a number as the second is an attribute of `byNumber`, or for whole numbers an array. */
  #with(
    op: ops.BinaryOp,
    other: Tensor | number,
    byNumber: ops.UnaryOp,
    attr: (a: number) => number,
  ): Tensor {
    if (typeof other !== "number") return apply(op, [this, other], {});
    if (isFloating(this.dtype)) return apply(byNumber, [this], { a: attr(other) });
    return tidy(() =>
      apply(op, [this, new Tensor(this.gpu, ops.scalar(this.gpu, op.name, other, this.dtype))], {}),
    );
  }
  /** The same values in another element type; the tensor itself where it has that type. */
  to(dtype: DType): Tensor {
    return dtype === this.dtype ? this : apply(ops.cast, [this], { to: dtype });
  }
  neg(): Tensor {
    return apply(ops.neg, [this], {});
  }
  /** f(this · other + bias): [..., M, K] x [..., K, N] -> [..., M, N]. */
  matmul(other: Tensor, options: MatmulOptions = {}): Tensor {
    const { bias = null, ...attrs } = knownOptions("matmul", options, MATMUL);
    return apply(ops.matmul, [this, other, bias], attrs);
  }
  /** Σ over some dimensions; over all when none are given. */
  sum(axes?: Axes, options: ReduceOptions = {}): Tensor {
    const { keepDim } = knownOptions("sum", options, REDUCE);
    return apply(ops.sum, [this], { axes: typeof axes === "number" ? [axes] : axes, keepDim });
  }
  /** Mean over some dimensions: Σ / n. In f32 for halves, whose sums overflow. */
  mean(axes?: Axes, options: ReduceOptions = {}): Tensor {
    knownOptions("mean", options, REDUCE);
    checkFloats("mean", this);
    return tidy(() => {
      const total = (isHalf(this.dtype) ? this.to("f32") : this).sum(axes, options);
      return total.mul(total.size / this.size).to(this.dtype);
    });
  }
  /** The largest element over some dimensions; NaN where one is NaN. */
  max(axes?: Axes, options: ReduceOptions = {}): Tensor {
    const { keepDim } = knownOptions("max", options, REDUCE);
    return apply(ops.max, [this], { axes: typeof axes === "number" ? [axes] : axes, keepDim });
  }
  min(axes?: Axes, options: ReduceOptions = {}): Tensor {
    const { keepDim } = knownOptions("min", options, REDUCE);
    return apply(ops.min, [this], { axes: typeof axes === "number" ? [axes] : axes, keepDim });
  }
  /** Where the largest element along a dimension lies: i32. Without axis: into all elements in order. */
  argmax(axis?: number, options: ReduceOptions = {}): Tensor {
    const { keepDim } = knownOptions("argmax", options, REDUCE);
    return apply(ops.argmax, [this], { axis, keepDim });
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
/**
 * Runs an op on tensors: checks shapes, records its kernels, and remembers how to go back when an input
 * needs a gradient.
 */
export function apply<I extends ops.Inputs, A, S extends ops.Saved>(
  op: ops.Op<I, A, S>,
  operands: readonly (Tensor | null)[],
  attrs: A,
): Tensor {
  // The types tie inputs to the op where it is declared; here they are only a list.
  const anyOp = op as unknown as ops.AnyOp;
  const { gpu, output, node, lostHistory } = runOp(anyOp, autocastInputs(anyOp, operands), attrs);
  const y = new Tensor(gpu, output, node);
  return lostHistory ? y.withoutHistory(lostHistory) : y;
}
