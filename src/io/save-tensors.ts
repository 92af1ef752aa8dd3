import type { Parameter } from "../autograd/index.ts";
import {
  joinPath,
  listFolder,
  makeFolder,
  openPartial,
  removePath,
  renameFile,
  writeFileAtomic,
} from "../platform/index.ts";
import { FormatError } from "./format-error.ts";
import { DTYPE_BYTES, type SafetensorsDtype, safetensorsHeader } from "./safetensors.ts";

export interface SaveTensorsOptions {
  /** The largest file; a larger model becomes several, with an index. Default: 5 GB, as Python's. */
  readonly maxShardBytes?: number;
  readonly onProgress?: (progress: { readonly bytes: number; readonly totalBytes: number }) => void;
}

interface Entry {
  readonly name: string;
  readonly parameter: Parameter;
  readonly dtype: SafetensorsDtype;
  readonly bytes: number;
}

const PART_BYTES = 4 << 20;
const STORED: Readonly<Record<string, SafetensorsDtype>> = { f32: "F32", f16: "F16", bf16: "BF16" };

/**
 * Writes parameters, each in the type it is stored in, as model.safetensors, or as model-00001-of-0000N.safetensors
 * and so on with model.safetensors.index.json. They are read back and written in parts of a few megabytes. Each file
 * gets its name when it is whole; files of an earlier save under such names are removed at the end.
 */
export async function saveTensors(
  folder: string,
  parameters: Iterable<readonly [string, Parameter]>,
  { maxShardBytes = 5e9, onProgress }: SaveTensorsOptions = {},
): Promise<string[]> {
  const shards = shardsOf(entriesOf(parameters), maxShardBytes);
  const totalBytes = shards.flat().reduce((sum, { bytes }) => sum + bytes, 0);
  let bytes = 0;
  const onPart = (part: number): void => {
    bytes += part;
    onProgress?.({ bytes, totalBytes });
  };
  makeFolder(folder);
  const names: string[] = [];
  const map: Record<string, string> = {};
  const digits = (n: number): string => String(n).padStart(5, "0");
  for (const [i, shard] of shards.entries()) {
    const name =
      shards.length === 1
        ? "model.safetensors"
        : `model-${digits(i + 1)}-of-${digits(shards.length)}.safetensors`;
    await writeShard(joinPath(folder, name), shard, onPart);
    names.push(name);
    for (const entry of shard) map[entry.name] = name;
  }
  if (shards.length > 1) {
    const index = { metadata: { total_size: totalBytes }, weight_map: map };
    names.push("model.safetensors.index.json");
    writeFileAtomic(joinPath(folder, "model.safetensors.index.json"), `${JSON.stringify(index, null, 2)}\n`);
  }
  for (const name of listFolder(folder)) {
    const isOurs = /^model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?$/.test(name);
    if (isOurs && !names.includes(name)) removePath(joinPath(folder, name));
  }
  return names;
}

function entriesOf(parameters: Iterable<readonly [string, Parameter]>): Entry[] {
  return Array.from(parameters, ([name, parameter]) => {
    const dtype = STORED[parameter.dtype];
    if (!dtype) throw new FormatError(`save: ${name} is ${parameter.dtype}, not floating point`);
    return { name, parameter, dtype, bytes: parameter.size * DTYPE_BYTES[dtype] };
  });
}

/** In order, each shard as full as it may be; a tensor above the limit has one of its own. */
function shardsOf(entries: readonly Entry[], maxShardBytes: number): Entry[][] {
  if (!(maxShardBytes > 0))
    throw new FormatError(`save: maxShardBytes is ${maxShardBytes}, expected more than 0`);
  const shards: Entry[][] = [[]];
  let filled = 0;
  for (const entry of entries) {
    if (filled > 0 && filled + entry.bytes > maxShardBytes) {
      shards.push([]);
      filled = 0;
    }
    shards.at(-1)?.push(entry);
    filled += entry.bytes;
  }
  return shards;
}

async function writeShard(
  path: string,
  shard: readonly Entry[],
  onPart: (bytes: number) => void,
): Promise<void> {
  const beside = `${path}.partial`;
  const file = openPartial(beside);
  try {
    file.clear();
    file.append(
      safetensorsHeader(
        shard.map(({ name, dtype, parameter }) => [name, { dtype, shape: parameter.shape }]),
        { format: "pt" },
      ),
    );
    for (const entry of shard) {
      for await (const part of partsOf(entry)) {
        file.append(part);
        onPart(part.length);
      }
    }
    file.close();
    renameFile(beside, path);
  } catch (error) {
    file.close();
    removePath(beside);
    throw error;
  }
}

async function* partsOf({ parameter, dtype }: Entry): AsyncIterable<Uint8Array> {
  const { array, gpu } = parameter;
  const step = PART_BYTES / DTYPE_BYTES[dtype];
  for (let at = 0; at < array.size; at += step) {
    const shape = [Math.min(step, array.size - at)];
    const view = array.view(shape, array.offset + at);
    try {
      yield (await gpu.readBytes(view)).subarray(0, view.bytes);
    } finally {
      view.release();
    }
  }
}
