// Arrays of several chunks: where chunks end, copies between them, what the ordinary case costs, and what is refused.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { chunkBytesFor } from "../src/array/chunks.ts";
import { Gpu, type GpuArray, openGpu } from "../src/array/index.ts";
import { attention, Stream, softmax, Tensor, tensor } from "../src/autograd/index.ts";
import { GpuError, type KernelSpec } from "../src/gpu/index.ts";
import { boxesOf, type Walk } from "../src/ops/boxes.ts";
import { gemm } from "../src/ops/gemm.ts";
import { copyInto, copyOf, fill, runRows } from "../src/ops/index.ts";
import { eachRange } from "../src/ops/ranges.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { liveBytes, gpu as openTestGpu, withEnv } from "./device.ts";

const gpu = await openTestGpu();
const MIB = 2 ** 20;

function tiny(maxBindingBytes: number): Gpu {
  return new Gpu(gpu.device, { maxBindingBytes });
}

/** Whole numbers below `n` at a counter, for shapes and strides. */
const random = Stream.seed(41);
const below = (n: number, ...counter: number[]): number => random.integer(n, ...counter);

const chunks = suite("chunks");

chunks("a chunk ends after a multiple of 128 rows, wherever rows are short enough", () => {
  for (const [rowBytes, largest] of [
    [4, 128 * MIB],
    [4096, 128 * MIB],
    [50_257 * 4, 128 * MIB],
    [30, 64 * 1024],
    [1000, 2 ** 31 - 4],
  ] as const) {
    const bytes = chunkBytesFor(rowBytes, largest, 256);
    assert.is(bytes % (128 * rowBytes), 0, `${rowBytes} in ${largest}`);
    assert.is(bytes % 256, 0);
    assert.ok(bytes <= largest && bytes > largest / 2, `${bytes} of ${largest}`);
  }
});

chunks("longer rows end where they can be bound, and rows longer than a binding anywhere", () => {
  assert.is(chunkBytesFor(2 * MIB, 128 * MIB, 256), 128 * MIB);
  assert.is(chunkBytesFor(1028, 100_000, 256), 65_792);
  assert.is(chunkBytesFor(256 * MIB, 128 * MIB, 256), 128 * MIB);
  assert.is(chunkBytesFor(0, 1000, 256), 768);
});

chunks("rows of a binding on a device are in as many chunks as are needed, and none is larger", () => {
  const on = tiny(64 * 1024);
  const x = on.empty([1000, 100]);
  assert.is(x.storage.chunkBytes, 128 * 400);
  assert.is(x.storage.chunks.length, 8);
  assert.ok(x.storage.chunks.every(({ bytes }) => bytes <= on.maxBindingBytes));
  const y = on.empty([64, 256]);
  assert.is(y.storage.chunks.length, 1, "what fits is one chunk");
  for (const array of [x, y]) array.release();
});

chunks("limits of a Gpu stay within those of its device", () => {
  const { alignment, maxBindingBytes } = gpu.device.traits;
  assert.is(tiny(1).maxBindingBytes, alignment);
  assert.is(tiny(1000).maxBindingBytes, 768);
  assert.ok(tiny(Number.POSITIVE_INFINITY).maxBindingBytes <= maxBindingBytes);
});

chunks("ADAMIX_LIMITS=default asks for no more than every device has", async () => {
  const other = await withEnv("ADAMIX_LIMITS", "default", () => openGpu());
  try {
    const { limits } = other.device.describe();
    assert.is(other.maxBindingBytes, 128 * MIB);
    assert.is(limits.maxBufferSize, 256 * MIB);
    assert.is(limits.maxComputeWorkgroupStorageSize, 16 * 1024);
    assert.is(limits.maxComputeInvocationsPerWorkgroup, 256);
  } finally {
    await other.device.close();
  }
  const wrong = withEnv("ADAMIX_LIMITS", "none", () => openGpu());
  const message = await wrong.then(String, (error: Error) => error.message);
  assert.is(message, 'env: ADAMIX_LIMITS is "none", expected adapter or default');
});

