import { suite } from "uvu";
import { crossEntropy, type Tensor, tensor } from "../src/autograd/index.ts";
import type { EncoderInput } from "../src/models/index.ts";
import { gpu as testGpu } from "./device.ts";
import { fixtureNames, loadFixture } from "./fixtures.ts";
import { expectFixture, type FixtureConfig, inputOf, loadWeights, modelOf } from "./tiny-encoder.ts";

const gpu = await testGpu();

const test = suite("encoders against goldens");

/** What an encoder without its head does. */
interface Bare {
  forward(input: EncoderInput, options: object, onHidden: (hidden: Tensor) => void): Tensor;
}

for (const name of [...fixtureNames("model_roberta"), ...fixtureNames("model_bert")]) {
  const fixture = loadFixture<{ config: FixtureConfig }>(name);
  const { config } = fixture.json;

  test(`${name}: classification, hidden states, loss and every gradient`, async () => {
    const model = modelOf(gpu, config, "sequence-classification");
    loadWeights(fixture, model.stateDict());
    const input = inputOf(gpu, fixture, model);
    const hidden: Tensor[] = [];
    (model.encoder as unknown as Bare).forward(input, {}, (x) => hidden.push(x));
    for (const [i, x] of hidden.entries()) await expectFixture(fixture, `out/hidden.${i}`, x);
    const logits = model.forward(input);
    await expectFixture(fixture, "out/logits", logits);
    const loss = crossEntropy(logits, tensor(gpu, Int32Array.from(fixture.ints("in/labels").data)));
    await expectFixture(fixture, "out/loss", loss);
    loss.backward();
    for (const [key, parameter] of model.namedParameters())
      await expectFixture(fixture, `grad/${key}`, parameter.grad);
    model.dispose();
  });

  test(`${name}: masked language model, loss and every gradient`, async () => {
    const model = modelOf(gpu, config, "masked-lm");
    loadWeights(fixture, model.stateDict());
    const labels = fixture.ints("in/mlm_labels");
    const logits = model.forward(inputOf(gpu, fixture, model));
    await expectFixture(fixture, "out/mlm_logits", logits);
    const loss = crossEntropy(logits, tensor(gpu, Int32Array.from(labels.data), labels.shape));
    await expectFixture(fixture, "out/mlm_loss", loss);
    loss.backward();
    for (const [key, parameter] of model.namedParameters())
      await expectFixture(fixture, `mlm_grad/${key}`, parameter.grad);
    model.dispose();
  });
}

test.run();
