// What training with these settings would do and take, as it is set up.
import type { Schemas } from "../api/client";
import { Button } from "../components/button";
import { Curves } from "../components/on_demand";
import { Failed, Problems } from "../components/problems";
import { bytes, duration, figure, percent, quantity } from "../format";
import type { Plan, Planned } from "./train_asking";
import type { Setting, Values } from "./train_draft";
import { settingsOf } from "./train_draft";

interface Props {
  planned: Planned;
  /** The variant that is shown. */
  chosen: number;
  onChoose: (variant: number) => void;
  known: ReadonlyMap<string, Setting>;
  given: Values;
  onReveal: (path: string) => void;
}

export function PlanPanel({ planned, chosen, onChoose, known, given, onReveal }: Props) {
  const answer = planned.answers[chosen] ?? planned.answers[0];
  const problems = answer?.problems ?? [];
  const plan = answer?.plan;
  return (
    <section class="panel plan" aria-labelledby="plan-title" aria-busy={planned.waits}>
      <header>
        <h2 id="plan-title">Plan</h2>
        <span class="push soft small" role="status">
          {planned.waits ? (planned.answers.length ? "being worked out anew" : "being worked out") : ""}
        </span>
      </header>
      <div class="body column">
        {planned.error !== undefined && (
          <>
            <Failed error={planned.error} />
            <Button icon="retry" onClick={planned.again}>
              Ask again
            </Button>
          </>
        )}
        {planned.count > 1 && <VariantTable {...{ planned, chosen, onChoose }} />}
        {problems.length > 0 && (
          <>
            <p>
              <b>It can't be started so.</b> {quantity(problems.length, "thing")} in its way:
            </p>
            <PlacedProblems {...{ problems, known, given, onReveal }} />
          </>
        )}
        {plan && <Figures plan={plan} />}
        {!answer && planned.error === undefined && (
          <p class="soft">
            The first plan takes some seconds, until what it is made by is loaded; then they come at once.
          </p>
        )}
      </div>
    </section>
  );
}

interface PlacedProblemsProps extends Pick<Props, "known" | "given" | "onReveal"> {
  problems: readonly Schemas["ProblemRecord"][];
}

/** Each with a link to its setting. */
function PlacedProblems({ problems, known, given, onReveal }: PlacedProblemsProps) {
  return (
    <ul class="problems">
      {problems.map(({ where, what, hint }) => {
        const path = settingsOf({ where, what }, known, given)[0];
        return (
          <li key={where + what}>
            {path ? (
              <button type="button" class="link where" onClick={() => onReveal(path)}>
                {where}
              </button>
            ) : (
              where && <span class="where">{where}</span>
            )}
            {where && ": "}
            {what}
            {hint && <div class="soft">{hint}</div>}
          </li>
        );
      })}
    </ul>
  );
}

function VariantTable({ planned, chosen, onChoose }: Pick<Props, "planned" | "chosen" | "onChoose">) {
  const more = planned.count - planned.answers.length;
  return (
    <div class="scrolls">
      <table class="variants lines">
        <caption class="unseen">Trainings that will be queued</caption>
        <thead>
          <tr>
            <th scope="col">Training</th>
            <th scope="col" class="right">
              Steps
            </th>
            <th scope="col" class="right">
              Time
            </th>
          </tr>
        </thead>
        <tbody>
          {planned.answers.map((answer, index) => (
            <tr key={index} class={index === chosen ? "chosen" : ""}>
              <td>
                <button type="button" class="link" aria-pressed={index === chosen} onClick={() => onChoose(index)}>
                  {planned.variants[index]?.name}
                </button>
              </td>
              {answer.plan ? (
                <>
                  <td class="right number">{answer.plan.steps.toLocaleString("en")}</td>
                  <td class="right number">{duration(answer.plan.seconds)}</td>
                </>
              ) : (
                <td colSpan={2} class="right">
                  <span class="tag danger">can't be started</span>
                </td>
              )}
            </tr>
          ))}
        </tbody>
      </table>
      {more > 0 && <p class="soft small">and {quantity(more, "more training")}, checked when they are queued.</p>}
    </div>
  );
}

