/** Eigenpairs of small symmetric matrices, and embeddings made from them. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { cooccurrencePpmi, createRng, spectralEmbeddings, topEigenpairs } from "../src/data/index.ts";
import { assertClose } from "./compare.ts";

const eigen = suite("data: eigenpairs");

/** A symmetric [n, n] matrix with entries by (row, column). */
function symmetric(n: number, entry: (i: number, j: number) => number): Float64Array {
  const matrix = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) matrix[i * n + j] = matrix[j * n + i] = entry(i, j);
  }
  return matrix;
}

/** The largest |A v - value v| and |V V^T - I| over all entries. */
function defects(matrix: Float64Array, n: number, d: number) {
  const { values, vectors } = topEigenpairs(matrix, n, d);
  const row = (k: number) => vectors.subarray(k * n, (k + 1) * n);
  let residual = 0;
  let overlap = 0;
  for (let k = 0; k < d; k++) {
    for (let i = 0; i < n; i++) {
      let sum = 0;
      for (let j = 0; j < n; j++) sum += (matrix[i * n + j] ?? 0) * (row(k)[j] ?? 0);
      residual = Math.max(residual, Math.abs(sum - (values[k] ?? 0) * (row(k)[i] ?? 0)));
    }
    for (let l = 0; l <= k; l++) {
      const product = row(k).reduce((sum, x, i) => sum + x * (row(l)[i] ?? 0), 0);
      overlap = Math.max(overlap, Math.abs(product - (l === k ? 1 : 0)));
    }
  }
  return { values: [...values], residual, overlap };
}

const gauss = createRng(7);
const MATRICES: readonly [name: string, n: number, entry: (i: number, j: number) => number][] = [
  ["one number", 1, () => -3],
  ["two numbers", 2, (i, j) => (i === j ? 1 : 2)],
  ["a random matrix", 33, () => gauss.normal()],
  ["a diagonal", 7, (i, j) => (i === j ? i - 3 : 0)],
  ["the identity", 5, (i, j) => (i === j ? 1 : 0)],
  ["zero", 4, () => 0],
  ["all ones", 9, () => 1],
  ["three equal blocks", 12, (i, j) => (Math.floor(i / 4) === Math.floor(j / 4) ? 1 + ((i + j) % 4) : 0)],
  ["very large numbers", 6, (i, j) => 1e150 * Math.sin(1 + i + j)],
  ["very small numbers", 6, (i, j) => 1e-150 * Math.sin(1 + i + j)],
];
for (const [name, n, entry] of MATRICES) {
  eigen(`${name}: vectors are orthonormal and scaled by their values`, () => {
    const matrix = symmetric(n, entry);
    const size = Math.max(...matrix.map(Math.abs), Number.MIN_VALUE);
    const { values, residual, overlap } = defects(matrix, n, n);
    assert.ok(overlap < 1e-12, `overlap ${overlap}`);
    assert.ok(residual <= 1e-12 * n * size, `residual ${residual}`);
    assert.equal(
      values,
      values.toSorted((a, b) => b - a),
    );
    let trace = 0;
    for (let i = 0; i < n; i++) trace += matrix[i * n + i] ?? 0;
    assertClose([values.reduce((sum, x) => sum + x, 0) / size], [trace / size], {
      atol: 1e-12 * n,
      name: "trace",
    });
  });
}

eigen("eigenvalues known in closed form are found", () => {
  // The path of n nodes: 2 cos(k pi / (n + 1)).
  const n = 11;
  const { values } = topEigenpairs(
    symmetric(n, (i, j) => (i - j === 1 ? 1 : 0)),
    n,
    4,
  );
  const expected = [1, 2, 3, 4].map((k) => 2 * Math.cos((k * Math.PI) / (n + 1)));
  assertClose(values, expected, { atol: 1e-14, name: "path" });
});

eigen("the component of largest size is positive, and sizes are checked", () => {
  const { vectors } = topEigenpairs(
    symmetric(2, (i, j) => (i === j ? 1 : -2)),
    2,
    1,
  );
  assertClose(vectors.map(Math.abs), [Math.SQRT1_2, Math.SQRT1_2], { atol: 1e-15 });
  assert.ok(Math.max(...vectors) > 0.7);
  assert.throws(() => topEigenpairs(new Float64Array(4), 2, 3), /eigen: 3 of 2 eigenpairs asked for/);
  assert.throws(() => topEigenpairs(new Float64Array(5), 2, 1), /5 values are no \[2, 2\] matrix/);
});

eigen.run();

const spectral = suite("data: spectral embeddings");

