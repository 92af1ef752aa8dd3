// Functions that are composed of ops: values, gradients, refusals, nothing that stays.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { eq, type Tensor, tensor, tidy } from "../src/autograd/index.ts";
import { ShapeError } from "../src/gpu/index.ts";
import { liveBytes, gpu as openTestGpu } from "./device.ts";
import { assertWithin } from "./ops-table/bounds.ts";
import { type Attributes, type Case, isFloat, normal, sizeOf, type Value } from "./ops-table/row.ts";
import { type ComposedRow, statistics } from "./ops-table/statistics.ts";
import * as R from "./reference/index.ts";

const gpu = await openTestGpu();
// What the device keeps from its first use on.
tidy(() => eq(tensor(gpu, [1]), 1));
gpu.ones(1);
const test = suite("composed");

function tensorOf({ shape, data }: NonNullable<Value>): Tensor {
  return tensor(gpu, data instanceof Float64Array ? Float32Array.from(data) : Int32Array.from(data), shape);
}

async function compare({ name, call, reference, forward, backward }: ComposedRow, c: Case): Promise<void> {
  const before = liveBytes(gpu);
  const attrs = (c.attrs ?? {}) as Attributes; // an object's fields by name
  const { inputs } = c;
  const tensors = inputs.map((value) => value && tensorOf(value));
  const wanted = c.gradient === false ? [] : [...inputs.keys()].filter((i) => isFloat(inputs[i]));
  for (const i of wanted) (tensors[i] as Tensor).requiresGrad = true;
  const y = call(tensors, attrs);
  const expected = reference(inputs, attrs);
  assert.equal(y.shape, expected.shape);
  const context = { inputs, attrs, dy: null, magnitude: () => expected };
  assertWithin(await y.data(), expected.data, forward({ ...context, expected }), name);
  for (const i of wanted) {
    const dy = normal(expected.shape, 1000);
    const given = tensorOf(dy);
    y.backward(given);
    const moved = (x: R.RefTensor) =>
      reference(
        inputs.map((value, n) => (n === i ? x : value)),
        attrs,
      );
    const [gradient] = R.numericalGradient(moved, [inputs[i] as R.RefTensor], dy);
    const actual = await tensors[i]?.grad?.data();
    if (!gradient || !actual) throw new Error(`${name}: no gradient`);
    const bound = backward({ ...context, expected: gradient, dy });
    const noise = 1e-9 * (1 + gradient.data.reduce((top, v) => Math.max(top, Math.abs(v)), 0));
    assertWithin(actual, gradient.data, (n) => bound(n) + noise, `${name}, gradient`);
    given.dispose();
  }
  for (const made of [...tensors, y]) made?.dispose();
  assert.is(liveBytes(gpu), before, "bytes that stay");
}

for (const row of statistics) {
  for (const c of row.cases) test(`${row.name}, ${c.name}`, () => compare(row, c));
  for (const { shapes, attrs = {}, message } of row.refuses ?? []) {
    test(`${row.name} refuses ${JSON.stringify(shapes)} ${JSON.stringify(attrs)}`, () => {
      const tensors = shapes.map((shape) => shape && tensorOf(R.ref(shape, new Float64Array(sizeOf(shape)))));
      assert.throws(
        () => row.call(tensors, attrs as Attributes),
        (error: Error) => error instanceof ShapeError && message.test(error.message),
      );
      for (const made of tensors) made?.dispose();
    });
  }
}

test.run();
