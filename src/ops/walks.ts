/** A dimension of a shape, with the strides that two arrays have there. */
export interface Dimension {
  readonly size: number;
  readonly source: number;
  readonly target: number;
}

/** Two arrays walked through together, in any order. Offsets and strides count units: elements, or several of them. */
export interface Walks {
  /** Those close together in the target first. */
  readonly dimensions: readonly Dimension[];
  readonly source: number;
  readonly target: number;
}

/** How a kernel walks: unit by unit; in units of four; in blocks of four by four, turned over. */
export interface Steps extends Walks {
  readonly by: "ones" | "fours" | "blocks";
}

/** One walk's offset and strides. */
interface Place {
  readonly offset: number;
  readonly strides: readonly number[];
}

/** The dimensions of `shape`, as few as the strides allow: those that follow one another in both arrays are one. */
export function walksOf(shape: readonly number[], source: Place, target: Place): Walks {
  const dimensions: Dimension[] = [];
  for (const next of sorted(shape, source.strides, target.strides)) {
    const last = dimensions.at(-1);
    if (last && next.source === last.size * last.source && next.target === last.size * last.target)
      dimensions[dimensions.length - 1] = {
        size: last.size * next.size,
        source: last.source,
        target: last.target,
      };
    else dimensions.push(next);
  }
  return { dimensions, source: source.offset, target: target.offset };
}

/** Dimensions of more than one element: nearly always the last one comes first, so they are put in from there. */
function sorted(shape: readonly number[], source: readonly number[], target: readonly number[]): Dimension[] {
  const found: Dimension[] = [];
  for (let i = shape.length - 1; i >= 0; i--) {
    const next = { size: shape[i] as number, source: source[i] as number, target: target[i] as number };
    if (next.size === 1) continue;
    let at = found.length;
    while (at > 0 && isCloser(next, found[at - 1] as Dimension)) at--;
    found.splice(at, 0, next);
  }
  return found;
}

function isCloser(a: Dimension, b: Dimension): boolean {
  const further = Math.abs(a.target) - Math.abs(b.target);
  return further === 0 ? Math.abs(a.source) < Math.abs(b.source) : further < 0;
}

/** The same in units of `n` elements; null where they do not lie together in both arrays. */
export function inUnitsOf(n: number, { dimensions, source, target }: Walks): Walks | null {
  const [first] = dimensions;
  if (first?.source !== 1 || first.target !== 1) return null;
  if (first.size % n !== 0 || source % n !== 0 || target % n !== 0) return null;
  const units: Dimension[] = [{ size: first.size / n, source: 1, target: 1 }];
  for (let i = 1; i < dimensions.length; i++) {
    const d = dimensions[i] as Dimension;
    if (d.source % n !== 0 || d.target % n !== 0) return null;
    units.push({ size: d.size, source: d.source / n, target: d.target / n });
  }
  return { dimensions: units, source: source / n, target: target / n };
}

/** The quickest way that the strides allow. */
export function stepsOf(walks: Walks): Steps {
  const fours = inUnitsOf(4, walks);
  if (fours) return spread("fours", fours);
  return inBlocks(walks) ?? spread("ones", walks);
}

/** Columns lie together in the target, rows in the source, four of each to a block. */
function inBlocks({ dimensions, source, target }: Walks): Steps | null {
  const [columns] = dimensions;
  const rows = dimensions.find((d) => d !== columns && d.source === 1);
  if (columns?.target !== 1 || !rows) return null;
  const others = dimensions.filter((d) => d !== columns && d !== rows);
  const counts = [columns.size, columns.source, rows.size, rows.target, source, target];
  counts.push(...others.flatMap((d) => [d.source, d.target]));
  if (!counts.every((count) => count % 4 === 0)) return null;
  const turned = [
    { size: columns.size / 4, source: columns.source / 4, target: 1 },
    { size: rows.size / 4, source: 1, target: rows.target / 4 },
    ...others.map((d) => ({ ...d, source: d.source / 4, target: d.target / 4 })),
  ];
  return { by: "blocks", dimensions: turned, source: source / 4, target: target / 4 };
}

/** Columns enough for the lanes of a workgroup, and some rows, where it can be had. */
function spread(by: Steps["by"], { dimensions, source, target }: Walks): Steps {
  const [first, second, ...others] = dimensions;
  if (first && !second && first.size % 4 === 0) {
    const columns = { size: first.size / 4, source: first.source, target: first.target };
    const rows = { size: 4, source: columns.size * first.source, target: columns.size * first.target };
    return { by, dimensions: [columns, rows], source, target };
  }
  const isNarrow = first && second && first.size < 8 && second.size > first.size;
  return { by, dimensions: isNarrow ? [second, first, ...others] : dimensions, source, target };
}
