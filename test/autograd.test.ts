// Gradients through graphs: where they add up, where they stop, what lives how long, and what is refused.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Gpu } from "../src/array/index.ts";
import * as ad from "../src/autograd/index.ts";
import { keep, noGrad, Parameter, type Tensor, tensor, tidy, zeros } from "../src/autograd/index.ts";
import { GpuError, ShapeError } from "../src/gpu/index.ts";
import { liveBytes, gpu as openTestGpu } from "./device.ts";

const gpu = await openTestGpu();
const graphs = suite("autograd");
const memory = suite("autograd, memory");
const errors = suite("autograd, errors");

function leaf(values: readonly number[], shape?: readonly number[]): Tensor {
  const x = tensor(gpu, values, shape);
  x.requiresGrad = true;
  return x;
}

async function gradientOf(x: Tensor): Promise<number[]> {
  if (!x.grad) throw new Error("no gradient");
  return [...(await x.grad.data())];
}

// --- graphs

graphs("gradients of two backward passes add up, and start anew once cleared", async () => {
  const x = leaf([1, 2, 3]);
  for (let i = 1; i <= 3; i++) {
    tidy(() => x.mul(2).sum().backward());
    assert.equal(await gradientOf(x), [2 * i, 2 * i, 2 * i]);
  }
  x.grad = null;
  assert.is(x.grad, null);
  tidy(() => ad.square(x).sum().backward());
  assert.equal(await gradientOf(x), [2, 4, 6]);
  x.dispose();
});

graphs("a diamond adds the gradients of both ways before going on", async () => {
  const x = leaf([2, -3]);
  tidy(() => {
    const h = ad.square(x); // reaches the loss by three ways
    h.mul(3)
      .add(ad.exp(h.mul(0)))
      .add(h)
      .sum()
      .backward();
  });
  // d/dx (3h + e^0 + h) = 4 · 2x
  assert.equal(await gradientOf(x), [16, -24]);
  x.dispose();
});

graphs("an op may take the same tensor several times", async () => {
  const x = leaf([3, 5]);
  tidy(() => x.mul(x).add(x).sub(x.div(x)).sum().backward());
  assert.equal(await gradientOf(x), [7, 11]);
  const m = leaf([1, 2, 3, 4], [2, 2]);
  tidy(() => m.matmul(m, { transposeB: true }).sum().backward());
  assert.equal(await gradientOf(m), [8, 12, 8, 12]);
  for (const tensor of [x, m]) tensor.dispose();
});

graphs("a tensor is used again after a view, a slice and a broadcast of it", async () => {
  const x = leaf([1, 2, 3, 4, 5, 6], [2, 3]);
  tidy(() => {
    const turned = x.transpose(0, 1).reshape(6);
    const row = x.slice(0, 1, 2).mul(10); // [1, 3], stretched over both rows
    turned.sum().add(x.mul(row).sum()).backward();
  });
  // 1 + 10 row for the first row; 1 + 10 row + 10 Σ of the column for the second
  assert.equal(await gradientOf(x), [41, 51, 61, 1 + 40 + 50, 1 + 50 + 70, 1 + 60 + 90]);
  x.dispose();
});

graphs("backward of a tensor takes the gradient that is given", async () => {
  const x = leaf([1, 2, 3]);
  const dy = tensor(gpu, [10, 20, 30]);
  tidy(() => x.mul(2).backward(dy));
  assert.equal(await gradientOf(x), [20, 40, 60]);
  for (const tensor of [x, dy]) tensor.dispose();
});

graphs("detach stops the gradient and shares the memory", async () => {
  const x = leaf([1, 2]);
  const before = liveBytes(gpu);
  const fixed = x.detach();
  assert.is(liveBytes(gpu), before);
  assert.not.ok(fixed.needsGradient);
  tidy(() => x.mul(fixed).sum().backward());
  assert.equal(await gradientOf(x), [1, 2]);
  assert.is(fixed.grad, null);
  for (const tensor of [x, fixed]) tensor.dispose();
});

