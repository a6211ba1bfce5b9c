// The data that the Python side sends (moe_sim/server/messages.py, pages/dashboard/*.py), and the parts of Plotly and of
// Streamlit that are used here.

export type Level = "neutral" | "good" | "recovering" | "warning" | "bad";
export type Column = (number | null)[];

/** What a run and a comparison have in common: controls, speed, and the queue while the run waits in it. */
export interface Playback {
  state: string;
  budget: number;
  extendable: boolean;
  rate: number;
  speed: number;
  queue_position?: number;
  /** The steps computed again so far, after a worker process was lost. */
  recomputed?: number | null;
  lectures?: string[];
}

export interface Marker {
  step: number;
  label: string;
}

export interface Rows {
  smoothed_load: string;
  task_loss: Column;
  balance_loss: Column;
  imbalance: Column;
  /** With several layers, step by step that of each. */
  layer_imbalance?: Column;
}

export type CoarseName = "grad_norm" | "weight_change" | "weight_distance" | "signals";

/** Shares of every expert, encoded as pairs of letters. */
export type Share =
  | "load" | "first_load" | "importance" | "processed" | "preferred_load" | "dropped_by_choice" | "eval_load";

export type Now = Record<Share, string> & {
  selection_bias: number[];
  specialization: number | null;
  metrics: Column;
  terms: number[];
};

/** What happened in one run between two steps. */
export interface RunMessage extends Playback {
  from: number;
  to: number;
  live: {
    top_k: number;
    capacity_factor: number | null;
    capacity: number | null;
    balancing: string;
    aux_loss_coef: number;
    frozen: boolean;
  };
  start_load?: string;
  diagnosis: {
    state: string; level: Level; evidence: string; advice: string; rescue?: boolean; rescued?: boolean; layer?: number;
  };
  /** With several layers: the one that the numbers are about, from 1, or 0 for all. */
  layer?: number;
  /** Shares of the experts of all layers, after each block of steps and now, and the layer of the routing map. */
  layers?: { blocks: string; load: string; probed: number };
  planned_changes?: number;
  tiles: { dead: number; dropped: number; unserved: number };
  rows: Rows;
  coarse: Partial<Record<CoarseName, Column>>;
  events?: Marker[];
  map?: string;
  dropped?: string;
  now?: Now;
  joint?: string;
  together?: string;
  timeline?: { words: string; spells: [number, number][][] };
}

/** The newest message together with the parts that only earlier ones had. */
export type Latest = Required<RunMessage>;

/** What happened in all runs of a comparison. */
export interface ComparisonMessage extends Playback {
  from: number;
  to: number;
  members: RunMessage[];
}

export type ComparisonLatest = ComparisonMessage & { events: Marker[] };

/** How messages are encoded. */
export interface Encoding {
  alphabet: string;
  signals: string[];
  block: number;
  horizon: number;
  share_scale: number;
}

/** What charts and numbers are drawn with, beside the data. */
export interface Context {
  theme: "light" | "dark";
  palette: Record<string, string>;
  runs: string[];
  run_names: string;
  colours: string[];
  dead_share: number;
  settling_steps: number;
  many_dropped: number;
  high_balance_losses: (number | null)[];
  uneven_ratio: number;
  run: string;
  reduced_motion: boolean;
  /** Whether a beginner reads it. */
  plain?: boolean;
}

export interface BoardData {
  run_id: string;
  session: string;
  kept: unknown;
  hurrying: boolean;
  message: string | null;
  obeyed: { board: string; last: number };
  stream_url: string | null;
  slide_url: string | null;
  plotly_url: string | null;
  rates: number[];
  num_layers: number;
  encoding: Encoding;
  context: Omit<Context, "run" | "reduced_motion">;
  /** By name, as JSON. */
  figures: Record<string, string>;
}

export interface Tab {
  name: string;
  title: string;
  charts: string[];
}

export interface Mechanism {
  label: string;
  explanation: string;
  weighs_a_loss: boolean;
  looks_at_batch: boolean;
}

export interface RunData extends BoardData {
  num_experts: number;
  layer: number;
  batch_tokens: number;
  groups: string[];
  group_noun: string;
  level: "beginner" | "practitioner" | "expert";
  passages: string[];
  /** Where a language model answers; null if this host does not serve it. */
  prompt_url: string | null;
  /** Whether there is a language model. */
  answers: boolean;
  mechanisms: Record<string, Mechanism>;
  metrics: [name: string, formula: string, balanced: string, elsewhere: string][];
  knob_names: string[][];
  terms: Record<string, string>;
  shift: string;
  evaluation_tokens: number;
  tabs: Tab[];
  log_axes: string[];
  /** The stops of the α slider. */
  alphas: number[];
  tab: string;
  log: string[];
  turns: number;
  hide: string[];
  watching: boolean;
}

