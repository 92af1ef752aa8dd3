// GPT-2 against goldens: logits, hidden states, losses, every gradient; LoRA on its fused product; AdaMix mixtures.
import { suite } from "uvu";
import { add, indexSelect, mul, Stream, symmetricKl, type Tensor, tensor } from "../src/autograd/index.ts";
import { causalLoss } from "../src/models/index.ts";
import { givenRouter } from "../src/peft/index.ts";
import { gpu as testGpu } from "./device.ts";
import { fixtureNames, loadFixture } from "./fixtures.ts";
import { adaptedGpt2, base, expectBankGradients, type Gpt2PeftJson } from "./gpt2-mixture.ts";
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

const labels = (): Tensor => intsOf(gpu, base, "labels");
const mask = (): Tensor => intsOf(gpu, base, "loss_mask");

for (const name of fixtureNames("peft_gpt2_lora")) {
  const fixture = loadFixture<Gpt2PeftJson>(name);
  test(`${name}: query and value slices of the fused product, every gradient`, async () => {
    const { model, set } = adaptedGpt2(gpu, fixture);
    const input = causalInputOf(gpu, base);
    const last = model.hidden(input);
    await expectFixture(fixture, "out/hidden.last", last);
    const logits = model.logits(last);
    await expectFixture(fixture, "out/logits", logits);
    const loss = causalLoss(logits, labels(), mask());
    await expectFixture(fixture, "out/loss", loss);
    loss.backward();
    await expectBankGradients(fixture, "pgrad", set);
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
  const fixture = loadFixture<Gpt2PeftJson>(name);

  for (const gradient of ["detached", "full"] as const) {
    test(`${name}: both passes in one batch, loss and every gradient (${gradient} targets)`, async () => {
      const { model, set } = adaptedGpt2(gpu, fixture);
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
      await expectBankGradients(fixture, gradient === "full" ? "pgrad_full" : "pgrad_detach", set);
      set.dispose();
      model.dispose();
    });
  }

  test(`${name}: merged experts`, async () => {
    const { model, set } = adaptedGpt2(gpu, fixture);
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
