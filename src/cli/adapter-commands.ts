// The commands about saved adapters: how other tools' files are written and read.
import { type Command, Option } from "commander";
import { ADAPTER_FORMATS } from "../train/index.ts";
import { METHOD_NAMES } from "./config.ts";
import { parseSet } from "./config-file.ts";
import { count, positive } from "./numbers.ts";
import { collect } from "./train-flags.ts";

/** Formats in one line each, for --help. `written`: only those that can be written. */
function aboutFormats(written: boolean): string {
  const lines = Object.entries(ADAPTER_FORMATS)
    .filter(([, format]) => !written || "write" in format)
    .map(([name, { about }]) => `  ${name.padEnd(12)} ${about}`);
  return `\nFormats:\n${lines.join("\n")}`;
}

function formatOption(written: boolean): Option {
  const names = Object.entries(ADAPTER_FORMATS).filter(([, format]) => !written || "write" in format);
  return new Option(
    "--format <name>",
    written ? "layout of the files" : "layout of the files (default: what fits)",
  ).choices(names.map(([name]) => name));
}

export function addAdapterCommands(root: Command): void {
  addExport(root);
  addImport(root);
  addCount(root);
}

function addExport(root: Command): void {
  root
    .command("export")
    .summary("write a run's adapter as other tools load it")
    .description(
      "Writes the merged adapter of a run, or a saved adapter, in the layout of another tool, its head included. Needs no device.",
    )
    .argument("<run>", "folder of a run, or of an adapter")
    .addOption(formatOption(true).makeOptionMandatory())
    .requiredOption("--out <folder>", "folder to write")
    .option("--name <name>", "name of the adapter inside, for format adapters", "default")
    .option("--no-head", "leave the classification head out")
    .option("--merge", "merge a mixture's experts by their mean first", false)
    .option("--base <folder>", "the base model, where it has moved")
    .option("--force", "replace a folder that is already there", false)
    .addHelpText("after", aboutFormats(true))
    .action(async (path: string, options) => {
      const { exportCommand } = await import("./export.ts");
      exportCommand({ path, ...options });
    });
}

function addImport(root: Command): void {
  root
    .command("import")
    .summary("read an adapter of another tool")
    .description(
      "Reads an adapter that another tool wrote, and writes it as evaluate, predict and export take it. Needs no device.",
    )
    .argument("<path>", "folder or file")
    .addOption(formatOption(false))
    .requiredOption("--out <folder>", "folder to write")
    .option("--base <model>", "the base model, where the files do not say it or it is elsewhere")
    .option("--labels <a,b>", "names of the classes, in order", (text: string) => text.split(","))
    .option("--alpha <x>", "alpha of a LoRA whose files do not hold it", positive)
    .option("--no-head", "leave a classification head out")
    .option("--merge", "merge a mixture's experts as its own file weights them", false)
    .option("--force", "replace a folder that is already there", false)
    .addHelpText("after", aboutFormats(false))
    .action(async (path: string, options) => {
      const { importCommand } = await import("./import.ts");
      importCommand({ path, ...options });
    });
}

function addCount(root: Command): void {
  root
    .command("count")
    .summary("say what each method trains and takes")
    .description(
      "Counts parameters, bytes, operations and memory of a training step for a model of any size. Needs neither weights nor a device: a step is recorded on paper.",
    )
    .argument(
      "<model>",
      "published model by name (roberta-large, gpt2-medium, ...), folder of a model, or its config.json",
    )
    .addOption(new Option("--method <name>", "one method (default: all)").choices(METHOD_NAMES))
    .option("--set <key=value>", "a setting of the method, as in --set peft.rank=4; may be repeated", collect)
    .option("--labels <n>", "classes of the head", count, 2)
    .option("--batch-size <n>", "examples of a step", count, 16)
    .option("--length <n>", "tokens of an example", count, 128)
    .addOption(
      new Option("--dtype <type>", "how frozen matrices are stored")
        .choices(["f32", "f16", "bf16"])
        .default("f32"),
    )
    .option("--json", "print one JSON list", false)
    .action(async (model: string, { set, method, ...options }) => {
      const { countCommand } = await import("./count.ts");
      const overrides = ((set ?? []) as string[]).map(parseSet);
      await countCommand({ model, method: method ?? null, overrides, ...options });
    });
}
