// Memory by scope, peaks, the budget and its error, trimming, `using`, and reports of tensors that were lost.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Gpu, openGpu } from "../src/array/index.ts";
import { gelu, linear, Parameter, Stream, type Tensor, tensor, tidy } from "../src/autograd/index.ts";
import { GpuError, memory, memoryScope, resetPeakMemory, sizeClass, trim } from "../src/gpu/index.ts";
import { AdamW } from "../src/optim/index.ts";
import { liveBytes, withEnv } from "./device.ts";
import { runProgram } from "./program-process.ts";

// A device of its own: others leave memory taken.
const gpu = await openGpu();
const scopes = suite("memory, scopes");
const totals = suite("memory, totals");
const ending = suite("memory, ending");

function zeros(shape: readonly number[]): Tensor {
  const size = shape.reduce((product, n) => product * n, 1);
  return tensor(gpu, new Float32Array(size), shape);
}

/** Live bytes of a scope now. */
function bytesOf(scope: string, device: Gpu = gpu): number {
  return memory(device).scopes[scope]?.liveBytes ?? 0;
}

/** By how much `body` raises a scope's live bytes. */
function raised(scope: string, body: () => unknown): number {
  const before = bytesOf(scope);
  body();
  return bytesOf(scope) - before;
}

// --- scopes

scopes("everything alive is in one scope, and scopes add up to the total", () => {
  const made = [zeros([100]), memoryScope(gpu, "mine", () => zeros([3000])), zeros([7, 9])];
  const { liveBytes, scopes } = memory(gpu);
  assert.is(
    Object.values(scopes).reduce((sum, scope) => sum + scope.liveBytes, 0),
    liveBytes,
  );
  assert.equal(scopes.mine, { liveBytes: sizeClass(12_000), peakBytes: sizeClass(12_000), count: 1 });
  for (const x of made) x.dispose();
  assert.equal(memory(gpu).scopes.mine, { liveBytes: 0, peakBytes: sizeClass(12_000), count: 0 });
});

scopes("the innermost scope counts, for as long as the memory lives; views add nothing", () => {
  const before = bytesOf("other");
  const [outer, inner] = memoryScope(gpu, "outer", () => [
    zeros([64]),
    memoryScope(gpu, "inner", () => zeros([128])),
  ]);
  assert.equal([bytesOf("outer"), bytesOf("inner")], [256, 512]);
  const after = zeros([64]);
  assert.is(bytesOf("other"), before + 256);
  const view = inner.reshape(2, 64);
  assert.is(bytesOf("inner"), 512);
  inner.dispose();
  assert.is(bytesOf("inner"), 512, "the view still holds it");
  for (const x of [outer, view, after]) x.dispose();
  assert.equal([bytesOf("outer"), bytesOf("inner")], [0, 0]);
});

scopes("a scope ends with an error, and takes synchronous functions alone", () => {
  assert.throws(
    () =>
      memoryScope(gpu, "broken", () => {
        throw new RangeError("inside");
      }),
    /inside/,
  );
  assert.throws(() => memoryScope(gpu, "late", async () => {}), /"late" takes a synchronous function/);
  const before = bytesOf("other");
  const x = zeros([64]);
  assert.equal([bytesOf("other") - before, bytesOf("broken"), bytesOf("late")], [256, 0, 0]);
  x.dispose();
});

