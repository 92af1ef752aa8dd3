// A graph of 3 to 12 ops for each seed.
import type { Gpu } from "../../src/array/index.ts";
import { isFloat, type Value } from "../ops-table/row.ts";
import { attributesOf, type Subject } from "../ops-table/subject.ts";
import { Builder, type Known, MOST_ELEMENTS } from "./builder.ts";
import { drawRow, isInside, rangesOf } from "./draw-row.ts";
import { DISTINCT, type Draw, type Drawn, draws } from "./draws.ts";
import type { Graph, Operand, Step } from "./graph.ts";

const FEWEST = 3;
const MOST = 12;
/** Draws in a row that may fit nothing. */
const PATIENCE = 400;

interface Choice {
  readonly subject: Subject;
  readonly draw: Draw;
  readonly rangeOf: ReturnType<typeof rangesOf>;
}

/** Makes graphs of ops and composed functions, each of which has a derivative. */
export function graphsOf(gpu: Gpu, subjects: Iterable<Subject>): (seed: number) => Graph {
  const choices: Choice[] = [];
  for (const subject of subjects) {
    choices.push({ subject, draw: draws[subject.name] ?? drawRow(gpu, subject), rangeOf: rangesOf(subject) });
  }
  return (seed) => generate(gpu, choices, seed);
}

function generate(gpu: Gpu, choices: readonly Choice[], seed: number): Graph {
  const b = new Builder(seed);
  const steps: Step[] = [];
  for (let i = 1 + b.integer(2); i >= 0; i--) b.leaf(b.shape());
  const wanted = FEWEST + b.integer(MOST - FEWEST + 1);
  for (let patience = PATIENCE; steps.length < wanted && patience > 0; patience--) {
    const { subject, draw, rangeOf } = b.pick(choices);
    const [leaves, known] = [b.leaves.length, b.known.length];
    const drawn = draw(b);
    const step = drawn && accept(gpu, subject, rangeOf, b, drawn);
    if (step) steps.push(step);
    else {
      // Leaves that were made for an op that does not fit.
      b.leaves.length = leaves;
      b.known.length = known;
    }
  }
  const used = new Set(steps.flatMap(({ inputs }) => inputs));
  return { seed, leaves: b.leaves.filter(({ id }) => used.has(id)), steps };
}

/** The drawn op as a step, where its inputs lie in its range and its result is tame. */
function accept(
  gpu: Gpu,
  { name, reference }: Subject,
  rangeOf: Choice["rangeOf"],
  b: Builder,
  { inputs, attrs = {} }: Drawn,
): Step | null {
  const values = inputs.map((x): Value => (x && "id" in x ? x.value : x));
  if (!values.every((x, i) => !x || !isFloat(x) || isInside(x, rangeOf(i)))) return null;
  if (DISTINCT.has(name) && values.some((x) => x && new Set(x.data).size < x.data.length)) return null;
  const value = reference(values, attributesOf(gpu, { attrs }), values);
  if (value.data.length === 0 || value.data.length > MOST_ELEMENTS || value.shape.length > 6) return null;
  if (!value.data.every((v) => Math.abs(v) < 1e4)) return null;
  const id = b.nextId();
  b.known.push({ id, value } satisfies Known);
  return { id, op: name, inputs: inputs.map((x): Operand => (x && "id" in x ? x.id : x)), attrs };
}