chunks("parts of a shape hold each element once and stay in one chunk of every array", () => {
  for (let round = 0; round < 300; round++) {
    const shape = Array.from({ length: 1 + below(4, round, 0) }, (_, i) => 1 + below(6, round, 1, i));
    const walks = [0, 1].map((k) => randomWalk(shape, round, k));
    const seen = new Map<string, number>();
    for (const box of boxesOf(shape, walks)) {
      for (const index of indicesOf(box.shape)) {
        const at = walks.map(({ strides }, k) => placeOf(index, strides, box.offsets[k] as number));
        const key = at.join();
        seen.set(key, (seen.get(key) ?? 0) + 1);
      }
      for (const [k, { strides, chunkLength }] of walks.entries()) {
        const numbers = new Set(
          [...indicesOf(box.shape)].map((index) =>
            Math.floor(placeOf(index, strides, box.offsets[k] as number) / chunkLength),
          ),
        );
        assert.is(numbers.size, 1, `round ${round}: a part in several chunks`);
      }
    }
    const expected = new Map<string, number>();
    for (const index of indicesOf(shape)) {
      const key = walks.map(({ strides, offset }) => placeOf(index, strides, offset)).join();
      expected.set(key, (expected.get(key) ?? 0) + 1);
    }
    assert.equal([...seen].sort(), [...expected].sort(), `round ${round}`);
  }
});

function randomWalk(shape: readonly number[], round: number, k: number): Walk {
  const order = [...shape.keys()].sort((a, b) => below(1000, round, 2 + k, a) - below(1000, round, 2 + k, b));
  const strides = new Array<number>(shape.length).fill(0);
  let stride = 1 + below(2, round, 4 + k);
  let offset = below(9, round, 6 + k);
  for (const axis of order) {
    const kind = below(5, round, 8 + k, axis);
    strides[axis] = kind === 0 ? 0 : kind === 1 ? -stride : stride;
    if (kind === 1) offset += stride * ((shape[axis] as number) - 1);
    stride *= shape[axis] as number;
  }
  return { offset, strides, chunkLength: 1 + below(40, round, 10 + k) };
}

function* indicesOf(shape: readonly number[]): Iterable<number[]> {
  const size = shape.reduce((product, n) => product * n, 1);
  for (let i = 0; i < size; i++) {
    let rest = i;
    const index = new Array<number>(shape.length);
    for (let d = shape.length - 1; d >= 0; d--) {
      index[d] = rest % (shape[d] as number);
      rest = Math.floor(rest / (shape[d] as number));
    }
    yield index;
  }
}

function placeOf(index: readonly number[], strides: readonly number[], offset: number): number {
  return index.reduce((at, i, d) => at + i * (strides[d] as number), offset);
}

for (const dtype of ["f32", "i32", "bool", "f16", "bf16"] as const) {
  chunks(`strided ${dtype} is copied between arrays of several chunks, bit for bit`, async () => {
    const on = tiny(512);
    const before = liveBytes(on);
    const [A, B, C] = [7, 9, 11] as const;
    const values = Int32Array.from({ length: A * B * C }, (_, i) => (i * 37) % 251);
    const data =
      dtype === "i32"
        ? values
        : dtype === "bool"
          ? Uint8Array.from(values, (v) => v % 2)
          : Float32Array.from(values);
    const x = on.from(data, [A, B, C], dtype);
    assert.ok(x.storage.chunks.length > 2);
    // [C, A, B - 2]: dimensions exchanged, a window of one.
    const view = x.view([C, A, B - 2], C, [1, B * C, C]);
    const copy = copyOf(on, view);
    const expected: number[] = [];
    for (let c = 0; c < C; c++)
      for (let a = 0; a < A; a++)
        for (let b = 0; b < B - 2; b++) expected.push(data[(a * B + b + 1) * C + c] as number);
    assert.equal([...(await on.read(copy))], expected);
    for (const array of [x, view, copy]) array.release();
    assert.is(liveBytes(on), before);
  });
}

chunks("a copy leaves what lies around its place alone", async () => {
  const on = tiny(256);
  const source = on.from(
    Float32Array.from({ length: 150 }, (_, i) => i),
    [10, 15],
  );
  const target = on.empty([20, 33]);
  fill(on, target);
  copyInto(on, source, target.view([10, 15], 3 * 33 + 5, [33, 1]));
  const expected = new Float32Array(20 * 33);
  for (let r = 0; r < 10; r++) for (let c = 0; c < 15; c++) expected[(r + 3) * 33 + c + 5] = r * 15 + c;
  assertBitEqual(await on.read(target), expected);
});

