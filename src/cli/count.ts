import { ShapeError } from "../gpu/index.ts";
import { publishedSize } from "../models/index.ts";
import { absolutePath, exists, fileInfo, joinPath, readText } from "../platform/index.ts";
import { type CostOptions, costOf, type MethodCost } from "../train/index.ts";
import { METHOD_NAMES, type MethodName } from "./config.ts";
import { type Override, readConfig } from "./config-file.ts";
import { UsageError } from "./failure.ts";
import { methodOf } from "./methods.ts";
import { defaultPeft } from "./presets.ts";
import { grouped, print, table } from "./report.ts";

export interface CountCommand extends CostOptions {
  /** Name of a published model, folder of a model, or config.json. */
  readonly model: string;
  /** Null: all. */
  readonly method: MethodName | null;
  /** Settings of the method: keys under `peft`. */
  readonly overrides: readonly Override[];
  readonly json: boolean;
}

interface Row {
  readonly method: MethodName;
  readonly cost: MethodCost | null;
  /** Why there is no cost. */
  readonly reason: string;
}

/** Prints what each method trains and what a step of it takes, without a device. */
export async function countCommand(command: CountCommand): Promise<void> {
  const { model, method, json, batchSize = 16, length = 128 } = command;
  const config = configOf(model);
  const rows: Row[] = [];
  for (const name of method ? [method] : METHOD_NAMES) rows.push(await rowOf(config, name, command));
  if (json) {
    print(
      JSON.stringify(
        rows.map(({ method: name, cost, reason }) => ({ method: name, ...cost, ...(reason && { reason }) })),
      ),
    );
    return;
  }
  const first = rows.find(({ cost }) => cost)?.cost;
  if (!first) throw new UsageError(rows.map(({ method: name, reason }) => `${name}: ${reason}`).join("; "));
  const { base, head } = first.parameters;
  print(
    `${model}: ${grouped(base)} parameters, stored in ${size(first.step.baseBytes)}${head > 0 ? `; its head ${grouped(head)}` : ""}`,
  );
  print(
    `a step: ${batchSize} examples of ${length} tokens, ${command.dtype ?? "f32"}, a mixture's two passes included`,
  );
  print();
  print(
    table(
      HEADER,
      rows.flatMap((row) => (row.cost ? [cells(row.method, row.cost)] : [])),
    ),
  );
  for (const { method: name, reason } of rows) if (reason) print(`${name}: not on this model: ${reason}`);
}

const HEADER = ["method", "trained", "merged", "of base", "f32", "f16", "GFLOP a step", "memory"];

function cells(method: string, { parameters, mergedBytes, step }: MethodCost): string[] {
  const { training, merged, base } = parameters;
  return [
    method,
    grouped(training),
    grouped(merged),
    `${((100 * training) / base).toFixed(3)}%`,
    size(mergedBytes.f32),
    size(mergedBytes.f16),
    grouped(Math.round(step.flops / 1e9)),
    size(step.peakBytes),
  ];
}

/** "3.25 MB", "1.42 GB": decimal, as models are advertised. */
function size(bytes: number): string {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(2)} GB`;
  return bytes >= 1e6 ? `${(bytes / 1e6).toFixed(2)} MB` : `${(bytes / 1e3).toFixed(1)} kB`;
}

async function rowOf(
  config: Readonly<Record<string, unknown>>,
  name: MethodName,
  { overrides, ...options }: CountCommand,
): Promise<Row> {
  try {
    const method = methodOf({ method: name, peft: defaultPeft(name, settingsOf(name, overrides)) });
    const cost = await costOf(config, method, options);
    return { method: name, cost, reason: "" };
  } catch (error) {
    if (!(error instanceof ShapeError)) throw error;
    return { method: name, cost: null, reason: error.message };
  }
}

/** The settings of --set, checked as those of a training are. */
function settingsOf(method: MethodName, overrides: readonly Override[]): object {
  return (
    readConfig(undefined, [
      { key: "task", value: "sentiment", flag: "task" },
      { key: "method", value: method, flag: "--method" },
      ...overrides,
    ]).peft ?? {}
  );
}

function configOf(model: string): Readonly<Record<string, unknown>> {
  const path = absolutePath(model);
  if (!exists(path)) return publishedSize(model);
  const file = fileInfo(path)?.isFolder ? joinPath(path, "config.json") : path;
  try {
    return JSON.parse(readText(file));
  } catch (error) {
    throw new UsageError(`${file}: ${(error as Error).message}`);
  }
}
