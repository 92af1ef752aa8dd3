// The optimiser references against golden runs, Philox against its known answers, and central differences themselves.
import { readFileSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { assertClose } from "./compare.ts";
import { fixtureNames, loadFixture, withinFixture } from "./fixtures.ts";
import * as R from "./reference/index.ts";

const data = ({ data }: { data: ArrayLike<number> }) => Array.from(data);

interface ByHand {
  readonly adamw_unselected_module_keeps_moving: {
    readonly grads: readonly number[];
    readonly p: readonly number[];
  };
}

const optimisers = suite("reference optimisers");

interface AdamWFixture {
  readonly hyper: {
    readonly beta1: number;
    readonly beta2: number;
    readonly eps: number;
    readonly weight_decay: number;
    readonly decayed: readonly string[];
    readonly clip: number;
    readonly steps: number;
  };
  readonly lr_per_step: readonly number[];
}

for (const name of fixtureNames("adamw_")) {
  optimisers(`${name}: every step of the golden run, clipping included`, () => {
    const fixture = loadFixture<AdamWFixture>(name);
    const { hyper, lr_per_step: rates } = fixture.json;
    const load = (key: string) => {
      const { shape, data } = fixture.floats(key);
      return R.ref(shape, data);
    };
    const names = ["w", "b", "ln"];
    let states = names.map((n) => {
      const param = load(`in/${n}.init`);
      return { param, m: R.ref(param.shape), v: R.ref(param.shape) };
    });
    for (let t = 0; t < hyper.steps; t++) {
      const { norm, grads } = R.clipGradNorm(
        names.map((n) => load(`in/grad.${n}.${t}`)),
        hyper.clip,
      );
      withinFixture([norm], fixture.floats(`out/gradnorm.${t}`).data, 0);
      states = states.map((state, i) =>
        R.adamwStep(state, grads[i] ?? R.ref([0]), {
          step: t + 1,
          lr: rates[t] ?? Number.NaN,
          beta1: hyper.beta1,
          beta2: hyper.beta2,
          eps: hyper.eps,
          weightDecay: hyper.decayed.includes(names[i] ?? "") ? hyper.weight_decay : 0,
          convention: name.includes("hf") ? "hf" : "pytorch",
        }),
      );
      for (const [i, n] of names.entries()) {
        const expected = fixture.floats(`out/${n}.${t}`).data;
        assertClose(states[i]?.param.data ?? [], expected, {
          rtol: 6e-8,
          atol: 1e-12,
          name: `${n} step ${t}`,
        });
      }
    }
  });
}

optimisers("a parameter with a zero gradient keeps moving", () => {
  const golden: ByHand = JSON.parse(
    readFileSync(new URL("golden/adamix_by_hand.json", import.meta.url), "utf8"),
  );
  const { grads, p } = golden.adamw_unselected_module_keeps_moving;
  let state: R.AdamWState = { param: R.ref([1], 1), m: R.ref([1]), v: R.ref([1]) };
  for (const [i, grad] of grads.entries()) {
    const options = { step: i + 1, lr: 1e-3, eps: 1e-6, weightDecay: 0.01, convention: "hf" } as const;
    state = R.adamwStep(state, R.ref([1], grad), options);
    assertClose(state.param.data, [p[i] ?? Number.NaN], { atol: 1e-13 });
  }
});

optimisers("gradients below the limit are not scaled", () => {
  const { norm, grads } = R.clipGradNorm([R.ref([2], [0.3, 0]), R.ref([1], [0.4])], 1);
  assert.is(norm, 0.5);
  assert.equal(grads.map(data), [[0.3, 0], [0.4]]);
});

optimisers.run();

const random = suite("reference philox");

random("the published known answers", () => {
  const full = 0xffffffff;
  const answers = [
    [
      [0, 0, 0, 0],
      [0, 0],
      [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    ],
    [
      [full, full, full, full],
      [full, full],
      [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    ],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ] as const;
  for (const [counter, key, expected] of answers)
    assert.equal([...R.philox4x32(counter, key)], [...expected]);
});

random.run();

const gradients = suite("reference gradient");

gradients("only the inputs asked for, in that order, through several outputs", () => {
  const a = R.ref([2], [1, 2]);
  const b = R.ref([], 3);
  const [db, da] = R.numericalGradient(
    (x, y) => [R.mul(x, y), R.square(x)],
    [a, b],
    [R.ref([2], [1, 10]), R.ref([2], [100, 0])],
    { wrt: [1, 0] },
  );
  assertClose(db?.data ?? [], [21], { rtol: 1e-8 });
  assertClose(da?.data ?? [], [203, 30], { rtol: 1e-8 });
  assert.equal(data(a), [1, 2]);
});

gradients("an output that is an input, and values far from 1", () => {
  const [dx] = R.numericalGradient((x) => x, [R.ref([3], [0, 1e30, -1e-30])], R.ref([3], [1, 2, 3]));
  assertClose(dx?.data ?? [], [1, 2, 3], { rtol: 1e-9 });
});

gradients("a gradient of another shape is refused", () => {
  assert.throws(
    () => R.numericalGradient((x) => R.sum(x), [R.ref([2])], R.ref([2])),
    /output 0 has 1 values, its gradient 2/,
  );
});

gradients.run();
