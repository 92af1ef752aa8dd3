// NaN in, NaN out: drivers lose NaN in max, clamp, exp, log and comparisons, and a loss must not become finite in silence.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Gpu } from "../src/array/index.ts";
import {
  abs,
  apply,
  clamp,
  crossEntropy,
  linear,
  logSoftmax,
  maximum,
  minimum,
  relu,
  softmax,
  Tensor,
} from "../src/autograd/index.ts";
import { bothKernels } from "./device.ts";
import { table } from "./ops.table.ts";
import { type Attributes, isFloat, type Row, type Value } from "./ops-table/row.ts";

const variants = await bothKernels();
const test = suite("NaN");

const bits = Uint32Array.of(0x7fc00000, 0xffc00000, 0x7f800001, 0xffffffff);
const NANS = new Float32Array(bits.buffer);

/** Ops whose result is no number that NaN could be in, and those that drop elements. */
const exempt = new Set([
  ...["where", "dropout", "gather", "indexSelect", "nllLoss"],
  ...["eq", "ne", "lt", "le", "gt", "ge", "isNaN", "isInf", "isFinite"],
  ...["argmax", "argmin", "argsort", "topK"],
]);

/** Runs a row's first case with a NaN in one element of one input. */
async function poisoned(
  device: Gpu,
  { op, cases }: Row,
  input: number,
  nan: number,
): Promise<ArrayLike<number>> {
  const c = cases[0];
  if (!c) throw new Error(`${op.name} has no case`);
  const attrs = (typeof c.attrs === "function" ? c.attrs(device) : (c.attrs ?? {})) as Attributes;
  const tensors = c.inputs.map((value: Value, i) => {
    if (!value) return null;
    const data = isFloat(value) ? Float32Array.from(value.data) : Int32Array.from(value.data);
    const words = new Uint32Array(data.buffer);
    if (i === input) words[data.length >> 1] = bits[nan] ?? 0;
    return new Tensor(device, device.from(data, value.shape));
  });
  const y = apply(op, tensors, attrs);
  const values = await y.data();
  for (const made of [...tensors, y]) made?.dispose();
  return values;
}

for (const row of table) {
  if (exempt.has(row.op.name)) continue;
  const inputs = row.cases[0]?.inputs ?? [];
  for (const [i, value] of inputs.entries()) {
    if (!isFloat(value ?? undefined)) continue;
    for (const kind of row.variants ? (["software", "hardware"] as const) : (["software"] as const)) {
      test(`${row.op.name}, input ${i}, kernels for ${kind}`, async () => {
        for (const nan of NANS.keys()) {
          const y = await poisoned(variants[kind], row, i, nan);
          assert.ok(Array.from(y).some(Number.isNaN), `${row.op.name}: 0x${bits[nan]?.toString(16)} is lost`);
        }
      });
    }
  }
}

test("activations of products keep it too", async () => {
  for (const kind of ["software", "hardware"] as const) {
    const device = variants[kind];
    const x = new Tensor(device, device.from(new Float32Array(bits.slice(0, 2).buffer), [2, 1]));
    const weight = new Tensor(device, device.from(Float32Array.of(1, 2, 3, 4), [4, 1]));
    for (const activation of ["relu", "gelu", "geluTanh", "silu", "tanh", "sigmoid"] as const) {
      const y = linear(x, weight, null, { activation });
      assert.ok(Array.from(await y.data()).every(Number.isNaN), `${activation}, kernels for ${kind}`);
      y.dispose();
    }
    for (const made of [x, weight]) made.dispose();
  }
});

test("choices between numbers never choose against it", async () => {
  const device = variants.software;
  const x = new Tensor(device, device.from(new Float32Array(bits.slice(0, 2).buffer), [2, 1]));
  for (const op of [relu(x), clamp(x, -1, 1), abs(x), x.max(1), x.min(1), maximum(x, x), minimum(x, x)]) {
    assert.ok(Array.from(await op.data()).every(Number.isNaN));
    op.dispose();
  }
  x.dispose();
});

test("a row of a softmax or a loss is NaN as a whole, and the other rows are not", async () => {
  for (const device of Object.values(variants)) {
    const x = new Tensor(device, device.from(Float32Array.of(1, 2, Number.NaN, 0.5, 1, 2), [2, 3]));
    const labels = new Tensor(device, device.from(Int32Array.of(0, 1)));
    const rows = [softmax(x), logSoftmax(x)];
    const losses = crossEntropy(x, labels, { reduction: "none" });
    for (const y of rows)
      assert.equal(Array.from(await y.data(), Number.isNaN), [true, true, true, false, false, false]);
    assert.equal(Array.from(await losses.data(), Number.isNaN), [true, false]);
    for (const made of [x, labels, ...rows, losses]) made.dispose();
  }
});

test.run();
