// A small network of blocks with dropout, and the ways of running it with checkpoints.
import * as ad from "../src/autograd/index.ts";
import {
  checkpoint,
  type DrawSource,
  drawOf,
  Parameter,
  Stream,
  type Tensor,
  tensor,
  tidy,
} from "../src/autograd/index.ts";
import { gpu as openTestGpu } from "./device.ts";
import { normal } from "./ops-table/row.ts";

const gpu = await openTestGpu();

export const C = 12;
export const clock = tensor(gpu, Uint32Array.of(7, 3));
const draw: DrawSource = { stream: Stream.seed(7), clock, examples: 6 };

/** Two linear layers with GELU and dropout between, added to their input and normalised. */
export class Block {
  readonly parameters: readonly Parameter[];
  readonly #layer: number;

  constructor(layer: number) {
    this.#layer = layer;
    const make = (shape: number[], seed: number, mean = 0): Parameter =>
      Parameter.from(
        gpu,
        Float32Array.from(normal(shape, 100 * layer + seed, { std: 0.3, mean }).data),
        shape,
      );
    this.parameters = [
      make([2 * C, C], 1),
      make([2 * C], 2),
      make([C, 2 * C], 3),
      make([C], 4, 1),
      make([C], 5),
    ];
  }

  forward(x: Tensor): Tensor {
    const [w1, b1, w2, gain, bias] = this.parameters as [
      Parameter,
      Parameter,
      Parameter,
      Parameter,
      Parameter,
    ];
    const inside = ad.gelu(ad.linear(x, w1, b1));
    const dropped = ad.dropout(inside, { p: 0.3, draw: drawOf(draw, "block", this.#layer) });
    return ad.layerNorm(ad.linear(dropped, w2).add(x), gain, bias);
  }
}

export const blocks = [0, 1, 2].map((layer) => new Block(layer));
export const parameters = blocks.flatMap((block) => block.parameters);

/** Blocks `from` up to `to`. */
const part = (x: Tensor, from: number, to = blocks.length): Tensor =>
  blocks.slice(from, to).reduce((h, block) => block.forward(h), x);

export const plainly = (x: Tensor): Tensor => part(x, 0);

export const ways: Readonly<Record<string, (x: Tensor) => Tensor>> = {
  "each block": (x) => blocks.reduce((h, block) => checkpoint((inner) => block.forward(inner), h), x),
  "all blocks as one": (x) => checkpoint(plainly, x),
  "one block of three": (x) =>
    part(
      checkpoint((h) => part(h, 1, 2), part(x, 0, 1)),
      2,
    ),
  "blocks inside of blocks": (x) =>
    checkpoint((h) => {
      const first = part(h, 0, 1);
      return checkpoint((inner) => checkpoint((last) => part(last, 2), part(inner, 1, 2)), first);
    }, x),
  "one inside of another, in a tidy": (x) =>
    tidy(() =>
      checkpoint(
        (h) =>
          part(
            checkpoint((inner) => part(inner, 0, 1), h),
            1,
          ),
        x,
      ),
    ),
};
