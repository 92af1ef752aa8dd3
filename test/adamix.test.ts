// AdaMix itself: mixtures and losses worked out by hand, and real training steps.
import { readFileSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  crossEntropy,
  type DrawSource,
  mul,
  Stream,
  sum,
  symmetricKl,
  type Tensor,
  tensor,
  tidy,
} from "../src/autograd/index.ts";
import { LayerNorm, Linear, LinearSite, OutputSite, type Site } from "../src/nn/index.ts";
import { AdamW, clipGradNorm, linearSchedule } from "../src/optim/index.ts";
import {
  AdaptationSet,
  adamixAdapter,
  adamixLora,
  givenRouter,
  lora,
  type PeftMethod,
  twoPassLoss,
  uniformRouter,
} from "../src/peft/index.ts";
import { assertBitEqual, assertClose } from "./compare.ts";
import { gpu as testGpu } from "./device.ts";
import { attachTo, bytesOf, modelFamilies, scramble, tinyLabels } from "./peft.table.ts";

const gpu = await testGpu();
const golden = JSON.parse(readFileSync(new URL("golden/adamix_by_hand.json", import.meta.url), "utf8"));
const floats = async (x: Tensor): Promise<Float32Array<ArrayBuffer>> =>
  (await x.data()) as Float32Array<ArrayBuffer>;
const flat = (values: unknown): number[] => [values].flat(9) as number[];
const rows = (values: number[][]): Tensor =>
  tensor(gpu, Float32Array.from(flat(values)), [values.length, values[0]?.length ?? 0]);
const close = async (x: Tensor, expected: ArrayLike<number>, name: string): Promise<void> =>
  assertClose(await floats(x), expected, { atol: 2e-7, rtol: 5e-7, name });

const tiny = modelFamilies[0] as (typeof modelFamilies)[number];

/** A set at bare sites, its parameters given by the ends of their names. */
function setOn(sites: readonly Site[], method: PeftMethod, values: Record<string, unknown>): AdaptationSet {
  const set = new AdaptationSet(gpu, { sites: () => sites }, method, { stream: Stream.seed(1) });
  for (const [name, parameter] of set.namedParameters()) {
    const key = Object.keys(values).find((end) => name.endsWith(end));
    if (key === undefined) throw new Error(`no value for ${name}`);
    parameter.write(Float32Array.from(flat(values[key])));
  }
  return set;
}

const draw = (set: AdaptationSet, j: number, k = 0): void =>
  set.routes.draw(givenRouter([[[j, k]]]), { step: 0, passes: 1 });

const byHand = suite("AdaMix by hand");

const adapterCase = golden.adapter_mix_d2_r1_M2_shareUp;
for (const [activation, key] of [
  ["gelu", "gelu_erf"],
  ["geluTanh", "gelu_tanh"],
] as const) {
  byHand(`two adapters that share their up-projection, ${activation}`, async () => {
    const { Wd, bd, Wu, bu, x, merged_Wd, merged_bd, [key]: expected } = adapterCase;
    const site = new OutputSite({ name: "layer.0.output", layer: 0, role: "feedForward" }, 2);
    const method = adamixAdapter({ bottleneck: 1, experts: 2, activation });
    const values = { "down.weight": Wd, "down.bias": bd, "up.weight": Wu, "up.bias": bu };
    const set = setOn([site], method, values);
    const output = { value: rows([x]), residual: rows([[7, 7]]), layerNorm: new LayerNorm(gpu, 2) };
    for (const j of [0, 1]) {
      draw(set, j);
      await close(site.apply(output, {}), expected[`module${j}`], `module ${j}`);
    }
    set.detach();
    const merged = set.mergeExperts({ sites: () => [site] }, Stream.seed(2));
    const means = await bytesOf(merged.namedParameters());
    assert.equal([...(means.get("layer.0.output.adapter.down.weight") ?? [])], flat(merged_Wd));
    assert.equal([...(means.get("layer.0.output.adapter.down.bias") ?? [])], flat(merged_bd));
    merged.attach();
    const y = site.apply(output, {});
    await close(y, expected.merged, "merged");
    // An adapter is not linear: merging weights is not the mean of outputs.
    const mean = [0, 1].map((i) => (expected.module0[i] + expected.module1[i]) / 2);
    if (expected.output_mean)
      assertClose(mean, expected.output_mean, { atol: 1e-12, name: "mean of outputs" });
    assert.ok(Math.abs(((await floats(y))[0] ?? 0) - (mean[0] ?? 0)) > 0.05, "merged differs from the mean");
  });
}

