// Which evaluation of a training is the best one, and that its parameters are put back.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Stream } from "../src/autograd/index.ts";
import { RobertaForSequenceClassification } from "../src/models/index.ts";
import { initBertWeights } from "../src/nn/index.ts";
import { fineTune } from "../src/train/index.ts";
import { assertBitEqual } from "./compare.ts";
import { gpu as testGpu } from "./device.ts";
import { tinyConfig } from "./peft.table.ts";

const gpu = await testGpu();
const train = [0, 1, 2].map((label) => ({ ids: Int32Array.of(1, 3 + label, 4), label }));

/** Trains the head for as many steps as there are scores. Gives what is told, and the head of each step and of the end. */
async function trained(scores: readonly number[]) {
  const model = new RobertaForSequenceClassification(gpu, tinyConfig(0));
  initBertWeights(model, Stream.seed(3), 0.3);
  model.setRequiresGrad(false);
  model.head.setRequiresGrad(true);
  const weights = async (): Promise<Float32Array> =>
    (await model.classifier.out_proj.weight.data()) as Float32Array;
  const heads: Float32Array[] = [];
  const score = async (step: number): Promise<number> => {
    heads.push(await weights());
    return scores[step - 1] ?? Number.NaN;
  };
  try {
    const options = { train, steps: scores.length, batchSize: 3, lr: 0.1, warmupSteps: 0, seed: 1 };
    const { best, optimiser } = await fineTune(gpu, model, null, {
      ...options,
      evaluate: { everySteps: 1, score },
    });
    optimiser.dispose();
    return { best, heads, last: await weights() };
  } finally {
    model.dispose();
  }
}

const evaluations = suite("best evaluation");

evaluations("of equal scores the first one is kept, and its parameters are put back", async () => {
  const { best, heads, last } = await trained([0.5, 0.75, 0.75, 0.25, 0.75]);
  assert.equal(best, { step: 2, score: 0.75 });
  assertBitEqual(last, heads[1] as Float32Array, "the head of step 2");
  assert.not.equal([...last], [...(heads[2] as Float32Array)], "which is another one");
});

evaluations("a higher score later wins, and scores may be below 0", async () => {
  const { best, heads, last } = await trained([-3, -1, -2]);
  assert.equal(best, { step: 2, score: -1 });
  assertBitEqual(last, heads[1] as Float32Array, "the head of step 2");
});

evaluations("a score that is no number ends the training, and is no best one", async () => {
  const message = /evaluate: the score of step 2 is NaN; give a number, the higher the better/;
  const error = await trained([0.5, Number.NaN, 0.25]).then(
    () => new Error("no error"),
    (reason: Error) => reason,
  );
  assert.match(error.message, message);
});

evaluations.run();
