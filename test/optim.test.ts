// The optimiser on the device: golden runs, experts that were not drawn, checkpoints, and ranges.
import { readFileSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { mul, Parameter, Stream, sum, type Tensor, tensor, tidy } from "../src/autograd/index.ts";
import { AdamW, type AdamWOptions, clipGradNorm, linearSchedule } from "../src/optim/index.ts";
import { LinearBank } from "../src/peft/index.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { gpu as testGpu } from "./device.ts";
import { fixtureNames, loadFixture, withinFixture } from "./fixtures.ts";
import { type AdamWState, adamwStep, ref } from "./reference/index.ts";

const gpu = await testGpu();
const byHand = JSON.parse(readFileSync(new URL("golden/adamix_by_hand.json", import.meta.url), "utf8"));
const floats = async (x: Tensor): Promise<Float32Array> => (await x.data()) as Float32Array;

/** Collects `gradients` in parameters by way of backward: Σ parameter · gradient. */
function backwardOf(parameters: readonly Parameter[], gradients: readonly ArrayLike<number>[]): void {
  tidy(() => {
    parameters.forEach((parameter, i) => {
      const gradient = tensor(gpu, Float32Array.from(gradients[i] ?? []), parameter.shape);
      sum(mul(parameter, gradient)).backward();
    });
  });
}

const golden = suite("AdamW against goldens");

interface AdamWFixture {
  readonly hyper: {
    readonly lr: number;
    readonly beta1: number;
    readonly beta2: number;
    readonly eps: number;
    readonly weight_decay: number;
    readonly decayed: readonly string[];
    readonly clip: number;
    readonly warmup: number;
    readonly steps: number;
  };
  readonly lr_per_step: readonly number[];
}

for (const name of fixtureNames("adamw_")) {
  golden(`${name}: every step, with clipping and a warm-up`, async () => {
    const { json, floats: load, relerr } = loadFixture<AdamWFixture>(name);
    const { lr, beta1, beta2, eps, weight_decay: weightDecay, decayed, clip, warmup, steps } = json.hyper;
    const names = ["w", "b", "ln"];
    const parameters = names.map((n) => {
      const { data, shape } = load(`in/${n}.init`);
      return Parameter.from(gpu, Float32Array.from(data), shape, { decay: decayed.includes(n) });
    });
    const convention = name.includes("hf") ? "huggingface" : "pytorch";
    const optimiser = new AdamW(parameters, { betas: [beta1, beta2], eps, weightDecay, convention });
    const schedule = linearSchedule({ lr, warmupSteps: warmup, totalSteps: steps });
    for (let t = 0; t < steps; t++) {
      assertClose([schedule(t)], [json.lr_per_step[t] ?? Number.NaN], {
        rtol: 1e-14,
        name: `rate of step ${t}`,
      });
      optimiser.zeroGrad();
      backwardOf(
        parameters,
        names.map((n) => load(`in/grad.${n}.${t}`).data),
      );
      const norm = clipGradNorm(optimiser.arena, clip);
      const key = `out/gradnorm.${t}`;
      withinFixture([await norm.item()], load(key).data, relerr(key), key);
      optimiser.step(schedule(t));
      for (const [i, n] of names.entries()) {
        const weights = await floats(parameters[i] as Parameter);
        withinFixture(weights, load(`out/${n}.${t}`).data, relerr(`out/${n}.${t}`), `out/${n}.${t}`);
      }
    }
  });
}

golden("clipping leaves gradients below the limit as they are", async () => {
  const parameter = Parameter.from(gpu, new Float32Array(67), [67]);
  const optimiser = new AdamW([parameter]);
  const gradient = Stream.seed(2).normal(67, 0, 0.01);
  backwardOf([parameter], [gradient]);
  const norm = await clipGradNorm(optimiser.arena, 1).item();
  assertClose([norm], [Math.hypot(...gradient)], { rtol: 1e-6, name: "norm" });
  assertBitEqual(await floats(parameter.grad as Tensor), gradient, "gradient");
});

golden.run();

const experts = suite("AdamW, experts that were not drawn");

/** Which experts each step draws: 2 comes late, 0 has gaps, 3 never comes. */
const DRAWS = [[1], [0, 1], [1], [0, 2], [2], [1, 1], [0]] as const;
const M = 4;

/** Expert by expert in float64, with the gradients that the device collected. */
class Expected {
  states: AdamWState[];
  readonly steps = new Uint32Array(M);
  readonly #size: number;

  constructor(initial: Float32Array) {
    this.#size = initial.length / M;
    this.states = Array.from({ length: M }, (_, j) => {
      const param = ref([this.#size], initial.subarray(j * this.#size, (j + 1) * this.#size));
      return { param, m: ref(param.shape), v: ref(param.shape) };
    });
  }

  step(drawn: readonly number[], gradient: Float32Array, undrawn: string, weightDecay: number): void {
    this.states = this.states.map((state, j) => {
      const begun = (this.steps[j] ?? 0) > 0;
      const takesPart = drawn.includes(j) || undrawn === "zeroGrad" || (undrawn === "authors" && begun);
      if (!takesPart) return state;
      this.steps[j] = (this.steps[j] ?? 0) + 1;
      const slice = gradient.subarray(j * this.#size, (j + 1) * this.#size);
      const step = this.steps[j] ?? 0;
      return adamwStep(state, ref([this.#size], slice), { step, lr: 0.05, weightDecay });
    });
  }

  values(): number[] {
    return this.states.flatMap(({ param }) => [...param.data]);
  }
}

for (const undrawn of ["authors", "zeroGrad", "skip"] as const) {
  experts(`"${undrawn}": every step of every expert`, async () => {
    const bank = new LinearBank(gpu, { experts: M, inputs: 5, outputs: 3 });
    const parts = [bank.weight, bank.bias as Parameter];
    for (const [i, part] of parts.entries()) part.write(Stream.seed(i).normal(part.size));
    const initial = await Promise.all(parts.map(floats));
    const expected = initial.map((values) => new Expected(values));
    const optimiser = new AdamW(parts, { lr: 0.05, weightDecay: 0.1, undrawn });
    for (const [t, drawn] of DRAWS.entries()) {
      optimiser.zeroGrad();
      tidy(() => {
        const x = tensor(gpu, Stream.seed(10 + t).normal(drawn.length * 2 * 5), [drawn.length * 2, 5]);
        const y = bank.forward(x, tensor(gpu, Int32Array.from(drawn)));
        sum(mul(y, y)).backward();
      });
      const gradients = await Promise.all(parts.map(({ grad }) => floats(grad as Tensor)));
      optimiser.step();
      for (const [i, part] of parts.entries()) {
        const want = expected[i] as Expected;
        want.step(drawn, gradients[i] as Float32Array, undrawn, i === 0 ? 0.1 : 0);
        const name = `${i === 0 ? "weight" : "bias"} after step ${t}`;
        assertClose(await floats(part), want.values(), { atol: 5e-7, rtol: 1e-6, name });
      }
    }
    const { steps } = await optimiser.state();
    const { entries } = optimiser.arena;
    for (const [i, { firstSlice }] of entries.entries())
      assert.equal([...steps.subarray(firstSlice, firstSlice + M)], [...(expected[i] as Expected).steps]);
    // Expert 3 is never drawn: only "zeroGrad" may touch its bytes.
    const last = (await floats(bank.weight)).subarray(3 * 15);
    const before = (initial[0] as Float32Array).subarray(3 * 15);
    if (undrawn !== "zeroGrad") assertBitEqual(last, before, "an expert that was never drawn");
    else assert.not.equal([...last], [...before]);
    optimiser.dispose();
    bank.dispose();
  });
}

experts("one that was drawn once keeps moving as worked out by hand", async () => {
  const { grads, p } = byHand.adamw_unselected_module_keeps_moving;
  const bank = new LinearBank(gpu, { experts: 2, inputs: 1, outputs: 1, bias: false });
  bank.weight.write(Float32Array.of(1, 1));
  const options = { lr: 1e-3, eps: 1e-6, weightDecay: 0.01, convention: "huggingface" } as const;
  const optimiser = new AdamW([bank.weight], options);
  for (const [t, grad] of grads.entries()) {
    optimiser.zeroGrad();
    const route = tensor(gpu, Int32Array.of(t === 0 ? 0 : 1));
    sum(bank.forward(tensor(gpu, Float32Array.of(grad), [1, 1]), route)).backward();
    optimiser.step();
    assertClose([(await floats(bank.weight))[0] ?? Number.NaN], [p[t]], { atol: 1.2e-7, name: `step ${t}` });
  }
});

experts("a shared module counts every step", async () => {
  const bank = new LinearBank(gpu, { experts: 1, inputs: 3, outputs: 3 });
  const optimiser = new AdamW(bank.parameters());
  for (let t = 0; t < 3; t++) optimiser.step();
  const { steps } = await optimiser.state();
  for (const { firstSlice } of optimiser.arena.entries) assert.is(steps[firstSlice], 3);
});

experts.run();

const behaviour = suite("AdamW");

/** Three parameters of sizes that fill no block: 1, 65 and 7 · 9. */
function oddParameters(): Parameter[] {
  return [[1], [65], [7, 9]].map((shape, i) => {
    const size = shape.reduce((a, b) => a * b);
    return Parameter.from(gpu, Stream.seed(40 + i).normal(size), shape);
  });
}

function run(optimiser: AdamW, parameters: readonly Parameter[], from: number, to: number): void {
  for (let t = from; t < to; t++) {
    optimiser.zeroGrad();
    backwardOf(
      parameters,
      parameters.map(({ size }, i) => Stream.seed(100 * t + i).normal(size)),
    );
    optimiser.step();
  }
}

behaviour("parameters of odd sizes do not touch each other", async () => {
  const parameters = oddParameters();
  let states = await Promise.all(
    parameters.map(async (parameter): Promise<AdamWState> => {
      const param = ref([parameter.size], await floats(parameter));
      return { param, m: ref(param.shape), v: ref(param.shape) };
    }),
  );
  const optimiser = new AdamW(parameters, { lr: 0.1, weightDecay: 0.5 });
  run(optimiser, parameters, 0, 3);
  for (let t = 0; t < 3; t++) {
    states = states.map((state, i) => {
      const gradient = ref(state.param.shape, Stream.seed(100 * t + i).normal(state.param.data.length));
      // Only the matrix decays.
      return adamwStep(state, gradient, { step: t + 1, lr: 0.1, weightDecay: i === 2 ? 0.5 : 0 });
    });
  }
  for (const [i, parameter] of parameters.entries()) {
    const name = `parameter ${i}`;
    assertClose(await floats(parameter), states[i]?.param.data ?? [], { atol: 1e-6, rtol: 1e-6, name });
  }
});

behaviour("a state that was saved goes on bit for bit", async () => {
  const whole = oddParameters();
  const options: AdamWOptions = { lr: 0.03, weightDecay: 0.1 };
  const first = new AdamW(whole, options);
  run(first, whole, 0, 3);
  const saved = await first.state();
  const resumed = await Promise.all(
    whole.map(async (parameter) => Parameter.from(gpu, await parameter.data(), parameter.shape)),
  );
  const second = new AdamW(resumed, options);
  second.loadState(saved);
  run(first, whole, 3, 6);
  run(second, resumed, 3, 6);
  for (const [i, parameter] of whole.entries())
    assertBitEqual(await floats(resumed[i] as Parameter), await floats(parameter), `parameter ${i}`);
  const states = [await first.state(), await second.state()] as const;
  for (const key of ["firstMoments", "secondMoments", "steps"] as const)
    assertBitEqual(states[1][key], states[0][key], key);
});

behaviour("a state of other parameters is refused", async () => {
  const optimiser = new AdamW(oddParameters());
  const other = await new AdamW(oddParameters().slice(0, 2)).state();
  const before = await optimiser.state();
  assert.throws(
    () => optimiser.loadState(other),
    /AdamW: a state of 192 and 192 moments and 128 step counts; these parameters have 256 and 192/,
  );
  assertBitEqual((await optimiser.state()).firstMoments, before.firstMoments, "first moments");
});

behaviour("bias corrections hold past the end of their table", async () => {
  // 1 - 0.999^t is 1 in f32 from t = 17,321 on, and the table ends there.
  const n = 5;
  const parameter = Parameter.from(gpu, Stream.seed(1).normal(n), [n]);
  const optimiser = new AdamW([parameter], { lr: 0.05 });
  const { firstMoments, secondMoments, steps } = await optimiser.state();
  firstMoments.set(Stream.seed(2).normal(n));
  secondMoments.set(Stream.seed(3).uniform(n, 0.5, 2));
  steps.fill(17_317);
  let state: AdamWState = {
    param: ref([n], await floats(parameter)),
    m: ref([n], firstMoments.subarray(0, n)),
    v: ref([n], secondMoments.subarray(0, n)),
  };
  optimiser.loadState({ firstMoments, secondMoments, steps });
  for (let step = 17_318; step <= 17_325; step++) {
    run(optimiser, [parameter], step, step + 1);
    state = adamwStep(state, ref([n], Stream.seed(100 * step).normal(n)), { step, lr: 0.05 });
    assertClose(await floats(parameter), state.param.data, { atol: 1e-6, rtol: 1e-6, name: `step ${step}` });
  }
  assert.is((await optimiser.state()).steps[0], 17_325);
});

behaviour("frozen parameters are left out, and keep their bytes", async () => {
  const [frozen, trained] = oddParameters() as [Parameter, Parameter, Parameter];
  Object.assign(frozen, { decay: true });
  frozen.requiresGrad = false;
  const before = await floats(frozen);
  const optimiser = new AdamW([frozen, trained], { lr: 0.5, weightDecay: 0.5 });
  assert.equal(
    optimiser.arena.entries.map(({ parameter }) => parameter),
    [trained],
  );
  optimiser.step();
  assertBitEqual(await floats(frozen), before, "frozen");
  trained.requiresGrad = false;
  assert.throws(() => new AdamW([frozen, trained]), /no trainable parameters; set requiresGrad on some/);
});

behaviour("settings out of range are refused, with the range", () => {
  const bad: readonly [AdamWOptions, RegExp][] = [
    [{ lr: -1 }, /AdamW: lr is -1, expected 0 or more/],
    [{ lr: Number.NaN }, /AdamW: lr is NaN/],
    [{ betas: [1, 0.9] }, /AdamW: beta is 1, expected 0 <= beta < 1/],
    [{ betas: [0.9, -0.1] }, /AdamW: beta is -0.1/],
    [{ eps: -1e-8 }, /AdamW: eps is -1e-8, expected 0 or more/],
    [{ weightDecay: Number.NaN }, /AdamW: weightDecay is NaN, expected 0 or more/],
  ];
  for (const [options, message] of bad) assert.throws(() => new AdamW(oddParameters(), options), message);
  const { arena } = new AdamW(oddParameters());
  for (const maxNorm of [0, -1, Number.NaN])
    assert.throws(() => clipGradNorm(arena, maxNorm), new RegExp(`clipGradNorm: maxNorm is ${maxNorm}`));
});

behaviour.run();