graphs("noGrad records nothing, and recording goes on after it, also after an error", async () => {
  const x = leaf([1, 2]);
  const y = noGrad(() => x.mul(2));
  assert.not.ok(y.needsGradient);
  assert.throws(() => noGrad(() => noGrad(() => x.add(tensor(gpu, [1, 2, 3])))), /do not broadcast/);
  const z = tidy(() => x.mul(2).sum());
  assert.ok(z.needsGradient);
  z.backward();
  assert.equal(await gradientOf(x), [2, 2]);
  for (const tensor of [x, y, z]) tensor.dispose();
});

graphs("only tensors that ask for a gradient get one", async () => {
  const [x, weight, bias] = [leaf([1, 2, 3, 4], [2, 2]), tensor(gpu, [1, 2, 3, 4], [2, 2]), leaf([5, 6])];
  tidy(() =>
    ad
      .gelu(ad.linear(x, weight, bias))
      .sum()
      .backward(),
  );
  assert.ok(x.grad && bias.grad);
  assert.is(weight.grad, null);
  for (const tensor of [x, weight, bias]) tensor.dispose();
});

graphs(
  "a gradient shares no memory with another one, with what was fed in, or with the engine's ones",
  async () => {
    const [a, b, dy] = [leaf([1]), leaf([2]), tensor(gpu, [3])];
    tidy(() => a.add(b).backward(dy));
    a.grad?.write(Float32Array.of(100));
    assert.equal([await gradientOf(b), [...(await dy.data())]], [[3], [3]]);
    const c = leaf([4]);
    tidy(() => c.sum().backward());
    c.grad?.write(Float32Array.of(100));
    const d = leaf([5, 6]);
    tidy(() => d.sum().backward());
    assert.equal(await gradientOf(d), [1, 1]);
    for (const tensor of [a, b, c, d, dy]) tensor.dispose();
  },
);

graphs("a parameter with places in an arena collects its gradient there", async () => {
  const parameter = Parameter.from(gpu, Float32Array.of(1, 2, 3), [3]);
  const arena = gpu.from(new Float32Array(128));
  parameter.moveTo(gpu.from(Float32Array.of(1, 2, 3), [3]), arena.view([3], 64));
  for (let i = 0; i < 2; i++) tidy(() => ad.square(parameter).sum().backward());
  const all = await gpu.read(arena);
  assert.equal([...all.subarray(64, 68)], [4, 8, 12, 0]);
  assert.ok(all.subarray(0, 64).every((v) => v === 0) && all.subarray(67).every((v) => v === 0));
  parameter.dispose();
  arena.release();
});

graphs("a graph of thousands of ops goes backward and is freed without a deep stack", async () => {
  const x = leaf([1, -1]);
  const before = liveBytes(gpu);
  tidy(() => {
    let h: Tensor = x.mul(1);
    for (let i = 0; i < 6000; i++) h = h.neg();
    h.sum().backward();
  });
  assert.equal(await gradientOf(x), [1, 1]);
  x.grad = null;
  tidy(() => {
    let h: Tensor = x.mul(1);
    for (let i = 0; i < 6000; i++) h = ad.square(h);
  });
  assert.is(liveBytes(gpu), before);
  x.dispose();
});

// --- memory

memory("tidy frees what it made, but for what it returns in an array or a record", async () => {
  const before = liveBytes(gpu);
  const kept = tidy(() => {
    const h = tensor(gpu, [1, 2]);
    return { first: h.mul(2), rest: [h.add(1), [h.neg()]], text: "y", nothing: null };
  });
  assert.is(liveBytes(gpu) - before, 3 * 256);
  assert.equal([...(await kept.first.data())], [2, 4]);
  const [added, [negated] = []] = kept.rest as [Tensor, [Tensor]]; // as the function above returns it
  assert.equal([...(await added.data()), ...((await negated?.data()) ?? [])], [2, 3, -1, -2]);
  for (const tensor of [kept.first, added, negated]) tensor?.dispose();
  assert.is(liveBytes(gpu), before);
});

memory("an inner tidy hands what it returns to the outer one", () => {
  const before = liveBytes(gpu);
  tidy(() => {
    const inner = tidy(() => tensor(gpu, [1]).add(1));
    assert.is(liveBytes(gpu), before + 256);
    assert.ok(inner.array.alive);
  });
  assert.is(liveBytes(gpu), before);
});

