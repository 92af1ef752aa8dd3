import type { GpuArray } from "../array/index.ts";
import { keep, noGrad, type Parameter, Tensor, tidy } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import type { LinearSite } from "../nn/index.ts";
import { copyInto, copyOf } from "../ops/index.ts";
import type { AdaptationSet } from "./adaptation-set.ts";

/** A base that does by itself what a set did. */
export interface FoldedBase {
  /** Puts the base's bytes back as they were, and the set where it was. Once. */
  unfold(): void;
}

/**
 * Changes the base's weights so that they do what a set does, W' = W + (alpha / r) B A for LoRA, and detaches the set:
 * nothing is left to compute beside the base. What was there is kept on the device, for `unfold`. Refuses methods that
 * are no change of weights, mixtures that are not merged, a base in 16 bits, and sites where another set is attached.
 *
 *     const folded = foldIntoBase(set);
 *     ...
 *     folded.unfold();
 */
export function foldIntoBase(set: AdaptationSet): FoldedBase {
  const { fold } = set.method;
  if (typeof fold !== "function")
    throw new ShapeError(`foldIntoBase: method ${set.method.name}: ${fold ?? "it does not say how"}`);
  if (set.learned)
    throw new ShapeError(
      `foldIntoBase: the router of set "${set.name}" weighs experts for every token, which no weights do`,
    );
  if (set.isMixture)
    throw new ShapeError(
      `foldIntoBase: set "${set.name}" has experts to choose from; merge them first, with mergeExperts`,
    );
  const parts = set.parts.map(({ site, module }) => ({ site: foldable(site, set.name), module }));
  const before = new Map<Parameter, Tensor>();
  for (const { site } of parts)
    for (const parameter of [site.linear.weight, site.linear.bias])
      if (parameter && !before.has(parameter)) before.set(parameter, copied(parameter));
  noGrad(() => {
    for (const { site, module } of parts) {
      tidy(() => {
        const { gpu } = site.linear.weight;
        const places = placesOf(site);
        const bias = places.bias && new Tensor(gpu, places.bias);
        const folded = fold({ weight: new Tensor(gpu, places.weight), bias }, site, module);
        write(places.weight, folded.weight);
        if (places.bias && folded.bias && folded.bias !== bias) write(places.bias, folded.bias);
      });
    }
  });
  const wasAttached = set.isAttached;
  set.detach();
  return {
    unfold() {
      for (const [parameter, values] of before) {
        parameter.setTo(values);
        values.dispose();
      }
      if (before.size > 0 && wasAttached) set.attach();
      before.clear();
    },
  };
}

/** Refuses sites whose weights cannot be changed exactly. */
function foldable(site: AdaptationSet["parts"][number]["site"], set: string): LinearSite {
  if (site.kind !== "linear") throw new ShapeError(`foldIntoBase: "${site.name}" is no linear layer`);
  const { dtype } = site.linear.weight;
  if (dtype !== "f32")
    throw new ShapeError(
      `foldIntoBase: the weight of "${site.name}" is ${dtype}, which would round the change away; load the base as f32`,
    );
  const others = site.attached.filter((name) => name !== set);
  if (others.length > 0)
    throw new ShapeError(
      `foldIntoBase: "${site.name}" has "${others.join('", "')}" attached beside "${set}"; detach or fold that first`,
    );
  return site;
}

function copied(parameter: Parameter): Tensor {
  const { gpu } = parameter;
  const copy = gpu.scope(
    () => copyOf(gpu, parameter.array),
    (made) => [made],
  );
  return keep(new Tensor(gpu, copy));
}

/** The site's own weight as [out, in] and its bias: views of the layer's, whichever way they are stored. */
function placesOf({ linear, inputs, outputs, start }: LinearSite): {
  readonly weight: GpuArray;
  readonly bias: GpuArray | null;
} {
  const { gpu, array } = linear.weight;
  const columns = linear.weight.shape[1] as number;
  const [first, strides] = linear.isTransposed ? [start, [1, columns]] : [start * inputs, [inputs, 1]];
  return {
    weight: gpu.view(array, [outputs, inputs], array.offset + first, strides),
    bias: linear.bias && gpu.view(linear.bias.array, [outputs], linear.bias.array.offset + start, [1]),
  };
}

function write(place: GpuArray, { gpu, array }: Tensor): void {
  gpu.scope(
    () => copyInto(gpu, array, place),
    () => [],
  );
}
