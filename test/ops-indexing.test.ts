// Ops that read and write at indices, beyond their rows: many indices, indices out of range, other element types.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { TypedArray } from "../src/array/index.ts";
import * as ad from "../src/autograd/index.ts";
import { type Tensor, tensor, tidy } from "../src/autograd/index.ts";
import { assertBitEqual } from "./compare.ts";
import { gpu as openTestGpu } from "./device.ts";

const gpu = await openTestGpu();

/** Small whole numbers: their sums are exact in any order, so that a lost or doubled one shows. */
function whole(n: number, seed: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: n }, (_, i) => ((i * 7919 + seed) % 17) - 8);
}

/** Ids that are frequent in the way of words: id k about as often as 1/k. */
function frequent(n: number, rows: number): Int32Array<ArrayBuffer> {
  return Int32Array.from(
    { length: n },
    (_, i) => Math.floor(rows ** (((i * 104_729) % 10_007) / 10_007)) - 1,
  );
}

function unique(n: number, rows: number): Int32Array<ArrayBuffer> {
  return Int32Array.from({ length: n }, (_, i) => (i * 7919) % rows);
}

const ints = (values: readonly number[], shape?: readonly number[]): Tensor =>
  tensor(gpu, Int32Array.from(values), shape);

const many = suite("many indices");

const lists: readonly (readonly [name: string, ids: Int32Array<ArrayBuffer>, rows: number])[] = [
  ["5,000 ids, few of them frequent", frequent(5000, 4099), 4099],
  ["3,000 ids that differ", unique(3000, 4099), 4099],
  ["one id 1,000 times", new Int32Array(1000).fill(70), 71],
  ["64 ids", frequent(64, 64), 64],
  ["65 ids of one row", new Int32Array(65), 1],
  ["700 ids of 18 bits", unique(700, 200_003), 200_003],
  ["2,000 ids of 18 bits", unique(2000, 200_003), 200_003],
  ["1,025 ids", frequent(1025, 900), 900],
];

for (const [name, ids, rows] of lists) {
  for (const columns of [1, 4]) {
    many(`the gradient of an embedding adds up every row: ${name}, ${columns} columns`, async () => {
      const dy = whole(ids.length * columns, 3);
      const expected = new Float32Array(rows * columns);
      for (const [i, id] of ids.entries())
        for (let c = 0; c < columns; c++)
          expected[id * columns + c] = (expected[id * columns + c] ?? 0) + (dy[i * columns + c] ?? 0);
      const table = tensor(gpu, new Float32Array(rows * columns), [rows, columns]);
      table.requiresGrad = true;
      tidy(() => ad.embedding(table, tensor(gpu, ids)).backward(tensor(gpu, dy, [ids.length, columns])));
      assertBitEqual((await table.grad?.data()) ?? new Float32Array(), expected);
      table.dispose();
    });
  }
}

many("scatterAdd walks few long lanes in order, and many short ones", async () => {
  for (const [outer, n, inner, rows] of [
    [2, 2000, 1, 37],
    [3, 100, 5, 300],
    [1100, 90, 1, 11],
  ] as const) {
    const indices = Int32Array.from({ length: outer * n * inner }, (_, i) => (i * i + 5 * i) % rows);
    const source = whole(indices.length, 5);
    const x = whole(outer * rows * inner, 9);
    const expected = Float32Array.from(x);
    for (const [i, index] of indices.entries()) {
      const o = Math.floor(i / (n * inner));
      const at = (o * rows + index) * inner + (i % inner);
      expected[at] = (expected[at] ?? 0) + (source[i] ?? 0);
    }
    const y = tidy(() =>
      ad.scatterAdd(
        tensor(gpu, x, [outer, rows, inner]),
        1,
        tensor(gpu, indices, [outer, n, inner]),
        tensor(gpu, source, [outer, n, inner]),
      ),
    );
    assertBitEqual(await y.data(), expected, `[${outer}, ${n}, ${inner}] into ${rows}`);
    y.dispose();
  }
});

many("sums of fractions have the same bits in every run", async () => {
  const ids = tensor(gpu, frequent(3000, 50));
  const dy = tensor(
    gpu,
    Float32Array.from({ length: 3000 * 3 }, (_, i) => Math.sin(i)),
    [3000, 3],
  );
  const run = async (): Promise<TypedArray> => {
    const table = tensor(gpu, new Float32Array(150), [50, 3]);
    table.requiresGrad = true;
    tidy(() => ad.embedding(table, ids).backward(dy));
    const gradient = (await table.grad?.data()) ?? new Float32Array();
    table.dispose();
    return gradient;
  };
  const first = await run();
  for (let n = 0; n < 3; n++) assertBitEqual(await run(), first);
});

