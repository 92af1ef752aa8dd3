// A small network trained with AdamW: a module, a loop, one read of the loss now and then.
//
//     npm run build && node --import tsx examples/04-train-a-classifier.ts
import { crossEntropy, type Gpu, gelu, noGrad, openGpu, Stream, type Tensor, tensor, tidy } from "adamix";
import { countParameters, initUniform, Linear, Module } from "adamix/nn";
import { AdamW, clipGradNorm, linearSchedule } from "adamix/optim";

const CLASSES = 3;
const STEPS = 200;

/** out(gelu(inside(gelu(first(x))))): [n, 2] -> [n, CLASSES]. Layers start as zeros: the caller draws weights. */
class Network extends Module {
  readonly first: Linear;
  readonly inside: Linear;
  readonly out: Linear;

  constructor(gpu: Gpu, width: number, stream: Stream) {
    super();
    this.first = new Linear(gpu, 2, width);
    this.inside = new Linear(gpu, width, width);
    this.out = new Linear(gpu, width, CLASSES);
    for (const [name, { weight }] of Object.entries({
      first: this.first,
      inside: this.inside,
      out: this.out,
    }))
      initUniform(weight, stream.fold(name), Math.sqrt(3 / (weight.shape[1] as number)));
  }

  forward(x: Tensor): Tensor {
    return this.out.forward(gelu(this.inside.forward(gelu(this.first.forward(x)))));
  }
}

/** Points on three spiral arms around the origin, with some noise. */
function spirals(
  n: number,
  stream: Stream,
): { points: Float32Array<ArrayBuffer>; labels: Int32Array<ArrayBuffer> } {
  const noise = stream.normal(2 * n, 0, 0.05);
  const labels = Int32Array.from({ length: n }, (_, i) => i % CLASSES);
  const points = noise.map((offset, j) => {
    const i = Math.floor(j / 2);
    const radius = 0.1 + (0.9 * i) / n;
    const angle = 4 * radius + (2 * Math.PI * (i % CLASSES)) / CLASSES;
    return offset + radius * (j % 2 === 0 ? Math.cos(angle) : Math.sin(angle));
  });
  return { points, labels };
}

const gpu = await openGpu();
const stream = Stream.seed(1); // every random number comes from a stream that is passed; none is global
const network = new Network(gpu, 32, stream.fold("weights"));
console.log("parameters", countParameters(network.parameters()));

const train = spirals(300, stream.fold("train"));
const x = tensor(gpu, train.points, [300, 2]);
const y = tensor(gpu, train.labels);

const optimiser = new AdamW(network.parameters(), { weightDecay: 0.01 });
const lr = linearSchedule({ lr: 0.02, warmupSteps: 10, totalSteps: STEPS });
for (let step = 0; step < STEPS; step++) {
  optimiser.zeroGrad();
  const loss = tidy(() => {
    const result = crossEntropy(network.forward(x), y);
    result.backward();
    return result;
  });
  clipGradNorm(optimiser.arena, 1).dispose(); // decided on the GPU; the norm is there to be read
  optimiser.step(lr(step));
  if (step % 50 === 0) console.log("step", step, "loss", (await loss.item()).toFixed(3));
  loss.dispose();
}

const test = spirals(150, stream.fold("test"));
const logits = noGrad(() => tidy(() => network.forward(tensor(gpu, test.points, [150, 2]))));
const scores = await logits.data();
let hits = 0;
for (let i = 0; i < test.labels.length; i++) {
  const row = scores.subarray(i * CLASSES, (i + 1) * CLASSES);
  if (row.indexOf(Math.max(...row)) === test.labels[i]) hits++;
}
console.log("accuracy on new points", (hits / test.labels.length).toFixed(2));

await gpu.device.close();

// Prints:
// parameters 1251
// step 0 loss 1.095
// step 50 loss 0.077
// step 100 loss 0.018
// step 150 loss 0.009
// accuracy on new points 0.99
