// Gradients of parameters in an optimiser's arena: written where they belong, added where there is one already.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { GpuArray } from "../src/array/index.ts";
import * as ad from "../src/autograd/index.ts";
import { apply, capture, grad, Parameter, type Tensor, tensor, tidy } from "../src/autograd/index.ts";
import { type AnyOp, linear } from "../src/ops/index.ts";
import { AdamW } from "../src/optim/index.ts";
import { LinearBank } from "../src/peft/index.ts";
import { assertBitEqual } from "./compare.ts";
import { gpu as openTestGpu } from "./device.ts";
import { assertGradients, dispatchesOf, floats, free } from "./graphs.ts";
import { normal } from "./ops-table/row.ts";
import * as R from "./reference/index.ts";

const gpu = await openTestGpu();
const places = suite("places of gradients");
const draws = suite("draws");

function parameter(shape: readonly number[], seed: number): Parameter {
  return Parameter.from(gpu, Float32Array.from(normal(shape, seed).data), shape);
}

/** What is read from a parameter's place without telling it that somebody looks. */
async function placeOf(optimiser: AdamW, index: number): Promise<Float32Array> {
  const { arena } = optimiser;
  const { first, parameter: owner } = arena.entries[index] as (typeof arena.entries)[number];
  return ((await gpu.read(arena.segments[0]?.gradients as GpuArray)) as Float32Array).slice(
    first,
    first + owner.size,
  );
}

/** Ops that write gradients of parameters: what each is run on. */
const ROWS = 70; // more than a block of any sum
const x = tensor(gpu, Float32Array.from(normal([ROWS, 8], 1).data), [ROWS, 8]);
const ids = tensor(
  gpu,
  Int32Array.from({ length: ROWS }, (_, i) => (i * 3) % 5),
);
const route = tensor(gpu, Int32Array.of(2, 0));
const users: Readonly<
  Record<
    string,
    {
      shapes: readonly (readonly number[])[];
      run: (...p: Parameter[]) => Tensor;
      /** Adds to what is there and needs no zeros of its own. */
      adds?: boolean;
    }
  >
> = {
  linear: { shapes: [[12, 8], [12]], run: (w, b) => ad.linear(x, w as Tensor, b as Tensor) },
  "linear of odd sizes": {
    shapes: [[7, 8], [7]],
    run: (w, b) => ad.linear(x, w as Tensor, b as Tensor),
  },
  bankLinear: {
    shapes: [
      [3, 12, 8],
      [3, 12],
    ],
    run: (w, b) => ad.bankLinear(x, w as Tensor, b as Tensor, route),
  },
  layerNorm: { shapes: [[8], [8]], run: (w, b) => ad.layerNorm(x, w as Tensor, b as Tensor) },
  matmul: { shapes: [[8, 12], [12]], run: (w, b) => ad.matmul(x, w as Tensor, { bias: b as Tensor }) },
  "matmul, transposed": {
    shapes: [[7, 8]],
    run: (w) => ad.matmul(x, w as Tensor, { transposeB: true, activation: "relu" }),
  },
  "add, broadcast": { shapes: [[8]], run: (b) => x.add(b as Tensor) },
  "mul, broadcast": { shapes: [[8]], run: (a) => ad.mul(a as Tensor, x) },
  embedding: { shapes: [[5, 8]], run: (table) => ad.embedding(table as Tensor, ids), adds: true },
  indexSelect: { shapes: [[5, 8]], run: (table) => ad.indexSelect(table as Tensor, 0, ids), adds: true },
};

