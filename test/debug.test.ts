// Tracing of NaN and infinities, and what ADAMIX_DEBUG prints at each level.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { GpuArray } from "../src/array/index.ts";
import {
  add,
  concat,
  div,
  exp,
  linear,
  log,
  matmul,
  Parameter,
  relu,
  Stream,
  softmax,
  sqrt,
  Tensor,
  type Tensor as Tensors,
  tensor,
  tidy,
} from "../src/autograd/index.ts";
import { GpuError, traceNaN } from "../src/gpu/index.ts";
import { copyInto, fill } from "../src/ops/index.ts";
import { AdamW } from "../src/optim/index.ts";
import { liveBytes, gpu as testGpu } from "./device.ts";
import { runProgram } from "./program-process.ts";

const gpu = await testGpu();
const tracing = suite("traceNaN");
const quiet = suite("traceNaN, nothing to find");
const levels = suite("ADAMIX_DEBUG");

/** The message of the GpuError that tracing `fn` throws. Frees what `fn` makes. */
async function traced(fn: () => unknown): Promise<string> {
  const error = await traceNaN(gpu, () => {
    tidy(() => {
      fn();
    });
  }).catch((thrown: unknown) => thrown);
  if (!(error instanceof GpuError)) throw new Error(`expected a GpuError, not ${error}`);
  return error.message;
}

function leaf(values: readonly number[], shape?: readonly number[]): Tensors {
  const x = tensor(gpu, values, shape);
  x.requiresGrad = true;
  return x;
}

// --- what is found

tracing("the square root of a negative number in the middle of a graph", async () => {
  const x = leaf([4, 1, 0, 9, 16, 2], [2, 3]);
  const message = await traced(() =>
    relu(sqrt(x.mul(2).sub(1)))
      .sum()
      .backward(),
  );
  assert.match(
    message,
    /^trace: sqrt \(kernel unary\.forward\) is the first to write NaN: y f32 \[2, 3\] at \[0, 2\], dispatch \d+; what it only reads is finite$/,
  );
  x.dispose();
});

tracing("the logarithm of a negative number, and of zero", async () => {
  for (const [value, what] of [
    [-1, "NaN"],
    [0, "an infinity"],
  ] as const) {
    const x = leaf([3, value, 2]);
    const y = log(x);
    // One driver's own logarithm gives finite numbers there: then there is nothing to find.
    const isQuiet = Number.isFinite((await y.data())[1]);
    const found = await traceNaN(gpu, () => tidy(() => void log(x.mul(1)).add(1))).catch(
      (error: Error) => error.message,
    );
    if (isQuiet) assert.is(found, undefined);
    else
      assert.match(
        String(found),
        new RegExp(`^trace: log .* is the first to write ${what}: y f32 \\[3\\] at \\[1\\]`),
      );
    for (const tensor of [x, y]) tensor.dispose();
  }
});

tracing("zero divided by zero, among what is finite", async () => {
  const [a, b] = [leaf([1, 0, 0, 5]), leaf([2, 3, 0, 0.5])];
  const message = await traced(() => add(div(a.mul(3), b), 1).mean());
  assert.match(message, /^trace: div \(kernel binary\.\w+\) is the first to write NaN: y f32 \[4\] at \[2\]/);
  for (const x of [a, b]) x.dispose();
});

tracing("a gradient: the slope of the square root at zero", async () => {
  const x = leaf([4, 0, 9, 0]);
  const run = () => sqrt(x.mul(1)).mul(2).sum().backward();
  const message = await traced(run);
  assert.match(
    message,
    /^trace: sqrt backward \(kernel unary\.backward\) is the first to write an infinity: dx f32 \[4\] at \[1\]/,
  );
  x.grad = null;
  x.dispose();
});

tracing("a gradient of 0/0, where forward is finite", async () => {
  const [a, b] = [leaf([1, 2]), leaf([4, 0])];
  // sqrt's slope at 0 is infinite; times a gradient of 0 that is NaN.
  const message = await traced(() =>
    sqrt(b)
      .mul(tensor(gpu, [1, 0]))
      .add(a)
      .sum()
      .backward(),
  );
  assert.match(message, /^trace: sqrt backward .* is the first to write NaN: dx f32 \[2\] at \[1\]/);
  for (const x of [a, b]) {
    x.grad = null;
    x.dispose();
  }
});

