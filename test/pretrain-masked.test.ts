// Masked pretraining: what is counted when a model is scored.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Stream } from "../src/autograd/index.ts";
import { RobertaForMaskedLM } from "../src/models/index.ts";
import { initBertWeights } from "../src/nn/index.ts";
import { evaluateMaskedLm } from "../src/train/index.ts";
import { gpu as testGpu } from "./device.ts";
import { tinyConfig } from "./peft.table.ts";

const gpu = await testGpu();
const scoring = suite("masked pretraining");

scoring("rows that fill the last batch up count for nothing", async () => {
  const model = new RobertaForMaskedLM(gpu, tinyConfig());
  initBertWeights(model, Stream.seed(1), 0.5);
  const lines = [3, 5, 4].map((length, i) => ({ ids: Int32Array.from({ length }, (_, t) => 3 + i + t) }));
  const masking = { maskId: 16, vocabSize: 17, specialIds: [0, 1, 2], rate: 0.999, seed: 3 };
  const { places, loss } = await evaluateMaskedLm(model, lines, masking);
  assert.is(places, 12, "every token once, though batches have 50 rows");
  assert.ok(Number.isFinite(loss));
  model.dispose();
});

scoring.run();