byHand("LoRA on q and v with B shared: one draw for both, merged is the mean of outputs", async () => {
  const { A, B, x, scale, ...expected } = golden.lora_qv_d2_r1_M2_shareB;
  const base = new Linear(gpu, 2, 2);
  const part = (name: string): LinearSite => new LinearSite({ name: `layer.0.${name}`, layer: 0 }, base);
  const sites = [part("query"), part("value")] as const;
  const values = {
    "query.lora.lora_A.weight": [A[0][0], A[1][0]],
    "value.lora.lora_A.weight": [A[0][1], A[1][1]],
    "query.lora.lora_B.weight": B.slice(0, 2),
    "value.lora.lora_B.weight": B.slice(2, 4),
  };
  const set = setOn(sites, adamixLora({ rank: 1, alpha: scale, experts: 2 }), values);
  const input = rows([x]);
  const delta = async (): Promise<number[]> => {
    const [q, v] = sites.map((site) => site.apply(base.forward(input), input, {})) as [Tensor, Tensor];
    return [...(await floats(q)), 0, 0, ...(await floats(v))];
  };
  for (const j of [0, 1]) {
    draw(set, j);
    assertClose(await delta(), expected[`delta_qkv_module${j}`], { name: `module ${j}` });
  }
  set.detach();
  set.mergeExperts({ sites: () => sites }, Stream.seed(2)).attach();
  assertClose(await delta(), expected.delta_qkv_merged, { name: "merged" });
});

byHand("LoRA without sharing: merged is the mean over all pairs, not the mean of products", async () => {
  const { A, B, ...expected } = golden.lora_noShare_mergeIsNotMeanOfProducts;
  const base = new Linear(gpu, 2, 2);
  const site = new LinearSite({ name: "layer.0.query", layer: 0 }, base);
  const method = adamixLora({ rank: 1, alpha: 1, experts: 2, share: "none", targets: ["query"] });
  const set = setOn([site], method, { "lora_A.weight": A, "lora_B.weight": B });
  const identity = rows([
    [1, 0],
    [0, 1],
  ]);
  // Row i of the output is (B A) e_i: the product transposed.
  const product = async (): Promise<number[]> => {
    const [a, c, b, d] = await floats(site.apply(base.forward(identity), identity, {}));
    return [a, b, c, d].map((value) => value ?? Number.NaN);
  };
  const mean = async (pairs: readonly (readonly [number, number])[]): Promise<number[]> => {
    const total = [0, 0, 0, 0];
    for (const [j, k] of pairs) {
      draw(set, j, k);
      for (const [i, value] of (await product()).entries()) total[i] = (total[i] ?? 0) + value / pairs.length;
    }
    return total;
  };
  assert.equal(
    await mean([
      [0, 0],
      [1, 1],
    ]),
    flat(expected["mean_m(B_m A_m)"]),
  );
  assert.equal(
    await mean([
      [0, 0],
      [0, 1],
      [1, 0],
      [1, 1],
    ]),
    flat(expected["mean_over_all_M2_pairs(B_j A_k)"]),
  );
  set.detach();
  set.mergeExperts({ sites: () => [site] }, Stream.seed(2)).attach();
  assert.equal(await product(), flat(expected["mean(B)mean(A)"]));
});

async function symmetricKlOf(z1: number[][], z2: number[][], gradient: "detached" | "full") {
  const [a, b] = [rows(z1), rows(z2)];
  for (const z of [a, b]) z.requiresGrad = true;
  const value = symmetricKl(a, b, { gradient });
  value.backward();
  return { value, da: a.grad as Tensor, db: b.grad as Tensor };
}