function Figures({ plan }: { plan: Plan }) {
  const rates = alike(plan.rates.filter((rate) => rate.curve.some((value) => value > 0)));
  const seeks = rates.some((rate) => rate.lr === null);
  const top = Math.max(0, ...rates.flatMap((rate) => rate.curve));
  return (
    <>
      <dl class="figures">
        <div>
          <dt>Steps</dt>
          <dd class="number">{plan.steps.toLocaleString("en")}</dd>
        </div>
        <div>
          <dt>Epochs</dt>
          <dd class="number">{plan.epochs.toLocaleString("en")}</dd>
        </div>
        <div>
          <dt>Time, about</dt>
          <dd class="number" title="Right within a factor of two">
            {duration(plan.seconds)}
          </dd>
        </div>
      </dl>
      <p>{plan.arithmetic}.</p>
      {plan.length && <p class="soft">{plan.length}.</p>}
      {plan.judged.length > 0 && (
        <p class="soft">
          It may end sooner: {quantity(plan.judged.length, "snapshot")} will be judged on the way, the first after step{" "}
          {plan.judged[0]}.
        </p>
      )}
      {plan.warnings.length > 0 && (
        <>
          <h3>Worth a look</h3>
          <Problems warning problems={plan.warnings} />
        </>
      )}
      <h3>Learning rate</h3>
      {seeks && (
        <p class="soft">
          Looked for on the pictures before the first step, in about {Math.round(plan.search_steps)} steps' time; then
          it goes so:
        </p>
      )}
      {rates.length > 0 && (
        <Curves
          label="Learning rate"
          height={130}
          curves={rates.map((rate) => ({
            run: "",
            name: rate.lr === null ? rate.name : `${rate.name}: ${figure(rate.lr)}`,
            steps: rate.steps,
            values: seeks ? rate.curve.map((value) => value / (top || 1)) : rate.curve,
          }))}
          write={seeks ? percent : figure}
        />
      )}
      {rates.some((rate) => / x[\d.]/.test(rate.name)) && (
        <p class="soft small">
          x and a number: the half of each layer that <code>optimizer.loraplus_ratio</code> and rates by block let learn
          so many times as fast.
        </p>
      )}
      <Memory plan={plan} />
      <Pictures plan={plan} />
      <h3>Computer</h3>
      <dl class="facts">
        <dt>Base</dt>
        <dd>{plan.base}</dd>
        <dt>Device</dt>
        <dd>
          {plan.device}, {plan.precision} <span class="soft">({plan.precision_reason})</span>
        </dd>
        <dt>Disk</dt>
        <dd>
          {bytes(sum(Object.values(plan.disk)))}{" "}
          <span class="soft">
            (
            {Object.entries(plan.disk)
              .filter(([, amount]) => amount > 0)
              .map(([what, amount]) => `${what} ${bytes(amount)}`)
              .join(", ")}
            ); {bytes(plan.disk_free)} are free
          </span>
        </dd>
        <dt>Files</dt>
        <dd>
          {quantity(plan.files.length, "LoRA file")} in <span class="mono breaks">{plan.folder}</span>
        </dd>
      </dl>
    </>
  );
}

/** One curve for groups that have the same. */
function alike(rates: Plan["rates"]): Plan["rates"] {
  const found = new Map<string, Plan["rates"][number]>();
  for (const rate of rates) {
    const key = rate.curve.join();
    const before = found.get(key);
    found.set(key, before ? { ...before, name: `${before.name}, ${rate.name}` } : rate);
  }
  return [...found.values()];
}

const sum = (values: readonly number[]): number => values.reduce((total, each) => total + each, 0);

const PARTS = [
  ["weights", "base model"],
  ["adapter", "LoRA"],
  ["optimizer", "optimizer"],
  ["activations", "activations"],
] as const;