for (const [name, { shapes, run, adds }] of Object.entries(users)) {
  places(`${name}: the same bits as without an arena, one dispatch less for each parameter`, async () => {
    const make = (): Parameter[] => shapes.map((shape, i) => parameter(shape, 10 + i));
    const loose = make();
    const plain = tidy(() => {
      const loss = ad.square(run(...loose)).sum();
      return dispatchesOf(gpu, () => loss.backward());
    });
    const placed = make();
    const optimiser = new AdamW(placed);
    const backward = (): number =>
      tidy(() => {
        const loss = ad.square(run(...placed)).sum();
        return dispatchesOf(gpu, () => loss.backward());
      });
    const costs: number[] = [];
    for (let step = 0; step < 2; step++) {
      optimiser.zeroGrad();
      costs.push(backward());
      for (const [i, owner] of loose.entries())
        assertBitEqual(await placeOf(optimiser, i), await floats(owner.grad), `${name}, gradient ${i}`);
      costs.push(backward());
      for (const [i, owner] of loose.entries()) {
        const twice = (await floats(owner.grad)).map((g) => g + g);
        assertBitEqual(await placeOf(optimiser, i), twice, `${name}, gradient ${i} of two passes`);
      }
    }
    // A second pass adds; a first one need not, and nothing is copied to a tensor's own array either.
    const [first, second] = adds ? [plain - 1, plain - 1] : [plain, plain + shapes.length];
    assert.equal(costs, [first, second, first, second]);
    optimiser.dispose();
    free(...loose, ...placed);
  });
}

places("a parameter that is used twice, by one op or by several: against float64", async () => {
  const ws = normal([8, 8], 3);
  const w = Parameter.from(gpu, Float32Array.from(ws.data), [8, 8]);
  const optimiser = new AdamW([w]);
  const xs = normal([ROWS, 8], 1);
  const run = async (
    build: () => Tensor,
    fn: (v: R.RefTensor, input: R.RefTensor) => R.RefTensor,
  ): Promise<void> => {
    for (let step = 0; step < 2; step++) {
      optimiser.zeroGrad();
      tidy(() => build().sum().backward());
      await assertGradients([w.grad], fn, [ws, xs], { K: ROWS, products: 4, wrt: [0] });
    }
  };
  await run(
    () => ad.linear(w, w),
    (v) => R.sum(R.linear(v, v)),
  );
  await run(
    () => ad.linear(ad.linear(x, w), w),
    (v, input) => R.sum(R.linear(R.linear(input, v), v)),
  );
  await run(
    () => ad.linear(x, w).sum().add(ad.square(w).sum()),
    (v, input) => R.add(R.sum(R.linear(input, v)), R.sum(R.square(v))),
  );
  await run(
    () =>
      ad
        .matmul(x, w.transpose(0, 1))
        .sum()
        .add(ad.linear(x, w.reshape(8, 8)).sum()),
    (v, input) => R.map(R.sum(R.linear(input, v)), (sum) => 2 * sum),
  );
  optimiser.dispose();
  w.dispose();
});

places("what no gradient reaches reads as zero, beside one that was written", async () => {
  const [w, idle] = [parameter([12, 8], 1), parameter([5], 2)];
  const optimiser = new AdamW([w, idle]);
  const backward = (of: Parameter[]): void => {
    optimiser.zeroGrad();
    tidy(() => {
      for (const p of of) ad.square(p).sum().backward();
    });
  };
  backward([w, idle]);
  backward([w]);
  assert.ok((await floats(w.grad)).every((g) => g !== 0));
  assert.equal([...(await floats(idle.grad))], [0, 0, 0, 0, 0]);
  optimiser.dispose();
  free(w, idle);
});

places("what was put there by hand is added to", async () => {
  const w = parameter([12, 8], 1);
  const optimiser = new AdamW([w]);
  const backward = (): void => tidy(() => ad.linear(x, w).sum().backward());
  optimiser.zeroGrad();
  backward();
  const once = await floats(w.grad);
  optimiser.zeroGrad();
  w.grad?.write(new Float32Array(96).fill(1));
  backward();
  assert.equal([...(await floats(w.grad))], [...once.map((g) => 1 + g)]);
  const given = tensor(gpu, new Float32Array(96).fill(2), [12, 8]);
  w.grad = given;
  assert.equal([...(await floats(w.grad))], new Array(96).fill(2));
  backward();
  assert.equal([...(await floats(w.grad))], [...once.map((g) => 2 + g)]);
  w.grad = null;
  assert.equal([...(await placeOf(optimiser, 0))], new Array(96).fill(0));
  backward();
  assertBitEqual(await placeOf(optimiser, 0), once, "after null");
  const wrong = tensor(gpu, [1, 2]);
  assert.throws(() => {
    w.grad = wrong;
  }, /^parameter: a gradient \[2\] for \[12, 8\]$/);
  optimiser.dispose();
  free(w, wrong);
});

