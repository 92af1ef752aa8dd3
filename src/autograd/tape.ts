import {
  type DType,
  type Gpu,
  GpuArray,
  type GradientPlaces,
  isFloating,
  isHalf,
  type Shape,
  showShape,
} from "../array/index.ts";
import { GpuError } from "../gpu/index.ts";
import {
  type AnyOp,
  accumulate,
  castArray,
  copyOf,
  type Needs,
  runBackward as runOp,
  type Saved,
} from "../ops/index.ts";

/** Sees a complete gradient; what it returns, a reference of its own, takes the gradient's place. */
export type GradientHook = (gradient: GpuArray) => GpuArray | null;

/** Where a gradient ends: a tensor that asked for one. */
export interface GradientSink {
  readonly shape: Shape;
  readonly dtype: DType;
  readonly hooks: readonly GradientHook[] | null;
  /** u32 flags of an optimiser, one for each slice: which ones a gradient has reached. */
  readonly drawn: GpuArray | null;
  /** See GradientPlaces. */
  takePlace(): GpuArray | null;
  takeTotal(): GpuArray | null;
  /** Adds to the sink's gradient, of its element type. The array stays the caller's. */
  receive(dy: GpuArray): void;
}

/** What a gradient flows to. */
export type Edge = Node | GradientSink;

/** A part of the graph that a node makes anew in backward. */
export interface InnerGraph {
  /** Number of the first node of the part. */
  readonly first: number;
  /** Number of the node that makes it: all nodes outside that it leads to are older. */
  readonly before: number;
  /** Where the node itself takes gradients from. */
  readonly sinks: readonly GradientSink[];
}

/** The backward pass as one node sees it. */
export interface Pass {
  readonly retainGraph: boolean;
  /** Whether parameters' gradients go to their places: not where only chosen gradients are wanted. */
  readonly usesPlaces: boolean;
  /** Which inputs of the node get a gradient in this pass. */
  needsOf(node: Node): Needs;
  /** What has been collected of an input's gradient so far, where it may be added to in place; else null. */
  takeTotal(node: Node, input: number): GpuArray | null;
  /**
   * Hands on the gradient of one input; null: the op has written it where it belongs. `touched`: see Op; none: all
   * slices.
   */
  deliver(node: Node, input: number, dx: GpuArray | null, touched: readonly GpuArray[]): void;
  /**
   * Goes back through an inner graph from `root` on. Gradients of its sinks come back, references of the caller's; all
   * others go where the pass sends them.
   */
  runInner(root: Edge, dy: GpuArray, inner: InnerGraph): ReadonlyMap<GradientSink, GpuArray>;
}

const NONE: GpuArray[] = [];

/** One step of the graph: how the gradient of its output turns into those of its inputs. */
export abstract class Node {
  readonly gpu: Gpu;
  readonly name: string;
  /** Shape and element type of the output, and so of its gradient. */
  readonly shape: Shape;
  readonly dtype: DType;
  readonly needs: Needs;
  /** For each input that needs a gradient, what takes it. */
  readonly targets: readonly (Edge | null)[];
  /** Later nodes have higher numbers: descending order is a reverse topological order. */
  readonly sequence: number;
  /** Called with the complete gradient of the output, in this order. */
  hooks: readonly GradientHook[] | null = null;
  gradient: GpuArray | null = null;
  /** Slices that the gradient reaches, in views of the node's own; none: all of them. */
  #touched: GpuArray[] = NONE;
  #saved: Saved | null;
  /** Versions of the saved arrays when they were saved, in their order. */
  readonly #versions: number[] = [];
  #references = 1;

  static #next = 0;

  /** The number of the next node. */
  static get nextSequence(): number {
    return Node.#next;
  }

  /** Takes over the arrays in `saved`. */
  constructor(
    gpu: Gpu,
    name: string,
    { shape, dtype }: Pick<GpuArray, "shape" | "dtype">,
    needs: Needs,
    targets: readonly (Edge | null)[],
    saved: Saved,
  ) {
    this.gpu = gpu;
    this.name = name;
    this.shape = shape;
    this.dtype = dtype;
    this.needs = needs;
    this.targets = targets;
    this.sequence = Node.#next++;
    this.#saved = saved;
    for (const key in saved) {
      const value = saved[key];
      if (!(value instanceof GpuArray)) continue;
      this.#versions.push(value.storage.version);
      value.storage.save();
    }
    for (const target of targets) if (target instanceof Node) target.retain();
  }