chunks("an array of several chunks is read and written whatever its type", async () => {
  const on = tiny(256);
  const bits = Uint16Array.from({ length: 1001 }, (_, i) => i * 13);
  const halves = on.from(bits, [1001], "f16");
  const copy = copyOf(on, halves);
  assertBitEqual(await on.read(copy), await on.read(halves));
  assert.ok(copy.storage.chunks.length > 4);
});

chunks.run();

const ordinary = suite("the ordinary case");

const fillKernel: KernelSpec = { shader: "fill", entry: "words" };
const fillParams = { constant: 7 };

/** Dispatches and new bind groups of `body`. */
function cost(body: () => void): { readonly dispatches: number; readonly created: number } {
  const before = gpu.device.statistics();
  body();
  const after = gpu.device.statistics();
  return { dispatches: after.dispatches - before.dispatches, created: after.created - before.created };
}

ordinary("arrays that one binding holds take one dispatch and no memory", () => {
  const x = gpu.empty([300, 8]);
  const y = gpu.empty([8, 300]);
  const a = gpu.empty([130, 8]);
  const b = gpu.empty([8, 12]);
  const c = gpu.empty([130, 12]);
  const bodies: Readonly<Record<string, () => void>> = {
    runRows: () =>
      runRows(gpu, fillKernel, { rows: 2400, split: { destination: x }, params: fillParams, count: "n" }),
    fill: () => fill(gpu, x),
    copyInto: () =>
      gpu.scope(
        () => copyInto(gpu, gpu.view(x, [8, 300], 0, [1, 8]), y),
        () => [],
      ),
    gemm: () => gemm(gpu, { a, b, c, M: 130, N: 12, K: 8 }),
  };
  for (const [name, body] of Object.entries(bodies)) {
    body();
    assert.equal(cost(body), { dispatches: 1, created: 0 }, name);
  }
  for (const array of [x, y, a, b, c]) array.release();
});

ordinary("a grid beyond 65,535 workgroups in one dimension is cut", async () => {
  const M = 65_535 * 64 + 3;
  const a = gpu.empty([M, 1]);
  const b = gpu.from(Float32Array.of(3), [1, 1]);
  const c = gpu.empty([M, 1]);
  fill(gpu, a, 0x40000000); // 2
  gemm(gpu, { a, b, c, M, N: 1, K: 1 });
  const values = await gpu.read(c);
  assert.ok(values.every((v) => v === 6));
  for (const array of [a, b, c]) array.release();
});

ordinary("more than 65,535 products in one batch are cut", async () => {
  const batch = 70_001;
  const a = gpu.from(
    Float32Array.from({ length: batch }, (_, i) => i),
    [batch, 1, 1],
  );
  const b = gpu.from(Float32Array.of(2), [1, 1]);
  const c = gpu.empty([batch, 1, 1]);
  gemm(gpu, { a, b, c, M: 1, N: 1, K: 1, batch, layoutA: { stride: 1 } });
  const values = await gpu.read(c);
  assert.ok(values.every((v, i) => v === 2 * i));
  for (const array of [a, b, c]) array.release();
});

ordinary.run();

const entries = suite("attention, entry by entry");

