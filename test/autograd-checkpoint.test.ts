// Running again instead of storing gives the same bits. What it saves and refuses: autograd-checkpoint-limits.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import * as ad from "../src/autograd/index.ts";
import {
  checkpoint,
  grad,
  noGrad,
  Parameter,
  Stream,
  type Tensor,
  tensor,
  tidy,
} from "../src/autograd/index.ts";
import { AdamW } from "../src/optim/index.ts";
import { LinearBank } from "../src/peft/index.ts";
import { blocks, C, parameters, plainly, ways } from "./blocks.ts";
import { assertBitEqual } from "./compare.ts";
import { liveBytes, gpu as openTestGpu } from "./device.ts";
import { assertGradients, dispatchesOf, floats, free, leaf } from "./graphs.ts";
import { normal } from "./ops-table/row.ts";
import * as R from "./reference/index.ts";

const gpu = await openTestGpu();
const same = suite("checkpoint");

/** Loss and gradients of x and of all parameters, by whatever way through the blocks. */
async function results(through: (x: Tensor) => Tensor): Promise<Float32Array[]> {
  for (const parameter of parameters) parameter.grad = null;
  const x = leaf(gpu, normal([6, C], 50));
  const loss = tidy(() => {
    const value = ad.square(through(x)).sum();
    value.backward();
    return value;
  });
  const all = [await floats(loss), await floats(x.grad)];
  for (const parameter of parameters) all.push(await floats(parameter.grad));
  free(x, loss);
  return all;
}

const expected = await results(plainly);

for (const [name, through] of Object.entries(ways)) {
  same(`${name}: loss and gradients, dropout and all, bit for bit`, async () => {
    const before = liveBytes(gpu);
    const actual = await results(through);
    assert.is(liveBytes(gpu), before);
    for (const [i, array] of expected.entries())
      assertBitEqual(actual[i] as Float32Array, array, `result ${i}`);
  });
}

same(
  "several inputs, some absent, some unused, one twice, and one also used from outside: against float64",
  async () => {
    const shapes = [
      [4, 5],
      [3, 5],
      [4, 3],
    ] as const;
    const [xs, ws, ys] = shapes.map((shape, i) => normal(shape, i + 1)) as [
      R.RefTensor,
      R.RefTensor,
      R.RefTensor,
    ];
    const [x, w, y] = [leaf(gpu, xs), leaf(gpu, ws), leaf(gpu, ys)];
    const unused = leaf(gpu, [1]);
    tidy(() => {
      const z = checkpoint(
        (a, absent, b, again, _unused) => {
          assert.is(absent, null);
          return ad.linear(a.mul(again), b).mul(y).add(ad.linear(x, w));
        },
        x,
        null,
        w,
        x,
        unused,
      );
      z.sum().backward();
    });
    const fn = (a: R.RefTensor, b: R.RefTensor, c: R.RefTensor) =>
      R.sum(R.add(R.mul(R.linear(R.square(a), b), c), R.linear(a, b)));
    await assertGradients([x.grad, w.grad, y.grad], fn, [xs, ws, ys], { K: 20, products: 4 });
    assert.is(unused.grad, null);
    free(x, w, y, unused);
  },
);

same("several outputs, also where only one of them is used", async () => {
  const [xs, ws] = [normal([3, 5], 1), normal([7, 5], 2)];
  const [x, w] = [leaf(gpu, xs), leaf(gpu, ws)];
  const run = (both: boolean): void =>
    tidy(() => {
      const [h, total] = checkpoint(
        (a, b) => {
          const inner = ad.linear(a, b);
          return [inner, ad.square(inner).sum()];
        },
        x,
        w,
      ) as [Tensor, Tensor];
      assert.equal([h.shape, total.shape], [[3, 7], []]);
      (both ? h.sum().add(total.mul(2)) : total).backward();
    });
  run(true);
  const fn = (a: R.RefTensor, b: R.RefTensor) => {
    const inner = R.linear(a, b);
    return R.add(
      R.sum(inner),
      R.map(R.sum(R.square(inner)), (v) => 2 * v),
    );
  };
  await assertGradients([x.grad, w.grad], fn, [xs, ws], { K: 21, products: 4 });
  x.grad = w.grad = null;
  run(false);
  const one = (a: R.RefTensor, b: R.RefTensor) => R.sum(R.square(R.linear(a, b)));
  await assertGradients([x.grad, w.grad], one, [xs, ws], { K: 21, products: 4 });
  free(x, w);
});

same("a function that gives its input, a parameter or a result from outside as it is", async () => {
  const x = leaf(gpu, [1, 2]);
  const parameter = Parameter.from(gpu, Float32Array.of(3, 4), [2]);
  tidy(() => {
    const outside = x.mul(10);
    checkpoint((h) => h, x)
      .add(checkpoint(() => parameter).mul(2))
      .add(checkpoint(() => outside))
      .sum()
      .backward();
  });
  assert.equal(
    [[...(await floats(x.grad))], [...(await floats(parameter.grad))]],
    [
      [11, 11],
      [2, 2],
    ],
  );
  free(x, parameter);
});

same("keeps nothing without gradients, and gives no node", () => {
  const x = tensor(gpu, Float32Array.from(normal([6, C], 1).data), [6, C]);
  const before = liveBytes(gpu);
  const [free1, free2] = [noGrad(() => checkpoint(plainly, x)), checkpoint((h) => ad.gelu(h), x)];
  assert.not.ok(free1.needsGradient || free2.needsGradient);
  free(free1, free2);
  const integers = tensor(gpu, Int32Array.of(1, 2));
  assert.not.ok(checkpoint(() => integers.reshape(2, 1)).needsGradient);
  free(integers);
  assert.ok(liveBytes(gpu) <= before + 256);
  free(x);
});

