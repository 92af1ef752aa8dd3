import type { Gpu, GpuArray } from "../array/index.ts";
import type { AnyOp, Saved } from "../ops/index.ts";
import type { Edge } from "./tape.ts";

/** Marks tensors, so that this file need not know their class. */
export const TENSOR = Symbol("tensor");

/** What tidy() knows of a tensor. */
export interface Tracked {
  readonly [TENSOR]: true;
  dispose(): void;
}

/** Tensors made inside a tidy(), and the tidy() around it. */
interface Scope {
  readonly made: Set<Tracked>;
  readonly outer: Scope | null;
}

/** The innermost tidy(), or null outside of any. */
let current: Scope | null = null;

/** A tensor as ops and the tape see it. */
export interface Source {
  readonly gpu: Gpu;
  readonly array: GpuArray;
  /** What its gradient flows to; null: it needs none. */
  readonly edge: Edge | null;
  /** Why no gradient flows on from it, for errors; null where nothing was lost. */
  readonly lostHistory: string | null;
}

/** An op that has run without leaving a node. */
export interface OpNote {
  readonly op: AnyOp;
  readonly inputs: readonly (Source | null)[];
  readonly saved: Saved;
  /** Whether it would have left one, had an input needed a gradient. */
  readonly hasGradient: boolean;
}

/** Is told of each op that runs, where no graph is kept. */
export interface Observer {
  note(run: OpNote): void;
}

/** What ops leave behind: nodes of a graph, nothing, or a note with an observer. */
export type Recording = "graph" | "nothing" | Observer;

let recording: Recording = "graph";

/** What ops leave behind just now. */
export function currentRecording(): Recording {
  return recording;
}

/** Whether ops are recorded for backward just now. */
export function isRecording(): boolean {
  return recording === "graph";
}

/** Runs `fn` with ops leaving behind what is said. */
export function withRecording<T>(name: string, mode: Recording, fn: () => T): T {
  const outer = recording;
  recording = mode;
  try {
    return synchronous(name, fn());
  } finally {
    recording = outer;
  }
}

/** Runs `fn` without recording anything for backward. */
export function noGrad<T>(fn: () => T): T {
  return withRecording("noGrad", "nothing", fn);
}

/**
 * Runs `fn`, then frees every tensor made in it, but for those in what it returns (a tensor, or an array or
 * record of them). Parameters and gradients live on. What backward needs lives until backward.
 */
export function tidy<T>(fn: () => T): T {
  const outer = current;
  const made = new Set<Tracked>();
  current = { made, outer };
  try {
    const result = synchronous("tidy", fn());
    for (const kept of tensorsIn(result)) {
      if (made.delete(kept)) outer?.made.add(kept);
    }
    return result;
  } finally {
    current = outer;
    for (const tensor of made) tensor.dispose();
  }
}

/** Takes a tensor out of every tidy() around it: it lives until it is disposed. */
export function keep<T extends Tracked>(tensor: T): T {
  untrack(tensor);
  return tensor;
}

/** Enters a new tensor into the innermost tidy(). */
export function track(tensor: Tracked): void {
  current?.made.add(tensor);
}

/** Takes a tensor out of the tidy() that it was made in, however many have begun since. */
export function untrack(tensor: Tracked): void {
  for (let scope = current; scope; scope = scope.outer) if (scope.made.delete(tensor)) return;
}

/** Refuses what a promise hides from the scope that is about to end. */
export function synchronous<T>(name: string, result: T): T {
  if (result instanceof Promise)
    throw new TypeError(`${name}: takes a synchronous function; read results after it`);
  return result;
}

function* tensorsIn(value: unknown): Iterable<Tracked> {
  if (typeof value !== "object" || value === null) return;
  if (isTensor(value)) yield value;
  else if (Array.isArray(value)) for (const item of value) yield* tensorsIn(item);
  else if (Object.getPrototypeOf(value) === Object.prototype)
    for (const item of Object.values(value)) yield* tensorsIn(item);
  else checkHoldsNone(value);
}

/** Tensors in a Map, a Set or an object of a class would be freed with the others, and fail where they are used. */
function checkHoldsNone(value: object): void {
  const inside =
    value instanceof Map || value instanceof Set
      ? [...value.values()]
      : ArrayBuffer.isView(value)
        ? []
        : Object.values(value);
  if (!current || !inside.some((item) => isTensor(item) && current?.made.has(item))) return;
  throw new TypeError(
    `tidy: returns tensors in a ${value.constructor.name}, which would be freed; return tensors, and records and arrays of them`,
  );
}

export function isTensor(value: unknown): value is Tracked {
  return typeof value === "object" && value !== null && TENSOR in value;
}