spectral("PPMI is the log ratio of lines together to lines apart, and zero for rare tokens", () => {
  const lines = [[0, 1, 1], [0, 1], [0, 2], [2, 3], [2]];
  const table = cooccurrencePpmi({ lines, vocabSize: 5, minCount: 2 });
  const at = (i: number, j: number) => table[i * 5 + j] ?? Number.NaN;
  // p(0) = 3/5, p(1) = 2/5, together 2/5; p(2) = 3/5, with 0 in 1/5: below 9/25, so 0.
  assertClose([at(0, 1), at(1, 0)], Array(2).fill(Math.log(0.4 / (0.6 * 0.4))), { atol: 1e-5 });
  assert.is(at(0, 2), 0);
  assert.is(at(0, 0), 0);
  assert.is(at(2, 3), 0); // Token 3 is in one line.
  assert.ok(table.every((x, k) => x === at(k % 5, Math.floor(k / 5))));
  assert.throws(() => cooccurrencePpmi({ lines: [[0], [7]], vocabSize: 5 }), /spectral: row 1 has the id 7/);
});

/** Two topics of 10 words each; a line holds 4 words of one topic. Token 20 occurs once, 21 never. */
function topicLines(): number[][] {
  const rng = createRng(3);
  const lines = Array.from({ length: 400 }, (_, i) =>
    Array.from({ length: 4 }, () => 10 * (i % 2) + rng.int(10)),
  );
  return [...lines, [20, 3]];
}

spectral("words of one topic are closer than words of two", () => {
  const table = spectralEmbeddings({ lines: topicLines(), vocabSize: 22, dim: 3, jitter: 0, seed: 1 });
  const row = (i: number) => [...table.subarray(3 * i, 3 * i + 3)];
  const dot = (a: number[], b: number[]) => a.reduce((sum, x, k) => sum + x * (b[k] ?? 0), 0);
  const cosine = (i: number, j: number) =>
    dot(row(i), row(j)) / Math.sqrt(dot(row(i), row(i)) * dot(row(j), row(j)));
  let within = 1;
  let across = -1;
  for (let i = 0; i < 10; i++) {
    for (let j = 0; j < 10; j++) {
      within = Math.min(within, cosine(i, j), cosine(10 + i, 10 + j));
      across = Math.max(across, cosine(i, 10 + j));
    }
  }
  assert.ok(within > across + 0.3, `within ${within}, across ${across}`);
});

spectral("the factors have the deviation asked for; rare rows and noise are drawn by the seed", () => {
  const options = { lines: topicLines(), vocabSize: 22, dim: 5, std: 0.1, jitter: 0, rareStd: 0.02, seed: 1 };
  const table = spectralEmbeddings(options);
  const frequent = table.subarray(0, 20 * 5);
  const sum = frequent.reduce((total, x) => total + x, 0);
  const squares = frequent.reduce((total, x) => total + x * x, 0);
  const deviation = Math.sqrt(squares / table.length - (sum / table.length) ** 2); // Rare rows count as zeros.
  assertClose([deviation], [0.1], { rtol: 1e-5, name: "deviation" });
  const rare = table.subarray(20 * 5);
  assert.ok(rare.every((x) => x !== 0 && Math.abs(x) < 0.1));
  assert.equal(spectralEmbeddings(options), table);
  const other = spectralEmbeddings({ ...options, seed: 2 });
  assert.equal(other.subarray(0, 100), frequent);
  assert.not.equal(other.subarray(100), rare);
  const noisy = spectralEmbeddings({ ...options, jitter: 0.005 });
  const noise = noisy.subarray(0, 100).map((x, i) => x - (frequent[i] ?? 0));
  assert.ok(noise.every((x) => x !== 0 && Math.abs(x) < 0.03));
});

spectral("more dimensions than frequent tokens leave columns at zero", () => {
  const table = spectralEmbeddings({
    lines: [[0, 1], [2]],
    vocabSize: 3,
    dim: 4,
    minCount: 1,
    jitter: 0,
    seed: 1,
  });
  for (const token of [0, 1]) assert.equal([...table.subarray(4 * token + 1, 4 * token + 4)], [0, 0, 0]);
  assert.ok(table.subarray(8).every((x) => x !== 0));
});

spectral("a vocabulary of 1,024 is factorised in seconds", () => {
  const rng = createRng(1);
  const lines = Array.from({ length: 6000 }, () =>
    Array.from({ length: 20 }, () => Math.floor(1024 * rng.uniform() ** 2)),
  );
  const start = performance.now();
  const table = spectralEmbeddings({ lines, vocabSize: 1024, dim: 64, minCount: 1, seed: 1 });
  assert.is(table.length, 65_536);
  assert.ok(performance.now() - start < 20_000, `${performance.now() - start} ms`);
});

spectral.run();
