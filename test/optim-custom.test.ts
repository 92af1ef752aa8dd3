// An optimiser of one's own, outside of the library and with its public names alone: Lion (Chen et al. 2023).
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  capture,
  type Gpu,
  type KernelSpec,
  mul,
  Parameter,
  runFlat,
  ShapeError,
  Stream,
  sum,
  type Tensor,
  type TypedArray,
  tensor,
  tidy,
} from "../src/index.ts";
import { Arena, clipGradNorm, LossScaler, type Optimizer, RateSlot } from "../src/optim/index.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { gpu as testGpu } from "./device.ts";

const code = /* wgsl */ `
// p -= lr (sign(β1 m + (1 - β1) g) + decay p);  m = β2 m + (1 - β2) g. Thread: four elements.
// use: lib/grid
struct Params { n: u32, beta1: f32, beta2: f32, decay: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> value: array<vec4f>;
@group(0) @binding(2) var<storage, read> gradient: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> moment: array<vec4f>;
@group(0) @binding(4) var<storage, read> rate: array<f32>;
@group(0) @binding(5) var<storage, read> skip: array<u32>;

@compute @workgroup_size(64)
fn step(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = unfold(group, groups) * 64u + lane;
  if (i >= params.n || skip[0] != 0u) { return; }
  let g = gradient[i];
  let m = moment[i];
  value[i] -= rate[0] * (sign(mix(g, m, params.beta1)) + params.decay * value[i]);
  moment[i] = mix(g, m, params.beta2);
}`;

const step: KernelSpec = { shader: "lion", code, entry: "step" };

class Lion implements Optimizer {
  readonly arena: Arena;
  readonly #moments: ReturnType<Arena["zeros"]>;
  readonly #rate: RateSlot;
  readonly #decay: number;

  constructor(parameters: readonly Parameter[], { lr = 1e-4, weightDecay = 0 } = {}) {
    this.arena = new Arena(parameters);
    this.#moments = this.arena.zeros();
    this.#rate = new RateSlot(this.arena.gpu, "Lion", lr);
    this.#decay = weightDecay;
  }

  get learningRate(): number {
    return this.#rate.rate;
  }

  setLearningRate(lr: number): void {
    this.#rate.set(lr);
  }

  zeroGrad(): void {
    this.arena.zeroGrad();
  }

  step(lr?: number): void {
    if (lr !== undefined) this.setLearningRate(lr);
    const { gpu, segments, skip } = this.arena;
    const params = { beta1: 0.9, beta2: 0.99, decay: this.#decay };
    for (const [i, { values, gradients }] of segments.entries()) {
      const split = { value: values, gradient: gradients, moment: this.#moments[i] ?? null };
      runFlat(gpu, step, split, params, { rate: this.#rate.array, skip });
    }
  }

  async state(): Promise<Readonly<Record<"moments", TypedArray>>> {
    return { moments: await this.arena.read(this.#moments) };
  }

  loadState({ moments }: Readonly<Record<string, TypedArray>>): void {
    if (moments?.length !== this.arena.length) throw new ShapeError(`Lion: a state of other parameters`);
    this.arena.write(this.#moments, moments);
  }

  dispose(): void {
    this.arena.dispose();
    this.#rate.dispose();
    for (const moment of this.#moments) moment.release();
  }
}

const gpu: Gpu = await testGpu();
const test = suite("an optimiser of one's own");
const floats = async (x: Tensor): Promise<Float32Array> => (await x.data()) as Float32Array;

/** What a training loop knows of an optimiser: the same steps for any. */
function train(optimiser: Optimizer, parameters: readonly Parameter[], start: number, end: number): void {
  for (let t = start; t < end; t++) {
    optimiser.zeroGrad();
    tidy(() => {
      for (const [i, parameter] of parameters.entries()) {
        const gradient = tensor(gpu, Stream.seed(100 * t + i).normal(parameter.size), parameter.shape);
        sum(mul(parameter, gradient)).backward();
      }
    });
    optimiser.step(0.1 / (t + 1));
  }
}

const parametersOf = (): Parameter[] =>
  [[65], [7, 9]].map((shape, i) => {
    const size = shape.reduce((a, b) => a * b);
    return Parameter.from(gpu, Stream.seed(40 + i).normal(size), shape);
  });

test("its steps are those of its formula", async () => {
  const parameters = parametersOf();
  const states = await Promise.all(
    parameters.map(async (parameter) => ({
      values: Float64Array.from(await floats(parameter)),
      moments: new Float64Array(parameter.size),
    })),
  );
  const optimiser = new Lion(parameters, { weightDecay: 0.2 });
  for (let t = 0; t < 4; t++) {
    train(optimiser, parameters, t, t + 1);
    for (const [i, { values, moments }] of states.entries()) {
      for (const [k, g] of Stream.seed(100 * t + i)
        .normal(values.length)
        .entries()) {
        const [p, m] = [values[k] ?? 0, moments[k] ?? 0];
        values[k] = p - (0.1 / (t + 1)) * (Math.sign(0.9 * m + 0.1 * g) + 0.2 * p);
        moments[k] = 0.99 * m + 0.01 * g;
      }
      const actual = await floats(parameters[i] as Parameter);
      assertClose(actual, values, { atol: 1e-6, name: `parameter ${i} after step ${t}` });
    }
  }
  optimiser.dispose();
});

test("its state goes on bit for bit", async () => {
  const whole = parametersOf();
  const first = new Lion(whole);
  train(first, whole, 0, 2);
  const saved = await first.state();
  const resumed = await Promise.all(
    whole.map(async (parameter) => Parameter.from(gpu, await parameter.data(), parameter.shape)),
  );
  const second = new Lion(resumed);
  second.loadState(saved);
  train(first, whole, 2, 4);
  train(second, resumed, 2, 4);
  for (const [i, parameter] of whole.entries())
    assertBitEqual(await floats(resumed[i] as Parameter), await floats(parameter), `parameter ${i}`);
});

test("it works with clipping, loss scaling and a captured step", async () => {
  const [parameter] = parametersOf() as [Parameter, Parameter];
  const optimiser = new Lion([parameter], { lr: 0.01 });
  const scaler = new LossScaler(gpu);
  const replay = capture(gpu, () => {
    optimiser.zeroGrad();
    const loss = tidy(() => {
      const made = sum(mul(parameter, parameter));
      scaler.scale(made).backward();
      return made;
    });
    scaler.unscale(optimiser.arena);
    clipGradNorm(optimiser.arena, 1).dispose();
    optimiser.step();
    scaler.update();
    return loss;
  });
  const losses: number[] = [];
  for (let t = 0; t < 5; t++) {
    optimiser.setLearningRate(0.01 * (t + 1));
    replay.run();
    losses.push(await replay.output.item());
  }
  for (const [t, loss] of losses.entries())
    assert.ok(t === 0 || loss < (losses[t - 1] ?? 0), `losses ${losses.join(", ")}`);
  assert.is(optimiser.learningRate, 0.05);
  replay.dispose();
  optimiser.dispose();
});

test.run();
