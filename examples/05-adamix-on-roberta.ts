// AdaMix by hand: experts in every layer of a frozen encoder, two passes a step, then one merged adapter.
// The numbers in brackets are sections of the paper (arXiv 2205.12410).
//
//     npm run build && node --import tsx examples/05-adamix-on-roberta.ts
import { noGrad, openGpu, Stream, type Tensor, tidy } from "adamix";
import { collate, type Encoded, epochs } from "adamix/data";
import { parseRobertaConfig, RobertaForSequenceClassification } from "adamix/models";
import { countParameters, initBertWeights } from "adamix/nn";
import { AdamW } from "adamix/optim";
import { AdaptationSet, adamixAdapter, twoPassLoss, uniformRouter } from "adamix/peft";
import { BatchSlots } from "adamix/train";

const config = parseRobertaConfig({
  model_type: "roberta",
  vocab_size: 50,
  hidden_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  intermediate_size: 64,
  max_position_embeddings: 20,
  num_labels: 2,
  classifier_pooling: "mean",
});

// Sequences of ten tokens; those of label 1 hold token 7 three times, at random places.
function sequences(n: number, stream: Stream): Encoded[] {
  return Array.from({ length: n }, (_, i) => {
    const ids = Int32Array.from({ length: 10 }, (_, t) => 8 + stream.integer(42, i, t));
    const first = stream.integer(10, i, 10);
    if (i % 2 === 1) for (const skip of [0, 2, 5]) ids[(first + skip) % 10] = 7;
    return { ids, label: i % 2 };
  });
}

const gpu = await openGpu();
const stream = Stream.seed(1);
const model = new RobertaForSequenceClassification(gpu, config);
initBertWeights(model, stream.fold("model"), 0.3);
model.setRequiresGrad(false); // the base stays as it is
model.classifier.setRequiresGrad(true);

// Four experts below one shared up-projection in each layer (3.1, 3.4), at the feed-forward outputs.
const method = adamixAdapter({ bottleneck: 4 });
const set = new AdaptationSet(gpu, model, method, { stream });
const head = countParameters(model.classifier.parameters());
console.log("frozen", countParameters(model.parameters()) - head, "head", head);
console.log("experts", method.experts, "trained", countParameters(set.parameters()));

const optimiser = new AdamW([...set.parameters(), ...model.classifier.parameters()], { undrawn: "authors" });
const router = uniformRouter(stream); // a function of (layer, side, step, pass): any step can be drawn again
const slots = new BatchSlots(gpu, model);
const train = sequences(320, stream.fold("train"));
const order = epochs({ n: train.length, batchSize: 16, seed: 1 });
for (let step = 0; step < 60; step++) {
  const batch = collate(train, order.batch(step), { padId: config.pad_token_id });
  set.routes.draw(router, { step, passes: 2 });
  optimiser.zeroGrad();
  const { loss, consistency } = tidy(() => {
    const { input, labels } = slots.load(batch, 2); // 2B rows: both passes in one batch, each with its route
    const result = twoPassLoss(model.forward(input), labels as Tensor, { weight: 1 }); // (3.2)
    result.loss.backward();
    return result;
  });
  optimiser.step(0.01);
  if (step % 20 === 0) {
    console.log("step", step, "routes [layer][down, up][pass]", JSON.stringify(set.routes.last()));
    console.log(
      "  loss",
      (await loss.item()).toFixed(3),
      "consistency",
      (await consistency.item()).toFixed(3),
    );
  }
  for (const tensor of [loss, consistency]) tensor.dispose();
}

// Merging (3.3): the mean of the experts' weights, an adapter of one expert for the same model.
set.detach();
const merged = set.mergeExperts(model, stream);
merged.attach();
console.log("merged", countParameters(merged.parameters()), "parameters");

const test = sequences(200, stream.fold("test"));
const batch = collate(test, [...test.keys()], { padId: config.pad_token_id });
const logits = noGrad(() => model.forward(slots.load(batch).input));
const scores = await logits.data();
const hits = test.filter(
  ({ label }, i) => Number(Number(scores[2 * i + 1]) > Number(scores[2 * i])) === label,
);
console.log("accuracy of the merged adapter on new sequences", (hits.length / test.length).toFixed(2));

await gpu.device.close();

// Prints:
// frozen 19424 head 1122
// experts { down: 4, up: 1 } trained 1376
// step 0 routes [layer][down, up][pass] [[[0,2],[0,0]],[[0,1],[0,0]]]
//   loss 0.950 consistency 0.000
// step 20 routes [layer][down, up][pass] [[[3,1],[0,0]],[[2,0],[0,0]]]
//   loss 0.324 consistency 0.018
// step 40 routes [layer][down, up][pass] [[[3,1],[0,0]],[[3,2],[0,0]]]
//   loss 0.312 consistency 0.003
// merged 584 parameters
// accuracy of the merged adapter on new sequences 0.78