scopes("parameters, gradients and the optimiser have scopes of their own", () => {
  const [weight, bias] = [[64, 64], [64]].map((shape) =>
    Parameter.from(gpu, Stream.seed(1).normal(shape[0] === 64 && shape[1] ? 4096 : 64), shape),
  ) as [Parameter, Parameter];
  assert.is(bytesOf("parameters"), 4096 * 4 + 256);
  const x = zeros([2, 64]);
  const step = () => tidy(() => linear(x, weight, bias).sum().backward());
  assert.is(raised("gradients", step), 4096 * 4 + 256, "without an optimiser each has its gradient");
  const arena = sizeClass((4096 + 64) * 4);
  const optimiser = new AdamW([weight, bias]);
  assert.is(bytesOf("gradients"), arena);
  assert.is(bytesOf("parameters"), arena);
  assert.ok(bytesOf("optimiser") > 2 * arena, "two moments, and tables");
  const before = memory(gpu).scopes;
  optimiser.zeroGrad();
  step();
  optimiser.step();
  const after = memory(gpu).scopes;
  for (const name of ["parameters", "gradients", "optimiser"])
    assert.is(after[name]?.liveBytes, before[name]?.liveBytes, name);
  optimiser.dispose();
  for (const parameter of [weight, bias, x]) parameter.dispose();
  for (const name of ["parameters", "gradients", "optimiser"]) assert.is(bytesOf(name), 0, name);
});

scopes("what backward needs is saved until backward; what a result is as well, goes back to others", () => {
  const saved = "saved for backward";
  const x = zeros([1024]);
  x.requiresGrad = true;
  const before = memory(gpu).scopes;
  const savedBytes = () => bytesOf(saved) - (before[saved]?.liveBytes ?? 0);
  const y = x.mul(2); // saves nothing
  assert.is(savedBytes(), 0);
  const [z, w] = [gelu(x), gelu(x)]; // both save x
  assert.is(savedBytes(), 4096);
  assert.is(bytesOf("other"), (before.other?.liveBytes ?? 0) + 2 * 4096, "x is counted as saved now");
  const [a, b] = [z.sum(), w.sum()];
  a.backward();
  assert.is(savedBytes(), 4096, "the other graph still needs it");
  b.backward();
  assert.is(savedBytes(), 0);
  for (const tensor of [y, z, w, a, b]) tensor.dispose();
  assert.is(bytesOf("other"), before.other?.liveBytes, "x is one of the others again");
  x.dispose();
});

scopes(
  "a parameter that is saved for backward stays a parameter, and a named scope keeps what it has",
  () => {
    const weight = memoryScope(gpu, "head", () => Parameter.from(gpu, new Float32Array(64), [8, 8]));
    assert.is(bytesOf("head"), 256);
    const x = zeros([3, 8]);
    x.requiresGrad = true;
    const y = linear(x, weight); // saves the weight, for dx
    assert.is(bytesOf("head"), 256);
    for (const tensor of [y, x, weight]) tensor.dispose();
    assert.is(bytesOf("head"), 0);
  },
);

// --- totals

totals("the largest are grouped by shape, type and scope, largest together first", () => {
  const made = memoryScope(gpu, "big", () => [zeros([300, 1000]), zeros([200, 1000]), zeros([200, 1000])]);
  const ids = memoryScope(gpu, "ids", () => tensor(gpu, new Int32Array(250_000)));
  const [first, second, third] = memory(gpu).largest;
  assert.equal(first, {
    shape: [200, 1000],
    dtype: "f32",
    scope: "big",
    count: 2,
    bytes: 2 * sizeClass(800_000),
  });
  assert.equal([second?.shape, second?.count], [[300, 1000], 1]);
  assert.equal([third?.dtype, third?.scope], ["i32", "ids"]);
  for (const x of [...made, ids]) x.dispose();
});

totals("peaks are kept until they are reset", () => {
  const early = memory(gpu);
  memoryScope(gpu, "wide", () => zeros([100_000])).dispose();
  const late = memory(gpu);
  assert.is(late.liveBytes, early.liveBytes);
  assert.ok(late.peakBytes >= early.liveBytes + 400_000);
  assert.is(late.scopes.wide?.peakBytes, sizeClass(400_000));
  resetPeakMemory(gpu);
  const { peakBytes, liveBytes, scopes } = memory(gpu);
  assert.is(peakBytes, liveBytes);
  assert.is(scopes.wide, undefined, "an empty scope is forgotten");
  for (const scope of Object.values(scopes)) assert.is(scope.peakBytes, scope.liveBytes);
});

