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
  const given: Dimension[] = [];
  shape.forEach((size, i) => {
    const [from, to] = [source.strides[i] as number, target.strides[i] as number];
    if (size !== 1) given.push({ size, source: from, target: to });
  });
  given.sort((a, b) => Math.abs(a.target) - Math.abs(b.target) || Math.abs(a.source) - Math.abs(b.source));
  const dimensions: Dimension[] = [];
  for (const next of given) {
    const last = dimensions.at(-1);
    if (last && next.source === last.size * last.source && next.target === last.size * last.target)
      dimensions[dimensions.length - 1] = { ...last, size: last.size * next.size };
    else dimensions.push(next);
  }
  return { dimensions, source: source.offset, target: target.offset };
}

/** The same in units of `n` elements; null where they do not lie together in both arrays. */
export function inUnitsOf(n: number, { dimensions, source, target }: Walks): Walks | null {
  const [first, ...others] = dimensions;
  if (first?.source !== 1 || first.target !== 1) return null;
  const counts = [first.size, source, target, ...others.flatMap((d) => [d.source, d.target])];
  if (!counts.every((count) => count % n === 0)) return null;
  const rest = others.map((d) => ({ ...d, source: d.source / n, target: d.target / n }));
  const units = { ...first, size: first.size / n };
  return { dimensions: [units, ...rest], source: source / n, target: target / n };
}

/** The quickest way that the strides allow. */
export function stepsOf(walks: Walks): Steps {
  const fours = inUnitsOf(4, walks);
  if (fours) return { by: "fours", ...spread(fours) };
  return inBlocks(walks) ?? { by: "ones", ...spread(walks) };
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
function spread(walks: Walks): Walks {
  const [first, second, ...others] = walks.dimensions;
  if (!first) return walks;
  if (second) {
    const isNarrow = first.size < 8 && second.size > first.size;
    return isNarrow ? { ...walks, dimensions: [second, first, ...others] } : walks;
  }
  if (first.size % 4 !== 0) return walks;
  const columns = first.size / 4;
  const rows = { size: 4, source: columns * first.source, target: columns * first.target };
  return { ...walks, dimensions: [{ ...first, size: columns }, rows] };
}
