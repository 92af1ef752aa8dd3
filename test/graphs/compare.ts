// A graph on the GPU against the float64 engine, and the smallest graph that still differs.
import type { Gpu } from "../../src/array/index.ts";
import type { Tensor } from "../../src/autograd/index.ts";
import { liveBytes } from "../device.ts";
import { assertWithin, largest } from "../ops-table/bounds.ts";
import { plainTensor } from "../ops-table/evaluate.ts";
import { generator } from "../ops-table/row.ts";
import { attributesOf } from "../ops-table/subject.ts";
import type * as R from "../reference/index.ts";
import { disturbed, exact, type Result, type Subjects, subjectFor } from "./float64.ts";
import { closed, type Graph, show } from "./graph.ts";

/** Disturbed runs, and how many times their largest deviation is allowed. */
const RUNS = 6;
const FACTOR = 4;
/** Where all runs happen to cancel: each op may round its result. */
const ROUNDING = 2 ** -24;

/** Graphs whose gradients leave this range say nothing. */
const LARGEST_GRADIENT = 1e6;

export interface Comparison {
  /** What differs; null where all agrees. */
  readonly failure: string | null;
  /** The largest error as a share of what was allowed. */
  readonly worst: number;
}

/** null: gradients are too large to compare, or an input lies on the edge of what an op is defined for. */
export async function compareGraph(gpu: Gpu, subjects: Subjects, graph: Graph): Promise<Comparison | null> {
  const shapes = shapesOf(gpu, subjects, graph);
  const whole = closed(graph, shapes);
  const wanted = exact(gpu, subjects, whole);
  for (const { data } of wanted.gradients.values())
    if (!data.every((v) => Math.abs(v) < LARGEST_GRADIENT)) return null;
  const next = generator(graph.seed + 1);
  // Of either sign, and no two of the same size: equal ones would cancel.
  const error = (): number => (next() < 0.5 ? -1 : 1) * (0.5 + next());
  const others = Array.from({ length: RUNS }, () => disturbed(gpu, subjects, whole, wanted.bounds, error));
  if (!others.every(isAllFinite)) return null;
  const rounding = ROUNDING * whole.steps.length;
  try {
    const actual = await onGpu(gpu, subjects, whole);
    let worst = 0;
    for (const { id, op } of whole.steps)
      worst = Math.max(
        worst,
        check(`value of v${id} (${op})`, id, "values", actual, wanted, others, rounding),
      );
    for (const id of wanted.gradients.keys())
      worst = Math.max(worst, check(`gradient of v${id}`, id, "gradients", actual, wanted, others, rounding));
    return { failure: null, worst };
  } catch (error) {
    return {
      failure: error instanceof Error ? error.message : String(error),
      worst: Number.POSITIVE_INFINITY,
    };
  }
}

function isAllFinite({ values, gradients }: Result): boolean {
  return [...values.values(), ...gradients.values()].every(({ data }) => data.every(Number.isFinite));
}

/** Shapes of all values, from the references. */
export function shapesOf(gpu: Gpu, subjects: Subjects, graph: Graph): (id: number) => readonly number[] {
  const values = new Map<number, R.RefTensor>(graph.leaves.map(({ id, value }) => [id, value]));
  for (const { id, op, inputs, attrs } of graph.steps) {
    const given = inputs.map((input) => (typeof input === "number" ? (values.get(input) ?? null) : input));
    values.set(id, subjectFor(subjects, op).reference(given, attributesOf(gpu, { attrs }), given));
  }
  return (id) => values.get(id)?.shape ?? [];
}

function check(
  name: string,
  id: number,
  kind: keyof Result,
  actual: Arrays,
  wanted: Result,
  others: readonly Result[],
  rounding: number,
): number {
  const expected = wanted[kind].get(id);
  const found = actual.get(`${kind} ${id}`);
  if (!expected || !found) throw new Error(`${name}: none`);
  const floor = 1e-12 * largest(expected); // of float64 itself
  const allowed = expected.data.map((value, i) => {
    const deviations = others.map((other) => Math.abs((other[kind].get(id)?.data[i] ?? Number.NaN) - value));
    return FACTOR * Math.max(...deviations) + rounding * Math.abs(value) + floor;
  });
  assertWithin(found, expected.data, (i) => allowed[i] ?? 0, name);
  let worst = 0;
  for (const [i, value] of expected.data.entries()) {
    const error = Math.abs((found[i] ?? Number.NaN) - value);
    if (error > floor) worst = Math.max(worst, error / (allowed[i] ?? 0));
  }
  return worst;
}

type Arrays = ReadonlyMap<string, ArrayLike<number>>;

/** Values and gradients from the GPU; the memory is what it was before. */
async function onGpu(gpu: Gpu, subjects: Subjects, graph: Graph): Promise<Arrays> {
  const first = await runOnce(gpu, subjects, graph);
  if (first.left === 0) return first.result;
  // A device keeps some arrays from their first use on (ones, a clock): only what a second run leaves is lost.
  const { result, left } = await runOnce(gpu, subjects, graph);
  if (left !== 0) throw new Error(`${left} bytes stay`);
  return result;
}

