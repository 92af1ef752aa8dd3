// The engine below the ops: buffers, recorded commands, chunks, errors, and several devices.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Gpu, openGpu } from "../src/array/index.ts";
import * as ad from "../src/autograd/index.ts";
import { Parameter, Stream, type Tensor, tensor, tidy } from "../src/autograd/index.ts";
import { GpuError, ShapeError, sizeClass } from "../src/gpu/index.ts";
import { accumulate, fill, zeros } from "../src/ops/index.ts";
import { AdamW, clipGradNorm } from "../src/optim/index.ts";
import { assertBitEqual } from "./compare.ts";
import { liveBytes, gpu as openTestGpu, withEnv } from "./device.ts";
import { sizeOf } from "./ops-table/row.ts";
import { runProgram } from "./program-process.ts";

const gpu = await openTestGpu();
const memory = suite("engine, memory");
const order = suite("engine, order");
const chunks = suite("engine, chunks");
const failures = suite("engine, failures");
const devices = suite("engine, devices");

/** Opens another device with an environment variable set, and closes it after `body`. */
async function withDevice(
  name: string,
  value: string,
  body: (other: Gpu) => void | Promise<void>,
): Promise<void> {
  const other = await withEnv(name, value, () => openGpu());
  try {
    await body(other);
  } finally {
    await other.device.close();
  }
}

function expectError(body: () => unknown, type: typeof GpuError | typeof ShapeError, message: RegExp): void {
  assert.throws(body, (error: Error) => error instanceof type && message.test(error.message));
}

async function rejection(promise: Promise<unknown>): Promise<Error> {
  const result = await promise.catch((error: unknown) => error);
  if (!(result instanceof Error)) throw new Error("nothing was thrown");
  return result;
}

// --- memory

memory("size classes waste at most a fifth above 1 KiB, and are multiples of 256 bytes", () => {
  for (let bytes = 1; bytes < 5_000_000; bytes = Math.ceil(bytes * 1.013)) {
    const size = sizeClass(bytes);
    assert.ok(size >= bytes && size % 256 === 0, `${bytes}: ${size}`);
    assert.is(sizeClass(size), size);
    if (bytes >= 1024) assert.ok((size - bytes) / size <= 0.2, `${bytes}: ${size}`);
  }
});

memory("a class hands out its oldest free buffer first, whatever order they came back in", () => {
  const { pool } = gpu.device;
  const taken = Array.from({ length: 5 }, () => pool.acquire(7777));
  const ids = taken.map(({ id }) => id);
  for (const i of [3, 0, 4, 1, 2]) pool.release(taken[i] as (typeof taken)[number]);
  const again = ids.map(() => pool.acquire(7777));
  assert.equal(
    again.map(({ id }) => id),
    [...ids].sort((a, b) => a - b),
  );
  for (const buffer of again) pool.release(buffer);
});

/** A training step of two layers with everything that a step has: loss, clipping, optimiser. */
function smallTraining(device: Gpu): { step: (batch: number) => void; dispose: () => void } {
  const stream = Stream.seed(1);
  const parameters = [[8, 6], [8], [8], [3, 8]].map((shape, i) => {
    const size = sizeOf(shape);
    return Parameter.from(device, stream.fold(i).normal(size), shape);
  });
  const [weight, gain, bias, head] = parameters as [Parameter, Parameter, Parameter, Parameter];
  const optimiser = new AdamW(parameters, { lr: 0.01 });
  const loss = (batch: number): Tensor => {
    const x = tensor(device, stream.normal(batch * 6), [batch, 6]);
    const labels = tensor(
      device,
      Int32Array.from({ length: batch }, (_, i) => i % 3),
    );
    const h = ad.layerNorm(ad.gelu(ad.linear(x, weight)), gain, bias);
    return ad.crossEntropy(ad.linear(h, head), labels);
  };
  const step = (batch: number) =>
    tidy(() => {
      optimiser.zeroGrad();
      loss(batch).backward();
      clipGradNorm(optimiser.arena, 1);
      optimiser.step();
    });
  const dispose = () => {
    optimiser.dispose();
    for (const parameter of parameters) parameter.dispose();
  };
  return { step, dispose };
}

