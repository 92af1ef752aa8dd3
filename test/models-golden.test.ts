import { suite } from "uvu";
import { crossEntropy, tensor } from "../src/autograd/index.ts";
import { RobertaForMaskedLM, RobertaForSequenceClassification } from "../src/models/index.ts";
import { gpu as testGpu } from "./device.ts";
import { fixtureNames, loadFixture } from "./fixtures.ts";
import { expectFixture, type FixtureConfig, inputOf, loadWeights, robertaConfigOf } from "./tiny-roberta.ts";

const gpu = await testGpu();

const test = suite("RoBERTa against goldens");

for (const name of fixtureNames("model_roberta")) {
  const fixture = loadFixture<{ config: FixtureConfig }>(name);
  const config = robertaConfigOf(fixture.json.config);

  test(`${name}: classification, hidden states, loss and every gradient`, async () => {
    const model = new RobertaForSequenceClassification(gpu, config);
    loadWeights(fixture, model.stateDict());
    const input = inputOf(gpu, fixture, config);
    const hidden: Parameters<Parameters<typeof model.roberta.forward>[2] & object>[0][] = [];
    model.roberta.forward(input, {}, (x) => hidden.push(x));
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
    const model = new RobertaForMaskedLM(gpu, config);
    loadWeights(fixture, model.stateDict());
    const labels = fixture.ints("in/mlm_labels");
    const logits = model.forward(inputOf(gpu, fixture, config));
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