tracing("an input that was bad from the start is named", async () => {
  const [x, weight] = [leaf([1, Number.NaN, 3, 4], [2, 2]), leaf([1, 0, 0, 1], [2, 2])];
  const message = await traced(() => matmul(x, weight));
  assert.match(
    message,
    /^trace: matmul \(kernel matmul\S*\) is the first to write NaN: \w+ f32 \[2, 2\] at \[0, 0\]/,
  );
  assert.match(message, /; it already reads one in a f32 \[2, 2\]$/);
  for (const tensor of [x, weight]) tensor.dispose();
});

tracing("overflow is an infinity", async () => {
  const x = tensor(gpu, [1, 89, 2]);
  assert.match(
    await traced(() => exp(x)),
    /^trace: exp .* is the first to write an infinity: y f32 \[3\] at \[1\]/,
  );
  x.dispose();
});

tracing(
  "the first dispatch and the first element are named, whatever threads come first, and each time",
  async () => {
    const values = new Float32Array(100_003).fill(4);
    for (const i of [99_999, 70_001, 100_002]) values[i] = -1;
    const x = tensor(gpu, values);
    const messages = new Set<string>();
    for (let i = 0; i < 3; i++)
      messages.add((await traced(() => [sqrt(x), exp(x.mul(1e6))])).replace(/dispatch \d+/, ""));
    assert.equal([...messages].length, 1);
    assert.match([...messages][0] ?? "", /^trace: sqrt .*: y f32 \[100003\] at \[70001\]/);
    x.dispose();
  },
);

tracing("a kernel outside of any op goes by its own name", async () => {
  const weight = Parameter.from(gpu, Float32Array.of(1, 2), [2]);
  const optimiser = new AdamW([weight], { lr: 0.1 });
  fill(gpu, optimiser.arena.segments[0]?.gradients as GpuArray, 0x7fc00000);
  assert.match(
    await traced(() => optimiser.step()),
    /^trace: kernel adamw\.step is the first to write NaN: \w+ f32/,
  );
  optimiser.dispose();
  weight.dispose();
});

tracing("halves are looked into", async () => {
  for (const type of ["f16", "bf16"] as const) {
    const x = tensor(gpu, [1, 2, 1e30, 4, 5]);
    const message = await traced(() => x.to(type).mul(1e30));
    // bf16 holds 1e30, and its product is computed in f32.
    const expected =
      type === "f16"
        ? /^trace: cast \(kernel cast\.narrow\) .* an infinity: rounded f16 \[5\] at \[2\]/
        : /^trace: scale \(kernel unary\.forward\) .* an infinity: y f32 \[5\] at \[2\]/;
    assert.match(message, expected);
    x.dispose();
  }
  for (const type of ["f16", "bf16"] as const) {
    const x = new Tensor(gpu, gpu.from(Float32Array.of(1, 2, Number.NaN, 4, 5, 6), [2, 3], type));
    const message = await traced(() => x.permute(1, 0).contiguous());
    assert.match(
      message,
      new RegExp(`NaN: \\w+ ${type} \\[3, 2\\] at \\[2, 0\\], .* reads one in \\w+ ${type}`),
    );
    x.dispose();
  }
});

tracing("it is thrown by a read, and by the end; after it all goes on", async () => {
  const x = tensor(gpu, [-1, 1]);
  const before = liveBytes(gpu);
  let reads = 0;
  const error = await traceNaN(gpu, async () => {
    const y = x.mul(2);
    await y.data();
    reads++;
    const z = sqrt(y);
    for (const tensor of [y, z]) queueMicrotask(() => tensor.dispose());
    await z.data();
    reads++;
  }).catch((thrown: Error) => thrown);
  assert.match(String(error), /trace: sqrt /);
  assert.is(reads, 1, "a finite value is read, the other is not");
  assert.is(liveBytes(gpu), before);
  assert.is(gpu.device.recorder.watcher, null);
  assert.ok(Number.isNaN((await sqrt(x).data())[0]), "nobody looks any more");
  x.dispose();
});

