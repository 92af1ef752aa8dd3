// grad(): gradients of chosen tensors, and nothing that leads to none of them.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Gpu } from "../src/array/index.ts";
import * as ad from "../src/autograd/index.ts";
import { apply, grad, Parameter, type Tensor, tensor, tidy } from "../src/autograd/index.ts";
import { GpuError, ShapeError } from "../src/gpu/index.ts";
import { type AnyOp, exp, mul } from "../src/ops/index.ts";
import { assertBitEqual } from "./compare.ts";
import { liveBytes, gpu as openTestGpu } from "./device.ts";
import { assertGradients, dispatchesOf, floats, free, leaf } from "./graphs.ts";
import { table } from "./ops.table.ts";
import { isFloat, normal } from "./ops-table/row.ts";
import * as R from "./reference/index.ts";

const gpu = await openTestGpu();
const chosen = suite("grad");
const errors = suite("grad, errors");

/** Σ (x wᵀ + b)² vᵀ, and its inner result. */
const network = (x: Tensor, w: Tensor, b: Tensor, v: Tensor): { h: Tensor; loss: Tensor } => {
  const h = ad.linear(x, w, b);
  return { h, loss: ad.linear(ad.square(h), v).sum() };
};
const reference = (x: R.RefTensor, w: R.RefTensor, b: R.RefTensor, v: R.RefTensor): R.RefTensor =>
  R.sum(R.linear(R.square(R.linear(x, w, b)), v));
const values = [normal([5, 7], 1), normal([6, 7], 2), normal([6], 3), normal([3, 6], 4)];

chosen(
  "leaves and results of ops, in the order they were asked for, and no other tensor's grad",
  async () => {
    const [x, w, b, v] = values.map((value) => leaf(gpu, value)) as [Tensor, Tensor, Tensor, Tensor];
    const results = tidy(() => {
      const { h, loss } = network(x, w, b, v);
      return grad(loss, [v, h, x, w, b]);
    });
    assert.equal(
      results.map(({ shape }) => shape),
      [[3, 6], [5, 6], [5, 7], [6, 7], [6]],
    );
    const [dv, dh, dx, dw, db] = results as [Tensor, Tensor, Tensor, Tensor, Tensor];
    await assertGradients([dx, dw, db, dv], reference, values, { K: 15 * 7, products: 4 });
    const h = R.linear(...(values.slice(0, 3) as [R.RefTensor, R.RefTensor, R.RefTensor]));
    const rest = (inner: R.RefTensor, last: R.RefTensor) => R.sum(R.linear(R.square(inner), last));
    await assertGradients([dh], rest, [h, values[3] as R.RefTensor], { K: 3, products: 8, wrt: [0] });
    for (const input of [x, w, b, v]) assert.is(input.grad, null);
    free(x, w, b, v, ...results);
  },
);

chosen("the same bits as backward, which goes on adding up beside it", async () => {
  const inputs = values.map((value) => leaf(gpu, value)) as [Tensor, Tensor, Tensor, Tensor];
  tidy(() => network(...inputs).loss.backward());
  const results = tidy(() => grad(network(...inputs).loss, inputs));
  for (const [i, result] of results.entries()) {
    assertBitEqual(await floats(result), await floats(inputs[i]?.grad), `gradient of input ${i}`);
  }
  free(...inputs, ...results);
});

chosen("of a tensor with a gradient that is given, and of the loss itself", async () => {
  const x = leaf(gpu, [1, 2, 3]);
  const dy = tensor(gpu, [10, 20, 30]);
  const [dx, again, own] = tidy(() => {
    const y = x.mul(2);
    return grad(y, [x, x, y], { gradient: dy });
  }) as [Tensor, Tensor, Tensor];
  assert.equal([...(await floats(dx))], [20, 40, 60]);
  dx.write(Float32Array.of(0, 0, 0));
  assert.equal([...(await floats(again))], [20, 40, 60], "a tensor asked for twice gets two gradients");
  own.write(Float32Array.of(0, 0, 0));
  assert.equal([...(await floats(dy))], [10, 20, 30], "nothing shares the memory of what was given");
  const scalar = leaf(gpu, [7]);
  const [one] = grad(scalar, [scalar]);
  assert.equal([...(await floats(one))], [1]);
  free(x, dy, dx, again, own, scalar, one);
});

