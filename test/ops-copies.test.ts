// Copies between layouts, and sums into a part of an array: every way to walk through two arrays gives what a walk
// element by element gives, and touches nothing else.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type DType, Gpu } from "../src/array/index.ts";
import { Stream } from "../src/autograd/index.ts";
import { addInto, copyInto } from "../src/ops/index.ts";
import { inUnitsOf, type Steps, stepsOf, walksOf } from "../src/ops/walks.ts";
import { assertBitEqual } from "./compare.ts";
import { gpu as openTestGpu } from "./device.ts";

const gpu = await openTestGpu();
const tiny = new Gpu(gpu.device, { maxBindingBytes: 512 });

/** An array in a larger one: `offset` and `strides` count elements. */
interface Layout {
  readonly offset: number;
  readonly strides: readonly number[];
  /** Elements of the larger one. */
  readonly length: number;
}

interface Case {
  readonly name: string;
  readonly shape: readonly number[];
  readonly source: Layout;
  readonly target: Layout;
  readonly by: Steps["by"];
}

const CASES: readonly Case[] = [
  {
    name: "rows of a wider matrix",
    shape: [3, 5, 8],
    source: { offset: 8, strides: [120, 24, 1], length: 400 },
    target: { offset: 0, strides: [40, 8, 1], length: 128 },
    by: "fours",
  },
  {
    name: "rows into a wider matrix, from an odd element on",
    shape: [3, 5, 8],
    source: { offset: 0, strides: [40, 8, 1], length: 128 },
    target: { offset: 7, strides: [120, 24, 1], length: 400 },
    by: "ones",
  },
  {
    name: "rows of seven",
    shape: [9, 7],
    source: { offset: 0, strides: [7, 1], length: 64 },
    target: { offset: 7, strides: [21, 1], length: 200 },
    by: "ones",
  },
  {
    name: "many rows of three",
    shape: [70, 3],
    source: { offset: 1, strides: [4, 1], length: 300 },
    target: { offset: 0, strides: [3, 1], length: 256 },
    by: "ones",
  },
  {
    name: "heads before tokens",
    shape: [2, 4, 6, 8],
    source: { offset: 0, strides: [192, 8, 32, 1], length: 384 },
    target: { offset: 0, strides: [192, 48, 8, 1], length: 384 },
    by: "fours",
  },
  {
    name: "a transposition in fours",
    shape: [12, 20],
    source: { offset: 4, strides: [1, 12], length: 300 },
    target: { offset: 0, strides: [20, 1], length: 256 },
    by: "blocks",
  },
  {
    name: "transpositions of several matrices, into a window",
    shape: [3, 2, 8, 12],
    source: { offset: 0, strides: [192, 96, 1, 8], length: 600 },
    target: { offset: 16, strides: [480, 240, 24, 1], length: 1600 },
    by: "blocks",
  },
  {
    name: "a transposition of odd sizes",
    shape: [13, 21],
    source: { offset: 0, strides: [1, 13], length: 300 },
    target: { offset: 0, strides: [21, 1], length: 300 },
    by: "ones",
  },
  {
    name: "backwards",
    shape: [6, 8],
    source: { offset: 47, strides: [-8, -1], length: 64 },
    target: { offset: 0, strides: [8, 1], length: 64 },
    by: "ones",
  },
  {
    name: "rows in backward order",
    shape: [6, 8],
    source: { offset: 40, strides: [-8, 1], length: 64 },
    target: { offset: 0, strides: [8, 1], length: 64 },
    by: "fours",
  },
  {
    name: "one row for all",
    shape: [5, 3, 8],
    source: { offset: 0, strides: [0, 8, 1], length: 64 },
    target: { offset: 0, strides: [24, 8, 1], length: 128 },
    by: "fours",
  },
  {
    name: "five dimensions that are none of them one",
    shape: [2, 3, 2, 3, 4],
    source: { offset: 3, strides: [1, 120, 20, 40, 3], length: 500 },
    target: { offset: 2, strides: [300, 90, 40, 12, 2], length: 800 },
    by: "ones",
  },
  {
    name: "everything, without gaps",
    shape: [4, 5, 3],
    source: { offset: 0, strides: [15, 3, 1], length: 64 },
    target: { offset: 64, strides: [15, 3, 1], length: 192 },
    by: "fours",
  },
  {
    name: "one element",
    shape: [1, 1],
    source: { offset: 3, strides: [1, 1], length: 64 },
    target: { offset: 5, strides: [9, 9], length: 64 },
    by: "ones",
  },
];

/** Calls `body` with the places of each element in both. */
function walk({ shape, source, target }: Omit<Case, "by">, body: (from: number, to: number) => void): void {
  const n = shape.reduce((a, b) => a * b, 1);
  for (let i = 0; i < n; i++) {
    let rest = i;
    let [from, to] = [source.offset, target.offset];
    for (let d = shape.length - 1; d >= 0; d--) {
      const size = shape[d] as number;
      from += (rest % size) * (source.strides[d] as number);
      to += (rest % size) * (target.strides[d] as number);
      rest = Math.floor(rest / size);
    }
    body(from, to);
  }
}

