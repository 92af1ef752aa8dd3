// Draws any op that has a row: on one known value where it takes one, else in the shapes of its row's cases.
import type { Gpu } from "../../src/array/index.ts";
import { shapeClasses } from "../ops-table/classes.ts";
import { type Case, isFloat, type ShapeClass, sizeOf, type Value } from "../ops-table/row.ts";
import { attributesOf, type Subject, takes } from "../ops-table/subject.ts";
import { derivatives, ref } from "../reference/index.ts";
import { type Builder, MOST_ELEMENTS } from "./builder.ts";
import { type Draw, type Drawn, RELATIVE } from "./draws.ts";

const CLASSES: readonly ShapeClass[] = ["primes", "one", "vector", "scalar", "stretched", "rank 6"];

const FEW_ELEMENTS = 60;

/** A draw of the row's op. */
export function drawRow(gpu: Gpu, subject: Subject): Draw {
  const cases = [
    ...subject.cases.filter(({ gradient }) => gradient !== false),
    ...shapeClasses(gpu, subject).filter(({ shapeClass }) => CLASSES.includes(shapeClass)),
  ].filter(
    (c) => c.inputs.some((x) => x) && c.inputs.every((x) => !x || isSmall(x)) && isCheap(gpu, subject, c),
  );
  const alone = cases.every(({ inputs }) => inputs.filter((x) => x).length === 1) && !subject.make;
  return (b) => (alone ? onOne(gpu, subject, b, b.pick(cases)) : inShapesOf(b, b.pick(cases)));
}

/** Whether there is a formula of the derivative, or few elements for central differences. */
function isCheap(gpu: Gpu, { name, reference }: Subject, c: Case): boolean {
  const elements = c.inputs.reduce((sum, x) => sum + (x && isFloat(x) ? x.data.length : 0), 0);
  if (elements <= FEW_ELEMENTS) return true;
  const attrs = attributesOf(gpu, c);
  const y = reference(c.inputs, attrs, c.inputs);
  return Boolean(derivatives[name]?.(ref(y.shape), c.inputs, y, attrs));
}

function isSmall({ shape }: NonNullable<Value>): boolean {
  return sizeOf(shape) > 0 && sizeOf(shape) <= MOST_ELEMENTS;
}

function onOne(gpu: Gpu, subject: Subject, b: Builder, { attrs = {} }: Case): Drawn | null {
  const x = b.any();
  if (!x || !takes(gpu, subject, [x.value], attributesOf(gpu, { attrs }))) return null;
  return { inputs: [x], attrs };
}

function inShapesOf(b: Builder, { inputs, attrs = {} }: Case): Drawn {
  return {
    inputs: inputs.map((x) => {
      if (!x || !isFloat(x)) return x && { shape: x.shape, data: new Int32Array(x.data) };
      const same = b.chance(0.8) ? b.any((shape) => String(shape) === String(x.shape)) : null;
      return same ?? b.leafOf(ref(x.shape, x.data));
    }),
    attrs,
  };
}

/** Where the values of one input may lie: in the range of its row's cases, for which the row's bounds hold. */
interface Range {
  readonly low: number;
  readonly high: number;
  /** Cases that keep away from 0 say that the op does not take what is near. */
  readonly hole: number;
}

const ANY: Range = { low: -100, high: 100, hole: 0 };

/** The range of each input; of the last one for those beyond. */
export function rangesOf({ name, cases }: Subject): (position: number) => Range {
  if (RELATIVE.has(name)) return () => ANY;
  const ranges: Range[] = [];
  for (const { inputs, gradient } of cases) {
    if (gradient === false) continue;
    inputs.forEach((x, i) => {
      if (!isFloat(x ?? undefined) || !x || x.data.length === 0) return;
      let { low, high, hole } = ranges[i] ?? {
        low: Number.POSITIVE_INFINITY,
        high: Number.NEGATIVE_INFINITY,
        hole: 1,
      };
      for (const v of x.data) {
        low = Math.min(low, v);
        high = Math.max(high, v);
        hole = Math.min(hole, Math.abs(v));
      }
      ranges[i] = { low, high, hole };
    });
  }
  return (position) => {
    const { low, high, hole } = ranges[Math.min(position, ranges.length - 1)] ?? ANY;
    // Cases of 1e4 have bounds of their own.
    return { low: Math.max(low, -100), high: Math.min(high, 100), hole: hole > 0.09 ? hole / 2 : 0 };
  };
}

export function isInside({ data }: { readonly data: Float64Array }, { low, high, hole }: Range): boolean {
  return data.every((v) => v >= low && v <= high && Math.abs(v) >= hole);
}
