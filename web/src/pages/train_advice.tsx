// What suits these pictures, by the guides: the questions that they leave open, and what to take.
import { useState } from "preact/hooks";
import { Button } from "../components/button";
import { quantity, valueText } from "../format";
import type { Advice } from "./train_asking";
import { isAsAdvised, type Setting, type Values } from "./train_draft";

interface Props {
  advice: Advice | null;
  known: ReadonlyMap<string, Setting>;
  given: (path: string) => unknown;
  effective: (path: string) => unknown;
  answers: Record<string, string>;
  onAnswer: (name: string, value: string) => void;
  onTake: (values: Values) => void;
}

/** One or two by name; more are listed when asked for. */
function adviceWords(others: [string, { value: unknown }][]): string {
  if (others.length > 2) return quantity(others.length, "other value");
  return others.map(([path, advised]) => `${path} = ${valueText(advised.value)}`).join(" and ");
}

export function AdvicePanel({ advice, known, given, effective, answers, onAnswer, onTake }: Props) {
  const [open, setOpen] = useState(false);
  if (!advice?.ok)
    // Its place is kept, so that what one types into does not move.
    return (
      <section class="panel advice-panel" aria-label="Advice">
        <p class="soft">What the guides advise for these pictures is said once there is a plan.</p>
      </section>
    );
  const others = Object.entries(advice.settings).filter(([path, advised]) => {
    const setting = known.get(path);
    return setting && !isAsAdvised(setting, given(path), effective(path), advised.value);
  });
  return (
    <section class="panel advice-panel" aria-label="Advice">
      <div class="row wrap">
        <span>
          {others.length
            ? `The guides advise ${adviceWords(others)} for these pictures.`
            : "All is as the guides advise for these pictures."}
        </span>
        <span class="push" />
        <Button kind="quiet" aria-expanded={open} onClick={() => setOpen(!open)}>
          {open ? "Less" : "Why"}
        </Button>
        {others.length > 0 && (
          <Button
            icon="check"
            onClick={() => onTake(Object.fromEntries(others.map(([path, advised]) => [path, advised.value])))}
          >
            Take {others.length === 1 ? "it" : "all"}
          </Button>
        )}
      </div>
      {open && (
        <>
          {advice.questions.map((question) => (
            <label key={question.name} class="field">
              <span>{question.text}</span>
              <select
                class="input"
                value={answers[question.name] ?? question.proposed}
                onChange={(event) => onAnswer(question.name, event.currentTarget.value)}
              >
                {Object.entries(question.choices).map(([choice, meaning]) => (
                  <option key={choice} value={choice}>
                    {choice}: {meaning}
                  </option>
                ))}
              </select>
              <span class="soft small">
                Proposed: {question.proposed}, {question.because}
              </span>
            </label>
          ))}
          <ul class="soft small column">
            {advice.summary.map((line) => (
              <li key={line}>{line}</li>
            ))}
          </ul>
        </>
      )}
    </section>
  );
}
