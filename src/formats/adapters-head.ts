// Classification heads in folders of adapter-hub's `adapters`: "flex" heads, and those of transformers' own classes.
import { FormatError } from "../io/index.ts";
import type { AdapterFile } from "./adapter-file.ts";
import type { ConfigFile } from "./config-file.ts";
import type { HostTensors } from "./host-tensor.ts";
import { expectFirstToken } from "./model-names.ts";
import type { TrainedTensors } from "./sites.ts";

/** Which tensor of a head here is which of `heads.NAME` there. */
type Names = Readonly<Record<string, string>>;

interface HeadLayout {
  readonly layers: number;
  /** Whether it reads what the model's own pooler makes of the first token. */
  readonly usesPooler: boolean;
  readonly names: Names;
}

const linear = (here: string, there: number): Names => ({
  [`${here}.weight`]: `${there}.weight`,
  [`${here}.bias`]: `${there}.bias`,
});

/** Modules there: 0 dropout, 1 linear; with two layers also 2 activation, 3 dropout, 4 linear. */
const LAYOUTS: Readonly<Record<"roberta" | "bert" | "bertWithPooler", HeadLayout>> = {
  roberta: {
    layers: 2,
    usesPooler: false,
    names: { ...linear("classifier.dense", 1), ...linear("classifier.out_proj", 4) },
  },
  bert: { layers: 1, usesPooler: true, names: linear("classifier", 1) },
  // A pooler that was trained along is the first layer of a head that uses none.
  bertWithPooler: {
    layers: 2,
    usesPooler: false,
    names: { ...linear("bert.pooler.dense", 1), ...linear("classifier", 4) },
  },
};

/** The head's config and tensors under the name that it has there; null where the adapter has none. */
export function headToHub(
  { config }: AdapterFile,
  type: string,
  { head, pooler }: TrainedTensors,
  name: string,
): { readonly config: Readonly<Record<string, unknown>>; readonly tensors: HostTensors } | null {
  if (head.size === 0) return null;
  if (type !== "bert" && type !== "roberta")
    throw new FormatError(`export: no head of adapters is known for ${type}`);
  expectFirstToken("adapters", config.model);
  const layout = LAYOUTS[type === "roberta" ? "roberta" : pooler.size > 0 ? "bertWithPooler" : "bert"];
  const own = new Map([...head, ...pooler]);
  const tensors = new Map(
    Object.entries(layout.names).map(([here, there]) => {
      const tensor = own.get(here);
      if (!tensor) throw new FormatError(`export: the head has no ${here}`);
      return [`heads.${name}.${there}`, tensor] as const;
    }),
  );
  const labels = labelNumbers(config.labels);
  return {
    config: {
      activation_function: "tanh",
      bias: true,
      dropout_prob: null,
      head_type: "classification",
      label2id: labels,
      layers: layout.layers,
      num_labels: config.labels.length,
      use_pooler: layout.usesPooler,
    },
    tensors,
  };
}

export function labelNumbers(labels: readonly string[]): Record<string, number> {
  return Object.fromEntries(labels.map((label, i) => [label, i]));
}

/** Tensors of a head under the names here, and the names of its classes where the config has them. */
export function headFromHub(
  file: ConfigFile,
  tensors: HostTensors,
  type: string,
): { readonly tensors: HostTensors; readonly labels?: readonly string[] } {
  if (file.value("config") === null) return staticHead(file, tensors);
  const config = file.inner("config");
  config.expect("head_type", ["classification"]);
  config.expect("bias", [true, null]);
  const isPooled = config.value("use_pooler") === true;
  const layout = Object.entries(LAYOUTS).find(
    ([name, { layers, usesPooler }]) =>
      name.startsWith(type) && layers === config.value("layers") && usesPooler === isPooled,
  )?.[1];
  if (!layout) {
    throw config.error(
      `a head of ${config.value("layers")} layers ${isPooled ? "behind" : "without"} the pooler, which ${type} has none of here (leave it out: { head: false }, --no-head)`,
    );
  }
  if (layout.layers === 2) config.expect("activation_function", ["tanh"]);
  const names = Object.entries(layout.names);
  const found = new Map([...tensors].map(([key, tensor]) => [key.replace(/^heads\.[^.]+\./, ""), tensor]));
  const made = new Map(
    names.map(([here, there]) => {
      const tensor = found.get(there);
      if (!tensor) throw config.error(`the head's weights lack ${there}`);
      return [here, tensor] as const;
    }),
  );
  return { tensors: made, ...labelsIn(config.record("label2id")) };
}

/** The head of a class such as RobertaForSequenceClassification, whose tensors have the names that they have here. */
function staticHead(file: ConfigFile, tensors: HostTensors): ReturnType<typeof headFromHub> {
  const strange = [...tensors.keys()].filter((name) => !/^classifier\./.test(name));
  if (strange.length > 0) throw file.error(`a head of ${strange.join(", ")}, which no classifier has here`);
  return { tensors, ...labelsIn(file.record("label2id")) };
}

function labelsIn(numbers: Readonly<Record<string, unknown>>): { readonly labels?: readonly string[] } {
  const labels: string[] = [];
  for (const [label, number] of Object.entries(numbers)) labels[Number(number)] = label;
  return labels.length > 0 ? { labels } : {};
}
