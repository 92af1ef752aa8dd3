// A case with its floats stored in 16 bits: ops compute in f32 whatever the storage.
import * as assert from "uvu/assert";
import {
  bfloat16ToFloat32,
  float32ToBfloat16,
  type Gpu,
  type HalfType,
  halfToFloat32,
  roundToHalf,
} from "../../src/array/index.ts";
import * as R from "../reference/index.ts";
import { assertWithin, largest } from "./bounds.ts";
import { expectedOf, floatPositions } from "./check.ts";
import { evaluate } from "./evaluate.ts";
import { type Case, isFloat } from "./row.ts";
import { attributesOf, type Subject } from "./subject.ts";

const round: Readonly<Record<HalfType, (x: Float32Array) => Float32Array>> = {
  f16: (x) => halfToFloat32(roundToHalf(x)),
  bf16: (x) => bfloat16ToFloat32(float32ToBfloat16(x)),
};

/** Largest relative error of one rounding, and the absolute one where numbers have no more bits. */
const ROUNDING = {
  f16: { relative: 2 ** -11, absolute: 2 ** -25 },
  bf16: { relative: 2 ** -8, absolute: 2 ** -134 },
} as const;

function rounded(x: R.RefTensor, dtype: HalfType): R.RefTensor {
  return R.ref(x.shape, round[dtype](Float32Array.from(x.data)));
}

/**
 * The value has the row's own error and one rounding. A gradient may come from an output that was saved rounded, and
 * is rounded itself: twice the rounding of the largest element besides.
 */
export async function compareHalves(
  device: Gpu,
  subject: Subject,
  whole: Case,
  dtype: HalfType,
): Promise<void> {
  const c: Case = {
    ...whole,
    inputs: whole.inputs.map((x) => (x && isFloat(x) ? rounded(x, dtype) : x)),
    ...(subject.halves === "forward" && { gradient: false }),
  };
  const { name, run } = subject;
  const attrs = attributesOf(device, c);
  const { y, dy, gradients, magnitude, magnitudes } = expectedOf(subject, c, attrs);
  const outcome = await evaluate(device, { run, inputs: c.inputs, attrs, dy, half: dtype });
  assert.equal(outcome.shape, y.shape);
  const { relative, absolute } = ROUNDING[dtype];
  const bound = subject.forward({ inputs: c.inputs, attrs, expected: y, dy: null, magnitude });
  const exact = rounded(y, dtype);
  const allowed = (i: number): number => {
    const value = y.data[i] ?? 0;
    const isHeld = bound(i) === 0 && exact.data[i] === value;
    return isHeld ? 0 : bound(i) + relative * (Math.abs(value) + bound(i)) + absolute;
  };
  // What is beyond f16 is infinite.
  const held = y.data.map((value, i) => (Number.isFinite(exact.data[i]) ? value : (exact.data[i] ?? value)));
  assertWithin(outcome.y, held, allowed, `${name} in ${dtype}`);
  floatPositions(c.inputs).forEach((position, n) => {
    const [expected, terms] = [gradients[n], magnitudes[n]];
    if (!dy || !expected || !terms) return;
    const actual = outcome.gradients[position];
    if (!actual) throw new Error(`${name} in ${dtype}: no gradient of input ${position}`);
    const own = subject.backward({ inputs: c.inputs, attrs, expected, dy, magnitude: terms });
    const extra = 2 * relative * largest(expected) + absolute + 1e-9 * (1 + largest(expected));
    const within = (i: number): number => own(i) + relative * Math.abs(expected.data[i] ?? 0) + extra;
    assertWithin(actual, expected.data, within, `${name} in ${dtype}, gradient of input ${position}`);
  });
}
