/** Known names that a wrong one may have meant: as a whole, or by its last part in whatever section. */
export function nearest(name: string, known: readonly string[]): string[] {
  const lastOf = (key: string) => key.slice(key.lastIndexOf(".") + 1).toLowerCase();
  const measured = known.map((key) => {
    const whole = distance(name.toLowerCase(), key.toLowerCase());
    return { key, d: Math.min(whole, distance(lastOf(name), lastOf(key)) + 0.5) };
  });
  const most = Math.max(1.5, lastOf(name).length / 2.5);
  return measured
    .filter(({ d }) => d <= most)
    .sort((a, b) => a.d - b.d)
    .slice(0, 3)
    .map(({ key }) => key);
}

/** Edits that turn one word into another (Levenshtein). */
function distance(a: string, b: string): number {
  let above = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (above[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(replaced, (above[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1));
    }
    above = row;
  }
  return above[b.length] ?? 0;
}
