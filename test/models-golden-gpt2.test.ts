// GPT-2 against goldens: logits, hidden states, losses, every gradient; LoRA on its fused product; AdaMix mixtures.
import { suite } from "uvu";
import { add, indexSelect, mul, Stream, symmetricKl, type Tensor, tensor } from "../src/autograd/index.ts";
import { causalLoss } from "../src/models/index.ts";
import { AdaptationSet, adapter, givenRouter, lora, type PeftMethod } from "../src/peft/index.ts";
import { gpu as testGpu } from "./device.ts";
import { type Fixture, fixtureNames, loadFixture } from "./fixtures.ts";
import { expectFixture } from "./tiny-encoder.ts";
import { causalInputOf, type Gpt2Json, gpt2Of, intsOf } from "./tiny-gpt2.ts";

const gpu = await testGpu();
const test = suite("GPT-2 against goldens");

for (const name of fixtureNames("model_gpt2")) {
  const fixture = loadFixture<Gpt2Json>(name);

  test(`${name}: logits, hidden states, loss and every gradient`, async () => {
    const model = gpt2Of(gpu, fixture, fixture);
    const input = causalInputOf(gpu, fixture);
    const hidden: Tensor[] = [];
    model.hidden(input, {}, (x) => hidden.push(x));
    for (const [i, x] of hidden.entries()) await expectFixture(fixture, `out/hidden.${i}`, x);
    const logits = model.forward(input);
    await expectFixture(fixture, "out/logits", logits);
    const [labels, mask] = [intsOf(gpu, fixture, "labels"), intsOf(gpu, fixture, "loss_mask")];
    const smooth = causalLoss(logits, labels, mask, { labelSmoothing: 0.1 });
    await expectFixture(fixture, "out/loss_smooth0.1", smooth);
    const loss = causalLoss(logits, labels, mask);
    await expectFixture(fixture, "out/loss", loss);
    loss.backward();
    for (const [key, parameter] of model.namedParameters())
      await expectFixture(fixture, `grad/${key}`, parameter.grad);
    model.dispose();
  });

  test(`${name}: padded keys are masked`, async () => {
    const model = gpt2Of(gpu, fixture, fixture);
    await expectFixture(
      fixture,
      "out/logits_padmasked",
      model.forward(causalInputOf(gpu, fixture, { masked: true })),
    );
    model.dispose();
  });
}

interface PeftJson extends Gpt2Json {
  readonly peft: {
    readonly kind: string;
    readonly rank?: number;
    readonly alpha?: number;
    readonly bottleneck?: number;
    readonly experts?: number;
    readonly share_B?: boolean;
    readonly share_up?: boolean;
    readonly share_down?: boolean;
  };
  readonly kl_weight: number;
  readonly route_pass1: [number, number][];
  readonly route_pass2: [number, number][];
}

const base = loadFixture<Gpt2Json>("model_gpt2");

function methodOf({ peft }: PeftJson): PeftMethod {
  const { rank, alpha, bottleneck, experts = 1 } = peft;
  const share = peft.share_up || peft.share_B ? "up" : peft.share_down ? "down" : "none";
  // Where adapters go and their activation are the model's to say: after mlp.c_proj, geluTanh.
  if (bottleneck !== undefined) return adapter({ bottleneck, experts, share });
  return lora({ rank: rank as number, experts, share, ...(alpha !== undefined && { alpha }) });
}

/** The fixture's tensors of a bank, expert by expert. */
function keysOf(fixture: Fixture<unknown>, prefix: string, name: string): string[] {
  const [, layer, part, side] = /h\.(\d+)\.attn\.c_attn\.(\w+)\.lora\.lora_(A|B)\.weight$/.exec(name) ?? [];
  if (layer !== undefined) {
    const start = `${prefix}/layer.${layer}.${part}.${side}`;
    return fixture.keys(start).filter((key) => key === start || key.startsWith(`${start}.`));
  }
  const [, block, half, kind] = /h\.(\d+)\.mlp\.output\.adapter\.(down|up)\.(weight|bias)$/.exec(name) ?? [];
  return fixture.keys(`${prefix}/layer.${block}.mix.${half}.`).filter((key) => key.endsWith(`.${kind}`));
}

