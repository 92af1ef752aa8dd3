export type Philox4 = readonly [number, number, number, number];

const MULTIPLIER_0 = 0xd2511f53n;
const MULTIPLIER_1 = 0xcd9e8d57n;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;

/** Philox4x32-10: four random u32 for a counter of four u32 and a key of two. Salmon et al. 2011, section 3.3. */
export function philox4x32(counter: Philox4, key: readonly [number, number]): Philox4 {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const product0 = MULTIPLIER_0 * BigInt(c0);
    const product1 = MULTIPLIER_1 * BigInt(c2);
    [c0, c1, c2, c3] = [
      (high(product1) ^ c1 ^ k0) >>> 0,
      low(product1),
      (high(product0) ^ c3 ^ k1) >>> 0,
      low(product0),
    ];
    k0 = (k0 + WEYL_0) >>> 0;
    k1 = (k1 + WEYL_1) >>> 0;
  }
  return [c0, c1, c2, c3];
}

const high = (product: bigint) => Number(product >> 32n);
const low = (product: bigint) => Number(product & 0xffffffffn);