same(
  "grad() of an input, of an inner parameter and of a result from outside, and no other's grad",
  async () => {
    for (const parameter of parameters) parameter.grad = null;
    const x = leaf(gpu, normal([6, C], 50));
    const run = (through: (h: Tensor) => Tensor): Tensor[] =>
      tidy(() => {
        const h = x.mul(1);
        return grad(ad.square(through(h)).sum(), [blocks[1]?.parameters[0] as Parameter, h]);
      });
    const [plain, again] = [run(plainly), run((h) => ways["each block"]?.(h) as Tensor)];
    for (const [i, array] of plain.entries())
      assertBitEqual(await floats(again[i]), await floats(array), `${i}`);
    for (const input of [x, ...parameters]) assert.is(input.grad, null);
    const y = leaf(gpu, [2]);
    const [none] = tidy(() =>
      grad(
        checkpoint((h) => h.mul(y.detach()), x.sum()),
        [y],
        { allowUnused: true },
      ),
    );
    assert.is(none, null);
    free(x, y, ...plain, ...again);
  },
);

same("runs only what leads to the wanted inputs", () => {
  const [x, w] = [leaf(gpu, normal([4, 4], 1)), leaf(gpu, normal([4, 4], 2))];
  const cost = (wanted: Tensor[]): number => {
    let dispatches = 0;
    tidy(() => {
      const loss = checkpoint((a) => ad.matmul(a, w), x);
      const gradient = tensor(gpu, new Float32Array(16), [4, 4]);
      dispatches = dispatchesOf(gpu, () => grad(loss, wanted, { gradient }));
    });
    return dispatches;
  };
  assert.equal([cost([x]), cost([w]), cost([x, w])], [2, 2, 3]); // the product again, then one for each
  free(x, w);
});

same("hooks inside and around it, each once", async () => {
  const x = leaf(gpu, [1, 2]);
  const calls: string[] = [];
  tidy(() => {
    const y = checkpoint((h) => {
      const inner = h.mul(2);
      inner.onGrad((gradient) => {
        calls.push("inner");
        return gradient.mul(10);
      });
      return inner.mul(3);
    }, x);
    y.onGrad(() => {
      calls.push("outer");
    });
    x.onGrad(() => {
      calls.push("x");
    });
    y.sum().backward();
  });
  assert.equal(
    [calls, [...(await floats(x.grad))]],
    [
      ["outer", "inner", "x"],
      [60, 60],
    ],
  );
  x.dispose();
});

same("retainGraph: runs again each time", async () => {
  const x = leaf(gpu, [1, 2]);
  const before = liveBytes(gpu);
  const loss = tidy(() => checkpoint((h) => ad.square(ad.square(h)), x).sum());
  loss.backward(undefined, { retainGraph: true });
  loss.backward();
  assert.equal([...(await floats(x.grad))], [8, 64]);
  assert.throws(() => loss.backward(), /graph of "sum" was already used/);
  loss.dispose();
  x.grad = null;
  assert.is(liveBytes(gpu), before);
  x.dispose();
});

same("runs again under the autocast() that it ran under first", async () => {
  const [x, w] = [leaf(gpu, normal([4, 8], 1)), leaf(gpu, normal([4, 8], 2))];
  const types: string[] = [];
  const run = async (through: (h: Tensor) => Tensor): Promise<Float32Array[]> => {
    x.grad = w.grad = null;
    tidy(() => {
      const y = ad.autocast("f16", () => {
        ad.linear(x, w); // the weight is cast, outside
        return through(x);
      });
      y.to("f32").sum().backward();
    });
    return [await floats(x.grad), await floats(w.grad)];
  };
  const forward = (h: Tensor): Tensor => {
    const y = ad.linear(h, w);
    types.push(y.dtype);
    return ad.gelu(y);
  };
  const plain = await run(forward);
  const again = await run((h) => checkpoint(forward, h));
  assert.equal(types, ["f16", "f16", "f16"]);
  for (const [i, array] of plain.entries()) assertBitEqual(again[i] as Float32Array, array, `gradient ${i}`);
  free(x, w);
});

same(
  "a bank inside: its optimiser learns which experts were drawn, and gradients go to their places",
  async () => {
    const state = async (again: boolean): Promise<readonly [Float32Array, Uint32Array, number]> => {
      const bank = new LinearBank(gpu, { experts: 4, inputs: 5, outputs: 3 });
      for (const [i, part] of bank.parameters().entries()) part.write(Stream.seed(i).normal(part.size));
      const optimiser = new AdamW(bank.parameters(), { lr: 0.1 });
      optimiser.zeroGrad();
      const route = tensor(gpu, Int32Array.of(2, 0));
      const x = tensor(gpu, Stream.seed(9).normal(20), [4, 5]);
      let dispatches = 0;
      tidy(() => {
        const y = again ? checkpoint((h) => bank.forward(h, route), x) : bank.forward(x, route);
        const loss = ad.square(y).sum();
        dispatches = dispatchesOf(gpu, () => loss.backward());
      });
      optimiser.step();
      const result = [
        await floats(bank.weight),
        (await optimiser.state()).steps as Uint32Array,
        dispatches,
      ] as const;
      free(route, x);
      optimiser.dispose();
      bank.dispose();
      return result;
    };
    const [plain, again] = [await state(false), await state(true)];
    assertBitEqual(again[0], plain[0], "weights");
    assert.equal([...again[1].subarray(0, 4)], [1, 0, 1, 0]);
    assert.equal(again[1], plain[1]);
    assert.is(again[2], plain[2] + 1, "backward costs the forward product more, and nothing else");
  },
);

same.run();