byHand("the consistency of two passes, and its gradient with targets held fixed", async () => {
  for (const [i, { z1, z2, value, grad_z1_detached }] of golden.symKL.entries()) {
    const actual = await symmetricKlOf(z1, z2, "detached");
    await close(actual.value, [value], `value ${i}`);
    await close(actual.da, flat(grad_z1_detached), `dz1 ${i}`);
    await close(
      actual.db,
      flat(grad_z1_detached).map((g) => -g),
      `dz2 ${i}`,
    );
  }
  const closed = [Math.log(3) / 8, (2 * (Math.E ** 2 - 1)) / (1 + Math.E + Math.E ** 2)];
  for (const [i, value] of closed.entries()) assertClose([golden.symKL[i].value], [value], { rtol: 1e-12 });
});

byHand("the full gradient of the printed formula", async () => {
  const { da, db } = await symmetricKlOf([[1, 2, 3]], [[3, 2, 1]], "full");
  const expected = [-0.4294222848, -0.1407703575, 0.5701926424];
  await close(da, expected, "dz1");
  await close(db, expected.toReversed(), "dz2: the passes mirror each other");
});

byHand("label smoothing, and the masked mean over a completion's tokens", async () => {
  const { z, target, eps, value, ce } = golden.label_smoothing;
  const label = tensor(gpu, Int32Array.of(target));
  await close(crossEntropy(rows([z]), label), [ce], "cross-entropy");
  await close(crossEntropy(rows([z]), label, { labelSmoothing: eps }), [value], "smoothed");
  const masked = golden.masked_mean;
  const labels = tensor(gpu, Int32Array.from(masked.targets));
  const losses = crossEntropy(rows(masked.rows), labels, { labelSmoothing: masked.eps, reduction: "none" });
  const mask = tensor(gpu, Float32Array.from(masked.mask));
  await close(sum(mul(losses, mask)).div(sum(mask).add(1e-4)), [masked.value], "masked mean");
});

byHand("the loss of two passes: task of the first, or of both, plus λ times the consistency", async () => {
  const [z1, z2] = [
    [
      [1, 2, 3],
      [0, 0, 0],
    ],
    [
      [3, 2, 1],
      [0, 0, 0],
    ],
  ];
  const labels = tensor(gpu, Int32Array.of(2, 0));
  const logits = rows([...z1, ...z2]);
  logits.requiresGrad = true;
  const ce = [golden.label_smoothing.ce, Math.log(3), golden.label_smoothing.ce + 2, Math.log(3)];
  const kl = golden.symKL[1].value / 2;
  const { loss, task, consistency } = twoPassLoss(logits, labels, { weight: 100 });
  await close(task, [(ce[0] + ce[1]) / 2], "task of the first pass");
  await close(consistency, [kl], "consistency");
  await close(loss, [(ce[0] + ce[1]) / 2 + 100 * kl], "loss");
  loss.backward();
  const p = [1, 2, 3].map((v) => Math.exp(v) / (Math.E + Math.E ** 2 + Math.E ** 3));
  const third = 1 / 3;
  const dz2 = p.map((p1, i) => (100 * ((p[2 - i] ?? 0) - p1)) / 4);
  const dz1 = p.map((p1, i) => (p1 - (i === 2 ? 1 : 0)) / 2 - (dz2[i] ?? 0));
  const dzero = [(third - 1) / 2, third / 2, third / 2];
  assertClose(await floats(logits.grad as Tensor), [...dz1, ...dzero, ...dz2, 0, 0, 0], {
    atol: 1e-5,
    name: "dz",
  });
  const both = twoPassLoss(logits, labels, { taskPasses: "both", weight: 0 });
  await close(both.loss, [(ce[0] + ce[1] + ce[2] + ce[3]) / 4], "task of both passes");
  assert.throws(
    () => twoPassLoss(logits, tensor(gpu, Int32Array.of(0, 1, 2))),
    /twoPassLoss: logits \[4, 3\] are not two passes of labels \[3\]/,
  );
});

byHand.run();

const training = suite("AdaMix training steps");