/** An op that must not go backward. */
const blocked: AnyOp = {
  ...(exp as unknown as AnyOp), // an op whose types are forgotten
  name: "blocked",
  backward() {
    throw new Error("ran backward");
  },
};

chosen("what leads to none of the inputs does not run", async () => {
  const [x, other] = [leaf(gpu, [1, 2]), leaf(gpu, [3, 4])];
  const [dx] = tidy(() => grad(x.mul(apply(blocked, [other], {})).sum(), [x]));
  assert.equal([...(await floats(dx))].map(Math.round), [20, 55]);
  // Below an intermediate result nothing runs either.
  const [dh] = tidy(() => {
    const h = apply(blocked, [x], {});
    return grad(ad.square(h).sum(), [h]);
  });
  assert.equal([...(await floats(dh))].map(Math.round), [5, 15]);
  free(x, other, dx, dh);
});

chosen("a product with one wanted side costs one product", () => {
  const [a, b] = [leaf(gpu, normal([8, 8], 1)), leaf(gpu, normal([8, 8], 2))];
  const dy = tensor(gpu, new Float32Array(64), [8, 8]);
  for (const build of [() => ad.matmul(a, b), () => ad.linear(a, b), () => a.mul(b)]) {
    const cost = (inputs: Tensor[]): number => {
      let dispatches = 0;
      tidy(() => {
        const y = build();
        dispatches = dispatchesOf(gpu, () => grad(y, inputs, { gradient: dy }));
      });
      return dispatches;
    };
    assert.equal([cost([a]), cost([b]), cost([a, b])], [1, 1, 2], String(build));
  }
  free(a, b, dy);
});

chosen(
  "each input of each op alone, and all of them again: the same bits, and no other gradient",
  async () => {
    for (const { op, cases } of table) {
      const [c] = cases;
      if (!c || !op.backward || c.gradient === false) continue;
      const attrs = typeof c.attrs === "function" ? c.attrs(gpu) : (c.attrs ?? {});
      const inputs = c.inputs.map((value) => {
        if (!value) return null;
        if (isFloat(value)) return leaf(gpu, value);
        return tensor(gpu, Int32Array.from(value.data), value.shape);
      });
      const wanted = inputs.filter((x) => x?.requiresGrad) as Tensor[]; // no null asks for a gradient
      const y = apply(watched(op), inputs, attrs);
      const options = {
        gradient: tensor(gpu, Float32Array.from(normal(y.shape, 9).data), y.shape),
        retainGraph: true,
      };
      const all = grad(y, wanted, options);
      // A backward that wrote to what was saved would be found out here.
      const again = grad(y, wanted, options);
      for (const [i, x] of wanted.entries()) {
        const [alone] = grad(y, [x], options);
        assertBitEqual(await floats(alone), await floats(all[i]), `${op.name}, gradient ${i} alone`);
        assertBitEqual(await floats(again[i]), await floats(all[i]), `${op.name}, gradient ${i} again`);
        free(alone);
      }
      free(...all, ...again, ...inputs, y, options.gradient);
    }
  },
);

/** The op, checked to compute no gradient that nobody asked for. */
function watched(op: AnyOp): AnyOp {
  return {
    ...op,
    backward(device, dy, saved, attrs, needs) {
      const gradients = op.backward?.(device, dy, saved, attrs, needs) ?? [];
      gradients.forEach((gradient, i) => {
        if (gradient && !needs[i]) throw new Error(`${op.name}: a gradient for input ${i}, which needs none`);
      });
      return gradients;
    },
  };
}

