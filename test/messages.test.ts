// What a beginner passes by mistake, and what the library says: each names the call, what came, and the way out.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type DType, openGpu } from "../src/array/index.ts";
import * as ad from "../src/autograd/index.ts";
import { Linear } from "../src/nn/index.ts";
import { liveBytes, gpu as testGpu, withEnv } from "./device.ts";

const gpu = await testGpu();
const x = ad.tensor(gpu, [1, 2, 3, 4, 5, 6], [2, 3]);
const row = ad.tensor(gpu, [1, 2, 3]);
const integers = ad.tensor(gpu, Int32Array.of(1, 2));
/** Anything, as JavaScript would pass it. */
const any = (value: unknown): never => value as never;
const tensorOf = (...args: unknown[]): unknown => (ad.tensor as (...args: unknown[]) => unknown)(...args);

const calls: Readonly<Record<string, readonly [() => unknown, string]>> = {
  "a read without await": [
    () => x.add(any(Promise.resolve(6))),
    "add: input 1 is a Promise; await it first: await item(), await data()",
  ],
  "a list as operand": [
    () => x.add(any([1, 2, 3])),
    "add: input 1 is a list of numbers; make it a tensor(gpu, ...)",
  ],
  "a number as operand": [() => ad.matmul(x, any(3)), "matmul: input 1 is a number; pass a tensor"],
  "an object as operand": [() => x.mul(any({ a: 1 })), "mul: input 1 is a Object; pass a tensor"],
  "nothing as operand": [() => x.add(any(undefined)), "add: input 1 is missing; pass a tensor"],
  "values without await": [
    () => ad.tensor(gpu, any(x.data())),
    "tensor: got a Promise; await it first: await data()",
  ],
  "nested lists": [
    () =>
      ad.tensor(
        gpu,
        any([
          [1, 2, 3],
          [4, 5, 6],
        ]),
      ),
    "tensor: nested lists; pass one list and a shape: tensor(gpu, values.flat(), [2, 3])",
  ],
  "a list of words": [
    () => ad.tensor(gpu, any([1, "2"])),
    "tensor: a list with a string in it, expected numbers or booleans",
  ],
  "one number": [
    () => ad.tensor(gpu, any(3)),
    "tensor: got a number; pass a Float32Array, Int32Array, Uint32Array or Uint8Array",
  ],
  doubles: [
    () => ad.tensor(gpu, any(new Float64Array(6))),
    "tensor: a Float64Array is not stored; Float32Array.from(it), or an Int32Array, Uint32Array or Uint8Array",
  ],
  "no device": [
    () => tensorOf([1, 2]),
    "tensor: the first argument is no device; pass the one of await openGpu()",
  ],
  "a type for a shape": [
    () => tensorOf(gpu, [0, 1], "i32"),
    'tensor: i32 is no shape; pass a list of sizes, such as [2, 3]; a type goes into the options: { dtype: "i32" }',
  ],
  "a size for a shape": [
    () => ad.zeros(gpu, any(3)),
    "zeros: 3 is no shape; pass a list of sizes, such as [2, 3]",
  ],
  "a layer without a device": [
    () => new Linear(any(3), 2, any(undefined)),
    "Parameter: the first argument is no device; pass the one of await openGpu()",
  ],
  "a list that is written": [
    () => x.write(any([1, 2, 3, 4, 5, 6])),
    "write: got a list; write Float32Array.from(it)",
  ],
  "doubles that are written": [
    () => x.write(any(new Float64Array(6))),
    "write: a Float64Array is not stored; Float32Array.from(it), or an Int32Array, Uint32Array or Uint8Array",
  ],
  "a tensor that is written": [
    () => x.write(any(x)),
    "write: got a Tensor; pass a Float32Array, Int32Array, Uint32Array or Uint8Array",
  ],
  "a turned view that is written": [
    () => x.transpose(0, 1).write(new Float32Array(6)),
    "write: f32 [3, 2] is a view whose elements do not lie in order; write to the tensor that it is a view of",
  ],
  "an unknown type in to": [
    () => x.to("float32" as DType),
    'to: no type "float32"; f32, f16, bf16, i32, u32 or bool',
  ],
  "an unknown type in zeros": [
    () => ad.zeros(gpu, [2], { dtype: "float32" as DType }),
    'zeros: no type "float32"; f32, f16, bf16, i32, u32 or bool',
  ],
  "an unknown type in tensor": [
    () => ad.tensor(gpu, [1], [1], { dtype: any("toString") }),
    'tensor: no type "toString"; f32, f16, bf16, i32, u32 or bool',
  ],
  "dropout without a draw": [
    () => ad.dropout(x, any({ p: 0.5 })),
    "dropout: no draw; pass one: { p, draw: drawOf(source, name) }",
  ],
  "classes in PyTorch's place": [
    () => ad.crossEntropy(ad.zeros(gpu, [2, 5, 3]), ad.tensor(gpu, new Int32Array(6), [2, 3])),
    "crossEntropy: labels [2, 3] do not fit logits [2, 5, 3]; classes come last: permute(0, 2, 1)",
  ],
  "labels that fit in no order": [
    () => ad.crossEntropy(x, ad.tensor(gpu, new Int32Array(3))),
    "crossEntropy: labels [3] do not fit logits [2, 3]",
  ],
  "labels of floats": [
    () => ad.crossEntropy(x, ad.tensor(gpu, [0, 1])),
    'crossEntropy: labels of f32, expected i32; cast them with to("i32")',
  ],
  "the mean of integers": [() => integers.mean(), 'mean: i32 [2], expected f32; cast it with to("f32")'],
  "the deviation of integers": [() => ad.std(integers), 'std: i32 [2], expected f32; cast it with to("f32")'],
  "a stack of two shapes": [() => ad.stack([x, row]), "stack: [2, 3] and [3] differ in shape"],
};

const messages = suite("messages");

for (const [name, [call, message]] of Object.entries(calls)) {
  messages(name, () => {
    const before = liveBytes(gpu);
    let error: unknown;
    try {
      ad.tidy(() => void call());
    } catch (thrown) {
      error = thrown;
    }
    assert.ok(error instanceof Error, "no error");
    assert.is(error instanceof Error && error.message, message);
    assert.is(liveBytes(gpu), before);
  });
}

messages("after all of them the device computes", async () => {
  assert.equal([...(await x.sum(0).data())], [5, 7, 9]);
});

messages("any Float32Array makes a tensor, over shared memory too", async () => {
  const plain: Float32Array = Float32Array.of(1, 2); // over memory of any kind, to TypeScript
  assert.equal([...(await ad.tensor(gpu, plain).data())], [1, 2]);
  const shared = new Float32Array(new SharedArrayBuffer(8));
  shared.set([3, 4]);
  const y = ad.tensor(gpu, shared);
  assert.equal([...(await y.data())], [3, 4]);
  y.write(plain);
  assert.equal([...(await y.data())], [1, 2]);
});

messages("an exceeded budget names the array that did not fit, and takes nothing for it", async () => {
  const other = await withEnv("ADAMIX_MEMORY_MB", "64", () =>
    withEnv("ADAMIX_MAX_BINDING_BYTES", "1048576", () => openGpu()),
  );
  const live = liveBytes(other);
  const message =
    /^pool: 128\.0 MiB more for f32 \[32768, 1024\] would exceed the budget of 64\.0 MiB \(live 0\.0 MiB/;
  assert.throws(() => ad.zeros(other, [1 << 15, 1 << 10]), message);
  assert.is(liveBytes(other), live);
  assert.is(other.device.pool.statistics().peakBytes, live);
  await other.device.close();
});

messages.run();
