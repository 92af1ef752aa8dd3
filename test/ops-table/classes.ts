// The shapes that every op is tried with, made from what its row already says.
//
// The sizes in the row's first case are names: equal sizes are one dimension. x [3, 5, 7] with weight [7] becomes
// [2, 3, 5] with [5], or [2, 3, 67] with [67]. Values are drawn from the first case's own, so they stay in the op's
// domain. What the op refuses by a ShapeError of its own is no case; which classes a row has is golden
// (golden/shape-classes.txt), so that none is lost unseen.
import type { Gpu } from "../../src/array/index.ts";
import * as R from "../reference/index.ts";
import { type Case, isFloat, type ShapeClass, sizeOf, type Value } from "./row.ts";
import { attributesOf, type Subject, takes } from "./subject.ts";

export interface ClassCase extends Case {
  readonly shapeClass: ShapeClass;
}

/** Shapes of all inputs of a call; null where an optional one is absent. */
type Layout = readonly (readonly number[] | null)[];

interface Draft {
  readonly shapeClass: ShapeClass;
  readonly layout: Layout;
}

const PRIMES = [2, 3, 5, 7, 11, 13, 17, 19];
const FOURS = [4, 8, 12, 4, 8, 12, 4, 8];
/** Beside a long dimension: central differences cost the square of what there is. */
const FEW = [2, 3, 2, 3, 2, 3, 2, 3];
/** One more than a workgroup's threads hold, in groups of one and of four. */
const LONG = 67;
const LEAD = [2, 1, 3, 1, 2, 1];

/** Other shapes of the same classes: the first or the last dimension of the main input is longer by four. */
export type Longer = "first" | "last";

/** Cases of every class that the subject takes. */
export function shapeClasses(
  device: Gpu,
  subject: Subject,
  { longer }: { readonly longer?: Longer } = {},
): ClassCase[] {
  const base = subject.cases.find(isOrdinary) ?? subject.cases.find(isFilled);
  if (!base) throw new Error(`${subject.name} has no case`);
  const hasGradient = subject.cases.some(({ gradient }) => gradient !== false);
  const cases: ClassCase[] = [];
  for (const [i, draft] of draftsOf(base, subject.make !== undefined).entries()) {
    if (subject.without?.includes(draft.shapeClass)) continue;
    const layout = lengthened(draft.layout, longer, subject.constants);
    const given = subject.make ? madeCase(subject, layout, i) : { inputs: valuesOf(base, layout, i) };
    if (!given) continue;
    const attrs = "attrs" in given && given.attrs ? given.attrs : (base.attrs ?? {});
    if (!takes(device, subject, given.inputs, attributesOf(device, { attrs }))) continue;
    const made = scaled({ ...given, attrs }, draft.shapeClass);
    cases.push({ ...made, ...(hasGradient ? {} : { gradient: false }), shapeClass: draft.shapeClass });
  }
  return cases;
}

/** Constants of a kernel keep their length, and so do dimensions of one element. */
function lengthened(layout: Layout, longer: Longer | undefined, constants: readonly number[] = []): Layout {
  const main = layout[0] ?? [];
  const fixed = constants.map((d) => main[d]);
  const free = main.filter((n) => n > 1 && !fixed.includes(n));
  const name = longer === "first" ? free[0] : longer === "last" ? free.at(-1) : undefined;
  return layout.map((shape) => shape?.map((n) => (n === name ? n + 4 : n)) ?? null);
}

export function isOrdinary(c: Case): boolean {
  return c.gradient !== false && isFilled(c);
}

function isFilled({ inputs }: Case): boolean {
  return inputs.every((x) => !x || x.data.length > 0);
}

function madeCase({ make }: Subject, layout: Layout, seed: number): Pick<Case, "inputs" | "attrs"> | null {
  return make?.(layout[0] ?? [], seed) ?? null;
}

function show(inputs: readonly Value[]): string {
  return inputs.map((x) => (x ? `[${x.shape.join(", ")}]` : "none")).join(" with ");
}

function scaled({ inputs, attrs = {} }: Pick<Case, "inputs" | "attrs">, shapeClass: ShapeClass): Case {
  const name = `${shapeClass}: ${show(inputs)}`;
  if (shapeClass !== "1e4" && shapeClass !== "1e30") return { name, inputs, attrs };
  const size = Number(shapeClass);
  const far = inputs.map((x) => (x && isFloat(x) ? R.map(x, (v) => Math.fround(Math.sign(v) * size)) : x));
  return { name, inputs: far, attrs, gradient: false };
}

