// Nothing is computed or stored for inputs that need no gradient; and sums of gradients against float64.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import * as ad from "../src/autograd/index.ts";
import { noGrad, type Tensor, tensor, tidy } from "../src/autograd/index.ts";
import { liveBytes, gpu as openTestGpu } from "./device.ts";
import { assertGradients, dispatchesOf, free, leaf } from "./graphs.ts";
import { normal } from "./ops-table/row.ts";
import * as R from "./reference/index.ts";

const gpu = await openTestGpu();
const needs = suite("needed gradients");
const sums = suite("sums of gradients");

/** Bytes of a [64, 64] matrix: what stands out among the 256 of vectors and scalars. */
const MATRIX = 64 * 64 * 4;
const ROUTE = tensor(gpu, Int32Array.of(1, 0));

interface Case {
  readonly shapes: readonly (readonly number[])[];
  readonly run: (...inputs: Tensor[]) => Tensor;
  /** Matrices kept for the gradient of each input alone. */
  readonly kept: readonly number[];
  /** Dispatches of each gradient alone. */
  readonly dispatches: readonly number[];
}

const [SQUARE, ROW] = [[64, 64], [64]] as const;
const cases: Readonly<Record<string, Case>> = {
  add: { shapes: [SQUARE, SQUARE], run: (a, b) => ad.add(a, b), kept: [0, 0], dispatches: [0, 0] },
  sub: { shapes: [SQUARE, SQUARE], run: (a, b) => ad.sub(a, b), kept: [0, 0], dispatches: [0, 1] },
  mul: { shapes: [SQUARE, SQUARE], run: (a, b) => ad.mul(a, b), kept: [1, 1], dispatches: [1, 1] },
  div: { shapes: [SQUARE, SQUARE], run: (a, b) => ad.div(a, b), kept: [1, 2], dispatches: [1, 4] },
  matmul: { shapes: [SQUARE, SQUARE], run: (a, b) => ad.matmul(a, b), kept: [1, 1], dispatches: [1, 1] },
  linear: {
    shapes: [SQUARE, SQUARE, ROW],
    run: (x, w, b) => ad.linear(x, w, b),
    kept: [1, 1, 0],
    dispatches: [1, 1, 1],
  },
  bankLinear: {
    shapes: [SQUARE, [2, 32, 64], [2, 32]],
    run: (x, w, b) => ad.bankLinear(x, w, b, ROUTE),
    kept: [1, 1, 0],
    dispatches: [1, 1, 1],
  },
  layerNorm: {
    shapes: [SQUARE, ROW, ROW],
    run: (x, w, b) => ad.layerNorm(x, w, b),
    kept: [1, 1, 0],
    dispatches: [1, 2, 2],
  },
};

for (const [name, { shapes, run, kept, dispatches }] of Object.entries(cases)) {
  needs(`${name}: what is kept and computed for each input alone`, () => {
    // Inputs of the op that nobody else holds: what lives on is what the op keeps.
    const sources = shapes.map((shape, i) => tensor(gpu, Float32Array.from(normal(shape, i).data), shape));
    const measure = (which: number): { readonly bytes: number; readonly dispatches: number } => {
      for (const [i, source] of sources.entries()) source.requiresGrad = i === which;
      const before = liveBytes(gpu);
      const y = tidy(() => run(...sources.map((source) => source.mul(1))));
      const own = 256 * Math.ceil((4 * y.size) / 256);
      const bytes = liveBytes(gpu) - before - own;
      const dy = tensor(gpu, new Float32Array(y.size).fill(1), y.shape);
      const all = which < 0 ? 0 : dispatchesOf(gpu, () => y.backward(dy));
      free(y, dy);
      for (const source of sources) source.grad = null;
      return { bytes, dispatches: all };
    };
    measure(-1); // the device's own arrays are made
    assert.is(measure(-1).bytes, 0, "without gradients");
    for (const [i, matrices] of kept.entries()) {
      const { bytes, dispatches: cost } = measure(i);
      assert.is(Math.floor(bytes / MATRIX), matrices, `${bytes} bytes kept for input ${i}`);
      assert.ok(bytes % MATRIX < 4 * 256, `${bytes} bytes kept for input ${i}`);
      // One for the product by 1 in front.
      assert.is(cost, (dispatches[i] ?? 0) + 1, `dispatches for input ${i}`);
    }
    free(...sources);
  });
}