tracing("tracing goes on after it has found something", async () => {
  const x = tensor(gpu, [-1, 4]);
  const found: string[] = [];
  await traceNaN(gpu, async () => {
    for (const fn of [() => sqrt(x), () => x.mul(2), () => sqrt(x.mul(3))]) {
      const y = fn();
      await y.data().catch((error: Error) => found.push(error.message));
      y.dispose();
    }
  });
  assert.is(found.length, 2);
  for (const message of found) assert.match(message, /^trace: sqrt /);
  x.dispose();
});

// --- what is not

quiet("a finite graph gives what it gives, and takes no memory with it", async () => {
  const before = liveBytes(gpu);
  const x = leaf([1, 2, 3]);
  const loss = await traceNaN(gpu, () => {
    const value = tidy(() => {
      const result = sqrt(x).sum();
      result.backward();
      return result;
    });
    return value.item().finally(() => value.dispose());
  });
  assert.ok(Math.abs(loss - (1 + Math.SQRT2 + Math.sqrt(3))) < 1e-6);
  x.dispose();
  assert.is(liveBytes(gpu), before);
});

quiet("masks of -1e9 and -3.4e38, the largest float and subnormal numbers are finite", async () => {
  const x = tensor(gpu, [-1e9, -3.4e38, 3.4028234663852886e38, 1e-45, -0, 7], [2, 3]);
  await traceNaN(gpu, () => tidy(() => [softmax(x), x.add(0)]));
  x.dispose();
});

quiet("whole numbers may have any bits", async () => {
  const x = tensor(gpu, Int32Array.of(0x7fc00000, 0x7f800000, -1, 0), [2, 2]);
  await traceNaN(gpu, () => tidy(() => x.permute(1, 0).contiguous()));
  x.dispose();
});

/** Leaves memory of that size in the pool that is full of NaN. */
function leaveNaN(n: number): void {
  for (let i = 0; i < 3; i++) tensor(gpu, new Float32Array(n).fill(Number.NaN)).dispose();
}

quiet("what a kernel has not written yet is no NaN: concat writes part by part", async () => {
  leaveNaN(96);
  const [a, b] = [tensor(gpu, new Float32Array(48), [6, 8]), tensor(gpu, new Float32Array(48), [6, 8])];
  await traceNaN(gpu, () => tidy(() => concat([a, b], 1)));
  for (const x of [a, b]) x.dispose();
});

quiet("memory from before is looked at only where it is written", async () => {
  const cache = new Tensor(gpu, gpu.from(new Float32Array(40).fill(Number.NaN), [5, 8]));
  const rows = (start: number, end: number) => cache.array.view([end - start, 8], start * 8);
  const write = (values: number[]) => () =>
    gpu.scope(
      () => {
        const target = rows(2, 3);
        copyInto(gpu, gpu.from(Float32Array.from(values), [1, 8]), target);
        target.release();
      },
      () => [],
    );
  await traceNaN(gpu, write([1, 2, 3, 4, 5, 6, 7, 8]));
  const message = await traced(write([1, 2, 3, 4, Number.POSITIVE_INFINITY, 6, 7, 8]));
  assert.match(message, /^trace: kernel copy\.strided .* an infinity: destination f32 \[1, 8\] at \[0, 4\]/);
  assert.match(message, /it already reads one in source f32 \[1, 8\]$/);
  cache.dispose();
});

quiet("a training step with everything in it passes, one trace within another", async () => {
  const stream = Stream.seed(5);
  const weight = Parameter.from(gpu, stream.normal(24), [4, 6]);
  const optimiser = new AdamW([weight], { lr: 0.1 });
  const x = tensor(gpu, stream.fold("x").normal(18), [3, 6]);
  await traceNaN(gpu, () =>
    traceNaN(gpu, () => {
      for (let i = 0; i < 3; i++) {
        optimiser.zeroGrad();
        tidy(() => softmax(linear(x, weight)).mul(2).mean().backward());
        optimiser.step();
      }
    }),
  );
  assert.is(gpu.device.recorder.watcher, null);
  optimiser.dispose();
  for (const tensor of [weight, x]) tensor.dispose();
});

