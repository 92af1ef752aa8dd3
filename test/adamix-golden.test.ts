import { suite } from "uvu";
import {
  crossEntropy,
  mean,
  noGrad,
  Stream,
  softmax,
  stack,
  type Tensor,
  tensor,
} from "../src/autograd/index.ts";
import type { SequenceClassifier } from "../src/models/index.ts";
import { AdamW } from "../src/optim/index.ts";
import { AdaptationSet, adapter, givenRouter, lora, twoPassLoss } from "../src/peft/index.ts";
import { assertClose } from "./compare.ts";
import { gpu as testGpu } from "./device.ts";
import { fixtureNames } from "./fixtures.ts";
import {
  expectFixture,
  type Fixture,
  type FixtureConfig,
  frozenClassifier,
  inputOf,
  loadFixture,
  trainedOf,
} from "./tiny-encoder.ts";

const gpu = await testGpu();

interface AdamixJson {
  readonly config: FixtureConfig;
  readonly peft: {
    readonly kind: "adamix" | "adamix_lora";
    /** Of adapters. */
    readonly bottleneck: number;
    /** Of LoRA. */
    readonly rank: number;
    readonly alpha: number;
    readonly experts: number;
    readonly share_up?: boolean;
    readonly share_down?: boolean;
  };
  readonly kl_weight: number;
  readonly route_pass1: [number, number][];
  readonly route_pass2: [number, number][];
  readonly routes: [number, number][][][];
  readonly hyper: { lr: number; betas: [number, number]; eps: number; weight_decay: number; steps: number };
}

const test = suite("AdaMix against goldens");

/** The weights and inputs of a fixture's model. */
const baseOf = (fixture: Fixture<AdamixJson>): Fixture<{ config: FixtureConfig }> =>
  loadFixture(`model_${fixture.json.config.model}`);

interface Built {
  readonly base: Fixture<{ config: FixtureConfig }>;
  readonly model: SequenceClassifier;
  readonly set: AdaptationSet;
}

function build(fixture: Fixture<AdamixJson>): Built {
  const { peft } = fixture.json;
  const base = baseOf(fixture);
  const model = frozenClassifier(gpu, base);
  const share = peft.share_up ? "up" : peft.share_down ? "down" : "none";
  const { bottleneck, rank, alpha, experts: M } = peft;
  const method =
    peft.kind === "adamix"
      ? adapter({ bottleneck, experts: M, share })
      : lora({ rank, alpha, experts: M, share });
  const set = new AdaptationSet(gpu, model, method, { stream: Stream.seed(1) });
  for (const [name, parameter] of set.namedParameters()) parameter.write(experts(fixture, "p", name));
  return { base, model, set };
}

/**
 * The fixture's keys of a bank, expert by expert: `…layer.0.output.adapter.down.weight` is
 * `layer.0.mix.down.{0..M-1}.weight`, `…layer.0.attention.self.query.lora.lora_A.weight` is `layer.0.query.A.{0..M-1}`.
 */
function expertKeys(fixture: Fixture<AdamixJson>, prefix: string, name: string): string[] {
  const pair = /layer\.(\d+)\.attention\.self\.(\w+)\.lora\.lora_(A|B)\./.exec(name);
  if (pair) return fixture.keys(`${prefix}/layer.${pair[1]}.${pair[2]}.${pair[3]}`);
  const [, layer, side, kind] = /layer\.(\d+)\.output\.adapter\.(down|up)\.(weight|bias)$/.exec(name) ?? [];
  const start = `${prefix}/layer.${layer}.mix.${side}.`;
  return fixture.keys(start).filter((key) => key.endsWith(`.${kind}`));
}

function experts(fixture: Fixture<AdamixJson>, prefix: string, name: string): Float32Array<ArrayBuffer> {
  return Float32Array.from(expertKeys(fixture, prefix, name).flatMap((key) => [...fixture.floats(key).data]));
}

/** Compares a bank's values or gradient with the fixture's, expert by expert. */
async function expectBank(
  fixture: Fixture<AdamixJson>,
  prefix: string,
  name: string,
  actual: Tensor | null,
): Promise<void> {
  if (!actual) throw new Error(`${fixture.name} ${name}: nothing to compare`);
  for (const [j, key] of expertKeys(fixture, prefix, name).entries()) {
    await expectFixture(fixture, key, actual.slice(0, j, j + 1));
  }
}

const labelsOf = (base: Built["base"]): Tensor => tensor(gpu, Int32Array.from(base.ints("in/labels").data));

