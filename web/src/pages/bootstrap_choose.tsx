// Which of a round's drawings are kept: marks by key and click, in the address, and going on with them.
import { useEffect, useRef } from "preact/hooks";
import { post } from "../api/client";
import { Button } from "../components/button";
import { CommandLine } from "../components/command_line";
import { say } from "../components/notices";
import { quantity } from "../format";
import { refreshJobs } from "../jobs";
import { useKeys } from "../keys";
import { alter, query } from "../router";
import type { Round, Shown } from "./bootstrap_one";

interface Marks {
  marked: ReadonlySet<number>;
  toggle: (...numbers: number[]) => void;
  set: (numbers: readonly number[]) => void;
}

/** Milliseconds within which a second digit belongs to the first. */
const SECOND_DIGIT = 700;

/** Those of the round that waits; by itself what `--choose auto` would keep. */
export function useMarks(round: Round | undefined): Marks {
  const [of, numbers] = (query.value.get("keep") ?? "").split(":");
  const isOfIt = round !== undefined && of === String(round.number);
  const list = isOfIt ? (numbers ?? "").split(",").map(Number).filter(Boolean) : (round?.suggested ?? []);
  const marked = new Set(list);
  const set = (next: readonly number[]) =>
    round && alter({ keep: `${round.number}:${[...next].sort((a, b) => a - b).join(",")}` });
  const toggle = (...numbers: number[]) =>
    set([...[...marked].filter((each) => !numbers.includes(each)), ...numbers.filter((each) => !marked.has(each))]);
  return { marked, toggle, set };
}

interface Props {
  one: Shown;
  round: Round;
  marks: Marks;
  onChanged: () => void;
}

export function ChooseBar({ one, round, marks, onChanged }: Props) {
  const { marked, toggle, set } = marks;
  const numbers = [...marked].sort((a, b) => a - b);
  const typed = useRef({ digits: "", timer: 0 });
  const total = round.drawings.length;

  async function goOn(finish: boolean) {
    const added = await post("/api/bootstraps/go-on", { body: { path: one.path, keep: numbers, finish } });
    await refreshJobs();
    say(`${added.title} is in the queue.`);
    onChanged();
  }

  // A key marks at once where no number goes on with it; else when no second one comes.
  function digit(key: string) {
    const { current } = typed;
    clearTimeout(current.timer);
    const before = Number(current.digits);
    const both = Number(current.digits + key);
    current.digits = "";
    if (both >= 1 && both <= total) return wait(both);
    // It is no second digit of what was waited for.
    const alone = Number(key);
    const numbers = [before, alone].filter((each) => each >= 1 && each <= total);
    if (numbers.length) latest.current(...new Set(numbers));
  }
  function wait(number: number) {
    const { current } = typed;
    const mark = () => {
      current.digits = "";
      latest.current(number);
    };
    if (number * 10 > total) return mark();
    current.digits = String(number);
    current.timer = window.setTimeout(mark, SECOND_DIGIT);
  }
  const latest = useRef(toggle);
  latest.current = toggle;
  useEffect(() => () => clearTimeout(typed.current.timer), []);

  useKeys([
    { keys: "0-9", does: "Keep the drawing of this number, or not; of 12, press 1 and 2", run: () => {} },
    ...[..."0123456789"].map((key) => ({ keys: key, does: "", run: () => digit(key) })),
    { keys: "a", does: "Mark those that auto would keep", run: () => set(round.suggested) },
    { keys: "n", does: "Mark none", run: () => set([]) },
    { keys: "Ctrl+Enter", does: "Go on with those that are marked", run: () => void goOn(false) },
  ]);

  const keep = numbers.length ? `Keep ${numbers.length}` : "Keep none";
  const given = one.given + one.drawn;
  return (
    <section class="boot-bar column" aria-label="What is kept">
      <div class="row wrap">
        <Button kind="primary" onClick={() => goOn(false)} title="Ctrl+Enter">
          {one.last ? `${keep} and train the LoRA` : numbers.length ? `${keep} and go on` : "Keep none, draw again"}
        </Button>
        {!one.last && (
          <Button onClick={() => goOn(true)} title="No more rounds: train on the set as it then is">
            {keep} and finish
          </Button>
        )}
        <span class="push" />
        <Button kind="quiet" onClick={() => set(round.suggested)} title="a">
          As auto would
        </Button>
        <Button kind="quiet" onClick={() => set([])} title="n">
          None
        </Button>
      </div>
      <p class="soft small" role="status">
        {quantity(numbers.length, "drawing")} of {total} marked.{" "}
        {one.last
          ? `No round comes after this one: ${one.last}.`
          : numbers.length
            ? `Then comes round ${round.number + 1}, trained on ${quantity(given + numbers.length, "picture")}.`
            : "The same LoRA draws once more, for other luck."}
        {!one.last && one.trend && ` So far, ${one.trend}: it may be time to finish.`}
      </p>
      <CommandLine line={`${one.command_line} --keep ${numbers.join(",") || "none"}`} />
    </section>
  );
}
