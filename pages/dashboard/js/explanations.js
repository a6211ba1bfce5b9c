// What each view says in words, with the run's own numbers in the formulas: from the store to lines of text and tables.

const fixed = (value, digits = 3) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const sum = (values) => values.reduce((total, value) => total + value, 0);
const largest = (values) => values.indexOf(Math.max(...values));

const LESSONS = {
  why(store) {
    const load = store.now("load");
    const count = store.numExperts;
    const k = store.latest.live.top_k;
    const [total, first, alone] = store.latest.now.terms; // Σ f·P, the same with first choices, the busiest expert's f·P
    const busiest = largest(load);
    const row = (name, formula, product, factor, balanced, users) => {
      const sumInWords = store.steps ? `${count} × ${product.toFixed(4)}${factor > 1 ? ` × ${factor}` : ""} = ` : "";
      return [name, formula, sumInWords + (store.steps ? (count * product * factor).toFixed(2) : "–"), String(balanced), users];
    };
    return {
      text: [
        "f counts where tokens went. It comes from an argmax and carries no gradient. P is what the router would like, " +
          "and carries it. In E·Σ f·P, f aims the push: the busiest expert's P is pressed down hardest.",
        store.steps
          ? `E·Σ f·P = ${count} × ${total.toFixed(4)} = ${(count * total).toFixed(2)}, mean of 20 steps, of which expert ` +
            `${busiest + 1} alone, with f = ${fixed(load[busiest])}: ${count} × ${alone.toFixed(4)} = ${(count * alone).toFixed(2)}.`
          : "Train to see the run's own numbers in the formula.",
        "Near 1 does not prove balance: while P is nearly uniform, the loss is about 1 however lopsided f is. Look at f.",
      ],
      tables: [{
        head: ["convention", "f counts", "the same routing, now", "balanced", "used by"],
        rows: [
          row("per choice", "all choices / (T·K)", total, 1, 1, "Megatron-LM, OLMo-core, MegaBlocks, DeepSpeed for k > 2"),
          row("first choice", "first choices / T", first, 1, 1, "DeepSpeed for k ≤ 2, Tutel, V-MoE, ST-MoE"),
          row("huggingface", "all choices / T", total, k, k, "transformers, Mixtral"),
        ],
      }],
    };
  },

  mechanism(store, data) {
    const { balancing, aux_loss_coef: alpha } = store.latest.live;
    const { label, explanation, weighs_a_loss: weighs } = data.mechanisms[balancing];
    const [preferred, load] = [store.now("preferred_load"), store.now("load")];
    const favourite = largest(preferred);
    const text = [`${label[0].toUpperCase()}${label.slice(1)}. ${explanation}`];
    if (weighs && alpha === 0) text.push("With α = 0 this loss has no say: raise α to see it work.");
    if (store.steps)
      text.push(
        `Left to itself the router would now send ${percent(preferred[favourite])} of the choices to expert ${favourite + 1}; ` +
          `as selected it gets ${percent(load[favourite])}. ` +
          "Where both agree the router itself has changed; where they differ, the selection balances and the router does not.",
      );
    if (balancing === "expert_choice")
      text.push(`${percent(store.latest.tiles.unserved / 1000)} of the tokens are chosen by no expert and pass the layer by.`);
    return { text };
  },

  specialization(store, data) {
    return {
      text: [
        `How much the chosen expert tells about a token's ${data.group_noun}: mutual information over the ` +
          `${data.group_noun}s' entropy, ${fixed(store.latest.now.specialization, 2)} of 1.`,
        "One column taking all rows is collapse. Dark single cells are specialists. All cells alike: the router has " +
          "stopped to tell tokens apart, as with too large an α.",
      ],
    };
  },

  feedback() {
    return {
      text: [
        "More tokens, more gradient, faster improvement, more tokens. An expert that gets none has no gradient, its weights " +
          "stand still, and it stays bad because it is never used. Means of ten steps; where a line ends, the value is 0.",
      ],
    };
  },

  router(store) {
    const [task, push, cosine] = ["router_task_gradient", "router_balance_push", "router_gradient_cosine"].map((name) => store.lastSignal(name));
    const text = [
      "α is a ratio of gradients, not of losses: what counts is how hard each of them pulls at the router's weights, and " +
        "whether they pull the same way (cosine 1) or against each other (−1).",
    ];
    if (task !== null)
      text.push(
        push
          ? `Now the task pulls with ${task.toPrecision(2)}, α × the balancing loss with ${push.toPrecision(2)}: ` +
            `${(push / task).toPrecision(2)} times as hard, at a cosine of ${fixed(cosine, 2)}.`
          : `Now the task pulls with ${task.toPrecision(2)} and no balancing loss pulls at all.`,
      );
    text.push(
      `The z-loss, mean(logsumexp(z)²) = ${fixed(store.lastSignal("z_loss"), 2)}, keeps logits small. Beyond a gap of some 15 ` +
        "a softmax is saturated: probabilities are 0 or 1, and neither the task nor α moves the router any more.",
    );
    return { text };
  },

  capacity(store, { batch_tokens: tokens }) {
    const { live, tiles } = store.latest;
    const pairs = tokens * live.top_k;
    if (live.capacity_factor === null)
      return {
        text: [
          "The capacity factor is off: every expert takes all that comes. Expert-parallel hardware then waits for the " +
            `busiest one, which has ${percent(Math.max(...store.now("load")))} of the ${pairs} token choices of a step.`,
        ],
      };
    const room = Math.ceil((live.capacity_factor * pairs) / store.numExperts - 1e-9);
    return {
      text: [
        `C = ⌈factor · T · K / E⌉ = ⌈${live.capacity_factor} × ${tokens} × ${live.top_k} / ${store.numExperts}⌉ = ` +
          `${room} token choices an expert and step.`,
        `Dropped now: ${percent(tiles.dropped / 1000)} of ${pairs}. A dropped token passes the layer by, on the ` +
          "residual path. α is the soft push, capacity the hard cap.",
        "Second choices are seated after all first ones, so they are dropped first. Overflow can be rerouted instead: " +
          "to the token's next-best expert with room.",
      ],
    };
  },

  devices(store) {
    const busiest = Math.max(...store.now("processed")) * store.numExperts;
    return {
      text: [
        "Large models put each expert on a device of its own, and a step is over when the busiest one is done. " +
          "A model of that: an expert's time is the number of choices it computes.",
        store.steps
          ? `Now a step takes ${busiest.toFixed(2)} times as long as a balanced one; the devices work ` +
            `${percent(sum(store.now("processed")) / busiest)} of the time and wait the rest.`
          : "Train to see how long they wait.",
        "A capacity limit bounds the wait at factor times the balanced step, and pays with dropped tokens.",
      ],
    };
  },

  variance(store) {
    const now = store.lastSignal("routing_std");
    return {
      text: [
        "How much an expert's load differs from one batch to the next. Some of it is chance: a batch is finite. The dotted line " +
          "is what it would be if every token drew its expert by lot, evenly.",
        now === null ? "Train to see it." : `Now ${(100 * now).toFixed(1)} percentage points, the mean of all experts.`,
        "A router that swings above that line is being pushed back and forth, or tokens come in changing mixtures. Well " +
          "below it with one expert taking all: nothing varies any more.",
      ],
    };
  },

  coactivation(store) {
    const { top_k: k, balancing } = store.latest.live;
    const choosing = balancing === "expert_choice";
    if (k === 1 && !choosing)
      return { text: ["Every token has one expert. Raise Top-k to 2 or more to see which experts work together."] };
    return {
      text: [
        "Which experts share tokens: of the tokens of the row's expert, the share that the column's expert has too.",
        `With ${k} of ${store.numExperts} experts at random, every cell would be ` +
          `${percent(choosing ? k / store.numExperts : (k - 1) / (store.numExperts - 1))}. One dark column: an expert that comes with everything. Dark blocks: ` +
          "teams that always work together, and might as well be one expert.",
      ],
    };
  },

  inference(store, data) {
    const load = store.now("eval_load");
    const { balancing, frozen } = store.latest.live;
    const text = [
      "Every ten steps 512 held-out tokens are routed as in inference: no noise, no capacity limit, each token by itself.",
    ];
    if (sum(load) > 0)
      text.push(`There the busiest expert takes ${percent(Math.max(...load))} of the choices; in training ${percent(Math.max(...store.now("load")))}.`);
    if (data.mechanisms[balancing].looks_at_batch)
      text.push("This mechanism compares the tokens of a batch. A token that comes alone gets the router's own choice, which nothing has balanced.");
    text.push(
      frozen
        ? `Frozen: now move the ${data.group_noun}s' shares in the sidebar (${data.shift}) and see what a shift of the data does to a router that no longer learns.`
        : `Press Freeze, then move the ${data.group_noun}s' shares (${data.shift}): a shift of the data unbalances a router that was fine.`,
    );
    return { text };
  },

  names(store, data) {
    const values = store.latest.now.metrics;
    return {
      text: ["One quantity, many names. The same load, mean of the last 20 steps, as different tools would report it."],
      tables: [
        {
          head: ["here", "formula", "now", "balanced", "elsewhere"],
          rows: data.metrics.map(([name, formula, balanced, elsewhere], i) => [
            name, formula, values[i] === null ? (store.steps ? "∞" : "–") : Number(values[i].toPrecision(3)).toLocaleString("en-US"), balanced, elsewhere,
          ]),
        },
        { head: ["knob", "elsewhere"], rows: data.knob_names },
      ],
    };
  },

  text() {
    return {
      text: ["Held-out text. Every character stands on the colour of the expert that takes it to predict what comes next."],
    };
  },
};
