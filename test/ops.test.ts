// Every op against its row of ops.table.ts, and every composed function against its row of ops-table/composed.ts:
// values, gradients, memory layouts, masks of needed gradients, refusals. The shapes that are made for each row are
// in ops-shapes.test.ts, the public functions in ops-public.test.ts.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { apply, Tensor, tidy } from "../src/autograd/index.ts";
import { ShapeError } from "../src/gpu/index.ts";
import * as ops from "../src/ops/index.ts";
import { bothKernels, gpu as openTestGpu } from "./device.ts";
import { table } from "./ops.table.ts";
import { compare } from "./ops-table/check.ts";
import { shapeClasses } from "./ops-table/classes.ts";
import { composed } from "./ops-table/composed.ts";
import { isFloat, type Refusal, type Row, sizeOf } from "./ops-table/row.ts";
import { attributesOf, type Subject, subjectOf } from "./ops-table/subject.ts";

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
const wanted = [...table, ...composed].map(subjectOf).filter(({ name }) => !only || only.includes(name));

for (const subject of wanted) {
  for (const c of subject.cases) {
    const options = { masks: c === subject.cases[0] };
    if (!subject.variants) rows(`${subject.name}, ${c.name}`, () => compare(gpu, subject, c, options));
    else {
      rows(`${subject.name}, ${c.name}, kernels for software`, () =>
        compare(variants.software, subject, c, options),
      );
      if (c.kernels) continue;
      rows(`${subject.name}, ${c.name}, kernels for GPUs`, () =>
        compare(variants.hardware, subject, c, options),
      );
    }
  }
}

for (const subject of wanted) {
  const { name, refuses = [], op } = subject;
  for (const refusal of refuses) {
    const shown = refusal.shapes.map((shape) => (shape ? `[${shape.join(", ")}]` : "none")).join(" ");
    refusals(`${name} of ${shown} ${JSON.stringify(refusal.attrs ?? {})}`, () =>
      refusesShapes(subject, refusal),
    );
  }
  refusals(`${name} has refusals where it refuses`, () => {
    const inputs = subject.cases[0]?.inputs.length ?? 0;
    const accepted = new Set(shapeClasses(gpu, subject).map(({ shapeClass }) => shapeClass));
    const refusesClass = !accepted.has("vector") || !accepted.has("empty rows");
    assert.ok(refuses.length > 0 || (inputs === 1 && !refusesClass), "no row of `refuses`");
  });
  if (op && op.dtypes !== "any") {
    refusals(`${name} of inputs of other types`, () => refusesTypes({ op, cases: subject.cases }));
  }
}

function refusesShapes({ name, op, run, casts }: Subject, { shapes, attrs = {}, message }: Refusal): void {
  const { dispatches } = gpu.device.statistics();
  const error = thrown(() => {
    if (op) return op.shape(shapes, attrs);
    return tidy(() => {
      const inputs = shapes.map(
        (shape) => shape && new Tensor(gpu, gpu.from(new Float32Array(sizeOf(shape)), shape)),
      );
      return void run(inputs, attrs as Readonly<Record<string, unknown>>);
    });
  });
  assert.instance(error, ShapeError);
  assert.match(error.message, message);
  if (op) assert.ok(error.message.startsWith(`${name}: `), error.message);
  if (!casts) assert.is(gpu.device.statistics().dispatches, dispatches, "nothing is recorded");
}

function refusesTypes({ op, cases }: Pick<Row, "op" | "cases">): void {
  const c = cases[0];
  if (!c) throw new Error(`${op.name} has no case`);
  const attrs = attributesOf(gpu, c);
  const { dispatches } = gpu.device.statistics();
  c.inputs.forEach((value, wrong) => {
    if (!value || op.dtypes?.[wrong] === "any") return;
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