many.run();

const outside = suite("indices out of range");

outside("gather and indexSelect give NaN for them, and no gradient", async () => {
  for (const read of [ad.gather, ad.indexSelect]) {
    const x = tensor(gpu, Float32Array.of(1, 2, 3), [3]);
    x.requiresGrad = true;
    const y = tidy(() => read(x, 0, ints([2, 3, -1, 0])));
    assert.equal([...(await y.data())], [3, Number.NaN, Number.NaN, 1]);
    y.backward(ad.ones(gpu, [4]));
    assert.equal([...((await x.grad?.data()) ?? [])], [1, 0, 1]);
    y.dispose();
    x.dispose();
  }
});

outside("embedding gives rows of NaN for them, from a table of any type", async () => {
  for (const [columns, type] of [
    [3, "f32"],
    [4, "f32"],
    [4, "f16"],
    [3, "bf16"],
  ] as const) {
    const means = tidy(() =>
      ad.mean(ad.embedding(ad.ones(gpu, [3, columns]).to(type), ints([2, 3, -1, 0])), 1),
    );
    assert.equal([...(await means.data())], [1, Number.NaN, Number.NaN, 1], `${type}, ${columns} columns`);
    means.dispose();
  }
});

outside("scatterAdd leaves their sources out, however it walks", async () => {
  for (const n of [3, 300]) {
    const indices = Array.from({ length: n }, (_, i) => [1, -1, 2 ** 31 - 1][i % 3] ?? 0);
    const y = tidy(() => ad.scatterAdd(ad.zeros(gpu, [2]), 0, ints(indices), ad.ones(gpu, [n])));
    assert.equal([...(await y.data())], [0, n / 3]);
  }
});

outside("the gradient of an embedding leaves them and the padding out", async () => {
  const table = ad.ones(gpu, [3, 2]);
  table.requiresGrad = true;
  tidy(() => {
    const y = ad.embedding(table, ints([0, 1, 2, 1]), { paddingIndex: 1 });
    y.backward(ad.ones(gpu, [4, 2]));
  });
  assert.equal([...((await table.grad?.data()) ?? [])], [1, 1, 0, 0, 1, 1]);
});

outside("a label that is no class makes the loss NaN", async () => {
  const logits = tensor(gpu, Float32Array.of(1, 2, 3, 4, 5, 6), [2, 3]);
  logits.requiresGrad = true;
  for (const [loss, name] of [
    [ad.crossEntropy, "crossEntropy"],
    [ad.nllLoss, "nllLoss"],
  ] as const) {
    for (const label of [3, -1, 2 ** 31 - 1]) {
      const labels = ints([0, label]);
      assert.ok(Number.isNaN(await tidy(() => loss(logits, labels)).item()), `${name} of ${label}`);
      const rows = tidy(() => loss(logits, labels, { reduction: "none" }));
      const [first, second] = await rows.data();
      assert.ok(Number.isFinite(first) && Number.isNaN(second), `${name} of ${label}: ${first}, ${second}`);
    }
  }
});

outside("a position that the tables do not hold gives NaN", async () => {
  const { cos, sin, shape } = ad.rotaryTables(4, 2);
  const y = tidy(() =>
    ad.rotaryEmbedding(ad.ones(gpu, [1, 3, 1, 2]), tensor(gpu, cos, shape), tensor(gpu, sin, shape), {
      positions: ints([0, 4, -1], [1, 3]),
    }),
  );
  const values = [...(await y.data())];
  assert.equal(values.slice(0, 2), [1, 1]);
  assert.equal(values.slice(2), new Array(4).fill(Number.NaN));
});

outside.run();

const types = suite("indexing, element types");

types("gather, indexSelect, pad and flip move any type bit for bit", async () => {
  for (const dtype of ["f32", "f16", "bf16", "i32", "u32", "bool"] as const) {
    const values =
      dtype === "bool"
        ? [1, 0, 1]
        : [1.5, 2, 3].map((v) => (dtype[0] === "i" || dtype[0] === "u" ? Math.floor(v) : v));
    const x = tensor(gpu, values, [3], { dtype });
    const results: readonly (readonly [Tensor, readonly number[]])[] = [
      [ad.gather(x, 0, ints([2, 0])), [values[2] ?? 0, values[0] ?? 0]],
      [ad.indexSelect(x, 0, ints([1, 1])), [values[1] ?? 0, values[1] ?? 0]],
      [ad.pad(x, [[1, 0]], 1), [1, ...values]],
      [ad.flip(x, 0), [...values].reverse()],
    ];
    for (const [y, expected] of results) {
      assert.is(y.dtype, dtype);
      assert.equal([...(await y.data())], expected, dtype);
      y.dispose();
    }
  }
});

types.run();
