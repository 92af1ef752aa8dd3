// Captured steps under the profiler and under tracing: a replay is seen dispatch by dispatch, and changes no value.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { capture, Parameter, relu, Stream, sqrt, tensor } from "../src/autograd/index.ts";
import { memory, profile, traceNaN } from "../src/gpu/index.ts";
import { AdamW } from "../src/optim/index.ts";
import { assertBitEqual } from "./compare.ts";
import { liveBytes, gpu as testGpu } from "./device.ts";

const gpu = await testGpu();
const stream = Stream.seed(9);
const watched = suite("capture, watched");

/** Eight steps of a small network; `around` runs each of them. */
async function losses(around: (run: () => void) => Promise<unknown>): Promise<Float32Array> {
  const weight = Parameter.from(gpu, stream.fold("w").normal(24), [4, 6]);
  const optimiser = new AdamW([weight], { lr: 0.05 });
  const x = tensor(gpu, new Float32Array(18), [3, 6]);
  const step = capture(gpu, () => {
    optimiser.zeroGrad();
    const loss = relu(x.matmul(weight, { transposeB: true }))
      .mul(2)
      .mean();
    loss.backward();
    optimiser.step();
    return loss;
  });
  const result: number[] = [];
  for (let i = 0; i < 8; i++) {
    x.write(stream.fold(i).normal(18));
    await around(() => step.run());
    result.push(await step.output.item());
  }
  result.push(...(await weight.data()));
  step.dispose();
  optimiser.dispose();
  for (const tensor of [weight, x]) tensor.dispose();
  return Float32Array.from(result);
}

watched("every clock and the tracer leave a replay's values as they are", async () => {
  const expected = await losses(async (run) => run());
  const before = liveBytes(gpu);
  for (const clock of ["none", "timestamps", "host"] as const)
    assertBitEqual(await losses((run) => profile(gpu, run, { clock })), expected, clock);
  assertBitEqual(await losses((run) => traceNaN(gpu, run)), expected, "traced");
  assert.is(liveBytes(gpu), before);
});

watched("a replay is profiled kernel by kernel, with the operations that the op told", async () => {
  const a = tensor(gpu, stream.normal(64 * 32), [64, 32]);
  const b = tensor(gpu, stream.fold("b").normal(32 * 48), [32, 48]);
  const step = capture(gpu, () => relu(a.matmul(b)));
  for (let i = 0; i < 2; i++) step.run(); // as it is, then recorded
  const report = await profile(gpu, () => {
    for (let i = 0; i < 5; i++) step.run();
  });
  const product = report.kernels.find(({ kernel }) => kernel.startsWith("matmul"));
  assert.equal([product?.count, product?.flops], [5, 5 * 2 * 64 * 32 * 48]);
  assert.is(report.kernels.find(({ kernel }) => kernel.startsWith("unary"))?.count, 5);
  assert.ok((product?.totalMs ?? 0) > 0);
  step.dispose();
  for (const x of [a, b]) x.dispose();
});

watched(
  "a bad value in a replay names the op that was captured, and the next replay is looked at anew",
  async () => {
    const x = tensor(gpu, [1, 4, 9]);
    const step = capture(gpu, () => sqrt(x.mul(4)).add(1));
    for (let i = 0; i < 3; i++) step.run();
    const traced = (values: readonly number[]): Promise<string> => {
      x.write(Float32Array.from(values));
      return traceNaN(gpu, () => step.run()).then(
        () => "",
        (error: Error) => error.message,
      );
    };
    assert.is(await traced([1, 0, 2]), "");
    assert.match(
      await traced([1, 0, -2]),
      /^trace: sqrt \(kernel unary\.forward\) .* NaN: y f32 \[3\] at \[2\]/,
    );
    assert.is(await traced([3, 2, 1]), "");
    assert.ok(Math.abs(((await step.output.data())[1] ?? 0) - 1 - Math.sqrt(8)) < 1e-6);
    step.dispose();
    x.dispose();
  },
);

watched("memory that is kept for replays is reported apart from what is live", () => {
  const before = memory(gpu);
  const x = tensor(gpu, new Float32Array(50_000));
  const step = capture(gpu, () => x.mul(2).add(1).sum());
  for (let i = 0; i < 3; i++) step.run();
  const during = memory(gpu);
  assert.ok(during.capturedBytes >= before.capturedBytes + 2 * 200_000, "two intermediate arrays");
  assert.ok(during.peakBytes >= during.liveBytes + during.capturedBytes);
  step.dispose();
  x.dispose();
  assert.is(memory(gpu).capturedBytes, before.capturedBytes);
  assert.is(memory(gpu).liveBytes, before.liveBytes);
});

watched.run();
