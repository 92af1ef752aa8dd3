import { type Gpu, type GpuArray, isFloating, showShape } from "../array/index.ts";
import { GpuError, ShapeError } from "../gpu/index.ts";
import { castArray, type DrawnMark, markDrawn, type Needs } from "../ops/index.ts";
import { needsOf } from "./needs.ts";
import type { Source } from "./scope.ts";
import {
  addGradient,
  type Edge,
  type GradientSink,
  handOver,
  hooked,
  type InnerGraph,
  Node,
  ownGradient,
  ownTotal,
  ownView,
  type Pass,
} from "./tape.ts";

/**
 * One way back through a graph, in descending order of its nodes. Without `wanted` every gradient ends in its sink;
 * with it only those edges' gradients are kept, nodes that lead to none of them do not run, and sinks get nothing.
 */
export class BackwardPass implements Pass {
  readonly retainGraph: boolean;
  readonly #gpu: Gpu;
  /** Edges whose gradients are kept here. */
  readonly #kept: Set<Edge>;
  readonly #onlyKept: boolean;
  /** Gradients kept here: those, and those of sinks with hooks, which see only complete ones. */
  readonly #collected = new Map<Edge, GpuArray>();
  readonly #members = new Set<Node>();
  /** Nodes that run, where not all do. */
  readonly #leading = new Set<Node>();
  #marks: DrawnMark[] = [];

  constructor(gpu: Gpu, { wanted, retainGraph }: { wanted: readonly Edge[] | null; retainGraph: boolean }) {
    this.#gpu = gpu;
    this.#kept = new Set(wanted);
    this.#onlyKept = wanted !== null;
    this.retainGraph = retainGraph;
  }

  get usesPlaces(): boolean {
    return !this.#onlyKept;
  }

  /** Goes back from an edge whose gradient is `dy`. */
  run(root: Edge, dy: GpuArray, inner: InnerGraph | null = null): void {
    if (!(root instanceof Node)) {
      this.#deliverToSink(root, dy, []);
      return;
    }
    const order = this.#order(root, inner);
    try {
      root.collect(dy);
      for (const node of order) this.#visit(node);
    } finally {
      for (const node of order) node.dropGradient();
    }
  }

  runInner(root: Edge, dy: GpuArray, inner: InnerGraph): ReadonlyMap<GradientSink, GpuArray> {
    for (const sink of inner.sinks) this.#kept.add(sink);
    this.run(root, dy, inner);
    const gradients = new Map<GradientSink, GpuArray>();
    for (const sink of inner.sinks) {
      this.#kept.delete(sink);
      const gradient = this.#take(sink);
      if (gradient) gradients.set(sink, gradient);
    }
    return gradients;
  }

