import { type Gpu, GpuArray, isFloating, type Shape } from "../array/index.ts";
import { GpuError } from "../gpu/index.ts";
import { type AnyOp, checkTypes, resultType, runForward, type Saved } from "../ops/index.ts";
import { needsOf } from "./needs.ts";
import { currentRecording, type Source } from "./scope.ts";
import { type Node, OpNode, ownView } from "./tape.ts";

/** What an op leaves behind. */
export interface Outcome {
  readonly gpu: Gpu;
  /** A reference for the tensor that is made of it. */
  readonly output: GpuArray;
  readonly node: Node | null;
  /** Whether a gradient went in, and no history comes out. */
  readonly isDerived: boolean;
}

/** Runs an op: every op of the engine passes here, so that this allocates little. */
export function runOp(op: AnyOp, inputs: readonly (Source | null)[], attrs: unknown): Outcome {
  const gpu = gpuOf(op.name, inputs);
  const given = inputs.map(arrayOf);
  checkTypes(op, given);
  const shape = op.shape(given.map(shapeOf), attrs);
  const hasGradient = op.backward !== undefined && isFloating(resultType(op, given, attrs));
  const recording = currentRecording();
  const needs = needsOf(inputs, hasGradient && recording === "graph" ? needsGradient : needsNothing);
  let saved: Saved | null = null;
  const output = gpu.scope(
    () => {
      for (const array of given) array?.assertAlive();
      const result = runForward(gpu, op, given, attrs, needs, shape);
      if (needs.any) saved = retained(result.saved);
      else if (typeof recording === "object")
        recording.note({ op, inputs, saved: result.saved, hasGradient });
      return result.output;
    },
    (result) => [result],
    { op: op.name },
  );
  if (!saved) return { gpu, output, node: null, isDerived: inputs.some(isDerived) };
  const targets = inputs.map((x, i) => (needs[i] && x ? x.edge : null));
  return {
    gpu,
    output,
    node: new OpNode(gpu, op, attrs, output.dtype, needs, targets, saved),
    isDerived: false,
  };
}

const arrayOf = (x: Source | null): GpuArray | null => x?.array ?? null;
const shapeOf = (array: GpuArray | null): Shape | null => array?.shape ?? null;
const needsGradient = (x: Source | null): boolean => x !== null && x.edge !== null;
const needsNothing = (): boolean => false;
const isDerived = (x: Source | null): boolean => x?.isDerived ?? false;

/** Saved arrays get views of their own, which the tape frees. */
function retained(saved: Saved): Saved {
  const result: Record<string, unknown> = {};
  for (const name in saved) {
    const value = saved[name];
    result[name] = value instanceof GpuArray ? ownView(value) : value;
  }
  return result;
}

function gpuOf(op: string, inputs: readonly (Source | null)[]): Gpu {
  let first: Source | null = null;
  for (const x of inputs) {
    first ??= x;
    if (x && first && x.gpu !== first.gpu)
      throw new GpuError(`${op}: tensors of two devices; copy one with tensor(gpu, await x.data())`);
  }
  if (!first) throw new GpuError(`${op}: no tensors`);
  return first.gpu;
}
