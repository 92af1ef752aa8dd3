import { z } from "zod";
import { absolutePath, exists, joinPath, readText } from "../platform/index.ts";
import { decidingScore, type RouteScore, routeScores } from "../train/index.ts";
import { describeIssues } from "./config-issues.ts";
import { encodedSplit } from "./evaluation.ts";
import { UsageError } from "./failure.ts";
import { digits, print, table } from "./report.ts";
import { describeDevice, withGpu } from "./session.ts";
import { metricsOf } from "./tasks.ts";
import { buildClassifier, openSaved } from "./trained.ts";

export interface InspectCommand {
  readonly path: string;
  /** Whether every single route is scored on the dev split: needs a device. */
  readonly routes: boolean | undefined;
  readonly limit: number | undefined;
  readonly model: string | undefined;
  readonly device: string | undefined;
}

const numbers = z.array(z.number());
const experts = z.looseObject({
  /** [layer][down, up][expert]. */
  drawn: z.array(z.array(numbers)),
  banks: z.array(
    z.looseObject({
      name: z.string(),
      layer: z.number(),
      side: z.enum(["down", "up"]),
      meanCosine: z.number(),
      mergeDistance: z.number(),
    }),
  ),
});
const summary = z.looseObject({ task: z.string(), method: z.string(), experts: experts.optional() });
type Experts = z.infer<typeof experts>;

/** Prints what the experts of a run are like: how often each was drawn, how alike they are, how far a merge moves. */
export async function inspect({ path, routes, limit, model, device }: InspectCommand): Promise<void> {
  const { task, method, experts: found } = readSummary(absolutePath(path));
  if (!found)
    throw new UsageError(`inspect: ${path} holds ${method}, which has no drawn experts; it is for mixtures`);
  print(`adamix inspect: ${method} on ${task}`);
  print(bankTable(found));
  if (routes) await printRoutes(path, { limit, model, device });
}

function readSummary(folder: string): z.infer<typeof summary> {
  const file = joinPath(folder, "summary.json");
  if (!exists(file))
    throw new Error(`inspect: there is no ${file}: name the folder of a run that has finished`);
  const read = summary.safeParse(JSON.parse(readText(file)));
  if (!read.success) throw new Error(`${file}: ${describeIssues(read.error.issues, undefined)}`);
  return read.data;
}

function bankTable({ drawn, banks }: Experts): string {
  // Draws are listed layer by layer, in the order of the layers that have banks.
  const layers = [...new Set(banks.map(({ layer }) => layer))].sort((a, b) => a - b);
  const rows = banks.map(({ name, layer, side, meanCosine, mergeDistance }) => {
    const counts = drawn[layers.indexOf(layer)]?.[side === "down" ? 0 : 1] ?? [];
    return [name, counts.join(" "), digits(meanCosine), digits(mergeDistance)];
  });
  return table(["bank", "draws of each expert", "cosine of two", "merge distance"], rows, { left: true });
}

async function printRoutes(
  path: string,
  { limit, model: base, device }: Pick<InspectCommand, "limit" | "model" | "device">,
): Promise<void> {
  const saved = await openSaved(path, { part: "checkpoint", model: base });
  const encoding = { source: saved.source, maxLength: saved.maxLength };
  const dev = await encodedSplit(saved.task, "dev", encoding);
  const examples = dev.slice(0, limit ?? dev.length);
  await withGpu(device, async (gpu) => {
    const { model, set } = await buildClassifier(gpu, saved);
    if (!set) return; // the summary said that there is a mixture
    print();
    print(`every route on ${examples.length} examples of dev, on ${describeDevice(gpu)}`);
    const metrics = metricsOf(saved.task);
    const all = await routeScores(gpu, model, set, examples, { metrics });
    // By the likelihood, which tells routes of equal accuracy apart; of numbers by their correlations.
    const order = ({ scores }: RouteScore): number => scores.nll ?? -decidingScore(metrics, scores);
    const rows = all
      .toSorted((a, b) => order(a) - order(b))
      .map(({ route, scores }) => [
        route.map((pair) => pair.join(",")).join("  "),
        ...Object.values(scores).map(digits),
      ]);
    const names = Object.keys(all[0]?.scores ?? {});
    print(table(["down,up of each layer", ...names], rows, { left: true }));
  });
}