chosen("what has run is freed; what has not can still go backward", async () => {
  const x = leaf(gpu, [1, 2]);
  const [h, loss, dh] = tidy(() => {
    const inner = ad.exp(x.mul(1));
    const outer = ad.square(inner).sum();
    return [inner, outer, grad(outer, [inner])[0]];
  }) as [Tensor, Tensor, Tensor];
  assert.throws(() => grad(loss, [h]), /graph of "sum" was already used/);
  h.backward(dh);
  const expected = [1, 2].map((v) => 2 * Math.exp(2 * v));
  const actual = await floats(x.grad);
  for (const [i, want] of expected.entries()) assert.ok(Math.abs((actual[i] ?? 0) - want) < 2e-6 * want);
  free(x, h, loss, dh);
});

chosen("retainGraph keeps it for another time, until it is freed", async () => {
  const x = leaf(gpu, [0.5, -1]);
  const start = liveBytes(gpu);
  const loss = tidy(() => ad.square(ad.exp(x)).sum());
  const before = liveBytes(gpu);
  const [first] = grad(loss, [x], { retainGraph: true });
  loss.backward(undefined, { retainGraph: true });
  assert.is(liveBytes(gpu), before + 512, "two gradients more, nothing less");
  loss.backward();
  const [once, twice] = [await floats(first), await floats(x.grad)];
  assert.equal([...twice], [...once.map((v) => v + v)]);
  assert.throws(() => loss.backward(), /already used; run the forward pass again, or pass retainGraph: true/);
  free(loss, first);
  x.grad = null;
  assert.is(liveBytes(gpu), start);
  const unused = tidy(() => ad.square(ad.exp(x)).sum());
  unused.backward(undefined, { retainGraph: true });
  unused.dispose();
  x.grad = null;
  assert.is(liveBytes(gpu), start);
  x.dispose();
});

chosen("leaves nothing behind but what it returns, also after an error", () => {
  const [x, y] = [leaf(gpu, [1, 2]), leaf(gpu, [3, 4])];
  const before = liveBytes(gpu);
  const made = tidy(() => grad(x.mul(y).add(x).sum(), [y, x]));
  assert.is(liveBytes(gpu), before + 512);
  free(...made);
  assert.throws(
    () =>
      tidy(() =>
        grad(
          apply(blocked, [x.mul(y)], {})
            .mul(y)
            .sum(),
          [x, y],
        ),
      ),
    /ran backward/,
  );
  assert.is(liveBytes(gpu), before);
  free(x, y);
});

chosen("an input that the loss does not depend on is null where that is allowed", async () => {
  const [x, y, z] = [leaf(gpu, [1]), leaf(gpu, [2]), tensor(gpu, [3])];
  const [dx, dy, dz] = tidy(() => grad(x.mul(z), [x, y, z], { allowUnused: true }));
  assert.equal([[...(await floats(dx))], dy, dz], [[3], null, null]);
  const [none] = tidy(() => grad(x.mul(2), [y], { allowUnused: true }));
  assert.is(none, null);
  free(x, y, z, dx);
});

chosen("a parameter in an arena keeps its gradient there untouched", async () => {
  const parameter = Parameter.from(gpu, Float32Array.of(1, 2), [2]);
  parameter.moveTo(gpu.from(Float32Array.of(1, 2)), gpu.from(Float32Array.of(5, 6)));
  const [d] = tidy(() => grad(ad.square(parameter).sum(), [parameter]));
  assert.equal(
    [[...(await floats(d))], [...(await floats(parameter.grad))]],
    [
      [2, 4],
      [5, 6],
    ],
  );
  free(parameter, d);
});

// --- errors

const says = (type: typeof GpuError | typeof ShapeError, pattern: RegExp) => (error: Error) =>
  error instanceof type && pattern.test(error.message);

