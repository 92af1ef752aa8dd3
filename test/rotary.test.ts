// Rotary position embedding as its users need it: tables, distances, a key/value cache, scaled contexts.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  type RotaryOptions,
  type RotaryTables,
  rotaryEmbedding,
  rotaryTables,
  Stream,
  type Tensor,
  tensor,
  tidy,
} from "../src/autograd/index.ts";
import { ShapeError } from "../src/gpu/index.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { gpu as openTestGpu } from "./device.ts";

const gpu = await openTestGpu();
const rotary = suite("rotary position embedding");

/** The angle of each pair at position 1. */
const angles = ({ cos, sin, shape: [, pairs] }: RotaryTables): number[] =>
  Array.from({ length: pairs }, (_, i) => Math.atan2(sin[pairs + i] ?? 0, cos[pairs + i] ?? 0));
const close = (actual: readonly number[], expected: readonly number[]): void =>
  assertClose(actual, expected, { rtol: 3e-7, atol: 1e-9 });

rotary("pairs turn by powers of theta, as exact at far positions as at near ones", () => {
  const tables = rotaryTables(100_001, 4, 100);
  assert.equal(tables.shape, [100_001, 2]);
  close(angles(tables), [1, 0.1]);
  assert.is(tables.cos[200_000], Math.fround(Math.cos(100_000)));
  assert.is(tables.sin[200_001], Math.fround(Math.sin(100_000 * 100 ** -0.5)));
  assert.equal([...tables.cos.subarray(0, 2)], [1, 1]);
});

rotary("scaled tables reach farther", () => {
  const [R, theta, factor] = [8, 10_000, 4];
  const own = [1, 0.1, 0.01, 0.001];
  close(
    angles(rotaryTables(2, R, theta, { kind: "linear", factor })),
    own.map((v) => v / factor),
  );
  const ntk = angles(rotaryTables(2, R, theta, { kind: "ntk", factor }));
  close([ntk[0] ?? 0, ntk[3] ?? 0], [1, 0.001 / factor]);
  close(angles(rotaryTables(2, 2, theta, { kind: "ntk", factor })), [1]);
  // In 2,000 positions the pairs turn 318, 32, 3.2 and 0.3 times: two more than four, one between, one less than one.
  const llama3 = { kind: "llama3", factor, originalPositions: 2000 } as const;
  const kept = ((2000 * 0.01) / (2 * Math.PI) - 1) / 3;
  close(angles(rotaryTables(2, R, theta, llama3)), [
    1,
    0.1,
    0.01 * (kept + (1 - kept) / factor),
    0.001 / factor,
  ]);
});

rotary("settings that make no tables are refused", () => {
  assert.throws(() => rotaryTables(4, 3), /rotaryTables: 4 positions, size 3; .* an even size above 0/);
  assert.throws(() => rotaryTables(1.5, 4), /rotaryTables: 1.5 positions/);
  assert.throws(() => rotaryTables(4, 4, 0), /theta is 0, expected more than 0/);
  assert.throws(() => rotaryTables(4, 4, 10, { kind: "linear", factor: 0.5 }), /factor is 0.5/);
  const llama3 = { kind: "llama3", factor: 2, lowFrequencyFactor: 4 } as const;
  assert.throws(() => rotaryTables(4, 4, 10, llama3), /frequency factors 4 and 4, expected 0 < low < high/);
});

function turn(x: Tensor, options: RotaryOptions = {}): Tensor {
  const { cos, sin, shape } = rotaryTables(64, 8);
  return tidy(() => rotaryEmbedding(x, tensor(gpu, cos, shape), tensor(gpu, sin, shape), options));
}

const random = (shape: readonly number[], seed: number): Tensor =>
  tensor(gpu, Stream.seed(seed).normal(shape.reduce((a, b) => a * b)), shape);

rotary("scores depend on distances alone", async () => {
  for (const interleaved of [false, true]) {
    const [q, k] = [random([1, 1, 1, 8], 1), random([1, 1, 1, 8], 2)];
    const score = (at: number, other: number): Promise<number> =>
      tidy(() =>
        turn(q, { interleaved, offset: at })
          .mul(turn(k, { interleaved, offset: other }))
          .sum(),
      ).item();
    assertClose([await score(12, 5)], [await score(47, 40)], { atol: 2e-6 });
    assert.ok(Math.abs((await score(12, 5)) - (await score(12, 6))) > 1e-3);
  }
});

rotary("keys behind a cache are turned as in one piece, by offset or by positions", async () => {
  const keys = random([2, 6, 16], 3);
  const [whole, behind, placed] = tidy(() => {
    const last = keys.slice(1, 4, 6);
    const positions = tensor(gpu, Int32Array.of(4, 5, 4, 5), [2, 2]);
    return [
      turn(keys, { heads: 2 }).slice(1, 4, 6),
      turn(last, { heads: 2, offset: 4 }),
      turn(last, { heads: 2, positions }),
    ] as const;
  });
  const expected = await whole.data();
  assertBitEqual(await behind.data(), expected, "offset");
  assertBitEqual(await placed.data(), expected, "positions");
});

rotary("tables get no gradient", () => {
  const { cos, sin, shape } = rotaryTables(4, 2);
  const table = tensor(gpu, cos, shape);
  table.requiresGrad = true;
  assert.throws(
    () => rotaryEmbedding(random([1, 1, 1, 2], 4), table, tensor(gpu, sin, shape)),
    (error: Error) =>
      error instanceof ShapeError && /the tables get no gradient; detach\(\) them/.test(error.message),
  );
});

rotary.run();
