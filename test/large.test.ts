// Arrays beyond the largest binding: every op of the table once more where nearly nothing fits into one, with the bits
// of the ordinary run; what is refused; and a training step with tied weights.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Gpu, type HalfType } from "../src/array/index.ts";
import { GpuError } from "../src/gpu/index.ts";
import { bothKernels, liveBytes, gpu as openTestGpu } from "./device.ts";
import { table } from "./ops.table.ts";
import { assertSame, compare as compareWithReference } from "./ops-table/check.ts";
import { evaluate, type MemoryLayout } from "./ops-table/evaluate.ts";
import { compareHalves } from "./ops-table/halves.ts";
import { type Case, normal, type Row } from "./ops-table/row.ts";
import { attributesOf, subjectOf } from "./ops-table/subject.ts";

const gpu = await openTestGpu();
const variants = await bothKernels();
const { alignment } = gpu.device.traits;

/** The device with bindings of at most so many bytes. */
function tiny(maxBindingBytes: number, kernels: "software" | "hardware" = gpu.device.traits.kernels): Gpu {
  return new Gpu(gpu.device, { kernels, maxBindingBytes });
}

const rows = suite("ops beyond a binding");

/** Ops that add up over elements of several chunks, and so in another order: within their row's bound. */
const SUMS = new Set([
  "sum",
  "matmul",
  "linear",
  "bankLinear",
  "attention",
  "logSumExp",
  "embedding",
  "gather",
  "indexSelect",
  "scatterAdd",
]);
/** Cases of each row that run with the kernels of the other class of adapters too: ranges are the same for both. */
const MOST_OF_OTHERS = 3;
/** Cases of an op that are compared with its float64 reference. */
const MOST_REFERENCES = 6;
/** Long arrays get longer bindings: thousands of dispatches show no more than some dozens. */
const MOST_CHUNKS = 8;
/** Ops that had an input or an output in several chunks. */
const covered = new Set<string>();

/** ADAMIX_TEST_OPS=topK,sort: only these rows, while an op is being written. */
const only = process.env.ADAMIX_TEST_OPS?.split(",");
const wanted = only ? table.filter(({ op }) => only.includes(op.name)) : table;

for (const row of wanted) {
  // Central differences take their time.
  const step = SUMS.has(row.op.name) ? Math.ceil(row.cases.length / MOST_REFERENCES) : 1;
  for (const c of row.cases.filter((_c, i) => i % step === 0)) {
    for (const kernels of ["software", "hardware"] as const) {
      const isOther = kernels !== gpu.device.traits.kernels;
      if (isOther && (!row.variants || c.kernels || row.cases.indexOf(c) >= step * MOST_OF_OTHERS)) continue;
      rows(`${row.op.name}, ${c.name}, kernels for ${kernels}`, () => compare(row, c, kernels));
    }
  }
}

for (const row of wanted) {
  const [c] = row.cases;
  if (!c || row.halves === false) continue;
  for (const dtype of ["f16", "bf16"] as const)
    rows(`${row.op.name} in ${dtype}`, () => compareInHalves(row, c, dtype));
}

rows("every op went through arrays of several chunks", () => {
  const missing = wanted.filter(
    (row) => !covered.has(row.op.name) && Math.max(...row.cases.map(bytesOf)) > alignment,
  );
  assert.equal(
    missing.map(({ op }) => op.name),
    [],
  );
});

/** Bytes of the longest array of a case. */
function bytesOf({ inputs }: Case): number {
  return 4 * Math.max(...inputs.map((x) => x?.data.length ?? 0));
}

async function compare(row: Row, c: Case, kernels: "software" | "hardware"): Promise<void> {
  const subject = subjectOf(row);
  const { run } = subject;
  const { inputs } = c;
  const dy = c.gradient === false ? null : normal(outputShape(row, c), 1000);
  const evaluated = (on: Gpu, layout?: MemoryLayout) =>
    evaluate(on, { run, inputs, attrs: attributesOf(on, c), dy, ...(layout && { layout }) });
  const whole = await evaluated(variants[kernels]);
  const bytes = 4 * Math.max(...inputs.map((x) => x?.data.length ?? 0), whole.y.length);
  const { on, result } = await onSmallestBinding(kernels, bytes / MOST_CHUNKS, evaluated);
  if (bytes > on.maxBindingBytes) covered.add(row.op.name);
  if (SUMS.has(row.op.name)) await compareWithReference(on, subject, c, { layouts: [] });
  else assertSame(result, whole, "in one binding");
  if (c !== row.cases[0]) return;
  const before = liveBytes(on);
  assertSame(await evaluated(on), result, "second run");
  assertSame(await evaluated(on, "columns"), result, "strided inputs");
  assert.is(liveBytes(on), before, "bytes that stay");
}

async function compareInHalves(row: Row, c: Case, dtype: HalfType): Promise<void> {
  const subject = subjectOf(row);
  const { run } = subject;
  const { inputs } = c;
  const dy = c.gradient === false ? null : normal(outputShape(row, c), 1000);
  const evaluated = (on: Gpu) => evaluate(on, { run, inputs, attrs: attributesOf(on, c), dy, half: dtype });
  const whole = await evaluated(gpu);
  const { on, result } = await onSmallestBinding(gpu.device.traits.kernels, 0, evaluated);
  if (SUMS.has(row.op.name)) await compareHalves(on, subject, c, dtype);
  else assertSame(result, whole, "in one binding");
}

function outputShape({ op }: Row, c: Case): readonly number[] {
  return op.shape(
    c.inputs.map((x) => x?.shape ?? null),
    attributesOf(gpu, c),
  );
}

/** The smallest binding that one row, and what is read whole, fits into: the op itself says how much it needs. */
async function onSmallestBinding<T>(
  kernels: "software" | "hardware",
  atLeast: number,
  run: (on: Gpu) => Promise<T>,
): Promise<{ readonly on: Gpu; readonly result: T }> {
  for (let most = aligned(atLeast); ; ) {
    const on = tiny(most, kernels);
    try {
      return { on, result: await run(on) };
    } catch (error) {
      const needed =
        error instanceof GpuError && /(\d+) bytes.* the largest binding here is/.exec(error.message)?.[1];
      if (!needed) throw error;
      const next = aligned(Number(needed));
      assert.ok(next > most, `asks for ${needed} bytes of ${most}`);
      most = next;
    }
  }
}

function aligned(bytes: number): number {
  return Math.max(Math.ceil(bytes / alignment), 1) * alignment;
}

rows.run();
