import { exists, fileInfo, readBytes } from "../platform/index.ts";

/** The text of a file, in UTF-8; `.gz` is unpacked. */
export async function readTextFile(path: string): Promise<string> {
  if (fileInfo(path)?.isFolder) throw new Error(`data: ${path} is a folder, expected a file`);
  const bytes = readBytes(path);
  return new TextDecoder().decode(path.endsWith(".gz") ? await unpacked(bytes, path) : bytes);
}

/** The first of these files that is there, each also with `.gz` behind its name. */
export function findFile(candidates: readonly string[]): string | null {
  const found = candidates.flatMap((path) => [path, `${path}.gz`]).find(exists);
  return found ?? null;
}

async function unpacked(bytes: Uint8Array<ArrayBuffer>, path: string): Promise<ArrayBuffer> {
  try {
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return await new Response(stream).arrayBuffer();
  } catch (cause) {
    throw new Error(`data: ${path} is no whole gzip file`, { cause });
  }
}