memory("step 50 of a training needs no byte, buffer, bind group or kernel more than step 3", () => {
  const first = smallTraining(gpu);
  first.step(5);
  first.dispose(); // what a device keeps once it is made: a dummy, a vector of ones
  const before = liveBytes(gpu);
  const training = smallTraining(gpu);
  const counts = () => {
    const { liveBytes, created, bindGroups, kernels } = gpu.device.statistics();
    return { liveBytes, created, bindGroups, kernels };
  };
  for (let i = 0; i < 3; i++) training.step(5);
  const early = counts();
  for (let i = 3; i < 50; i++) training.step(5);
  assert.equal(counts(), early);
  training.dispose();
  assert.is(liveBytes(gpu), before);
});

memory("batches of changing size settle down too", () => {
  const training = smallTraining(gpu);
  const sizes = [5, 7, 64, 33];
  for (let i = 0; i < 12; i++) training.step(sizes[i % 4] ?? 0);
  const early = gpu.device.statistics();
  for (let i = 0; i < 40; i++) training.step(sizes[i % 4] ?? 0);
  const late = gpu.device.statistics();
  assert.is(late.created, early.created);
  assert.is(late.kernels, early.kernels);
  assert.is(late.liveBytes, early.liveBytes);
  training.dispose();
});

memory("what waits for reuse makes room before the budget is said to be exceeded", async () => {
  await withDevice("ADAMIX_MEMORY_MB", "1", async (small) => {
    const big = small.empty([150_000]); // 0.6 MB
    fill(small, big);
    big.release();
    const other = small.from(new Float32Array(200_000).fill(3)); // another class
    assert.is((await small.read(other))[199_999], 3);
    const { pooledBytes, liveBytes: live } = small.device.statistics();
    assert.ok(pooledBytes + live <= 2 ** 20);
    const expected =
      /pool: 0\.\d MiB more for f32 \[\d+\] would exceed the budget of 1\.0 MiB \(live 0\.\d MiB, pooled 0\.0 MiB\): .*ADAMIX_MEMORY_MB/;
    expectError(() => small.empty([100_000]), GpuError, expected);
    assert.is(liveBytes(small), live, "a refused array holds nothing");
    other.release();
    small.empty([100_000]).release();
  });
});

memory("shapes that are none are refused", () => {
  expectError(() => gpu.empty([2, -1]), ShapeError, /-1 is no size, in \[2, -1\]/);
  expectError(
    () => gpu.empty([1, 1, 1, 1, 1, 1, 1]),
    ShapeError,
    /rank 7 of \[1, 1, 1, 1, 1, 1, 1\] is above 6/,
  );
});

memory("a released array is released once, and its memory cannot be retained any more", () => {
  const x = gpu.empty([4]);
  x.release();
  x.release();
  expectError(() => x.view([4]), GpuError, /array \[4\]: used after it was freed/);
  expectError(() => x.storage.retain(), GpuError, /its memory was already given back/);
});

// --- order

order("an upload does not overtake recorded commands that still read the old values", async () => {
  const x = tensor(gpu, [1, 2, 3]);
  const old = x.mul(10);
  x.write(Float32Array.of(4, 5, 6));
  const young = x.mul(10);
  assert.equal([...(await old.data())], [10, 20, 30]);
  assert.equal([...(await young.data())], [40, 50, 60]);
  for (const tensor of [x, old, young]) tensor.dispose();
});

order("hundreds of uploads into one slot are each seen by the commands after them", async () => {
  const slot = gpu.from(Float32Array.of(0));
  const total = zeros(gpu, [1]);
  const { submits } = gpu.device.statistics();
  let expected = 0;
  for (let i = 1; i <= 700; i++) {
    gpu.write(slot, Float32Array.of(i));
    accumulate(gpu, total, slot);
    if (i % 3 === 0) accumulate(gpu, total, slot);
    expected += i % 3 === 0 ? 2 * i : i;
  }
  assert.is((await gpu.read(total))[0], expected);
  assert.ok(gpu.device.statistics().submits > submits);
  for (const array of [slot, total]) array.release();
});

