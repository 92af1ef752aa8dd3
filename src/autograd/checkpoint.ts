import { type Gpu, GpuArray, isFloating, type Shape, Storage, showShape } from "../array/index.ts";
import { GpuError, ShapeError } from "../gpu/index.ts";
import { expand } from "../ops/index.ts";
import { autocast, currentAutocast } from "./autocast.ts";
import { concat, reshape, slice } from "./functions.ts";
import { needsOf } from "./needs.ts";
import { currentRecording, type Observer, type OpNote, synchronous, tidy, withRecording } from "./scope.ts";
import { type Edge, handOver, Node, ownView, type Pass } from "./tape.ts";
import { apply, Tensor } from "./tensor.ts";

type Tensors = readonly (Tensor | null)[];

/** Runs the function on tensors in the place of its inputs. */
type Run = (inputs: Tensors) => { readonly packed: Tensor; readonly shapes: readonly Shape[] | null };

/**
 * fn(...inputs), keeping for backward only the inputs and not what `fn` computes on the way: backward runs `fn` again.
 * Costs a second forward pass of `fn`, saves the memory of its activations. Gradients flow to the inputs and to
 * whatever else `fn` uses: parameters, and tensors from outside, which must then live until backward (pass those as
 * inputs instead).
 *
 * `fn` must do the same both times. Dropout does, since its numbers are found by counters. What `fn` reads must not be
 * overwritten before backward, which is checked. Checkpoints may contain others. Several outputs, given as an array, are
 * packed into one, which copies them.
 *
 *     let h = embed(ids);
 *     for (const layer of layers) h = checkpoint((x) => layer.forward(x, { draw }), h);
 */
export function checkpoint<I extends Tensors, O extends Tensor | readonly Tensor[]>(
  fn: (...inputs: I) => O,
  ...inputs: I
): O {
  // Without gradients, or in another checkpoint's first run, there is nothing to keep.
  if (currentRecording() !== "graph") return tidy(() => fn(...inputs));
  const dtype = currentAutocast();
  const run: Run = (given) => {
    // As many tensors as `inputs`, null in the same places. A cast of a weight must not outlive the run it is made in.
    const result = autocast(dtype, () => synchronous("checkpoint", fn(...(given as unknown as I))));
    expectTensors(result);
    return isTensor(result)
      ? { packed: apply(expand, [result], { shape: result.shape }), shapes: null }
      : { packed: pack(result), shapes: result.map(({ shape }) => shape) };
  };
  const trace = new Trace();
  try {
    const { packed, shapes } = firstRun(run, inputs, trace);
    return (shapes ? unpack(packed, shapes) : packed) as O; // what fn gave: one tensor or an array of them
  } finally {
    trace.dispose();
  }
}

/** Runs without a graph, and stands a node for the whole run. */
function firstRun(
  run: Run,
  inputs: Tensors,
  trace: Trace,
): { readonly packed: Tensor; readonly shapes: readonly Shape[] | null } {
  let targets: (Edge | null)[] = [];
  const { gpu, array, shapes } = tidy(() => {
    const standIns = inputs.map((x) => x && standIn(x.gpu, x.array, x.needsGradient));
    const result = withRecording("checkpoint", trace, () => run(standIns));
    targets = inputs.map((x, i) => (trace.edges.delete(standIns[i] as Tensor) ? (x as Tensor).edge : null));
    targets.push(...trace.edges);
    return { gpu: result.packed.gpu, array: ownView(result.packed.array), shapes: result.shapes };
  });
  const hasGradient = isFloating(array.dtype) && targets.some((target) => target !== null);
  const node = hasGradient ? new CheckpointNode(gpu, array, targets, trace.saved(inputs), inputs, run) : null;
  return { packed: new Tensor(gpu, array, node), shapes };
}

/** Sees in a first run what it reads, and where its gradients will go. */
class Trace implements Observer {
  readonly edges = new Set<Edge>();
  /** Arrays that were there before, in views of the trace's, and what they are called in errors. */
  readonly #reads = new Map<Storage, readonly [name: string, array: GpuArray]>();
  readonly #firstSerial = Storage.nextSerial;

  note({ op, inputs, saved, hasGradient }: OpNote): void {
    for (const x of inputs) {
      if (!x) continue;
      if (hasGradient && x.edge) this.edges.add(x.edge);
      this.#read(op.name, x.array);
    }
    for (const name in saved) {
      const value = saved[name];
      if (value instanceof GpuArray) this.#read(op.name, value);
    }
  }

