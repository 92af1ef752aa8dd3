import type { Parameter, Stream } from "../autograd/index.ts";
import { Embedding, Linear } from "./layers.ts";
import { type Module, partsOf } from "./module.ts";

/** Draws N(mean 0, std) into a parameter. */
export function initNormal(parameter: Parameter, stream: Stream, std: number): void {
  parameter.write(stream.normal(parameter.size, 0, std));
}

/** Draws U(-bound, bound) into a parameter. */
export function initUniform(parameter: Parameter, stream: Stream, bound: number): void {
  parameter.write(stream.uniform(parameter.size, -bound, bound));
}

/**
 * The initialisation of BERT's family: every Linear and Embedding weight N(0, std), biases 0, LayerNorms as
 * they are. Each parameter draws from a stream of its own name, so that order does not matter.
 */
export function initBertWeights(module: Module, stream: Stream, std = 0.02): void {
  for (const [path, part] of partsOf(module)) {
    if (part instanceof Linear || part instanceof Embedding)
      initNormal(part.weight, stream.fold(path === "" ? "" : `.${path}`), std);
  }
}