/** Layouts of each class around the layout of the first case. */
function draftsOf(base: Case, isMade: boolean): Draft[] {
  const layout: Layout = base.inputs.map((x) => x?.shape ?? null);
  const main = layout[0] ?? [];
  const names = [...new Set(layout.flatMap((shape) => shape ?? []))].filter((n) => n > 1);
  const first = main.find((n) => n > 1);
  const last = main.findLast((n) => n > 1);
  const drafts: Draft[] = [];
  const add = (shapeClass: ShapeClass, to: Layout): void => void drafts.push({ shapeClass, layout: to });
  const resize = (size: (name: number, k: number) => number): Layout =>
    layout.map((shape) => shape?.map((n) => (n > 1 ? size(n, names.indexOf(n)) : n)) ?? null);
  const prime = (k: number): number => PRIMES[k] ?? 2;
  const few = (k: number): number => FEW[k] ?? 2;

  const primes = resize((_n, k) => prime(k));
  add("primes", primes);
  add(
    "fours",
    resize((_n, k) => FOURS[k] ?? 4),
  );
  add(
    "one",
    resize(() => 1),
  );
  if (last !== undefined) {
    add(
      "long rows",
      resize((n, k) => (n === last ? LONG : few(k))),
    );
    add(
      "empty rows",
      resize((n, k) => (n === last ? 0 : prime(k))),
    );
  }
  if (first !== undefined && first !== last) {
    add(
      "many rows",
      resize((n, k) => (n === first ? LONG : few(k))),
    );
    add(
      "empty",
      resize((n, k) => (n === first ? 0 : prime(k))),
    );
  }
  add(
    "vector",
    lead(primes, layout, (shape) => shape.slice(-1)),
  );
  add(
    "rank 6",
    lead(
      resize((_n, k) => few(k)),
      layout,
      (shape) => [...LEAD.slice(0, 6 - shape.length), ...shape],
    ),
  );
  if (isElementwise(layout) || isMade)
    add(
      "scalar",
      layout.map((shape) => shape && []),
    );
  if (isElementwise(layout)) {
    for (const stretched of stretches(layout.length)) add("stretched", stretched);
    add("1e30", primes);
  }
  add("1e4", primes);
  return drafts;
}

/** Changes the leading dimensions of the main input, and of those that begin like it. */
function lead(layout: Layout, base: Layout, change: (shape: readonly number[]) => number[]): Layout {
  const begins = base[0]?.[0];
  return layout.map((shape, i) => (shape && base[i]?.[0] === begins ? change(shape) : shape));
}

function isElementwise(layout: Layout): boolean {
  const [main] = layout;
  return layout.every((shape) => !shape || String(shape) === String(main));
}

/** Each operand in turn as a scalar, as the last dimension alone, and crossed with the next one. */
function stretches(inputs: number): Layout[] {
  if (inputs < 2) return [];
  const result: Layout[] = [];
  const whole = [2, 3, 5];
  for (let i = 0; i < inputs; i++) {
    const at = (shape: readonly number[], of = whole): Layout =>
      Array.from({ length: inputs }, (_, j) => (j === i ? shape : of));
    result.push(at([]), at([5]), at([8], [2, 3, 8]), at([2, 1, 5], [1, 3, 5]), at([1], [5]));
  }
  return result;
}

/** Inputs of the given shapes with values like those of `base`. */
export function valuesOf({ inputs }: Case, layout: Layout, seed: number): Value[] {
  const sizes = layout.flatMap((shape) => shape ?? []).filter((n) => n > 0);
  const smallest = Math.min(...sizes.filter((n) => n > 1), sizes.length > 0 ? Math.max(...sizes) : 1);
  return inputs.map((x, i) => {
    const shape = layout[i];
    if (!x || !shape) return null;
    const size = sizeOf(shape);
    const pick = (n: number): number => x.data[hash(n, seed * 31 + i) % x.data.length] ?? 0;
    if (isFloat(x))
      return R.ref(
        shape,
        Float64Array.from({ length: size }, (_, n) => jitter(pick(n), n, seed)),
      );
    // Indices stay inside the smallest dimension; negative ones mark something.
    return R.indices(
      shape,
      Int32Array.from({ length: size }, (_, n) => (pick(n) < 0 ? pick(n) : pick(n) % smallest)),
    );
  });
}

/** Up to 5% farther from 0: no two values are equal, and none crosses a kink there. */
function jitter(value: number, n: number, seed: number): number {
  return Math.fround(value * (1 + 0.05 * (hash(n, seed + 1000) / 2 ** 32)));
}

/** The finaliser of murmur3, on a counter. */
function hash(n: number, seed: number): number {
  let h = (Math.imul(n + 1, 0x9e3779b1) ^ Math.imul(seed + 1, 0x85ebca77)) >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