places("a captured backward adds or writes as a plain one does, whoever sets gradients to zero", async () => {
  const w = parameter([12, 8], 1);
  const optimiser = new AdamW([w]);
  const backward = (): void => tidy(() => ad.linear(x, w).sum().backward());
  optimiser.zeroGrad();
  backward();
  const once = await placeOf(optimiser, 0);
  const times = (n: number): number[] => [
    ...once.map((g) => Array.from({ length: n }, () => g).reduce((a, b) => a + b)),
  ];

  const adding = capture(gpu, backward);
  for (let round = 0; round < 2; round++) {
    optimiser.zeroGrad();
    for (let n = 1; n <= 3; n++) {
      adding.run();
      assert.equal([...(await placeOf(optimiser, 0))], times(n), `${n} captured passes`);
    }
    backward();
    assert.equal([...(await placeOf(optimiser, 0))], times(4), "and a plain one");
  }
  const whole = capture(gpu, () => {
    optimiser.zeroGrad();
    backward();
    backward();
  });
  for (let n = 0; n < 3; n++) {
    whole.run();
    assert.equal([...(await placeOf(optimiser, 0))], times(2), "two passes in a step");
  }
  const zero = capture(gpu, () => optimiser.zeroGrad());
  for (let n = 0; n < 3; n++) {
    zero.run();
    adding.run();
    backward();
    assert.equal([...(await placeOf(optimiser, 0))], times(2), "zeros, a captured pass and a plain one");
  }
  for (const step of [adding, whole, zero]) step.dispose();
  optimiser.dispose();
  w.dispose();
});

places("grad() writes to no place", async () => {
  const w = parameter([12, 8], 1);
  const optimiser = new AdamW([w]);
  optimiser.zeroGrad();
  const [dw] = tidy(() => grad(ad.linear(x, w).sum(), [w]));
  assert.equal([...(await placeOf(optimiser, 0))], new Array(96).fill(0));
  assert.ok((await floats(dw)).some((g) => g !== 0));
  optimiser.dispose();
  free(w, dw);
});

places("an op that takes a place and gives another array is found out", () => {
  const w = parameter([12, 8], 1);
  const optimiser = new AdamW([w]);
  const forgetful: AnyOp = {
    ...(linear as unknown as AnyOp), // an op whose types are forgotten
    name: "forgetful",
    backward(device, _dy, _saved, _attrs, needs) {
      device.emptyFor(1, [12, 8]);
      return needs.map((isNeeded) => (isNeeded ? device.empty([12, 8]) : null));
    },
  };
  const wrong: AnyOp = { ...forgetful, backward: (device) => [null, device.emptyFor(1, [3]), null] };
  optimiser.zeroGrad();
  assert.throws(
    () => tidy(() => apply(forgetful, [x, w, null], {}).sum().backward()),
    /backward: "forgetful" took the place of the gradient of input 1, and gave another array/,
  );
  optimiser.zeroGrad();
  assert.throws(
    () => tidy(() => apply(wrong, [x, w, null], {}).sum().backward()),
    /array: a gradient \[3\] for an input \[12, 8\]/,
  );
  const shapeless: AnyOp = { ...forgetful, backward: (device) => [null, device.empty([3]), null] };
  assert.throws(
    () => tidy(() => apply(shapeless, [x, w, null], {}).sum().backward()),
    /backward: "forgetful" gave a gradient \[3\] for input 1, which is \[12, 8\]/,
  );
  optimiser.dispose();
  w.dispose();
});

// --- which slices of a bank a step has used

/** Flags of the slices of each part of a bank. */
async function drawnOf(optimiser: AdamW): Promise<number[][]> {
  const flags = await gpu.read(optimiser.arena.drawn);
  return optimiser.arena.entries.map(({ firstSlice, parameter: owner }) => [
    ...flags.subarray(firstSlice, firstSlice + owner.slices),
  ]);
}

