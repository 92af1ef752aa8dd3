// Gradients of a row's reference: by formula where there is one, or by central differences.
import * as R from "../reference/index.ts";
import { type Attributes, type Expectations, floats, isFloat, type Value } from "./row.ts";

export type Differentiable = Pick<Expectations, "reference" | "magnitude" | "correct"> & {
  readonly name: string;
};

/** Central differences cost the square of this; formulas are held against them up to 300 (reference-tape.test.ts). */
const MOST_BY_DIFFERENCES = 120;

export function floatPositions(inputs: readonly Value[]): number[] {
  return [...inputs.keys()].filter((i) => isFloat(inputs[i] ?? undefined));
}

/** Gradients of the inputs that hold floats, null for the others, by formula where there is one. */
export function gradientsByFormula(
  subject: Differentiable,
  dy: R.RefTensor,
  inputs: readonly Value[],
  y: R.RefTensor,
  attrs: Attributes,
): readonly (R.RefTensor | null)[] {
  return (
    R.derivatives[subject.name]?.(dy, inputs, y, attrs) ?? gradientsByDifferences(subject, dy, inputs, attrs)
  );
}

/** The same, by formula for many elements only: a row's own reference is the better judge. */
export function gradientsOf(
  subject: Differentiable,
  dy: R.RefTensor,
  inputs: readonly Value[],
  y: R.RefTensor,
  attrs: Attributes,
): readonly (R.RefTensor | null)[] {
  const elements = floatPositions(inputs).reduce((sum, i) => sum + floats(inputs, i).data.length, 0);
  return elements > MOST_BY_DIFFERENCES
    ? gradientsByFormula(subject, dy, inputs, y, attrs)
    : gradientsByDifferences(subject, dy, inputs, attrs);
}

function gradientsByDifferences(
  { reference, correct }: Differentiable,
  dy: R.RefTensor,
  inputs: readonly Value[],
  attrs: Attributes,
): readonly (R.RefTensor | null)[] {
  const positions = floatPositions(inputs);
  const numerical = R.numericalGradient(
    (...moved) => {
      const all = [...inputs];
      for (const [n, i] of positions.entries()) all[i] = moved[n] ?? null;
      return reference(all, attrs, inputs);
    },
    positions.map((i) => floats(inputs, i)),
    dy,
  );
  return inputs.map((_, i) => {
    const gradient = numerical[positions.indexOf(i)];
    return gradient ? (correct?.(gradient, i, attrs) ?? gradient) : null;
  });
}

/** Σ|terms| of the value: the reference with every term positive. */
export function magnitudeOf(
  { reference, magnitude }: Differentiable,
  inputs: readonly Value[],
  attrs: Attributes,
): R.RefTensor {
  const positive = absolute(inputs);
  return (magnitude ?? reference)(positive, attrs, positive);
}

/** Σ|terms| of each gradient: the gradient of the op with every term positive. */
export function gradientMagnitudes(
  { name, reference, magnitude }: Differentiable,
  dy: R.RefTensor,
  inputs: readonly Value[],
  attrs: Attributes,
  gradients: typeof gradientsOf = gradientsOf,
): readonly (R.RefTensor | null)[] {
  const of = magnitude ?? ((x: readonly Value[]) => reference(x, attrs, x));
  const positive = absolute(inputs);
  const subject = { name, reference: (x: readonly Value[]) => of(x, attrs) };
  const result = gradients(subject, R.map(dy, Math.abs), positive, of(positive, attrs), attrs);
  return result.map((g) => g && R.map(g, Math.abs));
}

function absolute(inputs: readonly Value[]): readonly Value[] {
  return inputs.map((x) => (x && isFloat(x) ? R.map(x, Math.abs) : x));
}