  retain(): void {
    this.#references++;
  }

  /** With the last reference (its tensor's or a later node's) what it saved goes back to the pool. */
  release(): void {
    // A loop, not recursion: a graph may be thousands of ops deep.
    const queue: Node[] = [this];
    for (let node = queue.pop(); node; node = queue.pop()) {
      if (--node.#references > 0) continue;
      node.free();
      for (const target of node.targets) if (target instanceof Node) queue.push(target);
    }
  }

  /** Turns the collected gradient of the output into those of the inputs, and hands them on. */
  abstract propagate(pass: Pass, gradient: GpuArray): void;

  /** Adds to the gradient of this node's output; null: it was added to in place. */
  collect(dx: GpuArray | null, touched: readonly GpuArray[] = NONE): void {
    if (touched.length === 0) this.#dropTouched();
    else if (!this.gradient || this.#touched.length > 0)
      this.#touched = [...this.#touched, ...touched.map(ownView)];
    if (dx) this.gradient = addGradient(this.gpu, this.gradient, dx);
  }

  get touched(): readonly GpuArray[] {
    return this.#touched;
  }

  runHooks(): void {
    if (this.gradient && this.hooks) this.gradient = hooked(this.hooks, this.gradient);
  }

  dropGradient(): void {
    this.gradient?.release();
    this.gradient = null;
    this.#dropTouched();
  }

  /** Gives what backward needs back to the pool. */
  free(): void {
    if (!this.#saved) return;
    for (const value of Object.values(this.#saved)) {
      if (!(value instanceof GpuArray)) continue;
      value.storage.unsave();
      value.release();
    }
    this.#saved = null;
  }

  #dropTouched(): void {
    if (this.#touched.length === 0) return;
    for (const route of this.#touched) route.release();
    this.#touched = NONE;
  }

  /** What the forward pass saved, as it was then; throws where it is gone, or was written to since. */
  protected saved(): Saved {
    const saved = this.#saved;
    if (!saved) {
      throw new GpuError(
        `backward: the graph of "${this.name}" was already used; run the forward pass again, or pass retainGraph: true the first time`,
      );
    }
    let i = 0;
    for (const key in saved) {
      const value = saved[key];
      if (value instanceof GpuArray && value.storage.version !== this.#versions[i++]) {
        throw new GpuError(
          `backward: "${this.name}" saved ${key} ${showShape(value.shape)}, which was overwritten after the forward pass; go backward first, run the forward pass again, or let one of the two use a copy`,
        );
      }
    }
    return saved;
  }
}

/** One recorded op. */
export class OpNode extends Node implements GradientPlaces {
  readonly #op: AnyOp;
  readonly #attrs: unknown;
  /** Places that the op has asked for, by input. */
  #taken: (GpuArray | undefined)[] | null = null;
  /** The pass that runs it just now. */
  #pass: Pass | null = null;

  constructor(
    gpu: Gpu,
    op: AnyOp,
    attrs: unknown,
    output: GpuArray,
    needs: Needs,
    targets: readonly (Edge | null)[],
    saved: Saved,
  ) {
    super(gpu, op.name, output, needs, targets, saved);
    this.#op = op;
    this.#attrs = attrs;
  }

  propagate(pass: Pass, gradient: GpuArray): void {
    const { gpu } = this;
    const op = this.#op;
    const saved = this.saved();
    const needs = pass.needsOf(this);
    this.#pass = pass;
    this.#taken = null;
    gpu.scope(
      () => {
        const gradients: unknown = runOp(gpu, op, gradient, saved, this.#attrs, needs);
        if (!Array.isArray(gradients))
          throw new GpuError(`backward: "${op.name}" returned no list of gradients`);
        for (let i = 0; i < this.targets.length; i++) {
          if (!needs[i]) continue;
          const dx = this.#checked(gradients[i], i);
          const touched = op.touched?.(saved, i);
          const own = this.#taken?.[i] ? null : dx;
          pass.deliver(this, i, own, touched ? [touched] : op.keepsSlices ? this.touched : NONE);
        }
      },
      () => [],
      { places: this, op: `${op.name} backward` },
    );
    this.#pass = null;
    if (!pass.retainGraph) this.free();
  }

  takePlace(i: number): GpuArray | null {
    const target = this.targets[i];
    if (!target || target instanceof Node || !this.#pass?.usesPlaces) return null;
    return this.#take(i, target.takePlace());
  }

  takeTotal(i: number): GpuArray | null {
    const total = this.#pass?.takeTotal(this, i) ?? null;
    // A kernel cannot write to a buffer that it reads, and one input's place is not another's to add to.
    const isFree =
      total?.storage !== this.gradient?.storage && !this.#taken?.some((place) => place === total);
    return isFree ? this.#take(i, total) : null;
  }

  #take(i: number, place: GpuArray | null): GpuArray | null {
    if (!place) return null;
    this.#taken ??= [];
    this.#taken[i] = place;
    return place;
  }

  #checked(dx: unknown, i: number): GpuArray {
    if (!(dx instanceof GpuArray))
      throw new GpuError(`backward: "${this.name}" gave no gradient for input ${i}`);
    if (!isFloating(dx.dtype))
      throw new GpuError(
        `backward: "${this.name}" gave a gradient of ${dx.dtype} for input ${i}; make it f32`,
      );
    const place = this.#taken?.[i];
    if (place && !isSameMemory(place, dx)) {
      throw new GpuError(
        `backward: "${this.name}" took the place of the gradient of input ${i}, and gave another array`,
      );
    }
    return dx;
  }
}

/** A reference of one's own to the same elements. */
export function ownView(array: GpuArray): GpuArray {
  return array.view(array.shape, array.offset, array.strides);
}

/** Whether two arrays begin at the same element of the same memory. */
export function isSameMemory(a: GpuArray, b: GpuArray): boolean {
  return a.storage === b.storage && a.offset === b.offset;
}

/** A gradient that may be added to in place: f32, bindable, and seen by nothing else. */
export function ownTotal(gradient: GpuArray | null): GpuArray | null {
  const isOwn = gradient?.dtype === "f32" && gradient.isBindable && gradient.storage.references === 1;
  return isOwn ? gradient : null;
}

/** Runs hooks one after the other. Takes over the reference of `gradient`; the result is the caller's. */
export function hooked(hooks: readonly GradientHook[], gradient: GpuArray): GpuArray {
  let result = gradient;
  try {
    for (const hook of hooks) {
      const replacement = hook(result);
      if (!replacement) continue;
      result.release();
      result = replacement;
    }
  } catch (error) {
    result.release();
    throw error;
  }
  return result;
}

/** The sum of two gradients; the first one is the collector's own and is written to where nothing else sees it. */
export function addGradient(gpu: Gpu, total: GpuArray | null, dx: GpuArray): GpuArray {
  // A view of its own: the op's scope frees what the op made.
  if (!total) return ownView(dx);
  if (!total.hasShape(dx.shape)) {
    throw new GpuError(
      `backward: gradients of shapes ${showShape(total.shape)} and ${showShape(dx.shape)} meet`,
    );
  }
  let own = total;
  if (total.storage.references > 1 || !total.isBindable) {
    own = unscopedCopy(gpu, total);
    total.release();
  }
  if (!isHalf(own.dtype)) {
    accumulate(gpu, own, dx);
    return own;
  }
  const sum = sumOfHalves(gpu, own, dx);
  own.release();
  return sum;
}

/** a + b, in f32 and rounded once. */
function sumOfHalves(gpu: Gpu, a: GpuArray, b: GpuArray): GpuArray {
  return gpu.scope(
    () => {
      const wide = castArray(gpu, a, "f32");
      accumulate(gpu, wide, castArray(gpu, b, "f32"));
      const sum = castArray(gpu, wide, a.dtype);
      return sum.view(sum.shape); // outlives this scope and the op's
    },
    () => [],
  );
}

/** A gradient that nothing else can write to: the array itself where only the running op holds it, else a copy. */
export function ownGradient(gpu: Gpu, dx: GpuArray): GpuArray {
  return dx.isBindable && gpu.isUnshared(dx) ? dx.view(dx.shape, dx.offset) : unscopedCopy(gpu, dx);
}

/** Lets `use` have a gradient as if an op had just made it; the reference is given back. */
export function handOver<T>(gpu: Gpu, gradient: GpuArray, use: (dx: GpuArray) => T): T {
  return gpu.scope(
    () => {
      const dx = gpu.view(gradient, gradient.shape, gradient.offset, gradient.strides);
      gradient.release();
      return use(dx);
    },
    () => [],
  );
}

function unscopedCopy(gpu: Gpu, array: GpuArray): GpuArray {
  return gpu.scope(
    () => {
      const copy = copyOf(gpu, array);
      // A second view outlives both this scope and the op's.
      return copy.view(copy.shape);
    },
    () => [],
  );
}
