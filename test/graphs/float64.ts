// The float64 engine over a graph: values and gradients, exactly or with errors as large as every row allows.
//
// How far a GPU may be from the exact result is measured, not guessed: each op of a disturbed run is off by the bound
// of its row, up or down at random, in the forward and in the backward pass. What comes out of a few such runs shows
// how the graph carries errors on, through cancelling sums, kinks and steep slopes alike.
import type { Gpu } from "../../src/array/index.ts";
import { largest } from "../ops-table/bounds.ts";
import { gradientMagnitudes, gradientsByFormula, magnitudeOf } from "../ops-table/gradients.ts";
import type { Attributes, Value } from "../ops-table/row.ts";
import { attributesOf, type Subject } from "../ops-table/subject.ts";
import * as R from "../reference/index.ts";
import type { Graph, Operand } from "./graph.ts";

export interface Result {
  /** By id: leaves and steps. */
  readonly values: ReadonlyMap<number, R.RefTensor>;
  /** By id: leaves that need a gradient. */
  readonly gradients: ReadonlyMap<number, R.RefTensor>;
}

/** Allowed errors of each step: of its value, and of the gradient of each input where the largest dy is 1. */
interface Bounds {
  readonly forward: Map<number, Float64Array>;
  readonly backward: Map<number, (Float64Array | null)[]>;
}

export interface Exact extends Result {
  readonly bounds: Bounds;
}

export type Subjects = ReadonlyMap<string, Subject>;

/** Errors of a disturbed run: `error()` gives numbers around 1 and -1. */
interface Noise {
  readonly bounds: Bounds;
  readonly error: () => number;
}

/** Central differences are exact to 1e-9 of what they are the difference of. */
const DIFFERENCES = 1e-8;

export function subjectFor(subjects: Subjects, op: string): Subject {
  const subject = subjects.get(op);
  if (!subject) throw new Error(`graphs: no row for ${op}`);
  return subject;
}

/** Values and gradients without error, and the bounds of each step there. The last step is the loss. */
export function exact(gpu: Gpu, subjects: Subjects, graph: Graph): Exact {
  const bounds: Bounds = { forward: new Map(), backward: new Map() };
  return { ...run(gpu, subjects, graph, bounds, null), bounds };
}

/** The same with an error at every step. */
export function disturbed(
  gpu: Gpu,
  subjects: Subjects,
  graph: Graph,
  bounds: Bounds,
  error: () => number,
): Result {
  return run(gpu, subjects, graph, null, { bounds, error });
}

function run(gpu: Gpu, subjects: Subjects, graph: Graph, wanted: Bounds | null, noise: Noise | null): Result {
  const tape = new R.Tape(noise ? (a, b) => addWithError(a, b, noise.error) : undefined);
  const variables = new Map<number, R.Variable>();
  const constants = new Set(graph.leaves.filter(({ needsGradient }) => !needsGradient).map(({ id }) => id));
  for (const { id, value } of graph.leaves) variables.set(id, tape.leaf(value));
  for (const step of graph.steps) {
    const subject = subjectFor(subjects, step.op);
    const attrs = attributesOf(gpu, step);
    const inputs = step.inputs.map((input) => operandValue(input, variables));
    const y = subject.reference(inputs, attrs, inputs);
    if (wanted) wanted.forward.set(step.id, forwardBounds(subject, inputs, attrs, y));
    const value = noise ? withError(y, noise.bounds.forward.get(step.id), noise.error) : y;
    const parents = step.inputs.map((input) =>
      typeof input === "number" ? (variables.get(input) ?? null) : null,
    );
    if (step.inputs.every((input) => typeof input !== "number" || constants.has(input)))
      constants.add(step.id);
    const pull: R.Pull = (dy) => {
      const gradients = gradientsByFormula(subject, dy, inputs, value, attrs);
      if (wanted) wanted.backward.set(step.id, backwardBounds(subject, dy, inputs, value, attrs));
      if (!noise) return gradients;
      // Its own dy, which errors may have made of an exact 0.
      const scale = largest(dy);
      const scaled = (): number => scale * noise.error();
      const errors = noise.bounds.backward.get(step.id);
      return gradients.map((g, i) => g && withError(g, errors?.[i], scaled));
    };
    variables.set(step.id, tape.record(value, parents, constants.has(step.id) ? null : pull));
  }
  const loss = variables.get(graph.steps.at(-1)?.id ?? -1);
  if (!loss) throw new Error("graphs: no steps");
  tape.backward(loss, R.ref([], [1]));
  return {
    values: new Map([...variables].map(([id, { value }]) => [id, value])),
    gradients: new Map(
      graph.leaves
        .filter(({ needsGradient }) => needsGradient)
        .map(({ id }) => [id, tape.gradient(variables.get(id) ?? loss)]),
    ),
  };
}

export function operandValue(
  input: Operand,
  variables: ReadonlyMap<number, { readonly value: R.RefTensor }>,
): Value {
  return typeof input === "number" ? (variables.get(input)?.value ?? null) : input;
}

function forwardBounds(
  subject: Subject,
  inputs: readonly Value[],
  attrs: Attributes,
  expected: R.RefTensor,
): Float64Array {
  const magnitude = () => magnitudeOf(subject, inputs, attrs);
  const bound = subject.forward({ inputs, attrs, expected, dy: null, magnitude });
  return expected.data.map((_, i) => bound(i));
}

/** Of a dy like this one whose largest element is 1, for which a row's bounds hold; ones where it is 0. */
function backwardBounds(
  subject: Subject,
  dy: R.RefTensor,
  inputs: readonly Value[],
  y: R.RefTensor,
  attrs: Attributes,
): (Float64Array | null)[] {
  const scale = largest(dy);
  const one = R.map(dy, (v) => (scale === 0 ? 1 : v / scale));
  let magnitudes: readonly (R.RefTensor | null)[] | undefined;
  const magnitude = (i: number): R.RefTensor => {
    magnitudes ??= gradientMagnitudes(subject, one, inputs, attrs, gradientsByFormula);
    return magnitudes[i] ?? one;
  };
  const noise = R.derivatives[subject.name]?.(one, inputs, y, attrs) ? 0 : DIFFERENCES;
  return gradientsByFormula(subject, one, inputs, y, attrs).map((expected, i) => {
    if (!expected) return null;
    const bound = subject.backward({ inputs, attrs, expected, dy: one, magnitude: () => magnitude(i) });
    const floor = noise * (1 + largest(expected));
    return expected.data.map((_, n) => bound(n) + floor);
  });
}

function withError(
  { shape, data }: R.RefTensor,
  bounds: Float64Array | null | undefined,
  error: () => number,
): R.RefTensor {
  return { shape, data: data.map((v, i) => v + error() * (bounds?.[i] ?? 0)) };
}

/** A sum rounded to f32. */
function addWithError(a: R.RefTensor, b: R.RefTensor, error: () => number): R.RefTensor {
  const data = a.data.map((v, i) => {
    const sum = v + (b.data[i] ?? 0);
    return sum + error() * 2 ** -24 * Math.abs(sum);
  });
  return { shape: a.shape, data };
}
