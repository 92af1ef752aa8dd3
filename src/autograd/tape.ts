import { type DType, type Gpu, GpuArray, isHalf, showShape } from "../array/index.ts";
import { GpuError } from "../gpu/index.ts";
import { type AnyOp, accumulate, castArray, copyInto, runBackward as runOp } from "../ops/index.ts";

/** Where a gradient ends: a tensor that asked for one. */
export interface GradientSink {
  readonly dtype: DType;
  /** Adds to the sink's gradient, of its element type. The array stays the caller's. */
  receive(dy: GpuArray): void;
}

/** One recorded op: how to turn the gradient of its output into those of its inputs. */
export class Node {
  readonly gpu: Gpu;
  readonly op: AnyOp;
  readonly attrs: unknown;
  /** Element type of the output, and so of its gradient. */
  readonly dtype: DType;
  readonly needs: readonly boolean[] & { readonly any: boolean };
  /** For each input that needs a gradient, what takes it. */
  readonly targets: readonly (Node | GradientSink | null)[];
  /** Later ops have higher numbers: descending order is a reverse topological order. */
  readonly sequence: number;
  #saved: Readonly<Record<string, unknown>> | null;
  #references = 1;
  gradient: GpuArray | null = null;

  static #next = 0;

  constructor(
    gpu: Gpu,
    op: AnyOp,
    attrs: unknown,
    dtype: DType,
    needs: Node["needs"],
    targets: Node["targets"],
    saved: Readonly<Record<string, unknown>>,
  ) {
    this.gpu = gpu;
    this.op = op;
    this.attrs = attrs;
    this.dtype = dtype;
    this.needs = needs;
    this.targets = targets;
    this.sequence = Node.#next++;
    this.#saved = saved;
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
      node.#freeSaved();
      for (const target of node.targets) if (target instanceof Node) queue.push(target);
    }
  }

  /** Gradients of the inputs from the collected gradient of the output; then frees what was saved. */
  propagate(): void {
    const { gpu, op, gradient } = this;
    if (!gradient) {
      this.#freeSaved();
      return;
    }
    const saved = this.#saved;
    if (!saved) {
      throw new GpuError(`backward: the graph of "${op.name}" was already used; run the forward pass again`);
    }
    if (!op.backward) throw new GpuError(`backward: "${op.name}" has no derivative`);
    gpu.scope(
      () => {
        const gradients = runOp(gpu, op, gradient, saved, this.attrs, this.needs);
        this.targets.forEach((target, i) => {
          const dx = gradients[i];
          if (!target) return;
          if (!dx) throw new GpuError(`backward: "${op.name}" gave no gradient for input ${i}`);
          const typed = castArray(gpu, dx, target.dtype);
          if (target instanceof Node) target.collect(typed);
          else target.receive(typed);
        });
      },
      () => [],
    );
    gradient.release();
    this.gradient = null;
    this.#freeSaved();
  }

  /** Adds to the gradient of this node's output. */
  collect(dx: GpuArray): void {
    this.gradient = addGradient(this.gpu, this.gradient, dx);
  }

  #freeSaved(): void {
    if (!this.#saved) return;
    for (const value of Object.values(this.#saved)) if (value instanceof GpuArray) value.release();
    this.#saved = null;
  }
}

/** The sum of two gradients; the first one is the collector's own and is written to where nothing else sees it. */
export function addGradient(gpu: Gpu, total: GpuArray | null, dx: GpuArray): GpuArray {
  // A view of its own: the op's scope frees what the op made.
  if (!total) return dx.view(dx.shape, dx.offset, dx.strides);
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

function unscopedCopy(gpu: Gpu, array: GpuArray): GpuArray {
  return gpu.scope(
    () => {
      const copy = gpu.empty(array.shape, array.dtype);
      copyInto(gpu, array, copy);
      // A second view outlives both this scope and the op's.
      return copy.view(copy.shape);
    },
    () => [],
  );
}

/** Runs the graph backward from `root`, whose output gets the gradient `dy`. Frees the graph. */
export function runBackward(root: Node, dy: GpuArray): void {
  root.collect(dy);
  const seen = new Set<Node>([root]);
  const stack = [root];
  for (let node = stack.pop(); node; node = stack.pop()) {
    for (const target of node.targets) {
      if (target instanceof Node && !seen.has(target)) {
        seen.add(target);
        stack.push(target);
      }
    }
  }
  const order = [...seen].sort((a, b) => b.sequence - a.sequence);
  try {
    for (const node of order) node.propagate();
  } finally {
    for (const node of order) {
      node.gradient?.release();
      node.gradient = null;
    }
  }
}
