// More workgroups than one dimension of a grid holds: the same block of rows again and again.
import * as assert from "uvu/assert";
import type { Gpu } from "../../src/array/index.ts";
import * as R from "../reference/index.ts";
import { assertWithin } from "./bounds.ts";
import { isOrdinary, valuesOf } from "./classes.ts";
import { evaluate } from "./evaluate.ts";
import { magnitudeOf } from "./gradients.ts";
import { type Case, isFloat, type Value } from "./row.ts";
import { attributesOf, type Subject } from "./subject.ts";

const MAX_GROUPS = 65_535;

/**
 * The forward pass of a row with `workgroup`, over the grid's limit. The first block is compared with float64; all
 * others hold the same bits. Only for ops whose rows do not see one another.
 */
export async function compareGrid(device: Gpu, subject: Subject): Promise<void> {
  const { name, workgroup, reference, run } = subject;
  const base = subject.cases.find(isOrdinary);
  if (!base || !workgroup) throw new Error(`${name}: no case for a long grid`);
  const [rows, columns] = workgroup === "row" ? [7, 4] : [1024, 4];
  const block = blockOf(subject, base, rows, columns);
  const attrs = attributesOf(device, block);
  const expected = reference(block.inputs, attrs, block.inputs);
  assert.is(expected.shape[0], rows, `${name}: its rows are no rows of the output`);
  const needed = workgroup === "row" ? MAX_GROUPS + 1 : ((MAX_GROUPS + 1) * workgroup) / columns;
  const times = Math.ceil(needed / rows);
  const inputs = block.inputs.map((x) => (x && x.shape[0] === rows ? repeated(x, times) : x));
  const { y } = await evaluate(device, { run, inputs, attrs, dy: null });
  const size = expected.data.length;
  assert.is(y.length, times * size);
  const magnitude = () => magnitudeOf(subject, block.inputs, attrs);
  const bound = subject.forward({ inputs: block.inputs, attrs, expected, dy: null, magnitude });
  assertWithin(y.subarray(0, size), expected.data, bound, name);
  const bytes = Buffer.from(y.buffer, y.byteOffset, y.byteLength);
  for (let i = 1; i < times; i++) {
    const at = i * size * 4;
    if (bytes.compare(bytes, 0, size * 4, at, at + size * 4) !== 0)
      throw new Error(`${name}: block ${i} of ${times} holds other bits than the first`);
  }
}

function blockOf(
  subject: Subject,
  base: Case,
  rows: number,
  columns: number,
): Pick<Case, "inputs" | "attrs"> {
  const made = subject.make?.([rows, columns], 1);
  if (made) return made;
  // Beside the main input, vectors are along the columns (the weight of a norm).
  const layout = base.inputs.map(
    (x, i) => x && (i > 0 && x.shape.length === 1 ? [columns] : [rows, columns]),
  );
  return { inputs: valuesOf(base, layout, 1), attrs: base.attrs ?? {} };
}

function repeated(x: NonNullable<Value>, times: number): Value {
  const shape = [(x.shape[0] ?? 0) * times, ...x.shape.slice(1)];
  const data = isFloat(x) ? new Float64Array(x.data.length * times) : new Int32Array(x.data.length * times);
  for (let i = 0; i < times; i++) data.set(x.data, i * x.data.length);
  return data instanceof Float64Array ? R.ref(shape, data) : R.indices(shape, data);
}
