// Compares what a device gave for an op with the float64 reference of its row, within the row's bounds.
import type { Gpu } from "../../src/array/index.ts";
import * as R from "../reference/index.ts";
import { assertWithin, type Context } from "./bounds.ts";
import type { Outcome } from "./evaluate.ts";
import { type Attributes, type Case, floats, isFloat, type Row, type Value } from "./row.ts";

/** The output, and the gradients where `dy` was given. */
export function assertAgainstReference(
  row: Row,
  c: Case,
  attrs: Attributes,
  dy: R.RefTensor | null,
  outcome: Outcome,
): void {
  const { inputs } = c;
  const expected = row.reference(inputs, attrs, inputs);
  const context = { inputs, attrs, expected, dy: null, magnitude: () => magnitude(row, inputs, attrs) };
  assertWithin(outcome.y, expected.data, (c.forward ?? row.forward)(context), row.op.name);
  if (dy) compareGradients(row, c, attrs, dy, outcome);
}

function compareGradients(
  row: Row,
  c: Case,
  attrs: Attributes,
  dy: R.RefTensor,
  { gradients }: Outcome,
): void {
  const positions = floatPositions(c.inputs);
  const numerical = R.numericalGradient(
    (...moved) => row.reference(replaced(c.inputs, moved), attrs, c.inputs),
    positions.map((i) => floats(c.inputs, i)),
    dy,
  );
  positions.forEach((position, n) => {
    const gradient = numerical[n];
    const actual = gradients[position];
    if (!gradient || !actual) throw new Error(`${row.op.name}: no gradient of input ${position}`);
    const expected = row.correct?.(gradient, position, attrs) ?? gradient;
    const context: Context = {
      inputs: c.inputs,
      attrs,
      expected,
      dy,
      magnitude: () => gradientMagnitude(row, c.inputs, attrs, dy, n),
    };
    const bound = (c.backward ?? row.backward)(context);
    // Central differences are exact to 1e-9 of the values that they are the difference of.
    const noise = 1e-9 * (1 + Math.abs(expected.data.reduce((top, v) => Math.max(top, Math.abs(v)), 0)));
    assertWithin(
      actual,
      expected.data,
      (i) => bound(i) + noise,
      `${row.op.name}, gradient of input ${position}`,
    );
  });
}

export function attributes(device: Gpu, { attrs = {} }: Case): Attributes {
  return (typeof attrs === "function" ? attrs(device) : attrs) as Attributes; // an object's fields by name
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

function magnitude(
  { reference, magnitude: own }: Row,
  inputs: readonly Value[],
  attrs: Attributes,
): R.RefTensor {
  const positive = inputs.map((x) => (x && isFloat(x) ? R.map(x, Math.abs) : x));
  return (own ?? reference)(positive, attrs, positive);
}

function gradientMagnitude(
  row: Row,
  inputs: readonly Value[],
  attrs: Attributes,
  dy: R.RefTensor,
  n: number,
): R.RefTensor {
  const positive = floatPositions(inputs).map((i) => R.map(floats(inputs, i), Math.abs));
  const of = (...moved: R.RefTensor[]) => magnitude(row, replaced(inputs, moved), attrs);
  const [result] = R.numericalGradient(of, positive, R.map(dy, Math.abs), { wrt: [n] });
  if (!result) throw new Error(`${row.op.name}: no magnitude of input ${n}`);
  return result;
}
