// The profiler: what it counts, whether its times can be, and that it changes no value.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Gpu } from "../src/array/index.ts";
import {
  attention,
  bankLinear,
  gelu,
  layerNorm,
  matmul,
  noGrad,
  Parameter,
  Stream,
  type Tensor,
  tanh,
  tensor,
  tidy,
} from "../src/autograd/index.ts";
import {
  formatProfile,
  GpuError,
  type KernelProfile,
  type KernelSpec,
  type ProfileReport,
  profile,
} from "../src/gpu/index.ts";
import { fill } from "../src/ops/index.ts";
import { AdamW } from "../src/optim/index.ts";
import { assertBitEqual } from "./compare.ts";
import { bothKernels, liveBytes, gpu as testGpu } from "./device.ts";

const gpu = await testGpu();
const stream = Stream.seed(3);
const counting = suite("profile, counting");
const timing = suite("profile, timing");
const lasting = suite("profile, side effects");

const CLOCKS = ["none", "timestamps", "host"] as const;

function normal(name: string, shape: readonly number[]) {
  const size = shape.reduce((product, n) => product * n, 1);
  return tensor(gpu, stream.fold(name).normal(size), shape);
}

function kernelOf(report: ProfileReport, name: RegExp): KernelProfile {
  const found = report.kernels.filter(({ kernel }) => name.test(kernel));
  assert.is(found.length, 1, `${name} among ${report.kernels.map(({ kernel }) => kernel).join(", ")}`);
  return found[0] as KernelProfile;
}

async function rejection(promise: Promise<unknown>): Promise<Error> {
  const result = await promise.catch((error: unknown) => error);
  if (!(result instanceof Error)) throw new Error("nothing was thrown");
  return result;
}

// --- counting

counting("dispatches, bytes and operations are those of what was called", async () => {
  const [a, b] = [normal("a", [64, 32]), normal("b", [32, 48])];
  const report = await profile(
    gpu,
    () =>
      tidy(() => {
        for (let i = 0; i < 3; i++) matmul(a, b);
        a.add(a);
      }),
    { clock: "none" },
  );
  const product = kernelOf(report, /^matmul/);
  assert.is(product.count, 3);
  assert.is(product.flops, 3 * 2 * 64 * 32 * 48);
  assert.is(product.bytes, 3 * 4 * (64 * 32 + 32 * 48 + 64 * 48));
  const sum = kernelOf(report, /^binary\.same$/);
  assert.equal([sum.count, sum.flops, sum.bytes], [1, 0, 3 * 4 * 64 * 32]);
  assert.is(report.dispatches, 4);
  assert.is(report.clock, "none");
  for (const ms of [report.busyMs, product.totalMs, product.share, product.gigaflopsPerSecond])
    assert.ok(Number.isNaN(ms), "nothing is timed without a clock");
  for (const x of [a, b]) x.dispose();
});

counting("a product that sums over groups of rows counts each row once", async () => {
  const [x, weight] = [normal("x", [6, 8]), normal("w", [4, 5, 8])];
  const route = tensor(gpu, Int32Array.of(2, 0, 2));
  for (const tensor of [x, weight]) tensor.requiresGrad = true;
  const report = await profile(gpu, () => tidy(() => bankLinear(x, weight, null, route).sum().backward()));
  const flops = report.kernels.reduce((sum, kernel) => sum + kernel.flops, 0);
  assert.is(flops, 3 * 2 * 6 * 5 * 8, "forward, for x and for the weight");
  for (const tensor of [x, weight, route]) tensor.dispose();
});

counting("attention counts its products, in one kernel as in several", async () => {
  const [B, T, C] = [2, 5, 8];
  for (const device of Object.values(await bothKernels())) {
    const inputs = ["q", "k", "v"].map((name) =>
      tensor(device, stream.fold(name).normal(B * T * C), [B, T, C]),
    );
    for (const input of inputs) input.requiresGrad = true;
    const [q, k, v] = inputs as [Tensor, Tensor, Tensor];
    const forward = await profile(device, () =>
      tidy(() => void noGrad(() => attention(q, k, v, null, { heads: 2 }))),
    );
    const both = await profile(device, () =>
      tidy(() => attention(q, k, v, null, { heads: 2 }).sum().backward()),
    );
    const [once, all] = [forward, both].map(({ kernels }) =>
      kernels.reduce((sum, { flops }) => sum + flops, 0),
    );
    const product = 2 * B * T * T * C;
    assert.is(once, 2 * product, "scores, and their sums of values");
    // In several kernels the weights are kept; in one they and what they multiply are computed again.
    assert.is(all, (device.isSoftware ? 2 + 4 : 2 + 3 + 4) * product);
    for (const input of inputs) input.dispose();
  }
});

