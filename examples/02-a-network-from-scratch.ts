// A network from scratch: layers, loss and optimiser written with tensor operations; then the same with nn and AdamW.
//
//     npm run build && node --import tsx examples/02-a-network-from-scratch.ts
import { type Gpu, keep, mse, noGrad, openGpu, Stream, type Tensor, tanh, tensor, tidy } from "adamix";
import { initUniform, Linear, Module } from "adamix/nn";
import { AdamW } from "adamix/optim";

const gpu = await openGpu();
const stream = Stream.seed(1); // every random number comes from a stream that is passed

// The task: y = sin 3x on 64 points of -1..1.
const points = stream.fold("points").uniform(64, -1, 1);
const x = tensor(gpu, points, [64, 1]);
const target = tensor(
  gpu,
  points.map((value) => Math.sin(3 * value)),
  [64, 1],
);

// --- by hand

/** Weights and biases of layers of the given widths: U(-1/√in, 1/√in), each a tensor that asks for a gradient. */
function layers(widths: readonly number[]): Tensor[] {
  return widths.slice(1).flatMap((outputs, i) => {
    const inputs = widths[i] as number;
    const bound = 1 / Math.sqrt(inputs);
    const weight = tensor(gpu, stream.fold(`weight ${i}`).uniform(inputs * outputs, -bound, bound), [
      inputs,
      outputs,
    ]);
    const bias = tensor(gpu, stream.fold(`bias ${i}`).uniform(outputs, -bound, bound));
    for (const parameter of [weight, bias]) parameter.requiresGrad = true;
    return [weight, bias];
  });
}

/** tanh(x W + b), layer by layer; the last one without tanh. */
function network(input: Tensor, parameters: readonly Tensor[]): Tensor {
  let hidden = input;
  for (let i = 0; i < parameters.length; i += 2) {
    const sum = hidden.matmul(parameters[i] as Tensor).add(parameters[i + 1] as Tensor);
    hidden = i + 2 < parameters.length ? tanh(sum) : sum;
  }
  return hidden;
}

/** Stochastic gradient descent with momentum: v ← m v + g, p ← p - lr v. Makes new tensors and frees the old ones. */
class Sgd {
  parameters: Tensor[];
  #velocities: (Tensor | null)[];
  readonly #lr: number;
  readonly #momentum: number;

  constructor(parameters: readonly Tensor[], { lr, momentum }: { lr: number; momentum: number }) {
    this.parameters = [...parameters];
    this.#velocities = parameters.map(() => null);
    this.#lr = lr;
    this.#momentum = momentum;
  }

  step(): void {
    this.parameters = this.parameters.map((parameter, i) => {
      const { grad } = parameter;
      if (!grad) return parameter;
      const old = this.#velocities[i];
      // Nothing of this is recorded for backward, and what is in between is freed.
      const [next, velocity] = noGrad(() =>
        tidy((): [Tensor, Tensor] => {
          const v = old ? old.mul(this.#momentum).add(grad) : grad.add(0);
          return [parameter.sub(v.mul(this.#lr)), v];
        }),
      );
      for (const used of [parameter, old]) used?.dispose(); // and with the parameter its gradient
      this.#velocities[i] = keep(velocity);
      next.requiresGrad = true;
      return keep(next);
    });
  }
}

const byHand = new Sgd(layers([1, 32, 32, 1]), { lr: 0.05, momentum: 0.9 });
for (let step = 0; step <= 300; step++) {
  const loss = tidy(() => {
    const result = mse(network(x, byHand.parameters), target);
    result.backward(); // into .grad of each parameter
    return result;
  });
  byHand.step();
  if (step % 100 === 0) console.log("by hand, step", step, "loss", (await loss.item()).toFixed(4));
  loss.dispose();
}

// --- with modules and AdamW

class Network extends Module {
  readonly first: Linear;
  readonly second: Linear;
  readonly last: Linear;

  constructor(gpu: Gpu, width: number, stream: Stream) {
    super();
    this.first = new Linear(gpu, 1, width);
    this.second = new Linear(gpu, width, width);
    this.last = new Linear(gpu, width, 1);
    for (const [name, parameter] of this.namedParameters())
      initUniform(parameter, stream.fold(name), name.startsWith("first") ? 1 : 1 / Math.sqrt(width));
  }

  forward(input: Tensor): Tensor {
    return this.last.forward(tanh(this.second.forward(tanh(this.first.forward(input)))));
  }
}

const model = new Network(gpu, 32, stream.fold("model"));
const optimiser = new AdamW(model.parameters()); // updates all parameters in place, in two dispatches
for (let step = 0; step <= 300; step++) {
  optimiser.zeroGrad();
  const loss = tidy(() => {
    const result = mse(model.forward(x), target);
    result.backward();
    return result;
  });
  optimiser.step(0.01);
  if (step % 100 === 0) console.log("with modules, step", step, "loss", (await loss.item()).toFixed(4));
  loss.dispose();
}

const [y] = await noGrad(() => tidy(() => model.forward(tensor(gpu, [0.5], [1, 1])))).data();
console.log("at 0.5:", y?.toFixed(2), "expected", Math.sin(1.5).toFixed(2));

await gpu.device.close();

// Prints:
// by hand, step 0 loss 0.5514
// by hand, step 100 loss 0.0129
// by hand, step 200 loss 0.0039
// by hand, step 300 loss 0.0009
// with modules, step 0 loss 0.9632
// with modules, step 100 loss 0.0126
// with modules, step 200 loss 0.0008
// with modules, step 300 loss 0.0001
// at 0.5: 0.99 expected 1.00