  /** Hands the gradients that were kept for their hooks to their sinks, and tells optimisers what was drawn. */
  finish(): void {
    for (const edge of [...this.#collected.keys()]) {
      const gradient = this.#take(edge);
      if (gradient && !(edge instanceof Node)) handOver(this.#gpu, gradient, (dx) => edge.receive(dx));
    }
    if (this.#marks.length > 0) markDrawn(this.#gpu, this.#marks);
  }

  /** The gradients of wanted edges, null where none reached them. Nothing else holds the arrays. */
  results(edges: readonly (Edge | null)[]): (GpuArray | null)[] {
    const found = new Map<Edge, GpuArray>();
    return edges.map((edge) => {
      if (!edge) return null;
      const known = found.get(edge); // asked for twice
      const gradient = known ? ownView(known) : this.#take(edge);
      if (!gradient) return null;
      const result = handOver(this.#gpu, gradient, (dx) => ownGradient(this.#gpu, dx));
      found.set(edge, result);
      return result;
    });
  }

  /** Gives back what the pass still holds. */
  dispose(): void {
    for (const gradient of this.#collected.values()) gradient.release();
    this.#collected.clear();
    for (const { route } of this.#marks) route?.release();
    this.#marks = [];
  }

  needsOf(node: Node): Needs {
    if (!this.#onlyKept) return node.needs;
    return needsOf(node.targets, (target) => target !== null && this.#isWanted(target));
  }

  takeTotal(node: Node, input: number): GpuArray | null {
    const target = node.targets[input];
    if (!target) return null;
    if (target instanceof Node) return ownTotal(target.gradient);
    if (this.#isCollected(target)) return ownTotal(this.#collected.get(target) ?? null);
    return this.#onlyKept ? null : target.takeTotal();
  }

  deliver(node: Node, input: number, dx: GpuArray | null, touched: readonly GpuArray[]): void {
    const target = node.targets[input];
    if (!target) return;
    if (dx && !dx.hasShape(target.shape)) {
      throw new GpuError(
        `backward: "${node.name}" gave a gradient ${showShape(dx.shape)} for input ${input}, which is ${showShape(target.shape)}`,
      );
    }
    const typed = dx && castArray(this.#gpu, dx, target.dtype);
    if (target instanceof Node) target.collect(typed, touched);
    else this.#deliverToSink(target, typed, touched);
  }

  #deliverToSink(sink: GradientSink, dx: GpuArray | null, touched: readonly GpuArray[]): void {
    if (dx && this.#isCollected(sink)) {
      this.#collected.set(sink, addGradient(this.#gpu, this.#collected.get(sink) ?? null, dx));
    } else if (dx && !this.#onlyKept) {
      sink.receive(dx);
    }
    if (sink.drawn && !this.#onlyKept) this.#mark(sink.drawn, touched);
  }

  /** Whether a sink's gradient is kept here, until it is complete. */
  #isCollected(sink: GradientSink): boolean {
    return this.#kept.has(sink) || (sink.hooks !== null && !this.#onlyKept);
  }

  #mark(drawn: GpuArray, touched: readonly GpuArray[]): void {
    if (touched.length === 0) this.#marks.push({ drawn, route: null });
    // Views of the pass's: nodes free their own.
    for (const route of touched) this.#marks.push({ drawn, route: ownView(route) });
  }

  #visit(node: Node): void {
    if (node.gradient) {
      node.runHooks();
      const { gradient } = node;
      if (this.#kept.has(node)) {
        this.#collected.set(node, ownView(gradient));
      }
      if (!this.#onlyKept || this.#leading.has(node)) node.propagate(this, gradient);
      node.dropGradient();
    } else if (!this.#onlyKept && !this.retainGraph) {
      node.free();
    }
  }

  /** Nodes from `root` on, latest first; those that lead to nothing wanted are left out. */
  #order(root: Node, inner: InnerGraph | null): Node[] {
    const found = new Set<Node>([root]);
    const stack = [root];
    for (let node = stack.pop(); node; node = stack.pop()) {
      for (const target of node.targets) {
        if (!(target instanceof Node) || found.has(target)) continue;
        if (inner && target.sequence < inner.first) {
          this.#checkOutside(target, inner);
          continue;
        }
        found.add(target);
        stack.push(target);
      }
    }
    for (const node of found) this.#members.add(node);
    const order = [...found].sort((a, b) => b.sequence - a.sequence);
    if (!this.#onlyKept) return order;
    for (const node of order.toReversed()) {
      if (node.targets.some((target) => target !== null && this.#isWanted(target))) this.#leading.add(node);
    }
    return order.filter((node) => this.#leading.has(node) || this.#kept.has(node));
  }

  /** A node outside of an inner graph gets its turn only where it is part of this pass, and still to come. */
  #checkOutside(node: Node, inner: InnerGraph): void {
    if (this.#members.has(node) && node.sequence < inner.before) return;
    throw new GpuError(
      `checkpoint: its function used another result of "${node.name}" when it ran again; it must do the same each time, and be given as inputs what changes`,
    );
  }

  /** Whether a gradient that is wanted comes from this edge's. */
  #isWanted(edge: Edge): boolean {
    return this.#kept.has(edge) || (edge instanceof Node && this.#leading.has(edge));
  }

  #take(edge: Edge): GpuArray | null {
    const gradient = this.#collected.get(edge) ?? null;
    this.#collected.delete(edge);
    return gradient && !(edge instanceof Node) && edge.hooks ? hooked(edge.hooks, gradient) : gradient;
  }
}

/**
 * Goes back from y with the gradient dy (default: 1, for a single element), and asks the pass for what came of it.
 * `name`: who asks, for errors, which come before anything is recorded.
 */
export function goBack<T>(
  name: string,
  y: Source,
  dy: Source | undefined,
  options: { readonly wanted: readonly Edge[] | null; readonly retainGraph: boolean },
  results: (pass: BackwardPass) => T,
): T {
  const { gpu, array } = y;
  const root = rootOf(name, y, dy);
  const pass = new BackwardPass(gpu, options);
  return gpu.scope(
    () => {
      try {
        const seed = dy ? dy.array : gpu.view(gpu.ones(1), array.shape);
        pass.run(root, castArray(gpu, seed, array.dtype));
        return results(pass);
      } finally {
        pass.dispose();
      }
    },
    () => [],
  );
}

/** Why a gradient, and what is computed from some, has no history. */
export const DERIVED =
  "the tensor was computed from gradients, which have no history: only first derivatives exist";

/** All that gradients flow to from an edge. */
export function reachedFrom(root: Edge): ReadonlySet<Edge> {
  const found = new Set<Edge>([root]);
  for (const edge of found) {
    if (!(edge instanceof Node)) continue;
    for (const target of edge.targets) if (target) found.add(target);
  }
  return found;
}

/** What backward begins with, after checking that it can. */
export function rootOf(name: string, { gpu, array, edge, lostHistory }: Source, dy?: Source): Edge {
  const shape = showShape(array.shape);
  if (!array.alive || dy?.array.alive === false) {
    const what = array.alive ? "the gradient that was given" : `the tensor ${shape}`;
    throw new GpuError(
      `${name}: ${what} was freed; return it from tidy(), or keep() it, to go backward later`,
    );
  }
  if (!dy && array.size !== 1) {
    throw new ShapeError(
      `${name}: the tensor is ${shape}; pass a gradient of that shape, or reduce it to a scalar`,
    );
  }
  if (dy && !array.hasShape(dy.array.shape))
    throw new ShapeError(`${name}: gradient ${showShape(dy.array.shape)}, expected ${shape}`);
  if (dy && !isFloating(dy.array.dtype))
    throw new ShapeError(`${name}: a gradient of ${dy.array.dtype}, expected ${array.dtype}`);
  if (dy && dy.gpu !== gpu) throw new GpuError(`${name}: the gradient is of another device`);
  if (edge) return edge;
  throw new GpuError(
    `${name}: ${lostHistory ?? "the tensor was not computed from anything that requires a gradient"}`,
  );
}
