// Tokens that no text has, in front of each text of a batch.
import { showShape } from "../array/index.ts";
import { add, concat, cumsum, expand, full, type Tensor } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";

/** Rows [P, C], the same for each text, or [B, P, C], in front of x [B, T, C] -> [B, P + T, C]. */
export function inFront(rows: Tensor, x: Tensor): Tensor {
  const [batch = 0, , channels = 0] = x.shape;
  const [last, P = 0] = [rows.shape.at(-1), rows.shape.at(-2)];
  if (last !== channels || (rows.shape.length === 3 && rows.shape[0] !== batch))
    throw new ShapeError(`inFront: rows ${showShape(rows.shape)} before ${showShape(x.shape)}`);
  return concat([expand(rows, [batch, P, channels]), x], 1);
}

/** A mask [B, T] with P tokens in front that are seen; null stays null: there is no padding. */
export function seenInFront(mask: Tensor | null, P: number): Tensor | null {
  return mask && concat([sameIn(mask, P, 1), mask], 1);
}

/** Positions [B, T] that move by P, with first, first + 1, ... for the P tokens in front. */
export function positionsInFront(positions: Tensor, P: number, first: number): Tensor {
  const counted = cumsum(sameIn(positions, P, 1), 1);
  return concat([add(counted, first - 1), add(positions, P)], 1);
}

/** P columns of one number, of the type of x [B, T] and with as many rows. */
export function sameIn(x: Tensor, P: number, value: number): Tensor {
  return full(x.gpu, [x.shape[0] as number, P], value, { dtype: x.dtype });
}
