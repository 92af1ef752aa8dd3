// A random graph of ops as data: what a seed gives, and what is left of it when a failure is made smaller.

import { type Case, normal } from "../ops-table/row.ts";
import type { RefIndices, RefTensor } from "../reference/index.ts";

export interface Leaf {
  readonly id: number;
  readonly value: RefTensor;
  readonly needsGradient: boolean;
}

/** A value by its number, whole numbers that are part of the graph, or an optional input that is absent. */
export type Operand = number | RefIndices | null;

export interface Step {
  readonly id: number;
  /** The name of a row. */
  readonly op: string;
  readonly inputs: readonly Operand[];
  readonly attrs: NonNullable<Case["attrs"]>;
}

export interface Graph {
  readonly seed: number;
  readonly leaves: readonly Leaf[];
  /** In an order in which they can be computed. */
  readonly steps: readonly Step[];
}

/** Values that no step uses: the graph's results. */
export function sinksOf({ steps }: Graph): number[] {
  const used = new Set(steps.flatMap(({ inputs }) => inputs));
  return steps.map(({ id }) => id).filter((id) => !used.has(id));
}

/** The graph with one loss: the sum of all results, each times a constant of its shape. Ids go on after the last. */
export function closed(graph: Graph, shapeOf: (id: number) => readonly number[]): Graph {
  const leaves = [...graph.leaves];
  const steps = [...graph.steps];
  let id = Math.max(-1, ...leaves.map((leaf) => leaf.id), ...steps.map((step) => step.id));
  const step = (op: string, inputs: readonly number[]): number => {
    steps.push({ id: ++id, op, inputs, attrs: {} });
    return id;
  };
  let loss: number | null = null;
  for (const sink of sinksOf(graph)) {
    leaves.push({ id: ++id, value: normal(shapeOf(sink), graph.seed + sink), needsGradient: false });
    const part = step("sum", [step("mul", [sink, id])]);
    loss = loss === null ? part : step("add", [loss, part]);
  }
  return { ...graph, leaves, steps };
}

/** One line for each value, with shapes: a failure to read. */
export function show(graph: Graph, shapeOf: (id: number) => readonly number[]): string {
  const value = (id: number): string => `v${id} [${shapeOf(id).join(", ")}]`;
  const operand = (input: Operand): string => {
    if (input === null) return "none";
    return typeof input === "number"
      ? value(input)
      : `i32 [${input.shape.join(", ")}] (${input.data.join(" ")})`;
  };
  const lines = graph.leaves.map(
    ({ id, needsGradient }) => `${value(id)} = leaf${needsGradient ? ", gradient" : ""}`,
  );
  for (const { id, op, inputs, attrs } of graph.steps) {
    const given = typeof attrs === "function" ? "{ of a device }" : JSON.stringify(attrs);
    lines.push(
      `${value(id)} = ${op} of ${inputs.map(operand).join(", ")}${given === "{}" ? "" : ` ${given}`}`,
    );
  }
  return lines.map((line) => `    ${line}`).join("\n");
}