/** Real steps of two passes in one batch: routes, dropout, consistency, clipping and AdamW. */
function trainer(seed: number) {
  const { model, head, forward } = tiny.build({
    dropout: 0.1,
  });
  const stream = Stream.seed(seed);
  const set = new AdaptationSet(gpu, model, adamixAdapter({ bottleneck: 3, experts: 3 }), { stream });
  const optimiser = new AdamW([...set.parameters(), ...head], { weightDecay: 0.1 });
  const schedule = linearSchedule({ lr: 0.01, warmupSteps: 2, totalSteps: 60 });
  const router = uniformRouter(stream);
  const clock = tensor(gpu, Uint32Array.of(seed, 0));
  const step = async (number: number, length: number): Promise<number> => {
    clock.write(Uint32Array.of(seed, number));
    set.routes.draw(router, { step: number, passes: 2 });
    optimiser.zeroGrad();
    const loss = tidy(() => {
      const logits = forward({ passes: 2, length, draw: { stream, clock, examples: 3 } });
      const losses = twoPassLoss(logits, tinyLabels());
      losses.loss.backward();
      clipGradNorm(optimiser.arena, 1);
      return losses.loss;
    });
    optimiser.step(schedule(number));
    const value = await loss.item();
    loss.dispose();
    return value;
  };
  return { set, router, clock, stream, forward, step };
}

training("two lengths in turn: after three steps of each nothing is created, up to step 50", async () => {
  const { step } = trainer(1);
  const settled = (): Record<string, number> => {
    const { created, bindGroups, kernels, liveBytes } = gpu.device.statistics();
    return { created, bindGroups, kernels, liveBytes };
  };
  let after: Record<string, number> = {};
  const losses: number[] = [];
  for (let number = 0; number < 50; number++) {
    losses.push(await step(number, number % 2 === 0 ? 7 : 4));
    if (number === 5) after = settled();
    if (number > 5) assert.equal(settled(), after, `after step ${number}`);
  }
  const mean = (values: number[]): number => values.reduce((a, b) => a + b) / values.length;
  assert.ok(
    mean(losses.slice(-10)) < mean(losses.slice(0, 10)) - 0.1,
    `losses ${losses.map((l) => l.toFixed(3))}`,
  );
});

training("the same seed gives the same bytes, another seed others", async () => {
  const bytesAfter = async (seed: number): Promise<Float32Array> => {
    const { set, step } = trainer(seed);
    for (let number = 0; number < 6; number++) await step(number, number % 2 === 0 ? 7 : 4);
    return Float32Array.from(
      [...(await bytesOf(set.namedParameters())).values()].flatMap((values) => [...values]),
    );
  };
  const first = await bytesAfter(3);
  assertBitEqual(await bytesAfter(3), first, "adapters of the same seed");
  assert.not.equal([...(await bytesAfter(4))], [...first]);
});

training("both passes in one batch draw what two passes draw: logits bit for bit", async () => {
  const { set, router, clock, stream, forward } = trainer(5);
  scramble(set);
  const rng = { stream, clock, examples: 3 };
  set.routes.draw(router, { step: 7, passes: 2 });
  const both = await floats(forward({ passes: 2, draw: rng }));
  const one: number[] = [];
  for (const firstPass of [0, 1]) {
    set.routes.draw(router, { step: 7, passes: 1, firstPass });
    one.push(...(await floats(forward({ draw: { ...rng, firstPass } }))));
  }
  assertBitEqual(Float32Array.from(one), both, "logits");
  assert.not.equal(one.slice(0, 9), one.slice(9));
});

training("LoRA's dropout acts where a draw is passed", async () => {
  const model = tiny.build();
  scramble(attachTo(model, lora({ rank: 3, dropout: 0.5 })));
  const clock = tensor(gpu, Uint32Array.of(1, 0));
  const source: DrawSource = { stream: Stream.seed(1).fold("forward"), clock, examples: 3 };
  const still = await floats(model.forward());
  assertBitEqual(await floats(model.forward()), still, "logits without a draw");
  const shaken = await floats(model.forward({ draw: source }));
  assert.not.equal([...shaken], [...still], "logits with a draw");
  assertBitEqual(await floats(model.forward({ draw: source })), shaken, "logits with the same draw");
  clock.write(Uint32Array.of(1, 1));
  assert.not.equal(
    [...(await floats(model.forward({ draw: source })))],
    [...shaken],
    "logits of the next step",
  );
});

training.run();
