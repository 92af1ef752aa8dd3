// One case of a row on one device: value and gradients against float64, memory layouts, masks, a second run.
import * as assert from "uvu/assert";
import type { Gpu } from "../../src/array/index.ts";
import { assertBitEqual } from "../compare.ts";
import { liveBytes } from "../device.ts";
import * as R from "../reference/index.ts";
import { assertWithin, type Context } from "./bounds.ts";
import { evaluate, type MemoryLayout, type Outcome, poison } from "./evaluate.ts";
import { type Attributes, type Case, floats, isFloat, normal, type Value } from "./row.ts";
import { attributesOf, type Subject } from "./subject.ts";

/** What a case must give: found once for both variants of kernels. */
interface Expected {
  readonly y: R.RefTensor;
  /** Gradient fed in; null: forward only. */
  readonly dy: R.RefTensor | null;
  /** For each input that holds floats, in order. */
  readonly gradients: readonly R.RefTensor[];
  /** Σ|terms| of the output, and of each of those gradients. */
  readonly magnitude: () => R.RefTensor;
  readonly magnitudes: readonly (() => R.RefTensor)[];
}

const known = new WeakMap<Subject, Map<Case, Expected>>();

export function expectedOf(subject: Subject, c: Case, attrs: Attributes): Expected {
  const ofSubject = known.get(subject) ?? new Map<Case, Expected>();
  known.set(subject, ofSubject);
  let expected = ofSubject.get(c);
  if (!expected) {
    expected = computed(subject, c, attrs);
    ofSubject.set(c, expected);
  }
  return expected;
}

function computed(subject: Subject, { inputs, gradient }: Case, attrs: Attributes): Expected {
  const { reference, correct, op } = subject;
  const y = reference(inputs, attrs, inputs);
  const magnitude = once(() => magnitudeOf(subject, inputs, attrs));
  if (gradient === false || (op && !op.backward))
    return { y, dy: null, gradients: [], magnitude, magnitudes: [] };
  const dy = normal(y.shape, 1000);
  const positions = floatPositions(inputs);
  const numerical = R.numericalGradient(
    (...moved) => reference(replaced(inputs, moved), attrs, inputs),
    positions.map((i) => floats(inputs, i)),
    dy,
  );
  return {
    y,
    dy,
    gradients: numerical.map((g, n) => correct?.(g, positions[n] ?? -1, attrs) ?? g),
    magnitude,
    magnitudes: positions.map((_, n) => once(() => gradientMagnitude(subject, inputs, attrs, dy, n))),
  };
}

function once<T>(make: () => T): () => T {
  let value: { readonly made: T } | undefined;
  return () => {
    value ??= { made: make() };
    return value.made;
  };
}

export interface CompareOptions {
  /** Memory layouts to run again with; all by default. */
  readonly layouts?: readonly MemoryLayout[];
  /** Also asks for the gradient of each input alone. */
  readonly masks?: boolean;
}

export async function compare(
  device: Gpu,
  subject: Subject,
  c: Case,
  { layouts = ["columns", "window"], masks = false }: CompareOptions = {},
): Promise<void> {
  const { run } = subject;
  const attrs = attributesOf(device, c);
  const { inputs } = c;
  const { dy } = expectedOf(subject, c, attrs);
  poison(device);
  const outcome = await evaluate(device, { run, inputs, attrs, dy });
  const before = liveBytes(device);
  assertOutcome(subject, c, attrs, outcome);

  assertSame(await evaluate(device, { run, inputs, attrs, dy }), outcome, "second run");
  for (const layout of layouts)
    assertSame(await evaluate(device, { run, inputs, attrs, dy, layout }), outcome, `inputs in ${layout}`);
  if (dy && masks) await checkMasks(device, subject, c, attrs, dy, outcome);
  assert.is(liveBytes(device), before, "bytes that stay");
}

/** Value and gradients are within the bounds of the row. */
export function assertOutcome(subject: Subject, c: Case, attrs: Attributes, outcome: Outcome): void {
  const expected = expectedOf(subject, c, attrs);
  const { y, magnitude } = expected;
  assert.equal(outcome.shape, y.shape);
  const context = { inputs: c.inputs, attrs, expected: y, dy: null, magnitude };
  assertWithin(outcome.y, y.data, (c.forward ?? subject.forward)(context), subject.name);
  compareGradients(subject, c, attrs, expected, outcome);
}