/** All ops by the tape, then backward, then everything is read together. */
async function runOnce(
  gpu: Gpu,
  subjects: Subjects,
  graph: Graph,
): Promise<{ readonly result: Arrays; readonly left: number }> {
  const before = liveBytes(gpu);
  const tensors = new Map<number, Tensor>();
  const result = new Map<string, ArrayLike<number>>();
  try {
    for (const { id, value, needsGradient } of graph.leaves) {
      const tensor = plainTensor(gpu, value);
      tensor.requiresGrad = needsGradient;
      tensors.set(id, tensor);
    }
    const constants: Tensor[] = [];
    for (const { id, op, inputs, attrs } of graph.steps) {
      const given = inputs.map((input) => {
        if (input === null) return null;
        if (typeof input === "number") return tensors.get(input) ?? null;
        const tensor = plainTensor(gpu, input);
        constants.push(tensor);
        return tensor;
      });
      tensors.set(id, subjectFor(subjects, op).run(given, attributesOf(gpu, { attrs })));
    }
    for (const tensor of constants) tensor.dispose();
    const loss = tensors.get(graph.steps.at(-1)?.id ?? -1);
    if (loss?.needsGradient) loss.backward();
    // Recorded one after the other, and waited for together.
    const reads: Promise<void>[] = [];
    const read = (key: string, tensor: Tensor): void =>
      void reads.push(tensor.data().then((data) => void result.set(key, data)));
    for (const [id, tensor] of tensors) read(`values ${id}`, tensor);
    for (const { id, value, needsGradient } of graph.leaves) {
      const { grad = null } = tensors.get(id) ?? {};
      if (needsGradient && !grad) result.set(`gradients ${id}`, new Float32Array(value.data.length));
      else if (grad && !needsGradient) throw new Error(`v${id}: a gradient that nobody asked for`);
      else if (grad) read(`gradients ${id}`, grad);
    }
    await Promise.all(reads);
  } finally {
    for (const tensor of tensors.values()) tensor.dispose();
  }
  return { result, left: liveBytes(gpu) - before };
}

/** Drops ops, and bridges them, as long as the graph still differs. */
export async function shrink(gpu: Gpu, subjects: Subjects, graph: Graph): Promise<Graph> {
  let smallest = graph;
  for (let found = true; found; ) {
    found = false;
    for (const { id } of smallest.steps.toReversed()) {
      for (const smaller of without(gpu, subjects, smallest, id)) {
        if (smaller.steps.length === 0) continue;
        const comparison = await compareGraph(gpu, subjects, smaller).catch(() => null);
        if (!comparison?.failure) continue;
        smallest = smaller;
        found = true;
        break;
      }
      if (found) break;
    }
  }
  return smallest;
}

/** The graph without one op: without all that use it, with its input or a leaf of its value in its place. */
function* without(gpu: Gpu, subjects: Subjects, graph: Graph, id: number): Iterable<Graph> {
  const gone = new Set([id]);
  for (const step of graph.steps)
    if (step.inputs.some((input) => typeof input === "number" && gone.has(input))) gone.add(step.id);
  yield pruned({ ...graph, steps: graph.steps.filter((step) => !gone.has(step.id)) });
  const step = graph.steps.find((other) => other.id === id);
  const shapes = shapesOf(gpu, subjects, graph);
  for (const input of step?.inputs ?? []) {
    if (typeof input !== "number" || String(shapes(input)) !== String(shapes(id))) continue;
    const steps = graph.steps
      .filter((other) => other !== step)
      .map((other) => ({ ...other, inputs: other.inputs.map((from) => (from === id ? input : from)) }));
    yield pruned({ ...graph, steps });
  }
  const value = exact(gpu, subjects, closed(graph, shapes)).values.get(id);
  if (!value) return;
  const rounded = { shape: value.shape, data: value.data.map(Math.fround) };
  const leaves = [...graph.leaves, { id, value: rounded, needsGradient: true }];
  yield pruned({ ...graph, leaves, steps: graph.steps.filter((other) => other !== step) });
}

/** Without leaves that nothing uses. */
function pruned(graph: Graph): Graph {
  const used = new Set(graph.steps.flatMap(({ inputs }) => inputs));
  return { ...graph, leaves: graph.leaves.filter(({ id }) => used.has(id)) };
}

/** The failure of a seed, made small: what to read, and how to see it again. */
export async function report(gpu: Gpu, subjects: Subjects, graph: Graph, failure: string): Promise<string> {
  const small = await shrink(gpu, subjects, graph);
  const again = await compareGraph(gpu, subjects, small);
  const shapes = shapesOf(gpu, subjects, small);
  return (
    `graph of seed ${graph.seed}: ${failure}\n  smallest that differs: ${again?.failure ?? failure}\n` +
    show(small, shapes)
  );
}
