import { absolutePath, exists, joinPath } from "../platform/index.ts";
import { type AdapterFormatName, exportAdapter } from "../train/index.ts";
import { UsageError } from "./failure.ts";
import { grouped, print } from "./report.ts";
import { findAdapter } from "./trained.ts";

export interface ExportCommand {
  readonly path: string;
  readonly format: AdapterFormatName;
  readonly out: string;
  readonly name: string;
  readonly head: boolean;
  readonly merge: boolean;
  readonly base: string | undefined;
  readonly force: boolean;
}

/** Writes an adapter in another tool's layout and prints what was written. */
export function exportCommand({ path, out, force, base, ...options }: ExportCommand): void {
  const target = outFolder(out, force);
  const folder = findAdapter(absolutePath(path), "merged");
  const files = exportAdapter(folder, target, {
    ...options,
    ...(base !== undefined && { base: absolutePath(base) }),
  });
  print(`from: ${folder}`);
  for (const { name, bytes } of files) print(`wrote: ${joinPath(target, name)} (${grouped(bytes)} bytes)`);
}

/** The folder to write; one that is there already is only replaced on request. */
export function outFolder(out: string, force: boolean): string {
  const target = absolutePath(out);
  if (force || !exists(target)) return target;
  throw new UsageError(`${target} is there already; name another with --out, or add --force to replace it`);
}
