// How far a result may be from the float64 reference. The numbers are those that held on both software drivers;
// a backward pass is allowed four times its forward.
import type { RefTensor } from "../reference/index.ts";
import type { Value } from "./row.ts";

export interface Context {
  readonly inputs: readonly Value[];
  readonly attrs: Readonly<Record<string, unknown>>;
  /** The reference: the output, or the gradient of one input. */
  readonly expected: RefTensor;
  /** The gradient fed in; null for a forward pass. */
  readonly dy: RefTensor | null;
  /** Σ|terms| of each element. */
  readonly magnitude: () => RefTensor;
}

/** The allowed absolute error of element `i`. */
export type Bound = (context: Context) => (i: number) => number;

/** The smallest normal f32: drivers may flush what is below. */
const TINY = 2 ** -126;

/** Distance of neighbouring f32 at x. */
export function ulpAt(x: number): number {
  return 2 ** (Math.floor(Math.log2(Math.max(Math.abs(x), TINY))) - 23);
}

export const exact: Bound = () => () => 0;

export function absolute(error: number): Bound {
  return () => () => error;
}

/** n units in the last place of the result. */
export function ulps(n: number): Bound {
  return ({ expected }) =>
    (i) =>
      n * ulpAt(expected.data[i] ?? 0) + TINY;
}

/** `error` for a gradient fed in of 1, and n units in the last place. */
export function slope(error: number, n = 4): Bound {
  return ({ expected, dy }) =>
    (i) =>
      error * Math.abs(dy?.data[i] ?? 0) + n * ulpAt(expected.data[i] ?? 0) + TINY;
}

/** factor (4 + √K) 2⁻²⁴ Σ|terms|: what sums of K products need. A flat tolerance fails where they cancel. */
export function terms(K: number | ((context: Context) => number), factor = 1): Bound {
  return (context) => {
    const { data } = context.magnitude();
    const count = typeof K === "number" ? K : K(context);
    return (i) => factor * (4 + Math.sqrt(count)) * 2 ** -24 * Math.abs(data[i] ?? 0) + TINY;
  };
}

/** Both errors together. */
export function plus(a: Bound, b: Bound): Bound {
  return (context) => {
    const first = a(context);
    const second = b(context);
    return (i) => first(i) + second(i);
  };
}

export function largest(x: { readonly data: ArrayLike<number> } | null | undefined): number {
  let top = 0;
  for (let i = 0; x && i < x.data.length; i++) top = Math.max(top, Math.abs(x.data[i] ?? 0));
  return top;
}

/**
 * Passes where every element is within its bound. NaN equals NaN only, +Inf equals +Inf only, and a reference
 * beyond f32 is Inf. The message names the worst element.
 */
export function assertWithin(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  allowed: (i: number) => number,
  name: string,
): void {
  if (actual.length !== expected.length) {
    throw new Error(`${name}: ${actual.length} values, expected ${expected.length}`);
  }
  let wrong = 0;
  let worst = 0;
  let index = 0;
  for (let i = 0; i < expected.length; i++) {
    const a = actual[i] ?? Number.NaN;
    const b = expected[i] ?? Number.NaN;
    const rounded = Math.fround(b);
    if (Object.is(a, rounded) || a === rounded) continue;
    const error = Number.isFinite(rounded) ? Math.abs(a - b) : Number.POSITIVE_INFINITY;
    if (error <= allowed(i)) continue;
    wrong++;
    const ratio = Number.isNaN(error) ? Number.POSITIVE_INFINITY : error / allowed(i);
    if (!(ratio > worst)) continue;
    worst = ratio;
    index = i;
  }
  if (wrong === 0) return;
  throw new Error(
    `${name}: ${wrong} of ${expected.length} values differ, the worst ${worst.toPrecision(3)} times its bound ` +
      `${allowed(index).toPrecision(3)} at [${index}]: ${actual[index]}, expected ${expected[index]}`,
  );
}
