import { showShape } from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import * as ops from "../ops/index.ts";
import { eye } from "./create.ts";
import { noGrad, tidy } from "./scope.ts";
import { where } from "./selection.ts";
import { apply, type Tensor } from "./tensor.ts";

/** The triangles of matrices [..., rows, columns], with zeros in the place of the other. */

/** x where column - row <= `diagonal`, else 0: on and below a diagonal, which lies above the main one where positive. */
export function tril(x: Tensor, diagonal = 0): Tensor {
  return tidy(() => where(lowerTriangle("tril", x, diagonal), x, 0));
}

/** x where column - row >= `diagonal`, else 0: on and above a diagonal. */
export function triu(x: Tensor, diagonal = 0): Tensor {
  return tidy(() => where(lowerTriangle("triu", x, diagonal, 1), 0, x));
}

/** bool [rows, columns]: whether column - row <= diagonal - less. Made on the device, so that a captured step makes it too. */
function lowerTriangle(op: string, { gpu, shape }: Tensor, diagonal: number, less = 0): Tensor {
  if (shape.length < 2) throw new ShapeError(`${op}: ${showShape(shape)} is no matrix`);
  if (!Number.isInteger(diagonal)) throw new ShapeError(`${op}: diagonal ${diagonal} is no whole number`);
  const [rows, columns] = shape.slice(-2) as [number, number];
  const above = Math.min(Math.max(diagonal - less, 0), columns);
  const below = Math.min(Math.max(less - diagonal, 0), rows);
  return noGrad(() => {
    const n = Math.max(rows + above, columns + below);
    // Running sums down the columns of a unit matrix are 1 on and below its diagonal; the window moves along it.
    const lower = apply(ops.cumsum, [eye(gpu, n)], { axis: 0 });
    return lower
      .slice(0, above, above + rows)
      .slice(1, below, below + columns)
      .to("bool");
  });
}