// --- levels

const program = (body: string) => `
  import { linear, openGpu, sqrt, softmax, tensor, tidy } from "./src/index.ts";
  const gpu = await openGpu();
  ${body}
  await gpu.device.close();
`;
const finite = program(`
  const [x, weight] = [tensor(gpu, [1, 2, 3, 4, 5, 6], [2, 3]), tensor(gpu, new Float32Array(12), [4, 3])];
  x.requiresGrad = true;
  const y = tidy(() => softmax(linear(x, weight)));
  console.log([...(await y.data())].join());
  tidy(() => y.sum().backward());
`);

levels("level 0 prints nothing", async () => {
  const { code, stdout, stderr } = await runProgram(finite, { env: { ADAMIX_DEBUG: "0" } });
  assert.equal([code, stdout, stderr], [0, "0.25,0.25,0.25,0.25,0.25,0.25,0.25,0.25\n", ""]);
});

levels("level 1 lists ops with kernels, shapes and times, forward and backward, in order", async () => {
  const { code, stdout, stderr } = await runProgram(finite, { env: { ADAMIX_DEBUG: "1" } });
  assert.is(code, 0, stderr);
  assert.is(stdout, "0.25,0.25,0.25,0.25,0.25,0.25,0.25,0.25\n");
  const lines = stderr.trim().split("\n");
  const time = gpu.device.watch.hasTimestamps ? " {2}\\d+\\.\\d{3} ms" : "";
  assert.match(
    lines[0] ?? "",
    new RegExp(
      `^#1 linear {2}matmul\\S* {2}a f32 \\[2, 3\\], b f32 \\[4, 3\\] -> c4? f32 \\[2, 4\\]${time}$`,
    ),
  );
  assert.match(
    lines[1] ?? "",
    new RegExp(`^#2 softmax {2}softmax\\.forward {2}x f32 \\[2, 4\\] -> y f32 \\[2, 4\\]${time}$`),
  );
  assert.ok(lines.some((line) => / softmax backward {2}softmax\.backward {2}/.test(line)));
  lines.forEach((line, i) => {
    assert.match(line, new RegExp(`^#${i + 1} \\S.*${time}$`));
  });
});

levels("level 2 prints the WGSL of each kernel as well, once", async () => {
  const { code, stderr } = await runProgram(finite, { env: { ADAMIX_DEBUG: "2" } });
  assert.is(code, 0, stderr);
  assert.is(stderr.match(/^--- softmax\.forward\n/gm)?.length, 1);
  assert.match(stderr, /^fn forward\(/m);
  assert.match(stderr, /^#2 softmax {2}softmax\.forward/m);
});

levels("level 3 throws at the read after the first NaN, and lets masks pass", async () => {
  const body = `
    const x = tensor(gpu, [1, -3.4e38, -1e9, 4], [2, 2]);
    console.log((await softmax(x).data()).length);
    const y = tidy(() => sqrt(x).mul(2));
    try { await y.data(); } catch (error) { console.log(error.name, error.message); }
    await sqrt(x).data();
    console.log("never");
  `;
  const { code, stdout, stderr } = await runProgram(program(body), { env: { ADAMIX_DEBUG: "3" } });
  const lines = stdout.trim().split("\n");
  assert.is(lines.length, 2, stdout + stderr);
  assert.is(lines[0], "4");
  assert.match(
    lines[1] ?? "",
    /^GpuError trace: sqrt .* NaN: y f32 \[2, 2\] at \[0, 1\], dispatch 2; what it only reads/,
  );
  assert.is(code, 1);
  assert.match(stderr, /GpuError: trace: sqrt /);
});

for (const part of [tracing, quiet, levels]) part.run();