errors("an input without a gradient, or that the loss was not computed from, is named", () => {
  const [x, y, z] = [leaf(gpu, [1, 2]), leaf(gpu, [2], [1, 1]), tensor(gpu, [3])];
  const loss = ad.square(x).sum();
  const dispatches = dispatchesOf(gpu, () => {
    assert.throws(
      () => grad(loss, [x, z]),
      says(GpuError, /^grad: input 1 \[1\] requires no gradient; set requiresGrad before the forward pass$/),
    );
    assert.throws(
      () => grad(loss, [x, y]),
      says(
        GpuError,
        /^grad: the loss was not computed from input 1 \[1, 1\]; leave it out, or pass allowUnused/,
      ),
    );
  });
  assert.is(dispatches, 0);
  free(...grad(loss, [x])); // the graph is still there
  free(x, y, z, loss);
});

errors("a loss that is no scalar asks for a gradient; one of another shape or type is refused", () => {
  const x = leaf(gpu, [1, 2]);
  const y = x.mul(2);
  assert.throws(
    () => grad(y, [x]),
    says(ShapeError, /grad: the tensor is \[2\]; pass a gradient of that shape/),
  );
  assert.throws(() => grad(y, [x], { gradient: x.sum() }), says(ShapeError, /gradient \[\], expected \[2\]/));
  const integers = tensor(gpu, Int32Array.of(1, 2));
  assert.throws(
    () => grad(y, [x], { gradient: integers }),
    says(ShapeError, /a gradient of i32, expected f32/),
  );
  free(x, y, integers);
});

errors("freed tensors and tensors of another device are named", () => {
  const [x, gone] = [leaf(gpu, [1]), leaf(gpu, [2])];
  const loss = x.mul(gone);
  const other = leaf(new Gpu(gpu.device), [1]);
  assert.throws(() => grad(loss, [other]), says(GpuError, /grad: input 0 \[1\] is of another device/));
  gone.dispose();
  assert.throws(() => grad(loss, [x, gone]), says(GpuError, /grad: input 1 \[1\] was freed; keep\(\) it/));
  loss.dispose();
  assert.throws(
    () => grad(loss, [x]),
    says(GpuError, /grad: the tensor \[1\] was freed; return it from tidy/),
  );
  assert.throws(() => loss.backward(), says(GpuError, /backward: the tensor \[1\] was freed; return it/));
  const y = x.mul(2);
  assert.throws(() => y.backward(loss), says(GpuError, /backward: the gradient that was given was freed/));
  free(x, y, other);
});

errors("derivatives of derivatives say that there are only first ones", () => {
  const x = leaf(gpu, [3]);
  const [dx] = grad(ad.square(x).sum(), [x]) as [Tensor];
  const only = says(
    GpuError,
    /^grad: .* gradients?, which ha(s|ve) no history: only first derivatives exist$/,
  );
  assert.throws(() => grad(dx.mul(2), [x]), only);
  assert.throws(() => grad(dx, [x]), only);
  assert.throws(() => grad(ad.square(x).sum(), [dx]), only);
  ad.square(x).sum().backward();
  assert.throws(
    () => x.grad?.mul(2).sum().backward(),
    /backward: the tensor was computed from gradients, which have no history/,
  );
  assert.not.ok(x.mul(2).lostHistory || tensor(gpu, [1]).lostHistory);
  free(x, dx);
});

errors("an op that computes an unwanted gradient all the same harms nothing", async () => {
  const greedy: AnyOp = {
    ...(mul as unknown as AnyOp), // an op whose types are forgotten
    backward: (device, dy, saved, attrs) =>
      (mul as unknown as AnyOp).backward?.(
        device,
        dy,
        saved,
        attrs,
        Object.assign([true, true], { any: true }),
      ) ?? [],
  };
  const [x, y] = [leaf(gpu, [2]), leaf(gpu, [5])];
  const [dx] = tidy(() => grad(apply(greedy, [x, y], {}), [x]));
  assert.equal([[...(await floats(dx))], y.grad], [[5], null]);
  free(x, y, dx);
});

chosen.run();
errors.run();
