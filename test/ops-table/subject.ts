// What a row is about, as the checks see it: an op, or a public function that is composed of ops.
import type { Gpu } from "../../src/array/index.ts";
import { apply, noGrad, type Tensor, tidy } from "../../src/autograd/index.ts";
import { ShapeError } from "../../src/gpu/index.ts";
import type { AnyOp } from "../../src/ops/index.ts";
import { plainTensor } from "./evaluate.ts";
import type { Attributes, Call, Case, ComposedRow, Expectations, Row, Value } from "./row.ts";

export interface Subject extends Expectations {
  readonly name: string;
  readonly op: AnyOp | null;
  readonly run: Call;
  readonly casts?: true;
}

export function subjectOf(row: Row | ComposedRow): Subject {
  if (!("op" in row)) return { ...row, op: null, run: row.call };
  const op = watched(row.op);
  return { ...row, name: op.name, op, run: (tensors, attrs) => apply(op, tensors, attrs) };
}

/** The op, checked to compute no gradient that nobody asked for. */
function watched(op: AnyOp): AnyOp {
  const { backward } = op;
  if (!backward) return op;
  return {
    ...op,
    backward(gpu, dy, saved, attrs, needs) {
      const gradients = backward.call(op, gpu, dy, saved, attrs, needs);
      gradients.forEach((gradient, i) => {
        if (gradient && !needs[i]) throw new Error(`${op.name}: a gradient for input ${i}, which needs none`);
      });
      return gradients;
    },
  };
}

/** The attributes of a case: some hold arrays of the device (the clock of dropout). */
export function attributesOf(device: Gpu, { attrs = {} }: Pick<Case, "attrs">): Attributes {
  return (typeof attrs === "function" ? attrs(device) : attrs) as Attributes; // an object's fields by name
}

/** Whether the subject takes these inputs. A refusal is a ShapeError that names the op; anything else is thrown. */
export function takes(
  device: Gpu,
  { name, op, run }: Subject,
  inputs: readonly Value[],
  attrs: Attributes,
): boolean {
  try {
    if (op)
      op.shape(
        inputs.map((x) => x?.shape ?? null),
        attrs,
      );
    else
      noGrad(() =>
        tidy(
          () =>
            void run(
              inputs.map((x): Tensor | null => x && plainTensor(device, x)),
              attrs,
            ),
        ),
      );
    return true;
  } catch (error) {
    if (!(error instanceof ShapeError)) throw error;
    if (op && !error.message.startsWith(`${name}: `))
      throw new Error(`${name} refuses without its name: ${error.message}`);
    return false;
  }
}
