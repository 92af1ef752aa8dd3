// Gradients of parts: a slice, rows that were looked up. They are added into what is collected of the whole's gradient,
// where nothing else sees that, and the sums are exact here: whole numbers.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import * as ad from "../src/autograd/index.ts";
import { checkpoint, grad, Parameter, type Tensor, tensor, tidy } from "../src/autograd/index.ts";
import { AdamW } from "../src/optim/index.ts";
import { gpu as openTestGpu } from "./device.ts";
import { dispatchesOf, floats, free, leaf } from "./graphs.ts";

const gpu = await openTestGpu();
const parts = suite("gradients of parts");

const SHAPE = [5, 12];
/** Rows or columns that are used, some of them twice, and some never. */
const SLICES = [
  [1, 0, 4],
  [1, 4, 8],
  [0, 1, 3],
  [1, 3, 10],
  [0, 2, 4],
] as const;

const whole = (n: number, seed: number): Float32Array<ArrayBuffer> =>
  Float32Array.from({ length: n }, (_, i) => ((7 * i + 5 * seed + (i >> 3)) % 9) - 4);

/** Σ over the slices of slice · weight, and what that adds to the gradient of x. */
function sumOfSlices(x: Tensor): Tensor {
  return tidy(() =>
    SLICES.map(([axis, start, end], i) => {
      const part = x.slice(axis, start, end);
      return part.mul(tensor(gpu, whole(part.size, i), part.shape)).sum();
    }).reduce((a, b) => a.add(b)),
  );
}

function gradientOfSlices(): number[] {
  const [rows, columns] = SHAPE as [number, number];
  const gradient = new Array<number>(rows * columns).fill(0);
  for (const [i, [axis, start, end]] of SLICES.entries()) {
    const [R, C] = axis === 0 ? [end - start, columns] : [rows, end - start];
    const weight = whole(R * C, i);
    for (let at = 0; at < R * C; at++) {
      const [r, c] = [Math.floor(at / C), at % C];
      const place = axis === 0 ? (start + r) * columns + c : r * columns + start + c;
      gradient[place] = (gradient[place] as number) + (weight[at] as number);
    }
  }
  return gradient;
}

const EXPECTED = gradientOfSlices();
const times = (n: number): number[] => EXPECTED.map((g) => n * g);
const input = (): Tensor => leaf(gpu, whole(60, 99), SHAPE);
const list = async (x: Tensor | null | undefined): Promise<number[]> =>
  [...(await floats(x))].map((g) => g + 0);

parts("of a result: zeros and a copy for the first piece, one sum for each that follows", async () => {
  const x = input();
  const costs = [1, 2, 3].map((n) => {
    x.grad = null;
    return tidy(() => {
      const h = x.reshape(60).reshape(...SHAPE);
      const sums = [0, 4, 8].slice(0, n).map((start) => h.slice(1, start, start + 4).sum());
      const loss = sums.reduce((a, b) => a.add(b));
      return dispatchesOf(gpu, () => loss.backward());
    });
  });
  // The gradient of a sum is a stretched view, which costs nothing. One more: x takes a copy of what views share.
  assert.equal(costs, [3, 4, 5]);
  assert.ok((await list(x.grad)).every((g) => g === 1));
  x.dispose();
});

parts("of a leaf, of a result, of one that is used whole too, before or after", async () => {
  const builds: Readonly<Record<string, readonly [build: (x: Tensor) => Tensor, gradient: number[]]>> = {
    leaf: [(x) => sumOfSlices(x), EXPECTED],
    result: [(x) => sumOfSlices(x.mul(2)), times(2)],
    "whole first": [(x) => x.sum().add(sumOfSlices(x)), EXPECTED.map((g) => g + 1)],
    "whole last": [(x) => sumOfSlices(x).add(x.sum()), EXPECTED.map((g) => g + 1)],
    "a sum that hands its gradient on as it is": [
      (x) => {
        const h = x.mul(1);
        const other = h.add(x);
        return other.mul(other).sum().mul(0).add(sumOfSlices(h)).add(other.sum());
      },
      EXPECTED.map((g) => g + 2),
    ],
    "a view of it": [(x) => sumOfSlices(x.transpose(0, 1).transpose(0, 1)), EXPECTED],
    "of another shape": [(x) => sumOfSlices(x.reshape(60).reshape(5, 12)), EXPECTED],
    "a slice of a slice": [(x) => sumOfSlices(x.slice(0, 0, 5).slice(1, 0, 12)), EXPECTED],
    checkpoint: [(x) => checkpoint((y) => sumOfSlices(y.mul(3)), x), times(3)],
    "checkpoint of the input itself": [(x) => checkpoint((y) => sumOfSlices(y), x), EXPECTED],
    "from outside of a checkpoint": [
      (x) => checkpoint((y) => sumOfSlices(x).add(y.sum().mul(0)), x),
      EXPECTED,
    ],
  };
  for (const [name, [build, gradient]] of Object.entries(builds)) {
    const x = input();
    const expected = gradient.map((g) => g + 0);
    tidy(() => build(x).backward());
    assert.equal(await list(x.grad), expected, name);
    tidy(() => build(x).backward());
    assert.equal(
      await list(x.grad),
      expected.map((g) => 2 * g + 0),
      `${name}, twice`,
    );
    const [dx] = tidy(() => grad(build(x), [x]));
    assert.equal(await list(dx), expected, `${name}, by grad()`);
    free(x, dx);
  }
});

