// SGD on the device against float64, experts that were not drawn, checkpoints; clipping by value.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Gpu } from "../src/array/index.ts";
import { capture, mul, Parameter, Stream, sum, type Tensor, tensor, tidy } from "../src/autograd/index.ts";
import { clipGradValue, LossScaler, SGD, type SGDOptions } from "../src/optim/index.ts";
import { LinearBank } from "../src/peft/index.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { gpu as testGpu } from "./device.ts";
import { type RefTensor, ref, sgdStep } from "./reference/index.ts";

const gpu = await testGpu();
const floats = async (x: Tensor): Promise<Float32Array> => (await x.data()) as Float32Array;

/** Three parameters of sizes that fill no block: 1, 65 and 7 · 9. Only the matrix decays. */
function oddParameters(): Parameter[] {
  return [[1], [65], [7, 9]].map((shape, i) => {
    const size = shape.reduce((a, b) => a * b);
    return Parameter.from(gpu, Stream.seed(40 + i).normal(size), shape);
  });
}

const gradientOf = (step: number, i: number, n: number): Float32Array<ArrayBuffer> =>
  Stream.seed(100 * step + i).normal(n);

function run(optimiser: SGD, parameters: readonly Parameter[], start: number, end: number): void {
  for (let t = start; t < end; t++) {
    optimiser.zeroGrad();
    tidy(() => {
      for (const [i, parameter] of parameters.entries())
        sum(mul(parameter, tensor(gpu, gradientOf(t, i, parameter.size), parameter.shape))).backward();
    });
    optimiser.step();
  }
}

const sgd = suite("SGD");

const kinds: readonly SGDOptions[] = [
  {},
  { weightDecay: 0.5 },
  { momentum: 0.9 },
  { momentum: 0.9, dampening: 0.3 },
  { momentum: 0.8, nesterov: true, weightDecay: 0.1 },
  { momentum: 0.5, dampening: 1 },
];

for (const options of kinds) {
  sgd(`every step with ${JSON.stringify(options)}`, async () => {
    const parameters = oddParameters();
    let states: { param: RefTensor; buffer: RefTensor | null }[] = [];
    for (const parameter of parameters)
      states.push({ param: ref([parameter.size], await floats(parameter)), buffer: null });
    const optimiser = new SGD(parameters, { lr: 0.1, ...options });
    for (let t = 0; t < 4; t++) {
      run(optimiser, parameters, t, t + 1);
      states = states.map((state, i) => {
        const gradient = ref(state.param.shape, gradientOf(t, i, state.param.data.length));
        return sgdStep(state, gradient, {
          lr: 0.1,
          ...options,
          weightDecay: i === 2 ? options.weightDecay : 0,
        });
      });
      for (const [i, parameter] of parameters.entries()) {
        const name = `parameter ${i} after step ${t}`;
        assertClose(await floats(parameter), states[i]?.param.data ?? [], { atol: 5e-7, rtol: 1e-6, name });
      }
    }
    optimiser.dispose();
  });
}

/** Which experts each step draws: 2 comes late, 0 has gaps, 3 never comes. */
const DRAWS = [[1], [0, 1], [1], [0, 2], [2]] as const;
const M = 4;

for (const undrawn of ["authors", "zeroGrad", "skip"] as const) {
  sgd(`experts that were not drawn, "${undrawn}"`, async () => {
    const options = { lr: 0.05, momentum: 0.9, dampening: 0.2, weightDecay: 0.1 };
    const bank = new LinearBank(gpu, { experts: M, inputs: 5, outputs: 3, bias: false });
    bank.weight.write(Stream.seed(1).normal(bank.weight.size));
    const initial = await floats(bank.weight);
    const size = initial.length / M;
    const part = (values: Float32Array, j: number): RefTensor =>
      ref([size], values.subarray(j * size, (j + 1) * size));
    const states: { param: RefTensor; buffer: RefTensor | null }[] = Array.from({ length: M }, (_, j) => ({
      param: part(initial, j),
      buffer: null,
    }));
    const optimiser = new SGD([bank.weight], { ...options, undrawn });
    for (const [t, drawn] of DRAWS.entries()) {
      optimiser.zeroGrad();
      tidy(() => {
        const x = tensor(gpu, Stream.seed(10 + t).normal(drawn.length * 2 * 5), [drawn.length * 2, 5]);
        const y = bank.forward(x, tensor(gpu, Int32Array.from(drawn)));
        sum(mul(y, y)).backward();
      });
      const gradient = await floats(bank.weight.grad as Tensor);
      optimiser.step();
      for (const [j, state] of states.entries()) {
        const begun = state.buffer !== null;
        const isDrawn = (drawn as readonly number[]).includes(j);
        if (isDrawn || undrawn === "zeroGrad" || (undrawn === "authors" && begun))
          states[j] = sgdStep(state, part(gradient, j), options);
      }
      const expected = states.flatMap(({ param }) => [...param.data]);
      assertClose(await floats(bank.weight), expected, { atol: 5e-7, rtol: 1e-6, name: `after step ${t}` });
    }
    const last = (await floats(bank.weight)).subarray(3 * size);
    if (undrawn !== "zeroGrad")
      assertBitEqual(last, initial.subarray(3 * size), "an expert that was never drawn");
    optimiser.dispose();
    bank.dispose();
  });
}

