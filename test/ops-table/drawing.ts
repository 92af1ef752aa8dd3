import type { Gpu, GpuArray } from "../../src/array/index.ts";
import type { Draw } from "../../src/ops/index.ts";
import * as ops from "../../src/ops/index.ts";
import * as R from "../reference/index.ts";
import { ulps } from "./bounds.ts";
import { floats, normal, type Row, row } from "./row.ts";

const clocks = new WeakMap<Gpu, GpuArray>();
const SEED = 77;
const STEP = 5;

/** The clock [seed, step] of a device, kept for all cases. */
export function draw(gpu: Gpu, rest: Omit<Draw, "clock">): Draw {
  const clock = clocks.get(gpu) ?? gpu.from(new Uint32Array([SEED, STEP]));
  clocks.set(gpu, clock);
  return { clock, ...rest };
}

/** 1 where word `pick(i)` of the counter of element i is at least p of all words. */
export function kept(size: number, p: number, word: (i: number) => number): number[] {
  return Array.from({ length: size }, (_, i) => (word(i) >= p * 2 ** 32 ? 1 : 0));
}

export const dropped = { stream: 1234, examples: 2, firstExample: 3, firstPass: 1 };

const drawn = new Map<string, readonly number[]>();

/** Words of philox at (element, example, pass, step); kept, since central differences ask for them again. */
export function words(element: number, r: number): readonly number[] {
  const key = `${element},${r}`;
  const known = drawn.get(key) ?? wordsAt(element, r);
  drawn.set(key, known);
  return known;
}

function wordsAt(element: number, r: number): readonly number[] {
  const { stream, examples, firstExample, firstPass } = dropped;
  const counter = [
    element,
    firstExample + (r % examples),
    firstPass + Math.floor(r / examples),
    STEP,
  ] as const;
  return R.philox4x32(counter, [SEED, stream]);
}

function dropoutMask(x: R.RefTensor, p: number): R.RefTensor {
  const columns = x.data.length / (x.shape[0] ?? 1);
  const mask = kept(x.data.length, p, (i) => {
    const column = i % columns;
    return words(Math.floor(column / 4), Math.floor(i / columns))[column % 4] ?? 0;
  });
  return R.ref(x.shape, mask);
}

const dropout = row(ops.dropout, {
  reference: (inputs, { p }) =>
    R.dropout(floats(inputs, 0), dropoutMask(floats(inputs, 0), Number(p)), { p: Number(p) }),
  cases: [
    {
      name: "[4, 5, 7]",
      inputs: [normal([4, 5, 7], 1)],
      attrs: (gpu) => ({ p: 0.3, draw: draw(gpu, dropped) }),
    },
    { name: "[2, 64]", inputs: [normal([2, 64], 2)], attrs: (gpu) => ({ p: 0.5, draw: draw(gpu, dropped) }) },
    { name: "p = 0", inputs: [normal([3, 5], 3)], attrs: (gpu) => ({ p: 0, draw: draw(gpu, dropped) }) },
    { name: "no rows", inputs: [normal([0, 5], 4)], attrs: (gpu) => ({ p: 0.1, draw: draw(gpu, dropped) }) },
  ],
  forward: ulps(2),
  backward: ulps(8),
  refuses: [
    { shapes: [[3, 4]], attrs: { p: 1 }, message: /p is 1, expected 0 <= p < 1/ },
    { shapes: [[]], attrs: { p: 0.5 }, message: /\[\] has no rows/ },
  ],
});

/** Rows of ops that may draw random numbers. */
export const drawing: readonly Row[] = [dropout];