function Memory({ plan }: { plan: Plan }) {
  const peak = [...plan.memory].sort((a, b) => b.total - a.total)[0];
  if (!peak) return null;
  const total = Math.max(plan.memory_total ?? 0, peak.total, 1);
  const taken = plan.memory_total !== null && plan.memory_free !== null ? plan.memory_total - plan.memory_free : 0;
  const room = plan.memory_free;
  const over = room !== null && peak.total > room;
  let x = taken;
  return (
    <>
      <h3>Memory</h3>
      <p class={over ? "danger-text" : ""}>
        <b class="number">{bytes(peak.total)}</b> at the peak, {peak.what}
        {room !== null && (
          <>
            {over ? "; only " : "; "}
            <span class="number">{bytes(room)}</span> of {bytes(plan.memory_total ?? room)} are free
          </>
        )}
      </p>
      <svg class="memory" viewBox="0 0 1000 14" preserveAspectRatio="none" role="img" aria-label="Memory, part by part">
        <rect class="ground" width="1000" height="14" />
        <rect class="taken" width={(taken / total) * 1000} height="14" />
        {PARTS.map(([name], index) => {
          const width = peak[name];
          const start = x;
          x += width;
          return (
            <rect
              key={name}
              class={`part-${index + 1}`}
              x={(start / total) * 1000}
              width={(width / total) * 1000}
              height="14"
            />
          );
        })}
      </svg>
      <ul class="legend small">
        {taken > 0 && (
          <li>
            <i class="taken" /> others <span class="soft number">{bytes(taken)}</span>
          </li>
        )}
        {PARTS.map(([name, words], index) => (
          <li key={name}>
            <i class={`part-${index + 1}`} /> {words} <span class="soft number">{bytes(peak[name])}</span>
          </li>
        ))}
      </ul>
      {plan.memory.length > 1 && (
        <p class="soft small">{plan.memory.map((each) => `${each.what} ${bytes(each.total)}`).join(", ")}</p>
      )}
      {plan.savings.map((each) => (
        <p key={each} class="soft small">
          {each}
        </p>
      ))}
    </>
  );
}

function Pictures({ plan }: { plan: Plan }) {
  const most = Math.max(1, ...plan.buckets.map((bucket) => bucket.samples));
  return (
    <>
      <h3>Pictures</h3>
      <ul class="column small">
        {plan.folders.map((folder) => (
          <li key={folder.path}>
            <span class="mono breaks">{folder.path}</span>{" "}
            <span class="soft number">
              {quantity(folder.pictures, "picture")} × {quantity(folder.repeats, "repeat")} = {folder.samples}
              {folder.reg ? ", to regularise by" : ""}; {quantity(folder.captions, "caption")}
            </span>
          </li>
        ))}
      </ul>
      {plan.triggers.length > 0 && <p class="soft small">Trigger: {plan.triggers.join("; ")}</p>}
      {plan.augmentation && <p class="soft small">{plan.augmentation}</p>}
      {plan.held_out.length > 0 && (
        <p class="soft small">{quantity(plan.held_out.length, "picture")} held out, to measure the loss on.</p>
      )}
      <table class="buckets lines">
        <caption class="unseen">Sizes that pictures are trained at</caption>
        <thead>
          <tr>
            <th scope="col">Bucket</th>
            <th scope="col" class="right">
              Pictures
            </th>
            <th scope="col" class="right">
              Batches
            </th>
            <th scope="col" class="right">
              Cut off, at most
            </th>
            <th scope="col">
              <span class="unseen">Share</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {plan.buckets.map((bucket) => (
            <tr key={`${bucket.width} ${bucket.height}`}>
              <td class="number">
                {bucket.width} × {bucket.height}
              </td>
              <td class="right number">{bucket.pictures}</td>
              <td class="right number">{bucket.batches}</td>
              <td class="right number">{percent(bucket.worst_crop)}</td>
              <td>
                <svg class="share" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
                  <rect width={(bucket.samples / most) * 100} height="6" />
                </svg>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </>
  );
}