/** Output and gradients of a fused attention of two passes of three examples, with padding, a bias and dropout. */
async function attend(on: Gpu): Promise<Float32Array[]> {
  const [B, T, S, C] = [6, 9, 11, 16];
  const random = (name: string, shape: readonly number[]): Tensor => {
    const size = shape.reduce((product, n) => product * n, 1);
    const made = tensor(on, Stream.seed(9).fold(name).normal(size), shape);
    made.requiresGrad = true;
    return made;
  };
  const [q, k, v] = [random("q", [B, T, C]), random("k", [B, S, C]), random("v", [B, S, C])];
  const biases = [random("own", [B, 2, T, S]), random("shared", [2, T, S])];
  const keep = tensor(
    on,
    Int32Array.from({ length: B * S }, (_, i) => (i % 5 === 0 ? 0 : 1)),
    [B, S],
  );
  const clock = on.from(new Uint32Array([3, 8]));
  const draw = { clock, stream: 77, examples: 3, firstExample: 1, firstPass: 0 };
  const results: Tensor[] = [];
  for (const bias of biases) {
    const y = attention(q, k, v, keep, { heads: 2, bias, dropout: { p: 0.3, draw } });
    y.backward(random("dy", [B, T, C]));
    results.push(y);
  }
  const all = [...results, ...[q, k, v, ...biases].map(({ grad }) => grad as Tensor)];
  return Promise.all(all.map(async (x) => (await x.data()) as Float32Array));
}

entries("the same bits, draws, masks and biases as of the whole batch", async () => {
  const whole = await attend(new Gpu(gpu.device, { kernels: "hardware" }));
  // An entry of k and v takes 1,664 bytes, the biases of one 792.
  const parted = await attend(new Gpu(gpu.device, { kernels: "hardware", maxBindingBytes: 4608 }));
  const names = ["y", "y, shared bias", "dq", "dk", "dv", "dbias"];
  for (const [i, name] of names.entries())
    assertBitEqual(parted[i] as Float32Array, whole[i] as Float32Array, name);
  // The entries' gradients of a bias that they share are added up in another order.
  assertClose(parted[6] as Float32Array, whole[6] as Float32Array, {
    rtol: 1e-5,
    atol: 1e-5,
    name: "shared",
  });
});

entries.run();

const refusals = suite("what no binding holds");

function messageOf(body: () => void): string {
  try {
    body();
  } catch (error) {
    assert.instance(error, GpuError);
    return (error as GpuError).message;
  }
  throw new Error("nothing was thrown");
}

refusals("a row longer than a binding is refused with both sizes, before anything is recorded", () => {
  const on = tiny(1024);
  const x = new Tensor(on, on.empty([3, 300]));
  const { dispatches } = gpu.device.statistics();
  const message = messageOf(() => softmax(x));
  assert.match(
    message,
    /^softmax\.forward: a row of x \[3, 300\] takes 1200 bytes, and the largest binding here is 1024 bytes$/,
  );
  assert.is(gpu.device.statistics().dispatches, dispatches);
  x.dispose();
});

refusals("what a kernel reads whole is refused with its size", () => {
  const on = tiny(1024);
  const x = on.empty([300]);
  const message = messageOf(() =>
    on.run(fillKernel, { destination: x }, { ...fillParams, n: 300 }, [5, 1, 1]),
  );
  assert.match(message, /^fill\.words: destination \[300\] of 1200 bytes is read whole, .* 1024 bytes$/);
  x.release();
});

refusals.run();

const ranges = suite("ranges of rows");

ranges(
  "every row is gone through once, and what is written reaches arrays that had to be copied",
  async () => {
    for (const [most, columns] of [
      [256, 7],
      [512, 33],
      [4096, 7],
      [1024, 1],
    ] as const) {
      const on = tiny(most);
      const x = on.from(
        Float32Array.from({ length: 300 * columns }, (_, i) => i),
        [300, columns],
      );
      const marks = on.from(new Float32Array(300), [300]);
      const rows: [number, number][] = [];
      const written = new Set(["x", "marks"]);
      eachRange(on, "test", { rows: 300, arrays: { x, marks } }, written, (parts, first, n) => {
        rows.push([first, n]);
        const [part, mark] = [parts.x, parts.marks] as [GpuArray, GpuArray];
        assert.is(part.size, n * columns);
        for (const array of [part, mark]) assert.ok(array.isBindable && array.isInOneChunk);
        fill(on, mark, first);
      });
      assert.ok(rows.length > 1);
      let next = 0;
      for (const [first, n] of rows) {
        assert.is(first, next);
        next += n;
      }
      assert.is(next, 300);
      const bits = new Uint32Array((await on.read(marks)).buffer);
      for (const [first, n] of rows) assert.ok(bits.subarray(first, first + n).every((v) => v === first));
      for (const array of [x, marks]) array.release();
    }
  },
);

ranges.run();