/** Copies or adds on `on`, and gives the whole target beside what it should be. */
async function moved(
  on: Gpu,
  { shape, source, target }: Omit<Case, "by" | "name">,
  isSum: boolean,
): Promise<readonly [given: Float32Array, expected: Float32Array]> {
  const values = Float32Array.from({ length: source.length }, (_, i) => i + 1);
  const expected = Float32Array.from({ length: target.length }, (_, i) => -1000 - i);
  const [x, y] = [on.from(values), on.from(expected)];
  const from = x.view(shape, source.offset, source.strides);
  const to = y.view(shape, target.offset, target.strides);
  on.scope(
    () => (isSum ? addInto : copyInto)(on, from, to),
    () => [],
  );
  walk({ name: "", shape, source, target }, (i, j) => {
    expected[j] = (values[i] as number) + (isSum ? (expected[j] as number) : 0);
  });
  const given = (await on.read(y)) as Float32Array;
  for (const array of [x, y, from, to]) array.release();
  return [given, expected];
}

const layouts = suite("layouts");

for (const row of CASES) {
  layouts(`${row.name}: copied, and added, in one chunk and in several`, async () => {
    assert.is(stepsOf(walksOf(row.shape, row.source, row.target)).by, row.by);
    for (const on of [gpu, tiny]) {
      for (const isSum of [false, true]) assertBitEqual(...(await moved(on, row, isSum)));
    }
  });
}

/** Dimensions in any order, mostly without gaps, from any element on. */
function randomLayout(shape: readonly number[], below: (n: number, ...counter: number[]) => number): Layout {
  const order = [...shape.keys()].sort((a, b) => below(99, a) - below(99, b));
  const strides = shape.map(() => 0);
  let stride = below(4, 9) === 0 ? 2 : 1;
  for (const i of order) {
    strides[i] = stride;
    stride *= (shape[i] as number) + (below(3, i, 1) === 0 ? 4 : 0);
  }
  return { offset: 4 * below(3, 10) + (below(3, 11) === 0 ? 1 : 0), strides, length: stride + 64 };
}

layouts("random layouts are walked through as element by element", async () => {
  const random = Stream.seed(7);
  const below = (n: number, ...counter: number[]): number => random.integer(n, ...counter);
  for (let round = 0; round < 60; round++) {
    const sizes = [1, 2, 3, 4, 8, 12];
    const shape = Array.from(
      { length: 1 + below(5, round, 0) },
      (_, i) => sizes[below(6, round, 1, i)] as number,
    );
    const layout = (k: number): Layout =>
      randomLayout(shape, (n, ...counter) => below(n, round, k, ...counter));
    const [source, target] = [layout(2), layout(3)];
    for (const isSum of [false, true]) {
      const [given, expected] = await moved(round % 3 === 0 ? tiny : gpu, { shape, source, target }, isSum);
      assertBitEqual(given, expected, `round ${round}`);
    }
  }
});

layouts("halves move as words where they lie in pairs, and one by one elsewhere", async () => {
  const bits = Uint16Array.from({ length: 240 }, (_, i) => 0x3c00 + i);
  for (const [shape, offset, strides, inWords] of [
    [[5, 8], 8, [24, 1], true],
    [[5, 6], 2, [24, 1], true],
    [[5, 6], 3, [24, 1], false],
    [[5, 7], 2, [24, 1], false],
    [[8, 6], 0, [1, 8], false],
  ] as const) {
    const rows = { offset: 0, strides: [shape[1], 1] };
    assert.is(inUnitsOf(2, walksOf(shape, { offset, strides }, rows)) !== null, inWords);
    for (const on of [gpu, tiny]) {
      for (const dtype of ["f16", "bf16"] as const) {
        const x = on.from(bits, [240], dtype as DType);
        const part = x.view(shape, offset, strides);
        const y = on.empty(shape, dtype);
        copyInto(on, part, y);
        const expected: number[] = [];
        for (let r = 0; r < shape[0]; r++) {
          for (let c = 0; c < shape[1]; c++)
            expected.push(bits[offset + r * strides[0] + c * strides[1]] as number);
        }
        const bytes = await on.readBytes(y);
        assert.equal([...new Uint16Array(bytes.buffer, 0, expected.length)], expected);
        for (const array of [x, part, y]) array.release();
      }
    }
  }
});

layouts("a dimension beyond 65,535 workgroups is gone through in ranges", async () => {
  for (const shape of [
    [65_537, 2, 9],
    [1, 262_145, 9],
    [1, 3, 65_536 * 16 + 3],
  ] as const) {
    const [a, b, c] = shape;
    const source = { offset: 0, strides: [b * (c + 1) + 1, c + 1, 1], length: a * (b * (c + 1) + 1) };
    const target = { offset: 0, strides: [b * c, c, 1], length: a * b * c };
    assertBitEqual(...(await moved(gpu, { shape, source, target }, false)));
  }
});

layouts.run();
