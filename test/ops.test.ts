// Every op against its row of ops.table.ts: values, gradients, memory layouts, masks of needed gradients, refusals.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Gpu } from "../src/array/index.ts";
import { apply, Tensor } from "../src/autograd/index.ts";
import { ShapeError } from "../src/gpu/index.ts";
import * as ops from "../src/ops/index.ts";
import { assertBitEqual } from "./compare.ts";
import { bothKernels, liveBytes, gpu as openTestGpu } from "./device.ts";
import { table } from "./ops.table.ts";
import { assertAgainstReference, attributes, floatPositions } from "./ops-table/against-reference.ts";
import { evaluate, type Outcome, poison } from "./ops-table/evaluate.ts";
import { type Attributes, type Case, isFloat, normal, type Row } from "./ops-table/row.ts";
import type * as R from "./reference/index.ts";

const gpu = await openTestGpu();
const variants = await bothKernels();

const rows = suite("ops");
const refusals = suite("ops, refusals");

rows("every exported op has a row", () => {
  const isOp = (value: unknown): value is ops.AnyOp =>
    typeof value === "object" && value !== null && "forward" in value && "shape" in value;
  const exported = Object.values(ops).filter(isOp);
  assert.ok(exported.length > 30);
  const missing = exported.filter((op) => !table.some((row) => row.op === op)).map((op) => op.name);
  assert.equal(missing, []);
});

/** ADAMIX_TEST_OPS=topK,sort: only these rows, while an op is being written. */
const only = process.env.ADAMIX_TEST_OPS?.split(",");
const wanted = only ? table.filter((row) => only.includes(row.op.name)) : table;

for (const row of wanted) {
  for (const c of row.cases) {
    if (!row.variants) rows(`${row.op.name}, ${c.name}`, () => compare(gpu, row, c));
    else {
      rows(`${row.op.name}, ${c.name}, kernels for software`, () => compare(variants.software, row, c));
      if (c.kernels) continue;
      rows(`${row.op.name}, ${c.name}, kernels for GPUs`, () => compare(variants.hardware, row, c));
    }
  }
}

async function compare(device: Gpu, row: Row, c: Case): Promise<void> {
  const { op } = row;
  const attrs = attributes(device, c);
  const { inputs } = c;
  const expected = row.reference(inputs, attrs, inputs);
  const dy = c.gradient === false ? null : normal(expected.shape, 1000);
  poison(device);
  const outcome = await evaluate(device, { op, inputs, attrs, dy });
  const before = liveBytes(device);
  assert.equal(outcome.shape, expected.shape);
  assertAgainstReference(row, c, attrs, dy, outcome);

  assertSame(await evaluate(device, { op, inputs, attrs, dy }), outcome, "second run");
  assertSame(await evaluate(device, { op, inputs, attrs, dy, strided: true }), outcome, "strided inputs");
  if (dy && c === row.cases[0]) await checkMasks(device, row, c, attrs, dy, outcome);
  assert.is(liveBytes(device), before, "bytes that stay");
}

/** Each gradient asked for alone is the same as together with the others, and costs less. */
async function checkMasks(
  device: Gpu,
  { op, fused }: Row,
  { inputs }: Case,
  attrs: Attributes,
  dy: R.RefTensor,
  whole: Outcome,
): Promise<void> {
  const positions = floatPositions(inputs);
  for (const position of positions) {
    const needs = inputs.map((_, i) => i === position);
    const outcome = await evaluate(device, { op, inputs, attrs, dy, needs });
    outcome.gradients.forEach((gradient, i) => {
      if (i !== position) assert.is(gradient, null, `${op.name}: input ${i} asked for no gradient`);
    });
    const [gradient, expected] = [outcome.gradients[position], whole.gradients[position]];
    if (!gradient || !expected) throw new Error(`${op.name}: no gradient of input ${position}`);
    assertBitEqual(gradient, expected, `${op.name}: gradient of input ${position} alone`);
    if (positions.length === 1) continue;
    if (!fused)
      assert.ok(outcome.dispatches < whole.dispatches, `${op.name}: input ${position} costs as much as all`);
    assert.ok(outcome.dispatches <= whole.dispatches);
  }
}

function assertSame(actual: Outcome, expected: Outcome, name: string): void {
  assertBitEqual(actual.y, expected.y, name);
  actual.gradients.forEach((gradient, i) => {
    const other = expected.gradients[i];
    if (gradient && other) assertBitEqual(gradient, other, `${name}, gradient of input ${i}`);
    else assert.is(gradient, other ?? null);
  });
}

for (const row of wanted) {
  for (const { shapes, attrs = {}, message } of row.refuses ?? []) {
    const shown = shapes.map((shape) => (shape ? `[${shape.join(", ")}]` : "none")).join(" ");
    refusals(`${row.op.name} of ${shown} ${JSON.stringify(attrs)}`, () => {
      const error = thrown(() => row.op.shape(shapes, attrs));
      assert.instance(error, ShapeError);
      assert.match(error.message, message);
      assert.ok(error.message.startsWith(`${row.op.name}: `), error.message);
    });
  }
  if (row.op.dtypes !== "any") {
    refusals(`${row.op.name} of inputs of other types`, () => refusesTypes(row));
  }
}

function refusesTypes({ op, cases }: Row): void {
  const c = cases[0];
  if (!c) throw new Error(`${op.name} has no case`);
  const attrs = attributes(gpu, c);
  const { dispatches } = gpu.device.statistics();
  c.inputs.forEach((value, wrong) => {
    if (!value) return;
    const tensors = c.inputs.map((input, i) => {
      if (!input) return null;
      const integers = input.data instanceof Int32Array !== (i === wrong);
      const data = integers ? Int32Array.from(input.data) : Float32Array.from(input.data);
      return new Tensor(gpu, gpu.from(data, input.shape));
    });
    const [given, expected] = isFloat(value) ? ["i32", "f32"] : ["f32", "i32"];
    const error = thrown(() => apply(op, tensors, attrs));
    assert.instance(error, ShapeError);
    assert.is(
      error.message,
      `${op.name}: input ${wrong} is ${given}, expected ${expected}; cast it with to("${expected}")`,
    );
    for (const tensor of tensors) tensor?.dispose();
  });
  assert.is(gpu.device.statistics().dispatches, dispatches, "nothing is recorded");
}

function thrown(fn: () => unknown): Error {
  try {
    fn();
  } catch (error) {
    if (error instanceof Error) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

rows.run();
refusals.run();