needs("a frozen half of a network costs neither bytes nor dispatches", () => {
  const [x, w, v] = [normal([64, 64], 1), normal([64, 64], 2), normal([64, 64], 3)].map((value) =>
    leaf(gpu, value),
  );
  const measure = (trained: readonly (Tensor | undefined)[]): readonly [number, number] => {
    for (const input of [x, w, v]) if (input) input.requiresGrad = trained.includes(input);
    const before = liveBytes(gpu);
    const loss = tidy(() =>
      ad.gelu(ad.linear(ad.gelu(ad.linear(x as Tensor, w as Tensor)), v as Tensor)).sum(),
    );
    const bytes = liveBytes(gpu) - before;
    const dispatches = dispatchesOf(gpu, () => loss.backward());
    free(loss);
    for (const input of [x, w, v]) if (input) input.grad = null;
    return [bytes, dispatches];
  };
  // v alone: the input of its layer and of the last gelu; the sum's gradient is written out, gelu, the product.
  assert.equal(measure([v]), [2 * MATRIX + 256, 3]);
  // w too: the input of the first gelu; dx of the second layer, gelu, the product. x and v are there anyway.
  assert.equal(measure([v, w]), [3 * MATRIX + 256, 6]);
  assert.equal(measure([v, w, x]), [3 * MATRIX + 256, 7]);
  free(x, w, v);
});

needs("noGrad keeps no byte, whatever its inputs need", () => {
  const x = leaf(gpu, normal([64, 64], 1));
  const before = liveBytes(gpu);
  const y = noGrad(() => tidy(() => ad.softmax(ad.gelu(ad.matmul(x, x))).sum()));
  assert.is(liveBytes(gpu), before + 256);
  free(x, y);
});

// --- sums, against float64

sums("a leaf in many places: products with itself, views, stretched and by rows", async () => {
  const xs = normal([5, 7], 1);
  const x = leaf(gpu, xs);
  tidy(() => {
    const square = x.matmul(x, { transposeB: true }); // [5, 5]
    const row = x.slice(0, 2, 3); // [1, 7]
    const stretched = ad.expand(row, [5, 7]);
    const columns = x.transpose(0, 1).reshape(35);
    square
      .sum()
      .add(x.mul(stretched).sum())
      .add(ad.square(columns).sum())
      .add(x.mul(x).mul(x).sum())
      .add(ad.concat([x, row], 0).mul(3).sum())
      .backward();
  });
  const fn = (v: R.RefTensor): R.RefTensor => {
    const row = R.slice(v, [
      [2, 3],
      [0, 7],
    ]);
    const parts = [
      R.sum(R.matmul(v, R.permute(v, [1, 0]))),
      R.sum(R.mul(v, row)),
      R.sum(R.square(v)),
      R.sum(R.mul(R.mul(v, v), v)),
      R.map(R.add(R.sum(v), R.sum(row)), (sum) => 3 * sum),
    ];
    return parts.reduce((a, b) => R.add(a, b));
  };
  await assertGradients([x.grad], fn, [xs], { K: 35, products: 4 });
  x.dispose();
});

sums("three passes with gradients that were given, some of them views", async () => {
  const [xs, ws, dys] = [normal([4, 6], 1), normal([3, 6], 2), normal([3, 4], 3)];
  const [x, w] = [leaf(gpu, xs), leaf(gpu, ws)];
  const dy = tensor(gpu, Float32Array.from(dys.data), [3, 4]);
  for (let pass = 0; pass < 3; pass++) tidy(() => ad.linear(x, w).backward(dy.transpose(0, 1)));
  const fn = (a: R.RefTensor, b: R.RefTensor, d: R.RefTensor): R.RefTensor =>
    R.map(R.sum(R.mul(R.linear(a, b), R.permute(d, [1, 0]))), (sum) => 3 * sum);
  await assertGradients([x.grad, w.grad], fn, [xs, ws, dys], { K: 6, products: 4, wrt: [0, 1] });
  free(x, w, dy);
});

needs.run();
sums.run();