counting("kernels of one label are told apart by what is specialised in them", async () => {
  const x = normal("x", [5, 7]);
  const report = await profile(gpu, () => tidy(() => [gelu(x), tanh(x), x.add(x)]));
  const names = report.kernels.map(({ kernel }) => kernel);
  assert.is(names.filter((name) => /^unary\.forward value=\S/.test(name)).length, 2);
  assert.ok(names.includes("binary.same"), "a label of its own needs nothing more");
  x.dispose();
});

counting("more dispatches than a submit holds are all counted and all timed", async () => {
  const x = gpu.empty([16]);
  for (const clock of CLOCKS) {
    const report = await profile(
      gpu,
      () => {
        for (let i = 0; i < 700; i++) fill(gpu, x, i);
      },
      { clock },
    );
    const kernel = kernelOf(report, /^fill\.words$/);
    assert.is(kernel.count, 700, clock);
    assert.is(report.submits, clock === "host" ? 700 : 3, clock);
    if (clock !== "none") assert.ok(kernel.totalMs > 0, clock);
    assert.is(new Uint32Array((await gpu.read(x)).buffer)[0], 699);
  }
  x.release();
});

counting("nothing recorded is an empty report", async () => {
  const report = await profile(gpu, () => {});
  assert.equal([report.dispatches, report.submits, report.kernels.length], [0, 0, 0]);
  assert.is(report.busyMs, 0);
  assert.match(formatProfile(report), /0 dispatches of 0 kernels/);
});

// --- timing

/** Eight products of 304³ and eight sums of 64 numbers. */
function bigAndSmall(): { run: () => void; dispose: () => void } {
  const [a, b, small] = [normal("a", [304, 304]), normal("b", [304, 304]), normal("s", [64])];
  return {
    run: () =>
      tidy(() => {
        for (let i = 0; i < 8; i++) {
          matmul(a, b);
          small.add(small);
        }
      }),
    dispose: () => {
      for (const x of [a, b, small]) x.dispose();
    },
  };
}

for (const clock of ["timestamps", "host"] as const) {
  timing(`the times of kernels can be true, with the clock "${clock}"`, async () => {
    const { run, dispose } = bigAndSmall();
    await profile(gpu, run); // kernels compile
    const report = await profile(gpu, run, { clock });
    const product = kernelOf(report, /^matmul/);
    const sum = kernelOf(report, /^binary\.same$/);
    const kernelsMs = product.totalMs + sum.totalMs;
    const seen = JSON.stringify(report);
    assert.ok(product.meanMs > sum.meanMs, `a product of 304³ takes longer than a sum of 64: ${seen}`);
    assert.ok(Math.abs(product.meanMs - product.totalMs / 8) < 1e-9, seen);
    assert.ok(kernelsMs <= report.wallMs, `no more than there was: ${seen}`);
    assert.ok(kernelsMs > 0.3 * report.wallMs, `most of the time is in the products: ${seen}`);
    assert.ok(Math.abs(kernelsMs - report.busyMs) < 0.01 * report.busyMs, `one after another: ${seen}`);
    assert.ok(report.busyMs + report.idleMs <= report.wallMs + 1e-6, seen);
    assert.ok(report.longestGapMs <= report.idleMs + 1e-9, seen);
    assert.ok(Math.abs(product.share + sum.share - 1) < 1e-9, seen);
    assert.ok(
      Math.abs(product.gigaflopsPerSecond - product.flops / product.totalMs / 1e6) < 1e-6 &&
        product.gigaflopsPerSecond > 0.05,
      seen,
    );
    assert.is(report.kernels[0], product, "the longest comes first");
    assert.ok(clock === "host" ? report.roundTripMs > 0 : report.roundTripMs === 0, seen);
    dispose();
  });
}

timing("waits for the device are no host time", async () => {
  const { run, dispose } = bigAndSmall();
  run();
  const report = await profile(
    gpu,
    async () => {
      for (let i = 0; i < 3; i++) {
        run();
        await gpu.device.recorder.throttle();
      }
    },
    { clock: "none" },
  );
  assert.ok(report.hostMs > 0 && report.hostMs < 0.5 * report.wallMs, JSON.stringify(report));
  assert.ok(report.submitMs > 0 && report.submitMs <= report.hostMs, JSON.stringify(report));
  assert.is(report.hostMicrosecondsPerDispatch, (1000 * report.hostMs) / report.dispatches);
  dispose();
});