  /** What the node saves, in views of its own: the inputs, and what else was read. */
  saved(inputs: Tensors): Record<string, GpuArray> {
    const saved: Record<string, GpuArray> = {};
    inputs.forEach((x, i) => {
      if (x) saved[inputName(i)] = ownView(x.array);
    });
    for (const [name, array] of this.#reads.values()) saved[name] = ownView(array);
    return saved;
  }

  dispose(): void {
    for (const [, array] of this.#reads.values()) array.release();
  }

  #read(op: string, array: GpuArray): void {
    if (array.storage.serial >= this.#firstSerial || this.#reads.has(array.storage)) return;
    this.#reads.set(array.storage, [`an array that "${op}" reads (${this.#reads.size})`, ownView(array)]);
  }
}

/** One run of a function. The first targets are those of its inputs, the others those of what it uses beside them. */
class CheckpointNode extends Node {
  readonly #isGiven: readonly boolean[];
  readonly #run: Run;

  constructor(
    gpu: Gpu,
    y: GpuArray,
    targets: readonly (Edge | null)[],
    saved: Readonly<Record<string, GpuArray>>,
    inputs: Tensors,
    run: Run,
  ) {
    super(
      gpu,
      "checkpoint",
      y,
      needsOf(targets, (target) => target !== null),
      targets,
      saved,
    );
    this.#isGiven = inputs.map((x) => x !== null);
    this.#run = run;
  }

  propagate(pass: Pass, gradient: GpuArray): void {
    const saved = this.saved();
    const needs = pass.needsOf(this);
    const first = Node.nextSequence;
    tidy(() => {
      const standIns = this.#isGiven.map((isGiven, i) =>
        isGiven ? standIn(this.gpu, saved[inputName(i)] as GpuArray, needs[i] === true) : null,
      );
      // A tidy of its own: what backward does not need is gone before it begins.
      const y = tidy(() => withRecording("checkpoint", "graph", () => this.#run(standIns).packed));
      if (!gradient.hasShape(y.shape)) {
        throw new GpuError(
          `checkpoint: its function gave ${showShape(gradient.shape)} first, and ${showShape(y.shape)} when it ran again`,
        );
      }
      if (!y.edge) return;
      const sinks = standIns.filter((x, i) => x !== null && needs[i]) as Tensor[]; // no null is left
      const gradients = pass.runInner(y.edge, gradient, { first, before: this.sequence, sinks });
      standIns.forEach((x, i) => {
        const dx = x && gradients.get(x);
        if (dx) handOver(this.gpu, dx, (view) => pass.deliver(this, i, view, []));
      });
    });
    if (!pass.retainGraph) this.free();
  }
}

/** A leaf with the memory of an input. */
function standIn(gpu: Gpu, array: GpuArray, requiresGrad: boolean): Tensor {
  return new Tensor(gpu, ownView(array), null, requiresGrad);
}

function inputName(i: number): string {
  return `input ${i}`;
}

function isTensor(value: Tensor | readonly Tensor[]): value is Tensor {
  return value instanceof Tensor;
}

function expectTensors(value: unknown): void {
  const list: readonly unknown[] = Array.isArray(value) ? value : [value];
  const other = list.find((item) => !(item instanceof Tensor));
  if (list.length > 0 && !list.every((item) => item instanceof Tensor))
    throw new TypeError(`checkpoint: its function gave ${String(other)}, expected tensors`);
}

/** All elements behind one another. */
function pack(outputs: readonly Tensor[]): Tensor {
  const types = new Set(outputs.map(({ dtype }) => dtype));
  if (types.size !== 1) {
    throw new ShapeError(
      `checkpoint: outputs of types [${[...types].join(", ")}]; give one or more tensors of one type`,
    );
  }
  return concat(
    outputs.map((x) => reshape(x, [x.size])),
    0,
  );
}

function unpack(packed: Tensor, shapes: readonly Shape[]): Tensor[] {
  return tidy(() => {
    let at = 0;
    const outputs = shapes.map((shape) => {
      const size = shape.reduce((product, n) => product * n, 1);
      at += size;
      return reshape(slice(packed, 0, at - size, at), shape);
    });
    packed.dispose();
    return outputs;
  });
}
