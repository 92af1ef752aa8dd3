// Functions that see a gradient when it is complete, and may replace it.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Gpu } from "../src/array/index.ts";
import * as ad from "../src/autograd/index.ts";
import { grad, keep, Parameter, type Tensor, tensor, tidy, zeros } from "../src/autograd/index.ts";
import { GpuError, ShapeError } from "../src/gpu/index.ts";
import { liveBytes, gpu as openTestGpu } from "./device.ts";
import { assertGradients, dispatchesOf, floats, free, leaf } from "./graphs.ts";
import { normal } from "./ops-table/row.ts";
import * as R from "./reference/index.ts";

const gpu = await openTestGpu();
const hooks = suite("gradient hooks");
const values = async (x: Tensor | null | undefined): Promise<number[]> => [...(await floats(x))];

hooks("a leaf that is used several times: called once, with the sum, before it adds to grad", async () => {
  const x = leaf(gpu, [1, 2, 3]);
  tidy(() => x.mul(100).sum().backward());
  const seen: Tensor[] = [];
  x.onGrad((gradient) => {
    seen.push(keep(gradient));
  });
  tidy(() => x.mul(x).add(x).sub(x.mul(3)).sum().backward());
  assert.is(seen.length, 1);
  assert.equal(await values(seen[0]), [0, 2, 4]);
  assert.equal(await values(x.grad), [100, 102, 104]);
  free(x, ...seen);
});

hooks("a result in a diamond: called once, with both ways added up, before earlier ops run", async () => {
  const x = leaf(gpu, [2, -3]);
  const seen: Tensor[] = [];
  tidy(() => {
    const h = ad.square(x);
    h.onGrad((gradient) => {
      assert.is(x.grad, null);
      seen.push(keep(gradient));
    });
    h.mul(3).add(h.mul(h)).sum().backward();
  });
  assert.is(seen.length, 1);
  assert.equal(await values(seen[0]), [3 + 8, 3 + 18]);
  assert.equal(await values(x.grad), [11 * 4, 21 * -6]);
  free(x, ...seen);
});

hooks("what it returns goes on in the gradient's place: against float64", async () => {
  const [xs, ws] = [normal([4, 5], 1), normal([3, 5], 2)];
  const [x, w] = [leaf(gpu, xs), leaf(gpu, ws)];
  const stops: (() => void)[] = [];
  tidy(() => {
    const h = ad.linear(x, w);
    stops.push(h.onGrad((gradient) => gradient.mul(0.25)));
    stops.push(w.onGrad((gradient) => ad.square(gradient)));
    ad.square(h).sum().backward();
  });
  // A quarter of the gradient from h on is that of a quarter of the loss.
  const quarter = (a: R.RefTensor, b: R.RefTensor) => R.sum(R.map(R.square(R.linear(a, b)), (v) => v / 4));
  await assertGradients([x.grad], quarter, [xs, ws], { K: 5, products: 4, wrt: [0] });
  const plain = grad(
    tidy(() => ad.square(ad.linear(x, w)).sum().mul(0.25)),
    [w],
  );
  stops[1]?.();
  const [dw] = tidy(() => grad(ad.square(ad.linear(x, w)).sum().mul(0.25), [w]));
  assert.equal(
    (await values(plain[0])).map(Math.fround),
    (await values(dw)).map((v) => Math.fround(v * v)),
    "hooks act in grad() too",
  );
  free(x, w, dw, ...plain);
});

hooks(
  "several run in the order they came, each seeing what the one before gave, until they are taken out",
  async () => {
    const x = leaf(gpu, [1]);
    const seen: number[] = [];
    const look = (name: number) => () => {
      seen.push(name);
    };
    x.onGrad(look(1));
    const stop = x.onGrad((gradient) => gradient.mul(10));
    x.onGrad((gradient) => gradient.add(1));
    x.onGrad(look(2));
    tidy(() => x.mul(3).backward());
    assert.equal(await values(x.grad), [31]);
    stop();
    stop();
    x.grad = null;
    tidy(() => x.mul(3).backward());
    assert.equal(await values(x.grad), [4]);
    assert.equal(seen, [1, 2, 1, 2]);
    x.dispose();
  },
);

hooks("one that takes itself out runs once, and the others all the same", async () => {
  const x = leaf(gpu, [1]);
  const stop = x.onGrad((gradient) => {
    stop();
    return gradient.mul(10);
  });
  x.onGrad((gradient) => gradient.add(1));
  for (let i = 0; i < 2; i++) tidy(() => x.mul(3).backward());
  assert.equal(await values(x.grad), [31 + 4]);
  x.dispose();
});

hooks("runs without a graph and in a tidy of its own", () => {
  const x = leaf(gpu, [1, 2]);
  const other = leaf(gpu, [3, 4]);
  let recorded = true;
  x.onGrad((gradient) => {
    const made = gradient.mul(other).add(zeros(gpu, [2]));
    recorded = made.needsGradient;
    return made;
  });
  const before = liveBytes(gpu);
  for (let i = 0; i < 3; i++) tidy(() => x.mul(3).sum().backward());
  assert.is(liveBytes(gpu), before + 256, "the gradient");
  assert.not.ok(recorded);
  assert.is(other.grad, null);
  free(x, other);
});