parts("a gradient that somebody holds is not written to", async () => {
  const x = input();
  tidy(() => sumOfSlices(x).backward());
  const held = ad.keep(tidy(() => (x.grad as Tensor).reshape(60)));
  tidy(() => sumOfSlices(x).backward());
  assert.equal(
    await list(held),
    times(1).map((g) => g + 0),
  );
  assert.equal(
    await list(x.grad),
    times(2).map((g) => g + 0),
  );
  free(x, held);
});

parts("hooks see complete gradients, of a leaf, a result and a parameter in an arena", async () => {
  const p = Parameter.from(gpu, whole(60, 99), SHAPE);
  const optimiser = new AdamW([p]);
  for (const x of [input(), p]) {
    const seen: Promise<number[]>[] = [];
    const see = (gradient: Tensor): void => void seen.push(list(gradient));
    const stop = x.onGrad(see);
    tidy(() => {
      const h = x.mul(2);
      h.onGrad(see);
      sumOfSlices(x).add(sumOfSlices(h)).backward();
    });
    assert.equal(
      await Promise.all(seen),
      [times(1), times(3)].map((all) => all.map((g) => g + 0)),
    );
    assert.equal(
      await list(x.grad),
      times(3).map((g) => g + 0),
    );
    stop();
    if (x !== p) x.dispose();
  }
  optimiser.dispose();
  p.dispose();
});

parts("of a parameter in an arena: into its place, with nothing else made", async () => {
  const p = Parameter.from(gpu, whole(60, 99), SHAPE);
  const optimiser = new AdamW([Parameter.from(gpu, whole(3, 1), [3]), p]);
  const run = (): number =>
    tidy(() => {
      const loss = p
        .slice(1, 4, 8)
        .sum()
        .add(p.slice(0, 2, 4).sum());
      return dispatchesOf(gpu, () => loss.backward());
    });
  const expected = new Array<number>(60).fill(0);
  for (let i = 0; i < 60; i++) {
    const [r, c] = [Math.floor(i / 12), i % 12];
    expected[i] = (c >= 4 && c < 8 ? 1 : 0) + (r >= 2 && r < 4 ? 1 : 0);
  }
  optimiser.zeroGrad();
  assert.is(run(), 2, "one sum for each slice");
  assert.equal(await list(p.grad), expected);
  run();
  assert.equal(
    await list(p.grad),
    expected.map((g) => 2 * g),
  );
  optimiser.dispose();
  p.dispose();
});

parts("from a gradient that lies in the same memory", async () => {
  const p = Parameter.from(gpu, whole(60, 99), SHAPE);
  const optimiser = new AdamW([p]);
  tidy(() =>
    p
      .mul(tensor(gpu, whole(60, 5), SHAPE))
      .sum()
      .backward(),
  );
  // The seed is the parameter's own gradient.
  tidy(() => p.slice(0, 0, 5).backward(p.grad as Tensor));
  assert.equal(
    await list(p.grad),
    [...whole(60, 5)].map((g) => 2 * g + 0),
  );
  optimiser.dispose();
  p.dispose();
});

parts("a graph that is kept gives the same again", async () => {
  const x = input();
  const [h, loss] = tidy(() => {
    const h = x.mul(2);
    return [h, sumOfSlices(h)];
  });
  for (let n = 1; n <= 3; n++) {
    loss.backward(undefined, { retainGraph: true });
    assert.equal(
      await list(x.grad),
      times(2 * n).map((g) => g + 0),
    );
  }
  free(x, h, loss);
});

parts("rows that were looked up are added to what a table has collected elsewhere", async () => {
  const table = Parameter.from(gpu, whole(20, 3), [5, 4]);
  const optimiser = new AdamW([table]);
  const ids = tensor(gpu, Int32Array.of(3, 1, 3, 0));
  const weights = tensor(gpu, whole(16, 4), [4, 4]);
  const expected = new Array<number>(20).fill(1);
  for (const [i, id] of [3, 1, 3, 0].entries())
    for (let c = 0; c < 4; c++)
      expected[4 * id + c] = (expected[4 * id + c] as number) + (whole(16, 4)[4 * i + c] as number);
  for (const look of [ad.embedding, (t: Tensor, at: Tensor) => ad.indexSelect(t, 0, at)]) {
    optimiser.zeroGrad();
    tidy(() => look(table, ids).mul(weights).sum().add(table.sum()).backward());
    assert.equal(
      await list(table.grad),
      expected.map((g) => g + 0),
    );
  }
  optimiser.dispose();
  free(table, ids, weights);
});

parts("of halves", async () => {
  const x = tidy(() => tensor(gpu, whole(60, 99), SHAPE).to("f16"));
  x.requiresGrad = true;
  tidy(() => sumOfSlices(x).backward());
  assert.is(x.grad?.dtype, "f16");
  const wide = tidy(() => (x.grad as Tensor).to("f32"));
  assert.equal(
    await list(wide),
    times(1).map((g) => g + 0),
  );
  free(x, wide);
});

parts.run();