memory("keep takes a tensor out of every tidy around it, wherever it was made", () => {
  const before = liveBytes(gpu);
  const [outer, inner] = tidy(() => {
    const first = tensor(gpu, [1]);
    const second = tidy(() => {
      keep(first);
      return [keep(tensor(gpu, [2]))];
    });
    return [{ opaque: () => first }, { opaque: () => second[0] }];
  });
  assert.ok(outer?.opaque()?.array.alive && inner?.opaque()?.array.alive);
  outer.opaque()?.dispose();
  inner?.opaque()?.dispose();
  assert.is(liveBytes(gpu), before);
});

memory("tidy frees what it made when its function throws, and refuses a promise", () => {
  const before = liveBytes(gpu);
  const failing = () => {
    tensor(gpu, [1, 2]).mul(2);
    throw new Error("on purpose");
  };
  assert.throws(() => tidy(failing), /on purpose/);
  assert.is(liveBytes(gpu), before);
  const asynchronous = async () => tensor(gpu, [1, 2]);
  assert.throws(() => tidy(asynchronous), /tidy: takes a synchronous function/);
  assert.throws(() => noGrad(async () => 1), /noGrad: takes a synchronous function/);
  assert.is(liveBytes(gpu), before);
});

memory("parameters and gradients outlive tidy, with their values", async () => {
  const made: Parameter[] = [];
  tidy(() => {
    const parameter = Parameter.from(gpu, Float32Array.of(1, 2), [2]);
    parameter.mul(3).sum().backward();
    made.push(parameter);
  });
  const [parameter] = made;
  if (!parameter) throw new Error("no parameter");
  assert.equal([...(await parameter.data())], [1, 2]);
  assert.equal(await gradientOf(parameter), [3, 3]);
  tidy(() => parameter.mul(1).sum().backward());
  assert.equal(await gradientOf(parameter), [4, 4]);
  parameter.dispose();
});

memory("what backward needs outlives tidy until backward, and no longer", async () => {
  const x = leaf(new Array(100).fill(0.5));
  const before = liveBytes(gpu);
  const loss = tidy(() => ad.square(ad.exp(x)).sum());
  assert.ok(liveBytes(gpu) >= before + 512 + 256);
  loss.backward();
  assert.is(liveBytes(gpu), before + 256 + 512); // the loss and the gradient
  const [first] = await gradientOf(x);
  assert.ok(Math.abs((first ?? 0) - 2 * Math.E) < 1e-5);
  loss.dispose();
  x.grad = null;
  assert.is(liveBytes(gpu), before);
  x.dispose();
});

memory("a graph that is never used goes with its last tensor", () => {
  const x = leaf([1, 2]);
  const before = liveBytes(gpu);
  const y = ad.exp(x);
  const z = ad.square(y);
  y.dispose();
  z.dispose();
  assert.is(liveBytes(gpu), before);
  x.dispose();
});

memory("a layer with a frozen weight keeps no activation", () => {
  const x = leaf(new Array(4096).fill(1), [64, 64]);
  const weight = tensor(gpu, new Float32Array(4096), [64, 64]);
  const loss = () => tidy(() => ad.linear(x.mul(1), weight).sum());
  loss().dispose();
  const before = liveBytes(gpu);
  const frozen = loss();
  assert.is(liveBytes(gpu), before + 256);
  frozen.dispose();
  weight.requiresGrad = true;
  const trained = loss();
  assert.is(liveBytes(gpu), before + 256 + 4 * 4096);
  for (const tensor of [trained, x, weight]) tensor.dispose();
});

memory("composed functions leave nothing behind outside of tidy", () => {
  const [x, target] = [leaf([1, 2, 3, 4], [2, 2]), tensor(gpu, [0, 0, 0, 0], [2, 2])];
  const composed = [
    () => x.mean(),
    () => x.mean(-1),
    () => ad.mse(x, target),
    () => ad.stack([x, target], 1),
  ];
  for (const make of composed) {
    make().dispose();
    const before = liveBytes(gpu);
    make().dispose();
    assert.is(liveBytes(gpu), before, String(make));
  }
  for (const tensor of [x, target]) tensor.dispose();
});