order("memory that is freed and taken again keeps commands and uploads in order", async () => {
  const first = tensor(gpu, new Array(64).fill(1));
  const doubled = first.mul(2);
  first.dispose();
  const second = tensor(gpu, new Array(64).fill(5)); // the same buffer, most likely
  const tripled = second.mul(3);
  assert.is((await doubled.data())[63], 2);
  assert.is((await tripled.data())[63], 15);
  for (const tensor of [doubled, second, tripled]) tensor.dispose();
});

order("commands are submitted after a number of them, and when something is read", async () => {
  const x = gpu.from(new Float32Array(4));
  await gpu.read(x);
  const { submits, dispatches } = gpu.device.statistics();
  for (let i = 0; i < 300; i++) fill(gpu, x, i);
  assert.is(gpu.device.statistics().submits, submits + 1);
  assert.is(gpu.device.statistics().dispatches, dispatches + 300);
  assert.is(new Uint32Array((await gpu.read(x)).buffer)[0], 299);
  assert.is(gpu.device.statistics().submits, submits + 2);
  x.release();
});

order("several reads at once, of tensors that are freed meanwhile, each get their values", async () => {
  const tensors = [1, 2, 3, 4].map((value) => tensor(gpu, [value, value * 10]));
  const reads = tensors.map((tensor) => tensor.data());
  for (const tensor of tensors) tensor.dispose();
  tensor(gpu, [9, 9]).dispose();
  const values = (await Promise.all(reads)).map((data) => [...data]);
  assert.equal(values, [
    [1, 10],
    [2, 20],
    [3, 30],
    [4, 40],
  ]);
});

// --- chunks

chunks("an array longer than a binding is written and read in chunks", async () => {
  await withDevice("ADAMIX_MAX_BINDING_BYTES", "1024", async (other) => {
    assert.is(other.device.traits.maxBindingBytes, 1024);
    const values = Float32Array.from({ length: 1000 }, (_, i) => i + 0.5);
    const x = other.from(values, [10, 100]);
    assert.is(x.storage.chunks.length, 4);
    assertBitEqual(await other.read(x), values);
    // Across two chunks, from the middle of one.
    const part = x.view([3, 100], 200);
    assertBitEqual(await other.read(part), values.slice(200, 500));
    other.write(part, new Float32Array(300).fill(-1));
    const expected = values.slice();
    expected.fill(-1, 200, 500);
    assertBitEqual(await other.read(x), expected);
    // A kernel binds what lies in one chunk.
    const third = x.view([256], 512);
    fill(other, third);
    assert.ok((await other.read(third)).every((v) => v === 0));
    assert.is((await other.read(x))[511], 511.5);
    // One that lies in several is gone through in ranges.
    fill(other, x);
    assert.ok((await other.read(x)).every((v) => v === 0));
    const whole = () =>
      other.run({ shader: "fill", entry: "words" }, { destination: x }, fillParams, [1, 1, 1]);
    const message =
      /fill\.words: destination \[10, 100\] of 4000 bytes is read whole, and the largest binding here is 1024 bytes/;
    expectError(whole, GpuError, message);
  });
});

chunks("a limit below the alignment is taken for the alignment", async () => {
  await withDevice("ADAMIX_MAX_BINDING_BYTES", "1", async (other) => {
    assert.is(other.device.traits.maxBindingBytes, 256);
    const x = other.from(Float32Array.of(1, 2, 3));
    assert.equal([...(await other.read(x))], [1, 2, 3]);
  });
});

// --- failures

const fillSpec = { shader: "fill", entry: "words" };
const fillParams = { n: 4, constant: 0 };

failures("missing and superfluous names throw when the dispatch is recorded, and nothing is", () => {
  const x = gpu.empty([4]);
  const { dispatches } = gpu.device.statistics();
  const run = (arrays: Record<string, typeof x>, params: Record<string, number | number[]>) => () =>
    gpu.run(fillSpec, arrays, params, [1, 1, 1]);
  expectError(run({}, fillParams), GpuError, /fill\.words: no buffer passed for "destination"/);
  expectError(
    run({ destination: x, source: x }, fillParams),
    GpuError,
    /fill\.words: has no binding named source/,
  );
  const { n: _n, ...rest } = fillParams;
  expectError(run({ destination: x }, rest), ShapeError, /fill\.words: no value passed for parameter "n"/);
  expectError(
    run({ destination: x }, { ...fillParams, m: 1 }),
    ShapeError,
    /fill\.words: has no parameter named m/,
  );
  assert.is(gpu.device.statistics().dispatches, dispatches);
  run({ destination: x }, fillParams)();
  // The same arrays again: their bind group is known by now, and names are checked all the same.
  expectError(run({ destination: x, source: x }, fillParams), GpuError, /has no binding named source/);
  x.release();
});

