/** How one array is walked: the element at index i of a shape lies at offset + Σ i·strides of its storage. */
export interface Walk {
  readonly offset: number;
  readonly strides: readonly number[];
  /** Elements of a chunk of its storage. */
  readonly chunkLength: number;
}

/** A part of a shape, and where each array's walk through it begins. */
export interface Box {
  readonly shape: readonly number[];
  readonly offsets: readonly number[];
}

/**
 * Parts of `shape`, in which every walk stays in one chunk: the shape is cut where a walk leaves its chunk, along
 * the dimension of its longest stride. Each element is in exactly one part.
 */
export function* boxesOf(shape: readonly number[], walks: readonly Walk[]): Iterable<Box> {
  const open: Box[] = [{ shape, offsets: walks.map(({ offset }) => offset) }];
  for (let box = open.pop(); box; box = open.pop()) {
    const cut = cutOf(box, walks);
    if (!cut) {
      yield box;
      continue;
    }
    const { axis, at } = cut;
    const resized = (n: number): number[] => box.shape.map((old, i) => (i === axis ? n : old));
    const moved = box.offsets.map((offset, i) => offset + at * (walks[i]?.strides[axis] ?? 0));
    open.push({ shape: resized((box.shape[axis] as number) - at), offsets: moved });
    open.push({ shape: resized(at), offsets: box.offsets });
  }
}

/** Where a box is cut in two, or null where every walk stays in one chunk. */
function cutOf({ shape, offsets }: Box, walks: readonly Walk[]): { axis: number; at: number } | null {
  for (const [i, { strides, chunkLength }] of walks.entries()) {
    const offset = offsets[i] as number;
    const { low, high, axis } = spanOf(shape, strides);
    if (Math.floor((offset + low) / chunkLength) === Math.floor((offset + high) / chunkLength)) continue;
    const n = shape[axis] as number;
    const stride = strides[axis] as number;
    // The first index along the axis whose elements are not all on the same side of the border as index 0's.
    const own = Math.abs(stride) * (n - 1);
    const first = stride > 0 ? offset + low : offset + high;
    const rest = high - low - own;
    const border =
      stride > 0 ? nextChunk(first, chunkLength) - 1 - first : first - chunkStart(first, chunkLength);
    const whole = Math.floor((border - rest) / Math.abs(stride)) + 1;
    return { axis, at: Math.min(Math.max(whole, 1), n - 1) };
  }
  return null;
}

/** Lowest and highest element that a walk reaches, from its offset, and the dimension of its longest stride. */
export function spanOf(
  shape: readonly number[],
  strides: readonly number[],
): { low: number; high: number; axis: number } {
  let low = 0;
  let high = 0;
  let axis = -1;
  for (const [i, n] of shape.entries()) {
    const stride = strides[i] as number;
    if (n < 2 || stride === 0) continue;
    if (stride > 0) high += (n - 1) * stride;
    else low += (n - 1) * stride;
    if (axis < 0 || Math.abs(stride) > Math.abs(strides[axis] as number)) axis = i;
  }
  return { low, high, axis };
}

function chunkStart(element: number, chunkLength: number): number {
  return Math.floor(element / chunkLength) * chunkLength;
}

function nextChunk(element: number, chunkLength: number): number {
  return chunkStart(element, chunkLength) + chunkLength;
}