sgd("a state that was saved goes on bit for bit", async () => {
  const options: SGDOptions = { lr: 0.03, momentum: 0.9, dampening: 0.1 };
  const whole = oddParameters();
  const first = new SGD(whole, options);
  run(first, whole, 0, 3);
  const saved = await first.state();
  const resumed = await Promise.all(
    whole.map(async (parameter) => Parameter.from(gpu, await parameter.data(), parameter.shape)),
  );
  const second = new SGD(resumed, options);
  second.loadState(saved);
  run(first, whole, 3, 6);
  run(second, resumed, 3, 6);
  for (const [i, parameter] of whole.entries())
    assertBitEqual(await floats(resumed[i] as Parameter), await floats(parameter), `parameter ${i}`);
  for (const key of ["buffers", "steps"] as const)
    assertBitEqual((await second.state())[key], (await first.state())[key], key);
  assert.throws(
    () => new SGD(oddParameters(), {}).loadState(saved),
    /SGD: a state of 256 buffers and 192 step counts; these parameters have 0 and 192/,
  );
  assert.throws(() => first.loadState({}), /SGD: a state of 0 buffers and 0 step counts/);
});

sgd("parameters beyond a binding move as others do", async () => {
  const tiny = new Gpu(gpu.device, { maxBindingBytes: 1024 });
  const results: Float32Array[][] = [];
  for (const device of [gpu, tiny]) {
    const shapes = [[65], [40, 17], [7, 9]];
    const parameters = shapes.map((shape, i) =>
      Parameter.from(device, Stream.seed(i).normal(shape.reduce((a, b) => a * b)), shape),
    );
    const optimiser = new SGD(parameters, { lr: 0.1, momentum: 0.9, weightDecay: 0.1 });
    for (let t = 0; t < 3; t++) {
      optimiser.zeroGrad();
      tidy(() => {
        for (const parameter of parameters) sum(mul(parameter, parameter)).backward();
      });
      clipGradValue(optimiser.arena, 1.5);
      optimiser.step();
    }
    const saved = await optimiser.state();
    optimiser.loadState(saved);
    results.push([...(await Promise.all(parameters.map(floats))), saved.buffers as Float32Array]);
    assert.is(optimiser.arena.segments.length, device === tiny ? 3 : 1);
    optimiser.dispose();
  }
  const [whole = [], parts = []] = results;
  for (const [i, values] of whole.entries()) assertBitEqual(parts[i] as Float32Array, values, `array ${i}`);
});

sgd("a captured step takes the rate that was set before its run", async () => {
  const results: Float32Array[] = [];
  for (const captured of [false, true]) {
    const [, , parameter] = oddParameters() as [Parameter, Parameter, Parameter];
    const optimiser = new SGD([parameter], { lr: 0.1, momentum: 0.9 });
    const step = (): Tensor => {
      optimiser.zeroGrad();
      const loss = tidy(() => {
        const made = sum(mul(parameter, parameter));
        made.backward();
        return made;
      });
      optimiser.step();
      return loss;
    };
    const replay = captured ? capture(gpu, step) : null;
    for (let t = 0; t < 4; t++) {
      optimiser.setLearningRate(0.1 / (t + 1));
      if (replay) replay.run();
      else step().dispose();
    }
    results.push(await floats(parameter));
    replay?.dispose();
    optimiser.dispose();
  }
  assertBitEqual(results[1] as Float32Array, results[0] as Float32Array);
});

sgd("a step whose gradients overflow is left out", async () => {
  const parameter = Parameter.from(gpu, Float32Array.of(1, 2, 3), [3]);
  const optimiser = new SGD([parameter], { lr: 0.1, momentum: 0.9 });
  const scaler = new LossScaler(gpu);
  const huge = tensor(gpu, Float32Array.of(1, 3e38, 1));
  tidy(() => scaler.scale(sum(mul(parameter, huge))).backward());
  scaler.unscale(optimiser.arena);
  optimiser.step();
  scaler.update();
  assert.equal([...(await floats(parameter))], [1, 2, 3]);
  assert.is((await optimiser.state()).steps[0], 0);
});

sgd("settings out of range are refused, with the range", () => {
  const bad: readonly [SGDOptions, RegExp][] = [
    [{ lr: -1 }, /SGD: lr is -1, expected 0 or more/],
    [{ momentum: 1 }, /SGD: momentum is 1, expected 0 <= momentum < 1/],
    [{ dampening: Number.NaN }, /SGD: dampening is NaN, expected 0\.\.1/],
    [{ weightDecay: -0.1 }, /SGD: weightDecay is -0.1, expected 0 or more/],
    [{ nesterov: true }, /SGD: nesterov needs momentum and no dampening, not 0 and 0/],
    [{ nesterov: true, momentum: 0.9, dampening: 0.1 }, /not 0.9 and 0.1/],
  ];
  for (const [options, message] of bad) assert.throws(() => new SGD(oddParameters(), options), message);
});

sgd.run();

const clipping = suite("clipping by value");

clipping("limits each gradient for itself, and keeps NaN", async () => {
  const given = [
    0.5,
    -0.5,
    2,
    -2,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    Number.NaN,
    0,
    -0,
    0.7,
  ];
  const parameter = Parameter.from(gpu, new Float32Array(given.length), [given.length]);
  const optimiser = new SGD([parameter]);
  sum(mul(parameter, tensor(gpu, Float32Array.from(given)))).backward();
  clipGradValue(optimiser.arena, 0.7);
  const limit = Math.fround(0.7);
  const expected = [0.5, -0.5, limit, -limit, limit, -limit, Number.NaN, 0, 0, limit];
  assert.equal(
    [...(await floats(parameter.grad as Tensor))].map((v) => v + 0),
    expected,
  );
  for (const bad of [0, -1, Number.NaN, Number.POSITIVE_INFINITY])
    assert.throws(() => clipGradValue(optimiser.arena, bad), new RegExp(`clipGradValue: limit is ${bad}`));
});

clipping.run();
