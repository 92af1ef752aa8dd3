/**
 * Finds a key that occurs twice in one object of a JSON text, at any depth; null when there is none.
 * `JSON.parse` keeps the last of two equal keys without a word. `json` must be valid JSON.
 */
export function findDuplicateKey(json: string): string | null {
  const open: (Set<string> | null)[] = []; // keys seen so far of each open object; null for an array
  let i = 0;
  while (i < json.length) {
    const char = json[i];
    if (char === '"') {
      const end = stringEnd(json, i);
      const seen = open.at(-1);
      if (seen && isKey(json, end)) {
        const key: string = JSON.parse(json.slice(i, end));
        if (seen.has(key)) return key;
        seen.add(key);
      }
      i = end;
      continue;
    }
    if (char === "{") open.push(new Set());
    else if (char === "[") open.push(null);
    else if (char === "}" || char === "]") open.pop();
    i++;
  }
  return null;
}

function stringEnd(json: string, quote: number): number {
  let i = quote + 1;
  while (i < json.length && json[i] !== '"') i += json[i] === "\\" ? 2 : 1;
  return i + 1;
}

function isKey(json: string, afterString: number): boolean {
  let i = afterString;
  while (json[i] === " " || json[i] === "\n" || json[i] === "\r" || json[i] === "\t") i++;
  return json[i] === ":";
}
