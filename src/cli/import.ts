import { absolutePath, exists } from "../platform/index.ts";
import { type AdapterFormatName, importAdapter } from "../train/index.ts";
import { outFolder } from "./export.ts";
import { grouped, print } from "./report.ts";

export interface ImportCommand {
  readonly path: string;
  readonly format?: AdapterFormatName;
  readonly out: string;
  readonly base?: string;
  readonly labels?: readonly string[];
  readonly alpha?: number;
  readonly head: boolean;
  readonly merge: boolean;
  readonly force: boolean;
}

/** Reads another tool's adapter, writes it as this package's own, and prints what it is. */
export function importCommand({ path, out, force, base, ...options }: ImportCommand): void {
  const target = outFolder(out, force);
  // A name that is no folder here is a repository of the hub.
  const own = base !== undefined && exists(base) ? absolutePath(base) : base;
  const { config, tensors } = importAdapter(absolutePath(path), target, {
    ...options,
    ...(own !== undefined && { base: own }),
  });
  const { method = "head", ...settings } = config.peft ?? {};
  const shown = Object.entries(settings).filter(([, value]) => typeof value !== "object");
  const parameters = [...tensors.values()].reduce((sum, { data }) => sum + data.length, 0);
  print(`read: ${config.importedFrom ?? "an export of this package"}`);
  print(`method: ${method} (${shown.map(([name, value]) => `${name} ${value}`).join(", ")})`);
  print(`base: ${config.base}`);
  if (config.labels.length > 0) print(`labels: ${config.labels.join(", ")}`);
  print(`parameters: ${grouped(parameters)}, head included`);
  print(`wrote: ${target}`);
}
