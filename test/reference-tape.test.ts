// The float64 engine's reverse mode against central differences: each derivative on every shape class of its row,
// and a graph whose values are used more than once.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { assertClose } from "./compare.ts";
import { gpu as openTestGpu } from "./device.ts";
import { table } from "./ops.table.ts";
import { shapeClasses } from "./ops-table/classes.ts";
import { composed } from "./ops-table/composed.ts";
import { floatPositions } from "./ops-table/gradients.ts";
import { type Case, floats, normal } from "./ops-table/row.ts";
import { attributesOf, type Subject, subjectOf } from "./ops-table/subject.ts";
import * as R from "./reference/index.ts";

const gpu = await openTestGpu();
const subjects = new Map([...table, ...composed].map(subjectOf).map((subject) => [subject.name, subject]));
const test = suite("reference tape");

/** Inside these the values of a row's cases are tame enough for differences of 1e-6. */
const CLASSES = ["primes", "one", "fours", "vector", "rank 6", "stretched", "scalar"];

for (const name of Object.keys(R.derivatives)) {
  test(`${name} by central differences`, () => {
    const subject = subjects.get(name);
    if (!subject) throw new Error(`${name}: no row`);
    const own = subject.cases.filter(
      (c) => c.gradient !== false && c.inputs.every((x) => !x || x.data.length < 300),
    );
    const made = shapeClasses(gpu, subject).filter(({ shapeClass }) => CLASSES.includes(shapeClass));
    assert.ok(own.length + made.length > 3);
    for (const c of [...own, ...made]) compare(subject, c);
  });
}

function compare({ name, reference, correct }: Subject, c: Case): void {
  const attrs = attributesOf(gpu, c);
  const y = reference(c.inputs, attrs, c.inputs);
  const dy = normal(y.shape, 7);
  const actual = R.derivatives[name]?.(dy, c.inputs, y, attrs);
  if (!actual) return; // no formula for these attributes: differences take its place
  const positions = floatPositions(c.inputs);
  const inputs = positions.map((i) => floats(c.inputs, i));
  const numerical = R.numericalGradient(
    (...moved) => {
      const all = [...c.inputs];
      for (const [n, i] of positions.entries()) all[i] = moved[n] ?? null;
      return reference(all, attrs, c.inputs);
    },
    inputs,
    dy,
  );
  positions.forEach((i, n) => {
    const [gradient, expected] = [actual[i], numerical[n]];
    if (!gradient || !expected) throw new Error(`${name}, ${c.name}: no gradient of input ${i}`);
    const wanted = correct?.(expected, i, attrs) ?? expected;
    assert.equal(gradient.shape, wanted.shape, `${name}, ${c.name}`);
    assertClose(gradient.data, wanted.data, {
      atol: 1e-5,
      rtol: 1e-3,
      name: `${name}, ${c.name}, input ${i}`,
    });
  });
}

test("a value that is used twice gets the sum, and zeros are left where nothing arrives", () => {
  // y = Σ (x · tanh x + x), so dy/dx = tanh x + x (1 - tanh² x) + 1.
  const tape = new R.Tape();
  const x = tape.leaf(normal([3, 4], 1));
  const unused = tape.leaf(normal([2], 2));
  const of = (name: string, inputs: readonly R.Variable[], value: R.RefTensor, attrs = {}): R.Variable =>
    tape.record(
      value,
      inputs,
      (dy) =>
        R.derivatives[name]?.(
          dy,
          inputs.map((v) => v.value),
          value,
          attrs,
        ) ?? [],
    );
  const t = of("tanh", [x], R.tanh(x.value));
  const product = of("mul", [x, t], R.mul(x.value, t.value));
  const total = of("add", [product, x], R.add(product.value, x.value));
  const y = of("sum", [total], R.sum(total.value));
  tape.backward(y, R.ref([], [1]));
  const expected = R.map(x.value, (v) => Math.tanh(v) + v * (1 - Math.tanh(v) ** 2) + 1);
  assertClose(tape.gradient(x).data, expected.data, { atol: 1e-12 });
  assert.equal([...tape.gradient(unused).data], [0, 0]);
  assert.throws(() => tape.backward(y, R.ref([2])), /a gradient \[2\] for a value \[\]/);
});

test.run();