timing("without timestamp queries the host's clock is taken, and the table says so", async () => {
  const { watch } = gpu.device;
  Object.defineProperty(watch, "hasTimestamps", { value: false, configurable: true });
  try {
    const x = normal("x", [4]);
    const report = await profile(gpu, () => tidy(() => x.add(x)));
    assert.is(report.clock, "host");
    assert.match(
      formatProfile(report),
      /NO TIMESTAMP QUERIES: .* each time includes a round trip of 0\.\d{3} ms/,
    );
    const error = await rejection(profile(gpu, () => {}, { clock: "timestamps" }));
    assert.ok(error instanceof GpuError);
    assert.match(error.message, /this device has no timestamp queries; use the clock "host"/);
    x.dispose();
  } finally {
    Reflect.deleteProperty(watch, "hasTimestamps"); // the class's own getter again
  }
  assert.is((await profile(gpu, () => {})).clock, watch.hasTimestamps ? "timestamps" : "host");
});

timing("the table has a line for each kernel, in columns", async () => {
  const { run, dispose } = bigAndSmall();
  const lines = formatProfile(await profile(gpu, run)).split("\n");
  const at = lines.findIndex((line) => line.startsWith("kernel"));
  assert.match(lines[at] ?? "", /^kernel +count +total ms +mean ms +share +GB\/s +GFLOP\/s$/);
  assert.match(lines[at + 1] ?? "", /^matmul\S* +8 +\d+\.\d{3} +\d+\.\d{4} +\d+\.\d% +\d+\.\d\d +\d+\.\d\d$/);
  assert.match(lines[at + 2] ?? "", /^binary\.same +8 .* -$/);
  assert.is(lines.length, at + 3);
  assert.is(lines[at]?.length, lines[at + 1]?.length);
  dispose();
});

// --- side effects

/** Losses of a few steps with uploads, reads, an optimiser and memory that is used again. */
async function losses(device: Gpu): Promise<Float32Array> {
  const weight = Parameter.from(device, stream.fold("w").normal(48), [6, 8]);
  const gain = Parameter.from(device, new Float32Array(8).fill(1), [8]);
  const bias = Parameter.from(device, new Float32Array(8), [8]);
  const optimiser = new AdamW([weight, gain, bias], { lr: 0.1 });
  const result: number[] = [];
  for (let step = 0; step < 4; step++) {
    const loss = tidy(() => {
      optimiser.zeroGrad();
      const x = tensor(device, stream.fold(step).normal(30), [5, 6]);
      const y = layerNorm(gelu(matmul(x, weight)), gain, bias);
      const value = y.mul(y.add(1)).mean();
      value.backward();
      return value;
    });
    optimiser.step();
    result.push(await loss.item());
    loss.dispose();
  }
  result.push(...(await weight.data()));
  optimiser.dispose();
  for (const parameter of [weight, gain, bias]) parameter.dispose();
  return Float32Array.from(result);
}

lasting("training is the same to the bit under every clock, and leaves no memory taken", async () => {
  const expected = await losses(gpu);
  const before = liveBytes(gpu);
  for (const clock of CLOCKS) {
    let actual = new Float32Array();
    const report = await profile(
      gpu,
      async () => {
        actual = (await losses(gpu)) as typeof actual;
      },
      { clock },
    );
    assertBitEqual(actual, expected, clock);
    assert.ok(report.dispatches > 20);
    assert.is(liveBytes(gpu), before, clock);
    assert.is(gpu.device.recorder.watcher, null, "nobody looks on any more");
  }
  assertBitEqual(await losses(gpu), expected, "afterwards");
});

lasting("memory may be trimmed while commands are held back", async () => {
  let values: number[] = [];
  await profile(
    gpu,
    async () => {
      const x = tensor(gpu, [1, 2, 3]);
      const y = x.mul(2);
      const z = y.add(x);
      for (const tensor of [x, y]) tensor.dispose();
      gpu.device.trim();
      values = [...(await z.data())];
      z.dispose();
    },
    { clock: "host" },
  );
  assert.equal(values, [3, 6, 9]);
});

lasting("one profile at a time; the second says so and the first goes on", async () => {
  const x = normal("x", [4]);
  const report = await profile(gpu, async () => {
    const error = await rejection(profile(gpu, () => {}));
    assert.ok(error instanceof GpuError);
    assert.match(error.message, /being profiled already/);
    x.add(x).dispose();
  });
  assert.is(report.dispatches, 1);
  x.dispose();
});

lasting("an error of the program is told, and ends the profile", async () => {
  const failing = profile(gpu, () => {
    throw new RangeError("the program's own");
  });
  assert.is((await rejection(failing)).message, "the program's own");
  const broken: KernelSpec = { shader: "nothing", entry: "main" };
  assert.match((await rejection(profile(gpu, () => gpu.run(broken, {}, {}, [1, 1, 1])))).message, /no file/);
  const x = gpu.empty([4]);
  assert.throws(() => gpu.run({ shader: "fill", entry: "words" }, { y: x }, {}, [1, 1, 1]), /no buffer/);
  x.release();
  assert.is(gpu.device.recorder.watcher, null);
  assert.is((await profile(gpu, () => {})).dispatches, 0);
});

for (const part of [counting, timing, lasting]) part.run();