for (const name of ["adamix_roberta", "adamix_bert"].flatMap((start) => fixtureNames(start))) {
  const fixture = loadFixture<AdamixJson>(name);

  for (const gradient of ["detached", "full"] as const) {
    test(`${name}: both passes in one batch, loss and every gradient (${gradient} targets)`, async () => {
      const { base, model, set } = build(fixture);
      const { route_pass1, route_pass2, kl_weight } = fixture.json;
      set.routes.draw(givenRouter([route_pass1, route_pass2]), { step: 0, passes: 2 });
      const logits = model.forward(inputOf(gpu, base, model, 2));
      const rows = (logits.shape[0] as number) / 2;
      await expectFixture(fixture, "out/logits_pass1", logits.slice(0, 0, rows));
      await expectFixture(fixture, "out/logits_pass2", logits.slice(0, rows, 2 * rows));
      const { loss, task, consistency } = twoPassLoss(logits, labelsOf(base), {
        weight: kl_weight,
        gradient,
      });
      await expectFixture(fixture, "out/task_loss_pass1", task);
      await expectFixture(fixture, "out/symkl", consistency);
      await expectFixture(fixture, "out/loss", loss);
      loss.backward();
      const suffix = gradient === "full" ? "full" : "detach";
      for (const [key, parameter] of set.namedParameters())
        await expectBank(fixture, `pgrad_${suffix}`, key, parameter.grad);
      for (const [key, parameter] of trainedOf(model)) {
        await expectFixture(fixture, `grad_${suffix}/${key}`, parameter.grad);
      }
      set.dispose();
      model.dispose();
    });
  }

  test(`${name}: one pass after the other gives the same bits`, async () => {
    const { base, model, set } = build(fixture);
    const { route_pass1, route_pass2 } = fixture.json;
    const router = givenRouter([route_pass1, route_pass2]);
    set.routes.draw(router, { step: 0, passes: 2 });
    const both = await model.forward(inputOf(gpu, base, model, 2)).data();
    const one: number[] = [];
    for (const firstPass of [0, 1]) {
      set.routes.draw(router, { step: 0, passes: 1, firstPass });
      one.push(...(await model.forward(inputOf(gpu, base, model)).data()));
    }
    assertClose(Float32Array.from(one), both as Float32Array, { atol: 0, rtol: 0, name });
    set.dispose();
    model.dispose();
  });

  test(`${name}: merged experts, and the mean over all routes`, async () => {
    const { base, model, set } = build(fixture);
    const { experts: M } = fixture.json.peft;
    const input = inputOf(gpu, base, model);
    if (fixture.keys("out/logits_mean_over_all_routings").length > 0) {
      const all = allRoutes(set.method.experts.down, set.method.experts.up, model.config.num_hidden_layers);
      const logits = noGrad(() =>
        all.map((route) => {
          set.routes.draw(givenRouter([route]), { step: 0, passes: 1 });
          return model.forward(input);
        }),
      );
      await expectFixture(fixture, "out/logits_mean_over_all_routings", mean(stack(logits), 0));
      await expectFixture(fixture, "out/probs_mean_over_all_routings", mean(softmax(stack(logits)), 0));
    }
    set.detach();
    const merged = set.mergeExperts(model, Stream.seed(2));
    merged.attach();
    const logits = model.forward(input);
    await expectFixture(fixture, "out/logits_merged", logits);
    if (fixture.keys("out/merged_loss").length > 0) {
      await expectFixture(fixture, "out/merged_loss", crossEntropy(logits, labelsOf(base)));
    }
    if (M === 1) await expectFixture(fixture, "out/logits_pass1", logits);
    merged.dispose();
    set.dispose();
    model.dispose();
  });
}

/** Every way to choose one expert on each side of every layer. */
function allRoutes(down: number, up: number, layers: number): [number, number][][] {
  let routes: [number, number][][] = [[]];
  for (let l = 0; l < layers; l++) {
    routes = routes.flatMap((route) =>
      Array.from({ length: down * up }, (_, i) => [
        ...route,
        [Math.floor(i / up), i % up] as [number, number],
      ]),
    );
  }
  return routes;
}

for (const name of fixtureNames("train_adamix_roberta")) {
  const fixture = loadFixture<AdamixJson>(name);
  test(`${name}: losses and final weights of real training steps`, async () => {
    const { base, model, set } = build(fixture);
    const { lr, betas, eps, weight_decay: weightDecay, steps } = fixture.json.hyper;
    const parameters = [...set.parameters(), ...model.head.parameters()];
    // The fixture decays biases too.
    for (const parameter of parameters) Object.assign(parameter, { decay: true });
    const optimiser = new AdamW(parameters, { lr, betas, eps, weightDecay, undrawn: "zeroGrad" });
    const input = inputOf(gpu, base, model, 2);
    const losses: number[] = [];
    for (let step = 0; step < steps; step++) {
      optimiser.zeroGrad();
      set.routes.draw(givenRouter(fixture.json.routes[step] ?? []), { step, passes: 2 });
      const { loss } = twoPassLoss(model.forward(input), labelsOf(base));
      loss.backward();
      losses.push(await loss.item());
      optimiser.step();
    }
    await expectFixture(fixture, "out/losses", tensor(gpu, losses));
    for (const [key, parameter] of set.namedParameters())
      await expectBank(fixture, "out/final", key, parameter);
    for (const [key, parameter] of trainedOf(model)) {
      await expectFixture(fixture, `out/final/${key}`, parameter);
    }
    set.detach();
    const merged = set.mergeExperts(model, Stream.seed(2));
    merged.attach();
    await expectFixture(fixture, "out/logits_merged", model.forward(inputOf(gpu, base, model)));
  });
}

test.run();
