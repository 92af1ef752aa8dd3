// What an op of one's own gives is checked against its rules, and what cuts a graph is named.

import { inspect } from "node:util";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type DType, type GpuArray, openGpu } from "../src/array/index.ts";
import { apply, argmax, noGrad, Parameter, type Tensor, tensor, tidy } from "../src/autograd/index.ts";
import { defineOp, type Op } from "../src/ops/index.ts";
import { liveBytes, gpu as testGpu } from "./device.ts";

const gpu = await testGpu();
type Mine = Op<readonly [GpuArray], object, Record<string, never>>;

const leaf = (): Tensor => {
  const x = tensor(gpu, [1, 2, 3, 4, 5, 6], [2, 3]);
  x.requiresGrad = true;
  return x;
};

/** An op y = zeros of the shape of x, with some of its functions replaced. */
const mine = (parts: Partial<Mine>): Mine =>
  defineOp<readonly [GpuArray], object, Record<string, never>>({
    name: "mine",
    shape: ([a]) => a,
    forward: (on) => ({ output: on.zeros([2, 3]), saved: {} }),
    backward: (_gpu, dy) => [dy],
    ...parts,
  });

const own = suite("ops of one's own");

own("the output has the shape and the type that the rules say", () => {
  const giving = (shape: number[], dtype?: DType): Mine =>
    mine({ forward: (on) => ({ output: on.zeros(shape, dtype), saved: {} }) });
  const bad: readonly [Mine, RegExp][] = [
    [giving([3]), /^mine: forward gave f32 \[3\], and its rules say f32 \[2, 3\]$/],
    [giving([2, 3], "i32"), /^mine: forward gave i32 \[2, 3\], and its rules say f32 \[2, 3\]$/],
    [mine({ forward: () => ({ saved: {} }) as never }), /^mine: forward returned no output$/],
  ];
  const x = leaf();
  const before = liveBytes(gpu);
  for (const [op, message] of bad) assert.throws(() => apply(op, [x], {}), message);
  assert.is(liveBytes(gpu), before);
  assert.equal(apply({ ...giving([2, 3], "i32"), result: () => "i32" }, [x], {}).dtype, "i32");
});

own("backward gives a floating gradient of the input's shape, also inside a graph", () => {
  const bad: readonly [Mine["backward"], RegExp][] = [
    [(() => undefined) as never, /^backward: "mine" returned no list of gradients$/],
    [() => [null], /^backward: "mine" gave no gradient for input 0$/],
    [(on) => [on.zeros([2, 3], "i32")], /^backward: "mine" gave a gradient of i32 for input 0; make it f32$/],
    [
      (on) => [on.zeros([3, 2])],
      /^backward: "mine" gave a gradient \[3, 2\] for input 0, which is \[2, 3\]$/,
    ],
  ];
  for (const [backward, message] of bad) {
    const op = mine({ backward } as Partial<Mine>);
    for (const input of [(x: Tensor): Tensor => x, (x: Tensor): Tensor => x.mul(2)]) {
      const x = leaf();
      tidy(() =>
        assert.throws(
          () =>
            apply(op, [input(x)], {})
              .sum()
              .backward(),
          message,
        ),
      );
      assert.is(x.grad, null);
    }
  }
});

own.run();

const cuts = suite("what cuts a graph");

cuts("backward names what kept no history", () => {
  const { backward: _backward, ...rest } = mine({});
  const bad: readonly [(x: Tensor) => Tensor, RegExp][] = [
    [(x) => apply(rest as Mine, [x], {}).sum(), /"mine", which the tensor was computed by, has no backward$/],
    [(x) => argmax(x).to("f32").mul(2), /"argmax", which the tensor was computed by, has no backward$/],
    [(x) => x.sum().to("i32"), /"cast" made i32 of the tensor, which has no derivative$/],
    [(x) => noGrad(() => x.sum()).mul(3), /the tensor was computed in noGrad\(\), which keeps no history$/],
    [(x) => x.detach().sum(), /the tensor was detached from its history$/],
    [() => tensor(gpu, [1]), /the tensor was not computed from anything that requires a gradient$/],
  ];
  for (const [f, message] of bad) assert.throws(() => f(leaf()).backward(), message);
  const kept = leaf();
  const mixed = kept.mul(noGrad(() => kept.sum())).sum();
  mixed.backward();
  assert.ok(kept.grad, "what is cut on one way only goes back on the other");
});

cuts.run();

const tensors = suite("tensors at the door");

tensors("a gradient that is set is one of the tensor", async () => {
  const other = await openGpu();
  const list = [tensor(gpu, [1, 2]), Parameter.from(gpu, Float32Array.of(1, 2), [2])];
  for (const w of list) {
    w.requiresGrad = true;
    const set = (gradient: unknown) => () => {
      w.grad = gradient as Tensor;
    };
    assert.throws(set(tensor(gpu, [1])), /^grad: a gradient f32 \[1\] for a tensor f32 \[2\]$/);
    assert.throws(
      set(tensor(gpu, Int32Array.of(1, 2))),
      /^grad: a gradient i32 \[2\] for a tensor f32 \[2\]$/,
    );
    assert.throws(set(tensor(other, [1, 2])), /^grad: the gradient is of another device$/);
    assert.throws(set(3), /^grad: a number is no gradient; set a tensor or null$/);
    assert.is(w.grad, null);
    w.grad = tensor(gpu, [5, 6]);
    assert.equal([...(await (w.grad as Tensor).data())], [5, 6]);
    w.grad = null;
  }
  await other.device.close();
});

tensors("a tensor prints as what it is", () => {
  const x = tensor(gpu, Int32Array.of(1, 2, 3, 4), [2, 2]);
  assert.is(`${x}`, "Tensor i32 [2, 2]");
  assert.is(inspect({ w: leaf() }), "{ w: Tensor f32 [2, 3] requiresGrad }");
  assert.is(inspect(Parameter.zeros(gpu, [2])), "Parameter f32 [2] requiresGrad");
});

tensors("tidy refuses to return tensors in what it does not look into", async () => {
  const x = tensor(gpu, [1, 2]);
  class Pair {
    readonly first: Tensor;
    constructor(first: Tensor) {
      this.first = first;
    }
  }
  const message = (name: string): RegExp =>
    new RegExp(
      `^tidy: returns tensors in a ${name}, which would be freed; return tensors, and records and arrays`,
    );
  const before = liveBytes(gpu);
  assert.throws(() => tidy(() => new Map([["a", x.mul(2)]])), message("Map"));
  assert.throws(() => tidy(() => [new Set([x.mul(2)])]), message("Set"));
  assert.throws(() => tidy(() => new Pair(x.mul(2))), message("Pair"));
  assert.is(liveBytes(gpu), before);
  assert.is(tidy(() => new Pair(x)).first, x, "a tensor from outside lives on");
  const { y } = tidy(() => ({ y: x.mul(2), values: Float32Array.of(1) }));
  assert.equal([...(await y.data())], [2, 4]);
});

tensors.run();