totals("trim gives back all that waits for reuse, and what lives stays", async () => {
  const x = tensor(gpu, [1, 2, 3]);
  const y = x.mul(2);
  zeros([50_000]).dispose();
  assert.ok(memory(gpu).pooledBytes >= 200_000);
  trim(gpu);
  assert.is(memory(gpu).pooledBytes, 0);
  assert.equal([...(await y.add(x).data())], [3, 6, 9]);
  for (const tensor of [x, y]) tensor.dispose();
});

totals("an exceeded budget names the largest tensors and the way out", async () => {
  const other = await withEnv("ADAMIX_MEMORY_MB", "2", () => openGpu());
  try {
    assert.is(memory(other).budgetBytes, 2 * 2 ** 20);
    const weight = Parameter.from(other, new Float32Array(120_000), [300, 400]);
    const made = memoryScope(other, "cache", () => [1, 2].map(() => other.empty([100_000])));
    let error: unknown;
    try {
      other.empty([500, 500]);
    } catch (thrown) {
      error = thrown;
    }
    assert.ok(error instanceof GpuError);
    const { message } = error as GpuError;
    assert.match(
      message,
      /^pool: 1\.0 MiB more for f32 \[500, 500\] would exceed the budget of 2\.0 MiB \(live 1\.\d MiB, pooled/,
    );
    assert.match(message, /free tensors \(tidy, dispose\), use smaller batches, or raise ADAMIX_MEMORY_MB/);
    assert.match(
      message,
      /; the largest are 2 x f32 \[100000\] \(cache\) 0\.9 MiB, f32 \[300, 400\] \(parameters\) 0\.5 MiB/,
    );
    const before = liveBytes(other);
    for (const array of made) array.release();
    other.empty([500, 500]).release(); // the way out
    assert.ok(liveBytes(other) < before);
    weight.dispose();
  } finally {
    await other.device.close();
  }
});

// --- ending

ending("`using` disposes a tensor at the end of its block, also by an error", () => {
  const before = liveBytes(gpu);
  {
    using x = zeros([64]);
    using y = x.mul(2);
    assert.is(liveBytes(gpu), before + 512);
    assert.is(y.size, 64);
  }
  assert.is(liveBytes(gpu), before);
  assert.throws(() => {
    using x = zeros([64]);
    x.reshape(3, 5);
  });
  assert.is(liveBytes(gpu), before);
});

const losing = `
  import { memory, openGpu, tensor, tidy } from "./src/index.ts";
  const gpu = await openGpu();
  function lose() { tensor(gpu, new Float32Array(200), [10, 20]); }
  function lookAfter() {
    tidy(() => { tensor(gpu, [1]).mul(2); });
    tensor(gpu, [1, 2]).dispose();
  }
  const kept = tensor(gpu, [1, 2, 3]);
  lookAfter();
  lose();
  for (let i = 0; i < 20; i++) { globalThis.gc(); await new Promise((resolve) => setTimeout(resolve, 5)); }
  console.log(memory(gpu).scopes.other.count, kept.size);
`;

ending("a tensor that is lost is reported with the stack that made it, and stays taken", async () => {
  const options = { env: { ADAMIX_DEBUG: "1" }, flags: ["--expose-gc"] };
  const { code, stdout, stderr } = await runProgram(losing, options);
  assert.is(code, 0, stderr);
  const reports = stderr.match(/^leak: .*$/gm) ?? [];
  assert.equal(reports, [
    "leak: tensor f32 [10, 20] was collected without dispose(); its memory is lost. It was made here:",
  ]);
  assert.match(stderr, /leak: [^\n]*\n( +at [^\n]*\n)*? +at lose /);
  assert.is(stdout.trim(), "2 3", "the kept one and the lost one are alive to the device");
});

ending("nothing is reported where debugging is off", async () => {
  const { code, stderr } = await runProgram(losing, { env: { ADAMIX_DEBUG: "" }, flags: ["--expose-gc"] });
  assert.equal([code, stderr], [0, ""]);
});

ending.after(() => gpu.device.close());

for (const part of [scopes, totals, ending]) part.run();
