// What running again saves, gives back, and refuses.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import * as ad from "../src/autograd/index.ts";
import { checkpoint, Parameter, Stream, type Tensor, tensor, tidy } from "../src/autograd/index.ts";
import { type Block, blocks, C, clock, plainly, ways } from "./blocks.ts";
import { liveBytes, gpu as openTestGpu } from "./device.ts";
import { free, leaf } from "./graphs.ts";
import { normal } from "./ops-table/row.ts";

const gpu = await openTestGpu();
const memory = suite("checkpoint, memory");
const errors = suite("checkpoint, errors");

// --- memory

memory("a deep chain lives in fewer bytes at its peak", () => {
  const weights = Array.from({ length: 8 }, (_, i) =>
    Parameter.from(gpu, Stream.seed(i).normal(64 * 64, 0, 0.1), [64, 64]),
  );
  const x = tensor(gpu, Stream.seed(20).normal(256 * 64), [256, 64]);
  const peak = (segment: (h: Tensor, w: Parameter) => Tensor): number => {
    let most = 0;
    for (const w of weights) w.grad = null;
    const before = liveBytes(gpu);
    // Bytes are highest where an op has just made its output.
    const watch = (h: Tensor): Tensor => {
      most = Math.max(most, liveBytes(gpu) - before);
      h.onGrad(() => {
        most = Math.max(most, liveBytes(gpu) - before);
      });
      return h;
    };
    const loss = weights.reduce<Tensor>((h, w) => {
      const y = watch(tidy(() => segment(h, w)));
      if (h !== x) h.dispose(); // what backward needs lives on
      return y;
    }, x);
    tidy(() => loss.sum().backward());
    loss.dispose();
    return most;
  };
  const forward = (h: Tensor, w: Parameter): Tensor =>
    ad.gelu(ad.linear(ad.gelu(ad.linear(ad.gelu(h), w)), w));
  const [plain, again] = [peak(forward), peak((h, w) => checkpoint((inner) => forward(inner, w), h))];
  // Plainly each of 8 layers keeps its input and four activations; here its input, and one layer at a time the rest.
  assert.ok(again < 0.45 * plain, `${again} bytes, ${plain} without`);
  free(x, ...weights);
});

memory("a graph that never goes backward gives everything back", () => {
  const x = leaf(gpu, normal([6, C], 50));
  const before = liveBytes(gpu);
  tidy(() => {
    ways["blocks inside of blocks"]?.(x);
  });
  const y = checkpoint(plainly, x);
  assert.is(liveBytes(gpu), before + 512, "the output");
  y.dispose();
  assert.is(liveBytes(gpu), before);
  x.dispose();
});

memory("an error in either run leaves nothing", () => {
  const x = leaf(gpu, [1, 2]);
  const before = liveBytes(gpu);
  let fails = true;
  const fn = (h: Tensor): Tensor => {
    const y = ad.exp(h);
    if (fails) throw new Error("on purpose");
    return ad.square(y);
  };
  assert.throws(() => checkpoint(fn, x), /on purpose/);
  assert.is(liveBytes(gpu), before);
  fails = false;
  const loss = tidy(() => checkpoint(fn, x).sum());
  fails = true;
  assert.throws(() => loss.backward(), /on purpose/);
  loss.dispose();
  assert.is(liveBytes(gpu), before);
  x.dispose();
});

// --- errors

errors("what it reads must be as it was: parameters, inputs, clocks", () => {
  const x = leaf(gpu, normal([6, C], 50));
  const mask = tensor(gpu, new Float32Array(C).fill(1));
  const run = (change: () => void): (() => void) => {
    const loss = tidy(() => checkpoint((h) => (blocks[0] as Block).forward(h).mul(mask), x).sum());
    return () => {
      change();
      try {
        loss.backward();
      } finally {
        loss.dispose();
      }
    };
  };
  const parameter = blocks[0]?.parameters[1] as Parameter;
  const message = (what: string): RegExp =>
    new RegExp(
      `^backward: "checkpoint" saved ${what}, which was overwritten after the forward pass; go backward first`,
    );
  assert.throws(
    run(() => clock.write(Uint32Array.of(7, 4))),
    message('an array that "dropout" reads \\(\\d\\) \\[2\\]'),
  );
  clock.write(Uint32Array.of(7, 3));
  assert.throws(
    run(() => mask.write(new Float32Array(C))),
    message('an array that "mul" reads \\(\\d\\) \\[12\\]'),
  );
  const values = Float32Array.from(normal([2 * C], 2, { std: 0.3 }).data);
  assert.throws(
    run(() => parameter.write(values)),
    message('an array that "linear" reads \\(\\d\\) \\[24\\]'),
  );
  assert.throws(
    run(() => x.write(new Float32Array(6 * C))),
    message("input 0 \\[6, 12\\]"),
  );
  free(x, mask);
});

errors("a function that does something else the second time is found out", () => {
  const [x, y] = [leaf(gpu, [1, 2]), leaf(gpu, [3, 4])];
  let runs = 0;
  const twice = (first: (h: Tensor) => Tensor, second: (h: Tensor) => Tensor) => (): void =>
    tidy(() => {
      runs = 0;
      checkpoint((h) => (runs++ === 0 ? first(h) : second(h)), x)
        .sum()
        .backward();
    });
  assert.throws(
    twice(
      (h) => h.mul(2),
      (h) => h.slice(0, 0, 1),
    ),
    /checkpoint: its function gave \[2\] first, and \[1\] when it ran again/,
  );
  assert.throws(
    () =>
      tidy(() => {
        let other = y.mul(1);
        const z = checkpoint((h) => h.mul(other), x);
        other = y.mul(2);
        z.add(other).sum().backward();
      }),
    /checkpoint: its function used another result of "scale" when it ran again/,
  );
  free(x, y);
});

errors("promises, no outputs and outputs of several types are refused", () => {
  const x = leaf(gpu, [1, 2]);
  const before = liveBytes(gpu);
  const untyped = checkpoint as (fn: (h: Tensor) => unknown, x: Tensor) => unknown; // as a program without types calls it
  assert.throws(() => untyped(async (h) => h.mul(2), x), /checkpoint: takes a synchronous function/);
  assert.throws(
    () => untyped(() => [], x),
    /checkpoint: outputs of types \[\]; give one or more tensors of one type/,
  );
  assert.throws(() => untyped((h) => [h, h.to("f16")], x), /checkpoint: outputs of types \[f32, f16\]/);
  assert.throws(
    () => untyped(() => undefined, x),
    /checkpoint: its function gave undefined, expected tensors/,
  );
  assert.is(liveBytes(gpu), before);
  x.dispose();
});

errors("a tensor from outside that is gone by the time of backward says so", () => {
  const x = leaf(gpu, [1, 2]);
  const outside = x.mul(3);
  const loss = tidy(() => checkpoint((h) => h.mul(outside), x).sum());
  outside.dispose();
  assert.throws(
    () => loss.backward(),
    /array \[2\]: used after it was freed; return it from tidy\(\), or keep\(\) it/,
  );
  free(x, loss);
});

memory.run();
errors.run();
