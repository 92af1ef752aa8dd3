/**
 * Rows that a chunk holds a multiple of. So many rows of one element of two bytes are 256 bytes: wherever a chunk
 * ends, every other array with as many rows can be bound from that row on, however short its rows are.
 */
const CHUNK_ROWS = 128;

/**
 * Bytes of a chunk of an array whose rows are `rowBytes` long, for bindings of up to `largest` bytes: as many groups
 * of 128 rows as fit; else as many rows as start at multiples of `alignment`; else whole alignments, and a row may
 * cross chunks.
 */
export function chunkBytesFor(rowBytes: number, largest: number, alignment: number): number {
  const aligned = (rowBytes * alignment) / greatestCommonDivisor(rowBytes, alignment);
  const group = Math.ceil((CHUNK_ROWS * rowBytes) / aligned) * aligned;
  const unit = [group, aligned].find((bytes) => bytes > 0 && bytes <= largest) ?? alignment;
  return Math.floor(largest / unit) * unit;
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? Math.max(a, 1) : greatestCommonDivisor(b, a % b);
}