function adapted(fixture: Fixture<PeftJson>) {
  const model = gpt2Of(gpu, fixture, base);
  model.setRequiresGrad(false);
  const set = new AdaptationSet(gpu, model, methodOf(fixture.json), { stream: Stream.seed(1) });
  for (const [name, parameter] of set.namedParameters()) {
    const keys = keysOf(fixture, "p", name);
    parameter.write(Float32Array.from(keys.flatMap((key) => [...fixture.floats(key).data])));
  }
  return { model, set };
}

async function expectGradients(fixture: Fixture<unknown>, prefix: string, set: AdaptationSet): Promise<void> {
  for (const [name, parameter] of set.namedParameters()) {
    const keys = keysOf(fixture, prefix, name);
    if (keys.length === 0 || !parameter.grad) throw new Error(`${fixture.name} ${name}: nothing to compare`);
    for (const [j, key] of keys.entries())
      await expectFixture(fixture, key, parameter.grad.slice(0, j, j + 1));
  }
}

const labels = (): Tensor => intsOf(gpu, base, "labels");
const mask = (): Tensor => intsOf(gpu, base, "loss_mask");

for (const name of fixtureNames("peft_gpt2_lora")) {
  const fixture = loadFixture<PeftJson>(name);
  test(`${name}: query and value slices of the fused product, every gradient`, async () => {
    const { model, set } = adapted(fixture);
    const input = causalInputOf(gpu, base);
    const last = model.hidden(input);
    await expectFixture(fixture, "out/hidden.last", last);
    const logits = model.logits(last);
    await expectFixture(fixture, "out/logits", logits);
    const loss = causalLoss(logits, labels(), mask());
    await expectFixture(fixture, "out/loss", loss);
    loss.backward();
    await expectGradients(fixture, "pgrad", set);
    set.dispose();
    model.dispose();
  });
}

/** The rows of logits [B, T, V] whose tokens count. */
function completionRows(logits: Tensor): Tensor {
  const counted = [...base.ints("in/loss_mask").data].flatMap((weight, i) => (weight ? [i] : []));
  return indexSelect(
    logits.reshape(-1, logits.shape.at(-1) as number),
    0,
    tensor(gpu, Int32Array.from(counted)),
  );
}

for (const name of fixtureNames("adamix_gpt2")) {
  const fixture = loadFixture<PeftJson>(name);

  for (const gradient of ["detached", "full"] as const) {
    test(`${name}: both passes in one batch, loss and every gradient (${gradient} targets)`, async () => {
      const { model, set } = adapted(fixture);
      const { route_pass1, route_pass2, kl_weight } = fixture.json;
      set.routes.draw(givenRouter([route_pass1, route_pass2]), { step: 0, passes: 2 });
      const logits = model.forward(causalInputOf(gpu, base, { passes: 2 }));
      const rows = (logits.shape[0] as number) / 2;
      const [first, second] = [logits.slice(0, 0, rows), logits.slice(0, rows, 2 * rows)];
      await expectFixture(fixture, "out/logits_pass1", first);
      await expectFixture(fixture, "out/logits_pass2", second);
      const task = causalLoss(first, labels(), mask());
      await expectFixture(fixture, "out/task_loss_pass1", task);
      const consistency = symmetricKl(completionRows(first), completionRows(second), { gradient });
      await expectFixture(fixture, "out/symkl", consistency);
      const loss = add(task, mul(consistency, kl_weight));
      await expectFixture(fixture, "out/loss", loss);
      loss.backward();
      await expectGradients(fixture, gradient === "full" ? "pgrad_full" : "pgrad_detach", set);
      set.dispose();
      model.dispose();
    });
  }

  test(`${name}: merged experts`, async () => {
    const { model, set } = adapted(fixture);
    set.detach();
    const merged = set.mergeExperts(model, Stream.seed(2));
    merged.attach();
    const logits = model.forward(causalInputOf(gpu, base));
    await expectFixture(fixture, "out/logits_merged", logits);
    await expectFixture(fixture, "out/merged_loss", causalLoss(logits, labels(), mask()));
    merged.dispose();
    set.dispose();
    model.dispose();
  });
}

test.run();
