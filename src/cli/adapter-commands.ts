// The commands about saved adapters: how other tools' files are written and read.
import { type Command, InvalidArgumentError, Option } from "commander";
import { ADAPTER_FORMATS } from "../train/index.ts";

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

function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0) || !Number.isFinite(value)) throw new InvalidArgumentError("Expected a number above 0.");
  return value;
}