failures("an array that a kernel cannot bind as it is says so", () => {
  const x = gpu.empty([4, 64]);
  const turned = x.view([64, 4], 0, [1, 64]);
  const message = /fill\.words: destination \[64, 4\] is a strided view; make it contiguous/;
  expectError(() => fill(gpu, turned), GpuError, message);
  for (const array of [x, turned]) array.release();
});

/** Runs a program that opens a device in a process of its own. */
async function child(program: string): Promise<{ code: number; output: string }> {
  const open = `import { openGpu } from "./src/array/index.ts";\nconst gpu = await openGpu();\n`;
  const { code, stdout } = await runProgram(open + program);
  return { code, output: stdout };
}

failures("a process with an error of the GPU that nobody looked at fails in the end", async () => {
  const { code, output } = await child(`
    const y = gpu.empty([4]);
    const destination = { buffer: y.storage.chunks[0], offset: 0, bytes: 16 };
    // Beneath the door of gpu.run, which refuses such a grid.
    gpu.device.run({ shader: "fill", entry: "words" }, { destination }, ${JSON.stringify(fillParams)}, [70000, 1, 1]);
    console.log("goes on to its end");
    try { await gpu.read(y); } catch (error) { console.log(error.name, error.message); }
  `);
  assert.is(code, 1);
  assert.match(output, /goes on to its end/);
  assert.match(output, /GpuError .*70000/);
});

failures("a process without one ends by itself, with success, also without closing its device", async () => {
  const { code, output } = await child(`console.log((await gpu.read(gpu.from(Float32Array.of(7))))[0]);`);
  assert.equal([code, output.trim().split("\n").at(-1)], [0, "7"]);
});

// --- devices

devices("two devices work side by side, each with its own memory and kernels", async () => {
  const other = await openGpu();
  const kernels = other.device.statistics().kernels;
  const [a, b] = [tensor(gpu, [1, 2]), tensor(other, [3, 4])];
  const before = liveBytes(gpu);
  const [c, d] = [a.mul(2), b.mul(2)];
  assert.equal([...(await c.data()), ...(await d.data())], [2, 4, 6, 8]);
  assert.is(liveBytes(gpu), before + 256);
  assert.is(other.device.statistics().kernels, kernels + 1);
  await other.device.close();
  assert.equal([...(await a.add(c).data())], [3, 6]);
  for (const tensor of [a, c]) tensor.dispose();
});

devices("a closed device says so, twice closing is fine, and a new one can be opened", async () => {
  const other = await openGpu();
  const x = tensor(other, [1, 2]);
  await other.device.close();
  await other.device.close();
  const closed = /device: it is closed; open another with Device\.open\(\)/;
  expectError(() => x.mul(2), GpuError, closed);
  expectError(() => tensor(other, [1]), GpuError, closed);
  assert.match((await rejection(x.data())).message, closed);
  x.dispose();
  const next = await openGpu();
  const y = tensor(next, [5]);
  assert.is(await y.mul(2).item(), 10);
  await next.device.close();
});

devices(
  "kernels for GPUs or for software adapters are chosen by class, by environment, or by hand",
  async () => {
    const { kind, kernels } = gpu.device.traits;
    if (!process.env.ADAMIX_KERNELS) assert.is(kernels, kind);
    await withDevice("ADAMIX_KERNELS", "hardware", (other) => assert.not.ok(other.isSoftware));
    await withDevice("ADAMIX_KERNELS", "software", (other) => assert.ok(other.isSoftware));
    assert.ok(new Gpu(gpu.device, { kernels: "software" }).isSoftware);
    const error = await rejection(withEnv("ADAMIX_KERNELS", "fast", () => openGpu()));
    assert.match(error.message, /ADAMIX_KERNELS is "fast", expected hardware or software/);
  },
);

for (const part of [memory, order, chunks, failures, devices]) part.run();
