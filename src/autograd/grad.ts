import { knownOptions, type OptionNames, showShape } from "../array/index.ts";
import { GpuError } from "../gpu/index.ts";
import { DERIVED, goBack, reachedFrom, rootOf } from "./pass.ts";
import type { Edge } from "./tape.ts";
import { Tensor } from "./tensor.ts";
import { BACKWARD, type BackwardOptions } from "./tensor-options.ts";

export interface GradOptions extends BackwardOptions {
  /** The gradient of `loss`, of its shape. Default: 1, for a loss of one element. */
  readonly gradient?: Tensor;
  /** Gives null for an input that the loss was not computed from, instead of throwing. Default: false. */
  readonly allowUnused?: boolean;
}
const GRAD: OptionNames<GradOptions> = { ...BACKWARD, gradient: true, allowUnused: true };

/**
 * Gradients of a scalar (or of Σ loss · gradient) with respect to chosen tensors, in their order, as new tensors of
 * their shapes. Inputs are leaves or results of ops. No tensor's `grad` changes, and ops that lead to none of the
 * inputs do not run. Frees what it has used of the graph, unless it is to be retained. First derivatives only: what
 * it returns has no history.
 *
 *     const h = linear(x, w);
 *     const loss = square(h).sum();
 *     const [dh, dw] = grad(loss, [h, w]); // w.grad is still null
 */
export function grad(
  loss: Tensor,
  inputs: readonly Tensor[],
  options?: GradOptions & { readonly allowUnused?: false },
): Tensor[];
export function grad(
  loss: Tensor,
  inputs: readonly Tensor[],
  options: GradOptions & { readonly allowUnused: boolean },
): (Tensor | null)[];
export function grad(loss: Tensor, inputs: readonly Tensor[], options: GradOptions = {}): (Tensor | null)[] {
  const { gradient, allowUnused = false, retainGraph = false } = knownOptions("grad", options, GRAD);
  const edges = inputs.map((x, i) => edgeOf(x, i, loss, allowUnused));
  const reached = reachedFrom(rootOf("grad", loss, gradient));
  edges.forEach((edge, i) => {
    if (edge && !reached.has(edge) && !allowUnused) throw unused(inputs[i] as Tensor, i);
  });
  const wanted = edges.filter((edge) => edge !== null && reached.has(edge)) as Edge[]; // no null is left
  const gradients = goBack("grad", loss, gradient, { wanted, retainGraph }, (pass) => pass.results(edges));
  const missing = gradients.findIndex((array, i) => !array && edges[i] !== null && !allowUnused);
  const results = gradients.map((array) => array && new Tensor(loss.gpu, array).withoutHistory(DERIVED));
  if (missing < 0) return results;
  for (const result of results) result?.dispose();
  throw unused(inputs[missing] as Tensor, missing);
}

function edgeOf(x: Tensor, i: number, loss: Tensor, allowUnused: boolean): Edge | null {
  const shape = showShape(x.shape);
  if (x.gpu !== loss.gpu) throw new GpuError(`grad: input ${i} ${shape} is of another device`);
  if (!x.array.alive) throw new GpuError(`grad: input ${i} ${shape} was freed; keep() it until then`);
  if (x.edge || allowUnused) return x.edge;
  throw new GpuError(
    x.lostHistory === DERIVED
      ? `grad: input ${i} ${shape} is a gradient, which has no history: only first derivatives exist`
      : `grad: input ${i} ${shape} requires no gradient; set requiresGrad before the forward pass`,
  );
}

function unused(x: Tensor, i: number): GpuError {
  return new GpuError(
    `grad: the loss was not computed from input ${i} ${showShape(x.shape)}; leave it out, or pass allowUnused: true for null`,
  );
}