memory("using and dispose free once, and say so when the tensor is used again", () => {
  const before = liveBytes(gpu);
  const freed = (() => {
    using x = tensor(gpu, [1, 2]);
    return x;
  })();
  assert.is(liveBytes(gpu), before);
  freed.dispose();
  freed.dispose();
  assert.is(liveBytes(gpu), before);
  assert.throws(
    () => freed.add(1),
    /array \[2\]: used after it was freed; return it from tidy\(\), or keep\(\) it/,
  );
});

memory("views hold the memory that they look at", async () => {
  const before = liveBytes(gpu);
  const x = tensor(gpu, [1, 2, 3, 4], [2, 2]);
  const row = x.slice(0, 1, 2);
  x.dispose();
  tidy(() => zeros(gpu, [2, 2]).add(7)).dispose();
  assert.equal([...(await row.data())], [3, 4]);
  row.dispose();
  assert.is(liveBytes(gpu), before);
});

// --- errors

errors("a second backward through a freed graph says so", () => {
  const x = leaf([1, 2]);
  const loss = tidy(() => ad.exp(x).sum());
  loss.backward();
  assert.throws(
    () => loss.backward(),
    (error: Error) =>
      error instanceof GpuError &&
      /graph of "sum" was already used; run the forward pass again/.test(error.message),
  );
  for (const tensor of [x, loss]) tensor.dispose();
});

errors("two losses over one freed part say so", () => {
  const x = leaf([1, 2]);
  const h = ad.exp(x);
  const [first, second] = [tidy(() => h.sum()), tidy(() => h.mul(2).sum())];
  first.backward();
  assert.throws(() => second.backward(), /graph of "exp" was already used/);
  for (const tensor of [x, h, first, second]) tensor.dispose();
});

errors("backward of more than one element asks for a gradient of that shape", () => {
  const x = leaf([1, 2, 3]);
  const y = x.mul(2);
  const wrong = tensor(gpu, [1, 2]);
  const isShapeError = (pattern: RegExp) => (error: Error) =>
    error instanceof ShapeError && pattern.test(error.message);
  assert.throws(() => y.backward(), isShapeError(/tensor is \[3\]; pass a gradient of that shape/));
  assert.throws(() => y.backward(wrong), isShapeError(/gradient \[2\], expected \[3\]/));
  for (const tensor of [x, y, wrong]) tensor.dispose();
});

errors("backward without anything that requires a gradient says so", () => {
  const x = tensor(gpu, [1]);
  assert.throws(() => tidy(() => x.mul(2).backward()), /not computed from anything that requires a gradient/);
  x.dispose();
});

errors("requiresGrad is for tensors that are no op's result", () => {
  const x = leaf([1]);
  const y = x.mul(2);
  assert.throws(() => {
    y.requiresGrad = false;
  }, /requiresGrad: set it on tensors that are not the result of an op, or detach\(\) first/);
  for (const tensor of [x, y]) tensor.dispose();
});

errors("tensors of two devices do not mix", () => {
  const other = new Gpu(gpu.device);
  const [a, b] = [leaf([1]), tensor(other, [2])];
  assert.throws(() => a.add(b), /add: tensors of two devices; copy one/);
  assert.throws(() => tidy(() => a.mul(2).backward(b)), /backward: the gradient is of another device/);
  for (const tensor of [a, b]) tensor.dispose();
});

errors("reading says what it cannot read", async () => {
  const x = tensor(gpu, [1, 2]);
  let message = "";
  await x.item().catch((error: Error) => {
    message = error.message;
  });
  assert.match(message, /item: the tensor is \[2\], not one element/);
  assert.throws(() => x.write(new Float32Array(3)), /write: 3 f32 values into f32 \[2\]/);
  assert.throws(() => x.write(new Int32Array(2)), /write: 2 i32 values into f32 \[2\]/);
  assert.throws(() => tensor(gpu, [1, 2, 3], [2, 2]), /3 values do not fill \[2, 2\] \(4\)/);
  x.dispose();
});

graphs.run();
memory.run();
errors.run();
