// A method of one's own in thirty lines: SSF (Lian et al. 2022), a factor and a shift for each output of linear layers.
//
//     npm run build && node --import tsx examples/08-your-own-method.ts
import { add, type Gpu, mul, openGpu, Parameter, ShapeError, Stream } from "adamix";
import type { Encoded } from "adamix/data";
import { parseRobertaConfig, RobertaForSequenceClassification } from "adamix/models";
import { countParameters, initBertWeights, Module } from "adamix/nn";
import { AdaptationSet, foldIntoBase, type PeftMethod } from "adamix/peft";
import { fineTune, predict, scoreLogits } from "adamix/train";

/** What trains at one place: parameters are found by walking the properties. */
class ScaleAndShift extends Module {
  readonly scale: Parameter;
  readonly shift: Parameter;

  constructor(gpu: Gpu, n: number) {
    super();
    this.scale = Parameter.from(gpu, new Float32Array(n).fill(1), [n]);
    this.shift = Parameter.zeros(gpu, [n]);
  }
}

/** y = scale (W x + b) + shift: the identity at the start. */
function ssf(targets = ["query", "value", "feedForwardInner", "feedForwardOutput"]): PeftMethod {
  const method: PeftMethod = {
    name: "ssf",
    config: { method: "ssf", targets },
    targets, // roles, which every family of models has, or ends of names
    experts: { down: 1, up: 1 },
    build(gpu, site) {
      if (site.kind !== "linear") throw new ShapeError(`ssf: "${site.name}" is no linear layer`);
      return new ScaleAndShift(gpu, site.outputs);
    },
    attach(set, site, part) {
      if (site.kind === "linear" && part instanceof ScaleAndShift)
        site.attach(set, (y) => add(mul(y, part.scale), part.shift));
    },
    merged: () => method,
    // Optional: the weight [out, in] and bias [out] that do the same.
    fold({ weight, bias }, _site, part) {
      if (!(part instanceof ScaleAndShift)) return { weight, bias };
      const scaled = bias && add(mul(bias, part.scale), part.shift);
      return { weight: mul(weight, part.scale.reshape(-1, 1)), bias: scaled };
    },
  };
  return method;
}

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
  hidden_dropout_prob: 0,
  attention_probs_dropout_prob: 0,
});

// Sequences of ten tokens; those of label 1 hold token 7 three times.
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
model.setRequiresGrad(false);
model.classifier.setRequiresGrad(true);

const test = sequences(200, stream.fold("test"));
const labels = test.map(({ label }) => label as number);
const before = await predict(gpu, model, test);
const set = new AdaptationSet(gpu, model, ssf(), { stream });
const fresh = await predict(gpu, model, test);
console.log("trained beside the head", countParameters(set.parameters()), "in", set.parts.length, "places");
console.log(
  "a fresh set changes nothing:",
  fresh.every((value, i) => value === before[i]),
);

const train = sequences(320, stream.fold("train"));
await fineTune(gpu, model, set, { train, steps: 80, batchSize: 16, lr: 0.03, seed: 1 });
const trained = await predict(gpu, model, test);
console.log("accuracy", scoreLogits(trained, labels).accuracy.toFixed(2));

// The base's weights now do it alone; unfold() would put its bytes back.
foldIntoBase(set);
const folded = await predict(gpu, model, test);
const largest = Math.max(...folded.map((value, i) => Math.abs(value - (trained[i] as number))));
console.log("folded into the base, logits agree to 1e-4:", largest < 1e-4);
set.dispose();
model.dispose();

// Prints:
// trained beside the head 640 in 8 places
// a fresh set changes nothing: true
// accuracy 0.97
// folded into the base, logits agree to 1e-4: true