hooks("a gradient that is kept is not written to afterwards", async () => {
  const [x, y] = [leaf(gpu, [1, 2]), leaf(gpu, [1, 1])];
  const kept: Tensor[] = [];
  const keeping = (gradient: Tensor): void => {
    kept.push(keep(gradient));
  };
  x.onGrad(keeping);
  for (let i = 0; i < 2; i++) {
    tidy(() => {
      const h = x.add(y); // hands one gradient to both
      h.onGrad(keeping);
      h.add(h.mul(2)).sum().backward();
    });
  }
  assert.equal(await Promise.all(kept.map(values)), new Array(4).fill([3, 3]));
  assert.equal(
    [await values(x.grad), await values(y.grad)],
    [
      [6, 6],
      [6, 6],
    ],
  );
  free(x, y, ...kept);
});

hooks("sees stretched gradients, and those of views, in the tensor's shape", async () => {
  const x = leaf(gpu, [1, 2, 3, 4, 5, 6], [2, 3]);
  const shapes: (readonly number[])[] = [];
  const seen: Tensor[] = [];
  tidy(() => {
    const turned = x.transpose(0, 1);
    turned.onGrad((gradient) => {
      shapes.push(gradient.shape);
      seen.push(keep(gradient.mul(1)));
    });
    const row = turned.slice(0, 1, 2);
    row.onGrad((gradient) => gradient.add(tensor(gpu, [10, 20])));
    turned.sum().add(row.sum()).backward();
  });
  assert.equal(shapes, [[3, 2]]);
  assert.equal(await values(seen[0]), [1, 1, 12, 22, 1, 1]);
  assert.equal(await values(x.grad), [1, 12, 1, 1, 22, 1]);
  free(x, ...seen);
});

hooks("a parameter in an arena: the gradient of this pass, which then adds to its place", async () => {
  const parameter = Parameter.from(gpu, Float32Array.of(1, 2), [2]);
  const gradients = gpu.from(new Float32Array(128));
  parameter.moveTo(gpu.from(Float32Array.of(1, 2)), gradients.view([2], 64));
  parameter.gradientsZeroed(gradients);
  const seen: Tensor[] = [];
  parameter.onGrad((gradient) => {
    seen.push(keep(gradient));
    return gradient.mul(2);
  });
  for (let i = 0; i < 2; i++) tidy(() => parameter.mul(parameter).sum().backward());
  assert.equal(await Promise.all(seen.map(values)), [
    [2, 4],
    [2, 4],
  ]);
  assert.equal([...(await gpu.read(gradients)).subarray(64, 67)], [8, 16, 0]);
  free(parameter, ...seen);
  gradients.release();
});

hooks("grad() calls those on its way and those of its inputs, and no others", async () => {
  const [x, y] = [leaf(gpu, [1]), leaf(gpu, [2])];
  const calls: string[] = [];
  const named = (name: string) => (gradient: Tensor) => {
    calls.push(name);
    return gradient.mul(10);
  };
  const [dh, dx] = tidy(() => {
    const h = x.mul(3);
    const side = y.mul(5);
    h.onGrad(named("h"));
    side.onGrad(named("side"));
    x.onGrad(named("x"));
    y.onGrad(named("y"));
    return grad(h.add(side), [h, x]);
  });
  assert.equal([await values(dh), await values(dx), calls], [[10], [300], ["h", "x"]]);
  free(x, y, dh, dx);
});

hooks("one that only looks costs no dispatch", () => {
  const x = leaf(gpu, [1, 2]);
  const cost = (hook: boolean): number => {
    let dispatches = 0;
    tidy(() => {
      const h = ad.exp(x);
      if (hook) h.onGrad(() => {});
      const loss = ad.square(h).sum();
      dispatches = dispatchesOf(gpu, () => loss.backward());
      x.grad = null;
    });
    return dispatches;
  };
  assert.is(cost(true), cost(false));
  x.onGrad(() => null);
  assert.is(cost(true), cost(false));
  x.dispose();
});

hooks("a replacement of another shape, type or device is refused, and so is a promise", () => {
  const x = leaf(gpu, [1, 2]);
  const other = new Gpu(gpu.device);
  const returning = (fn: (gradient: Tensor) => unknown) => (): void => {
    const stop = x.onGrad(fn as (gradient: Tensor) => Tensor); // what a program without types could pass
    try {
      tidy(() => x.mul(2).sum().backward());
    } finally {
      stop();
    }
  };
  const before = liveBytes(gpu);
  const refused = (pattern: RegExp) => (error: Error) =>
    error instanceof ShapeError && pattern.test(error.message);
  assert.throws(
    returning((gradient) => gradient.sum()),
    refused(/^onGrad: f32 \[\] cannot take the place of a gradient f32 \[2\] of this device$/),
  );
  assert.throws(
    returning((gradient) => gradient.to("f16")),
    refused(/f16 \[2\] cannot take the place/),
  );
  assert.throws(
    returning(() => tensor(other, [1, 2])),
    refused(/cannot take the place/),
  );
  assert.throws(
    returning(() => 5),
    refused(/onGrad: a number cannot take the place/),
  );
  assert.throws(
    returning(async () => null),
    /onGrad: takes a synchronous function/,
  );
  assert.throws(
    returning(() => {
      throw new Error("on purpose");
    }),
    /on purpose/,
  );
  assert.is(liveBytes(gpu), before);
  assert.is(x.grad, null);
  x.dispose();
});

hooks("one that would never be called is refused", () => {
  const x = tensor(gpu, [1, 2]);
  assert.throws(
    () => x.onGrad(() => {}),
    (error: Error) =>
      error instanceof GpuError &&
      error.message ===
        "onGrad: [2] needs no gradient, so that nothing would be called; set requiresGrad first",
  );
  x.dispose();
});

hooks.run();
