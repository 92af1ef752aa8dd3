import { type DType, type Gpu, GpuArray, isFloating, type Shape, showShape } from "../array/index.ts";
import { GpuError, ShapeError } from "../gpu/index.ts";
import { type AnyOp, checkTypes, resultType, runForward, type Saved } from "../ops/index.ts";
import { whatIs } from "./describe.ts";
import { needsOf } from "./needs.ts";
import { currentRecording, isTensor, type Source } from "./scope.ts";
import { type Node, OpNode, ownView } from "./tape.ts";

/** What an op leaves behind. */
export interface Outcome {
  readonly gpu: Gpu;
  /** A reference for the tensor that is made of it. */
  readonly output: GpuArray;
  readonly node: Node | null;
  /** Why no gradient flows back to the inputs, for errors; null where none had any. */
  readonly lostHistory: string | null;
}

/** Runs an op: every op of the engine passes here, so that this allocates little. */
export function runOp(op: AnyOp, inputs: readonly (Source | null)[], attrs: unknown): Outcome {
  const gpu = gpuOf(op.name, inputs);
  const given = inputs.map(arrayOf);
  checkTypes(op, given);
  const shape = shapeFor(op, given, attrs);
  const type = resultType(op, given, attrs);
  const hasGradient = op.backward !== undefined && isFloating(type);
  const recording = currentRecording();
  const needs = needsOf(inputs, hasGradient && recording === "graph" ? needsGradient : needsNothing);
  let saved: Saved | null = null;
  const output = gpu.scope(
    () => {
      for (const array of given) array?.assertAlive();
      const result = runForward(gpu, op, given, attrs, needs, shape);
      checkOutput(op, result.output, shape, type);
      if (needs.any) saved = retained(result.saved);
      else if (typeof recording === "object")
        recording.note({ op, inputs, saved: result.saved, hasGradient });
      return result.output;
    },
    (result) => [result],
    { op: op.name },
  );
  if (!saved) return { gpu, output, node: null, lostHistory: lossOf(op, inputs, type) };
  const targets = inputs.map((x, i) => (needs[i] && x ? x.edge : null));
  return {
    gpu,
    output,
    node: new OpNode(gpu, op, attrs, output, needs, targets, saved),
    lostHistory: null,
  };
}

const arrayOf = (x: Source | null): GpuArray | null => x?.array ?? null;
const shapeOf = (array: GpuArray | null): Shape | null => array?.shape ?? null;
const needsGradient = (x: Source | null): boolean => x !== null && x.edge !== null;
const needsNothing = (): boolean => false;

/** Why the output of an op that leaves no node has no history: the first reason, if there is one. */
function lossOf(op: AnyOp, inputs: readonly (Source | null)[], type: DType): string | null {
  for (const x of inputs) {
    if (x?.lostHistory) return x.lostHistory;
    if (!x?.edge) continue;
    if (!op.backward) return `"${op.name}", which the tensor was computed by, has no backward`;
    if (!isFloating(type)) return `"${op.name}" made ${type} of the tensor, which has no derivative`;
    return "the tensor was computed in noGrad(), which keeps no history";
  }
  return null;
}

/** The op's rule for shapes; one that stumbles over an input that is not there says so. */
function shapeFor(op: AnyOp, given: readonly (GpuArray | null)[], attrs: unknown): Shape {
  try {
    return op.shape(given.map(shapeOf), attrs);
  } catch (error) {
    const missing = given.indexOf(null);
    if (!(error instanceof TypeError) || missing < 0) throw error;
    throw new ShapeError(`${op.name}: input ${missing} is missing; pass a tensor`, { cause: error });
  }
}

function checkOutput(op: AnyOp, output: unknown, shape: Shape, type: DType): void {
  if (!(output instanceof GpuArray)) throw new GpuError(`${op.name}: forward returned no output`);
  if (output.hasShape(shape) && output.dtype === type) return;
  throw new ShapeError(
    `${op.name}: forward gave ${output.dtype} ${showShape(output.shape)}, and its rules say ${type} ${showShape(shape)}`,
  );
}

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
  for (let i = 0; i < inputs.length; i++) {
    const x = inputs[i] ?? null;
    if (x && !isTensor(x)) throw new ShapeError(`${op}: input ${i} is ${whatIs(x)}`);
    first ??= x;
    if (x && first && x.gpu !== first.gpu)
      throw new GpuError(`${op}: tensors of two devices; copy one with tensor(gpu, await x.data())`);
  }
  if (!first) throw new GpuError(`${op}: no tensors`);
  return first.gpu;
}