export interface ComparisonData extends BoardData {
  num_experts: number[];
  /** Whether each run has a routing map. */
  maps: boolean[];
  difference: string;
  runs: { name: string; words: string }[];
}

/** A language model's continuation of a prompt (moe_sim/trainer/prompting.py). */
export interface Answer {
  step: number;
  text: string;
  /** How many of its characters are the prompt's. */
  prompt: number;
  experts: number[][];
  loss?: number;
  loss_without?: number;
  loss_without_other?: number;
  other?: number;
}

export interface Command {
  name: string;
  [argument: string]: unknown;
}

export type Send = (command: Command) => void;

/** What Streamlit hands to a component's function. */
export interface Component<Data> {
  parentElement: HTMLElement;
  data: [Data];
  setTriggerValue(name: string, value: unknown): void;
  setStateValue(name: string, value: unknown): void;
}

/** The words of a tab. */
export interface Explanation {
  text: string[];
  tables?: { head: string[]; rows: string[][] }[];
}

/** How a trace is kept up to date; documented in moe_sim/charts/page.py. */
export type Binding = { run?: number } & (
  | { kind: "rows" | "smoothed"; column: "task_loss" | "balance_loss" }
  | { kind: "difference"; column: "task_loss"; baseline: number }
  | { kind: "ratio"; column: "imbalance"; infinity: number }
  | { kind: "expert" | "coarse"; column: string; expert: number }
  | { kind: "heat"; column: "smoothed_load" }
  | { kind: "signal"; signal: string; factor: number; log: boolean }
  | { kind: "now" | "choices" | "devices"; column: string }
  | { kind: "plain"; column: "selection_bias" }
  | { kind: "limit"; batch_tokens: number }
  | { kind: "spells"; expert: number; height: number }
  | { kind: "joint" | "together" }
  | { kind: "map"; colours: string[] }
  | { kind: "layers"; numbers: boolean; dead: string }
  | { kind: "layer_ratio"; layer: number; infinity: number }
);

export interface Trace {
  meta?: Binding;
  type?: string;
  mode?: string;
  name?: string;
  visible?: boolean;
  x?: (number | string | null)[];
  y?: (number | string | null)[];
  z?: (number | null)[][];
  text?: string[] | string[][];
  marker?: Record<string, unknown>;
}

export interface Axis {
  tickfont: { size: number };
  title?: { text?: string; font: { size: number } };
  type?: string;
  range?: number[];
  ticktext?: string[];
  color?: string;
  gridcolor?: string;
  linecolor?: string;
  [option: string]: unknown;
}

/** What our figures say about themselves. */
export interface FigureMeta {
  caption: string;
  captions?: [beforeTheFirstStep: string, later: string];
  time: boolean;
  /** Whether it shows every layer of a run, not one or their mean. */
  all_layers?: boolean;
  only?: Record<string, unknown> | null;
  /** For beginners, in place of the caption and of the titles of axes. */
  plain?: Record<string, string>;
  run?: number;
  bar_labels?: boolean;
  share_axis?: { tops: number[]; headroom: number; least: number };
}

export interface Layout {
  title: { text: string };
  meta: FigureMeta;
  font: { size: number; family?: string };
  margin: { l: number; r: number; t: number; b: number };
  xaxis: Axis;
  yaxis: Axis;
  yaxis2?: Axis;
  shapes?: object[];
  annotations?: { font: { size: number }; [option: string]: unknown }[];
  [option: string]: unknown;
}

/** A layout with the size of its element. */
export type SizedLayout = Layout & { width: number; height: number };

export interface Figure {
  data: Trace[];
  layout: Layout;
}

export interface Graph extends HTMLDivElement {
  layout: Layout;
  on(event: "plotly_relayout", handler: (change: Record<string, unknown>) => void): void;
  on(event: "plotly_hover", handler: (event: { points: { x: number }[] }) => void): void;
  on(event: "plotly_unhover", handler: () => void): void;
}

declare global {
  const Plotly: {
    Fx: {
      hover(graph: HTMLElement, at: { xval: number }, subplot: string): void;
      unhover(graph: HTMLElement): void;
    };
    react(graph: HTMLElement, data: Trace[], layout: object, config: object): Promise<void>;
    downloadImage(figure: Figure, options: object): Promise<string>;
  };
  interface Window {
    Plotly?: typeof Plotly;
  }
}
