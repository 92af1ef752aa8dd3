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
import { RobertaForSequenceClassification } from "../src/models/index.ts";
import { AdamW } from "../src/optim/index.ts";
import { AdaptationSet, adapter, givenRouter, lora, twoPassLoss } from "../src/peft/index.ts";
import { assertClose } from "./compare.ts";
import { gpu as testGpu } from "./device.ts";
import { fixtureNames } from "./fixtures.ts";
import {
  expectFixture,
  type Fixture,
  type FixtureConfig,
  inputOf,
  loadFixture,
  loadWeights,
  robertaConfigOf,
} from "./tiny-roberta.ts";

const gpu = await testGpu();

interface AdamixJson {
  readonly config: FixtureConfig;
  readonly peft: {
    readonly kind: string;
    readonly bottleneck: number;
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
const base = loadFixture("model_roberta");

function build(fixture: Fixture<AdamixJson>): {
  model: RobertaForSequenceClassification;
  set: AdaptationSet;
} {
  const { config, peft } = fixture.json;
  const model = new RobertaForSequenceClassification(gpu, robertaConfigOf(config));
  loadWeights(base, model.stateDict());
  model.setRequiresGrad(false);
  model.classifier.setRequiresGrad(true);
  const share = peft.share_up ? "up" : peft.share_down ? "down" : "none";
  const method = adapter({ bottleneck: peft.bottleneck, experts: peft.experts, share });
  const set = new AdaptationSet(gpu, model, method, { stream: Stream.seed(1) });
  for (const [name, parameter] of set.namedParameters()) parameter.write(experts(fixture, "p", name));
  return { model, set };
}

/** `…layer.0.output.adapter.down.weight` -> the fixture's `layer.0.mix.down.{0..M-1}.weight`, behind one another. */
function expertKeys(fixture: Fixture<AdamixJson>, prefix: string, name: string): string[] {
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

const labelsOf = (): Tensor => tensor(gpu, Int32Array.from(base.ints("in/labels").data));

for (const name of fixtureNames("adamix_roberta")) {
  const fixture = loadFixture<AdamixJson>(name);

  for (const gradient of ["detached", "full"] as const) {
    test(`${name}: both passes in one batch, loss and every gradient (${gradient} targets)`, async () => {
      const { model, set } = build(fixture);
      const { route_pass1, route_pass2, kl_weight } = fixture.json;
      set.routes.draw(givenRouter([route_pass1, route_pass2]), { step: 0, passes: 2 });
      const logits = model.forward(inputOf(gpu, base, model.config, 2));
      const rows = (logits.shape[0] as number) / 2;
      await expectFixture(fixture, "out/logits_pass1", logits.slice(0, 0, rows));
      await expectFixture(fixture, "out/logits_pass2", logits.slice(0, rows, 2 * rows));
      const { loss, task, consistency } = twoPassLoss(logits, labelsOf(), { weight: kl_weight, gradient });
      await expectFixture(fixture, "out/task_loss_pass1", task);
      await expectFixture(fixture, "out/symkl", consistency);
      await expectFixture(fixture, "out/loss", loss);
      loss.backward();
      const suffix = gradient === "full" ? "full" : "detach";
      for (const [key, parameter] of set.namedParameters())
        await expectBank(fixture, `pgrad_${suffix}`, key, parameter.grad);
      for (const [key, parameter] of model.classifier.namedParameters("classifier.")) {
        await expectFixture(fixture, `grad_${suffix}/${key}`, parameter.grad);
      }
      set.dispose();
      model.dispose();
    });
  }

  test(`${name}: one pass after the other gives the same bits`, async () => {
    const { model, set } = build(fixture);
    const { route_pass1, route_pass2 } = fixture.json;
    const router = givenRouter([route_pass1, route_pass2]);
    set.routes.draw(router, { step: 0, passes: 2 });
    const both = await model.forward(inputOf(gpu, base, model.config, 2)).data();
    const one: number[] = [];
    for (const firstPass of [0, 1]) {
      set.routes.draw(router, { step: 0, passes: 1, firstPass });
      one.push(...(await model.forward(inputOf(gpu, base, model.config)).data()));
    }
    assertClose(Float32Array.from(one), both as Float32Array, { atol: 0, rtol: 0, name });
    set.dispose();
    model.dispose();
  });

  test(`${name}: merged experts, and the mean over all routes`, async () => {
    const { model, set } = build(fixture);
    const { experts: M } = fixture.json.peft;
    const input = inputOf(gpu, base, model.config);
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
      await expectFixture(fixture, "out/merged_loss", crossEntropy(logits, labelsOf()));
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
    const { model, set } = build(fixture);
    const { lr, betas, eps, weight_decay: weightDecay, steps } = fixture.json.hyper;
    const parameters = [...set.parameters(), ...model.classifier.parameters()];
    // The fixture decays biases too.
    for (const parameter of parameters) Object.assign(parameter, { decay: true });
    const optimiser = new AdamW(parameters, { lr, betas, eps, weightDecay, undrawn: "zeroGrad" });
    const input = inputOf(gpu, base, model.config, 2);
    const losses: number[] = [];
    for (let step = 0; step < steps; step++) {
      optimiser.zeroGrad();
      set.routes.draw(givenRouter(fixture.json.routes[step] ?? []), { step, passes: 2 });
      const { loss } = twoPassLoss(model.forward(input), labelsOf());
      loss.backward();
      losses.push(await loss.item());
      optimiser.step();
    }
    await expectFixture(fixture, "out/losses", tensor(gpu, losses));
    for (const [key, parameter] of set.namedParameters())
      await expectBank(fixture, "out/final", key, parameter);
    for (const [key, parameter] of model.classifier.namedParameters("classifier.")) {
      await expectFixture(fixture, `out/final/${key}`, parameter);
    }
    set.detach();
    const merged = set.mergeExperts(model, Stream.seed(2));
    merged.attach();
    await expectFixture(fixture, "out/logits_merged", model.forward(inputOf(gpu, base, model.config)));
  });
}

interface LoraJson {
  readonly config: FixtureConfig;
  readonly peft: { readonly rank: number; readonly alpha: number };
}

for (const name of fixtureNames("peft_roberta_lora")) {
  const fixture = loadFixture<LoraJson>(name);
  test(`${name}: logits and every gradient`, async () => {
    const model = new RobertaForSequenceClassification(gpu, robertaConfigOf(fixture.json.config));
    loadWeights(base, model.stateDict());
    model.setRequiresGrad(false);
    model.classifier.setRequiresGrad(true);
    const set = new AdaptationSet(gpu, model, lora(fixture.json.peft), { stream: Stream.seed(1) });
    const keyOf = (prefix: string, name_: string): string => {
      const [, layer, part, matrix] =
        /layer\.(\d+)\.attention\.self\.(\w+)\.lora\.lora_(A|B)\./.exec(name_) ?? [];
      return `${prefix}/layer.${layer}.${part}.${matrix}`;
    };
    for (const [key, parameter] of set.namedParameters())
      parameter.write(Float32Array.from(fixture.floats(keyOf("p", key)).data));
    const logits = model.forward(inputOf(gpu, base, model.config));
    await expectFixture(fixture, "out/logits", logits);
    const loss = crossEntropy(logits, labelsOf());
    await expectFixture(fixture, "out/loss", loss);
    loss.backward();
    for (const [key, parameter] of set.namedParameters())
      await expectFixture(fixture, keyOf("pgrad", key), parameter.grad);
    for (const [key, parameter] of model.classifier.namedParameters("classifier.")) {
      await expectFixture(fixture, `grad/${key}`, parameter.grad);
    }
  });
}

test.run();