draws("one dispatch for all banks whose routes lie in one memory; micro-batches add up", async () => {
  const banks = [0, 1, 2].map(() => new LinearBank(gpu, { experts: 4, inputs: 8, outputs: 8 }));
  const optimiser = new AdamW(banks.flatMap((bank) => bank.parameters()));
  const slot = gpu.from(new Int32Array(192));
  const routes = [0, 64, 128].map((at) => new ad.Tensor(gpu, slot.view([1], at)));
  const backward = (experts: number[], used = banks.length): number => {
    const words = new Int32Array(192);
    for (const [i, expert] of experts.entries()) words[64 * i] = expert;
    gpu.write(slot, words);
    return tidy(() => {
      const h = banks.slice(0, used).reduce<Tensor>((y, bank, i) => bank.forward(y, routes[i] as Tensor), x);
      const loss = h.sum();
      return dispatchesOf(gpu, () => loss.backward());
    });
  };
  optimiser.zeroGrad();
  const cost = backward([3, 1, 0]);
  assert.equal(await drawnOf(optimiser), [
    [0, 0, 0, 1],
    [0, 0, 0, 1],
    [0, 1, 0, 0],
    [0, 1, 0, 0],
    [1, 0, 0, 0],
    [1, 0, 0, 0],
  ]);
  backward([2, 1, 3], 2);
  assert.equal(await drawnOf(optimiser), [
    [0, 0, 1, 1],
    [0, 0, 1, 1],
    [0, 1, 0, 0],
    [0, 1, 0, 0],
    [1, 0, 0, 0],
    [1, 0, 0, 0],
  ]);
  optimiser.zeroGrad();
  assert.equal(await drawnOf(optimiser), new Array(6).fill([0, 0, 0, 0]));
  optimiser.dispose();
  for (const bank of banks) bank.weight.requiresGrad = true;
  for (const bank of banks)
    for (const part of bank.parameters())
      part.moveTo(
        gpu.from(new Float32Array(part.size), part.shape),
        gpu.from(new Float32Array(part.size), part.shape),
      );
  // Without flags: one dispatch less, and an accumulation for each parameter.
  assert.is(backward([3, 1, 0]), cost - 1 + 6);
  for (const bank of banks) bank.dispose();
  free(...routes);
  slot.release();
});

draws("a forward pass alone draws nothing; a frozen side neither", async () => {
  const bank = new LinearBank(gpu, { experts: 3, inputs: 8, outputs: 4 });
  const optimiser = new AdamW(bank.parameters());
  optimiser.zeroGrad();
  tidy(() => bank.forward(x, route));
  assert.equal(await drawnOf(optimiser), [
    [0, 0, 0],
    [0, 0, 0],
  ]);
  bank.weight.requiresGrad = false;
  tidy(() => bank.forward(x, route).sum().backward());
  assert.equal(await drawnOf(optimiser), [
    [0, 0, 0],
    [1, 0, 1],
  ]);
  optimiser.dispose();
  bank.dispose();
});

draws("a gradient that comes by no route reaches every expert", async () => {
  const bank = new LinearBank(gpu, { experts: 3, inputs: 8, outputs: 4, bias: false });
  const optimiser = new AdamW(bank.parameters());
  optimiser.zeroGrad();
  tidy(() => bank.forward(x, route).sum().add(ad.square(bank.weight).sum()).backward());
  assert.equal(await drawnOf(optimiser), [[1, 1, 1]]);
  optimiser.zeroGrad();
  bank.weight.grad = tensor(gpu, new Float32Array(96), [3, 4, 8]);
  assert.equal(await drawnOf(optimiser), [[1, 1, 1]]);
  optimiser.dispose();
  bank.dispose();
});

draws("autocast's copy of a bank's weight leads to the experts that were drawn", async () => {
  const bank = new LinearBank(gpu, { experts: 3, inputs: 8, outputs: 4, bias: false });
  const optimiser = new AdamW(bank.parameters());
  optimiser.zeroGrad();
  const backward = (taken: Tensor): void =>
    tidy(() => {
      const loss = ad.autocast("f16", () => bank.forward(x, taken).add(bank.forward(x, route)));
      loss.to("f32").sum().backward();
    });
  const first = tensor(gpu, Int32Array.of(0));
  backward(first);
  assert.equal(await drawnOf(optimiser), [[1, 0, 1]]);
  tidy(() => {
    const half = bank.weight.to("f16");
    ad.bankLinear(x, half, null, first).to("f32").sum().add(half.to("f32").sum()).backward();
  });
  assert.equal(await drawnOf(optimiser), [[1, 1, 1]]);
  optimiser.dispose();
  bank.dispose();
  first.dispose();
});

places.run();
draws.run();