function compareGradients(
  subject: Subject,
  c: Case,
  attrs: Attributes,
  { dy, gradients: wanted, magnitudes }: Expected,
  { gradients }: Outcome,
): void {
  const { name } = subject;
  floatPositions(c.inputs).forEach((position, n) => {
    const [expected, magnitude] = [wanted[n], magnitudes[n]];
    if (!dy || !expected || !magnitude) return;
    const actual = gradients[position];
    if (!actual) throw new Error(`${name}: no gradient of input ${position}`);
    const context: Context = { inputs: c.inputs, attrs, expected, dy, magnitude };
    const bound = (c.backward ?? subject.backward)(context);
    // Central differences are exact to 1e-9 of the values that they are the difference of.
    const noise = 1e-9 * (1 + Math.abs(expected.data.reduce((top, v) => Math.max(top, Math.abs(v)), 0)));
    assertWithin(actual, expected.data, (i) => bound(i) + noise, `${name}, gradient of input ${position}`);
  });
}

/** Each gradient asked for alone is the same as together with the others, and costs less. */
async function checkMasks(
  device: Gpu,
  { name, op, run, fused }: Subject,
  { inputs }: Case,
  attrs: Attributes,
  dy: R.RefTensor,
  whole: Outcome,
): Promise<void> {
  const positions = floatPositions(inputs);
  for (const position of positions) {
    const needs = inputs.map((_, i) => i === position);
    const outcome = await evaluate(device, { run, inputs, attrs, dy, needs });
    outcome.gradients.forEach((gradient, i) => {
      if (i !== position) assert.is(gradient, null, `${name}: input ${i} asked for no gradient`);
    });
    const [gradient, expected] = [outcome.gradients[position], whole.gradients[position]];
    if (!gradient || !expected) throw new Error(`${name}: no gradient of input ${position}`);
    assertBitEqual(gradient, expected, `${name}: gradient of input ${position} alone`);
    if (positions.length === 1) continue;
    if (op && !fused)
      assert.ok(outcome.dispatches < whole.dispatches, `${name}: input ${position} costs as much as all`);
    assert.ok(outcome.dispatches <= whole.dispatches);
  }
}

/** Two runs gave the same bits. */
export function assertSame(actual: Outcome, expected: Outcome, name: string): void {
  assert.equal(actual.shape, expected.shape);
  assertBitEqual(actual.y, expected.y, name);
  actual.gradients.forEach((gradient, i) => {
    const other = expected.gradients[i];
    if (gradient && other) assertBitEqual(gradient, other, `${name}, gradient of input ${i}`);
    else assert.is(gradient, other ?? null);
  });
}

export function floatPositions(inputs: readonly Value[]): number[] {
  return [...inputs.keys()].filter((i) => isFloat(inputs[i] ?? undefined));
}

/** `inputs` with those that hold floats replaced, in order. */
function replaced(inputs: readonly Value[], moved: readonly R.RefTensor[]): Value[] {
  const result = [...inputs];
  for (const [n, i] of floatPositions(inputs).entries()) result[i] = moved[n] ?? null;
  return result;
}

export function magnitudeOf(
  { reference, magnitude: own }: Pick<Subject, "reference" | "magnitude">,
  inputs: readonly Value[],
  attrs: Attributes,
): R.RefTensor {
  const positive = inputs.map((x) => (x && isFloat(x) ? R.map(x, Math.abs) : x));
  return (own ?? reference)(positive, attrs, positive);
}

function gradientMagnitude(
  subject: Subject,
  inputs: readonly Value[],
  attrs: Attributes,
  dy: R.RefTensor,
  n: number,
): R.RefTensor {
  const positive = floatPositions(inputs).map((i) => R.map(floats(inputs, i), Math.abs));
  const of = (...moved: R.RefTensor[]) => magnitudeOf(subject, replaced(inputs, moved), attrs);
  const [result] = R.numericalGradient(of, positive, R.map(dy, Math.abs), { wrt: [n] });
  if (!result) throw new Error(`${subject.name}: no magnitude of input ${n}`);
  return result;
}
